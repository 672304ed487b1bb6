//! Configuration files: from text to [`crate::model::Watch`]es.

pub mod watcher;
