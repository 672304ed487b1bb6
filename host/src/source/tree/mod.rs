//! A local directory tree as a source.
