//! The run-mode machine: pure decisions about when an action runs.
