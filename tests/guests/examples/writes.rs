//! Writes to the file that `path` names: outside its directories, by `..`, by a link that is there.

guests::action!(|_| refused(std::fs::write(setting("path"), "written by a guest")));
