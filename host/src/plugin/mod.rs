//! What authors of plugins use: making one, looking at a component, trying it, measuring it.
//!
//! It must not know the daemon: a trial goes through the same configuration, launcher and sandbox, without watching anything.

mod bench;
pub(crate) mod inspect;
mod new;
mod trial;

pub use bench::bench;
pub use inspect::{Interfaces, imports, inspect, interfaces};
pub use new::{NewError, create};
pub use trial::{Trial, TrialError, run, shown};
