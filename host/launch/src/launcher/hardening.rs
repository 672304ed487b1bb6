//! What a program is kept from, besides what its user may not do: mounts of its own, and capabilities. System calls alone: the process may share
//! the launcher's memory.

use std::ffi::{CStr, CString};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind_recursive, mount_change};
use rustix::thread::{
    CapabilitySet, CapabilitySets, configure_capability_in_ambient_set, remove_capability_from_bounding_set,
    set_capabilities, set_keep_capabilities,
};

use crate::launcher::steps::SpawnFailure;
use crate::protocol::Step;
use twitcher_model::Hardening;

/// Where programs keep what is temporary.
const TEMPORARY: [&CStr; 2] = [c"/tmp", c"/var/tmp"];

/// The directory that all others are below.
const ROOT: &CStr = c"/";

/// A [`Hardening`] in the form that system calls take.
pub struct Walls {
    no_new_privs: bool,
    private_tmp: bool,
    read_only: Vec<CString>,
    capabilities: Option<CapabilitySet>,
}

impl Walls {
    /// Allocates, so it comes before a clone that shares memory. A path with a NUL, which no configuration has, is none.
    pub fn new(hardening: &Hardening) -> Self {
        let path = |path: &std::sync::Arc<std::path::Path>| CString::new(path.as_os_str().as_encoded_bytes()).ok();
        Self {
            no_new_privs: hardening.no_new_privs,
            private_tmp: hardening.private_tmp,
            read_only: hardening.read_only.iter().filter_map(path).collect(),
            capabilities: hardening
                .capabilities
                .map(|these| CapabilitySet::from_bits_retain(these.0)),
        }
    }

    /// What takes root, and so comes before the change of user.
    pub fn before_user(&self) -> Result<(), SpawnFailure> {
        if self.private_tmp || !self.read_only.is_empty() {
            self.make_mounts().map_err(|errno| (Step::Mounts, errno))?;
        }
        if let Some(kept) = self.capabilities {
            bound(kept).map_err(|errno| (Step::Capabilities, errno))?;
        }
        Ok(())
    }

    /// What comes last. `is_root`: the user has not become another than root.
    pub fn after_user(&self, is_root: bool) -> Result<(), SpawnFailure> {
        if let Some(kept) = self.capabilities {
            have(kept, is_root).map_err(|errno| (Step::Capabilities, errno))?;
        }
        if self.no_new_privs {
            prctl::set_no_new_privs().map_err(|errno| (Step::NoNewPrivs, errno))?;
        }
        Ok(())
    }

    fn make_mounts(&self) -> Result<(), Errno> {
        unshare(CloneFlags::CLONE_NEWNS)?;
        // What the host mounts later is seen, what is mounted here is not seen there.
        let from_host = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        mount_change(ROOT, from_host).map_err(errno)?;
        for dir in &self.read_only {
            if dir.as_c_str() != ROOT {
                // Only a mount can be read-only.
                mount_bind_recursive(dir.as_c_str(), dir.as_c_str()).map_err(errno)?;
            }
            make_read_only(dir)?;
        }
        if self.private_tmp {
            // After the others: it can be written to wherever they are.
            for dir in TEMPORARY {
                let flags = MountFlags::NOSUID | MountFlags::NODEV;
                match mount(c"tmpfs", dir, c"tmpfs", flags, c"mode=1777") {
                    Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                    Err(error) => return Err(errno(error)),
                }
            }
        }
        Ok(())
    }
}

/// Nothing that is executed later can have more than these.
fn bound(kept: CapabilitySet) -> Result<(), Errno> {
    for number in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if kept.contains(one) {
            continue;
        }
        match remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            // The kernel has no more.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(errno(error)),
        }
    }
    // Else the change of user takes them.
    set_keep_capabilities(!kept.is_empty()).map_err(errno)
}

/// Has the calling process have these, and what it executes: root by being root, others because they are ambient.
fn have(kept: CapabilitySet, is_root: bool) -> Result<(), Errno> {
    let inheritable = if is_root { CapabilitySet::empty() } else { kept };
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable,
    };
    set_capabilities(None, sets).map_err(errno)?;
    for number in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if inheritable.contains(one) {
            configure_capability_in_ambient_set(one, true).map_err(errno)?;
        }
    }
    Ok(())
}

/// Makes a mount read-only with all that are below it.
fn make_read_only(dir: &CStr) -> Result<(), Errno> {
    let wanted = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path is a C string and the structure has the size that is given; both outlive the call, which keeps neither.
    #[allow(unsafe_code)]
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            dir.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const wanted,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(result).map(drop)
}

fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}
