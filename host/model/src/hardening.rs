//! What a command is kept from, besides what its user may not do anyway.

use std::path::Path;
use std::sync::Arc;

use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

/// What an `Exec` asks to be kept from. By default nothing: what a command may do is for its user to say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Hardening {
    /// Whether no program that it executes gets more rights than it has: set-user-id and file capabilities mean nothing.
    pub no_new_privs: bool,
    /// Whether `/tmp` and `/var/tmp` are empty directories of the run's own, which go with it.
    pub private_tmp: bool,
    /// Directories that it cannot change anything below, though its user could.
    pub read_only: Vec<Arc<Path>>,
    /// All the capabilities that it, and what it executes, can have; none leaves to the kernel what its user has.
    pub capabilities: Option<Capabilities>,
}

/// Capabilities, as bits by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Capabilities(pub u64);

/// What the names begin with.
const PREFIX: &str = "CAP_";

impl Capabilities {
    /// The capability of this name, such as "CAP_NET_BIND_SERVICE"; none if there is no such.
    pub fn named(name: &str) -> Option<Self> {
        let set = CapabilitySet::from_name(name.strip_prefix(PREFIX)?)?;
        Some(Self(set.bits()))
    }

    /// All names that there are.
    pub fn all_names() -> impl Iterator<Item = String> {
        CapabilitySet::all()
            .iter_names()
            .map(|(name, _)| format!("{PREFIX}{name}"))
    }

    /// The names of these, in the order of their numbers.
    pub fn names(self) -> impl Iterator<Item = String> {
        let set = CapabilitySet::from_bits_truncate(self.0);
        set.iter_names().map(|(name, _)| format!("{PREFIX}{name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_have_the_names_that_the_kernel_gives_them() {
        assert_eq!(Capabilities::named("CAP_CHOWN"), Some(Capabilities(1)));
        for wrong in ["CHOWN", "cap_chown", "CAP_", "CAP_X", ""] {
            assert_eq!(Capabilities::named(wrong), None, "{wrong}");
        }
        let both = Capabilities::all_names().filter_map(|name| Some((Capabilities::named(&name)?, name)));
        for (capability, name) in both {
            assert_eq!(capability.names().collect::<Vec<_>>(), [name]);
        }
        assert!(Capabilities::all_names().count() > 40);
    }
}
