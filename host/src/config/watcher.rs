//! Notices changes to the configuration files.
