//! Configuration files: from text to [`crate::model::Watch`]es.
