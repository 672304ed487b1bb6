//! What the tests share.

pub mod daemon;
