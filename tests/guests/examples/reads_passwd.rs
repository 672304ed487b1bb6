//! Reads `/etc/passwd`.

guests::action!(|_| refused(std::fs::read("/etc/passwd")));
