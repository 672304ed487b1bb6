//! ZooKeeper as a source.
