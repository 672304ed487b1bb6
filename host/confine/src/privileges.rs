//! Capabilities: what root may do besides reading and writing files. A process that has stopped being root has none of them.

use nix::errno::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

/// Gives up all capabilities of the calling thread but these, as far as it has them. There is no way back: nothing is executed.
pub(super) fn keep_only(kept: CapabilitySet) -> Result<(), Errno> {
    let had = capabilities(None).map_err(errno)?;
    let kept = had.permitted & kept;
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).map_err(errno)?;
    match capabilities(None).map_err(errno)? {
        now if now.permitted == kept && now.effective == kept => Ok(()),
        // Every call succeeded, and still.
        _ => Err(Errno::EPERM),
    }
}

/// Gives up all capabilities of the calling thread but these, as far as it has them, and puts none in force.
pub(super) fn keep_for_later(kept: CapabilitySet) -> Result<(), Errno> {
    let had = capabilities(None).map_err(errno)?;
    let sets = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: had.permitted & kept,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).map_err(errno)
}

/// Puts these capabilities in force, as far as the calling thread has them.
pub(super) fn raise(wanted: CapabilitySet) -> Result<(), Errno> {
    let mut sets = capabilities(None).map_err(errno)?;
    let wanted = sets.permitted & wanted;
    if sets.effective.contains(wanted) {
        return Ok(());
    }
    sets.effective |= wanted;
    set_capabilities(None, sets).map_err(errno)
}

/// The same error as the other library names it.
pub(super) fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}
