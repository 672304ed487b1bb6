//! Sits in a host call that never returns: it opens `/in/pipe`, a named pipe that nobody writes to.

guests::action!(|_| refused(std::fs::read("/in/pipe")));
