//! Running a component: what it may do, and the process it does it in.
//!
//! It must not know where changes come from, nor how a configuration is written.

pub mod confine;
