//! Files and ports, by Landlock: all that the running kernel can restrict is denied, then what was granted allowed.

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, Scope, make_bitflags,
};

use super::Confinement;

/// The newest the library knows. It leaves out what the kernel does not have; what no grant below names stays denied.
const KNOWN: ABI = ABI::V10;

/// All that is denied: nothing is restricted yet.
fn everything() -> Result<RulesetCreated, RulesetError> {
    Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()
}

/// Restricts the calling thread. Returns the version of Landlock that is in force.
pub(super) fn restrict(confinement: &Confinement<'_>) -> Result<Option<i32>, RulesetError> {
    let ruleset = everything()?;
    let dirs = confinement.dirs.iter().map(|dir| {
        Ok::<_, RulesetError>(PathBeneath::new(
            dir.fd,
            if dir.writable { changing() } else { reading() },
        ))
    });
    let ports = confinement
        .tcp_ports
        .iter()
        .map(|port| Ok::<_, RulesetError>(NetPort::new(*port, AccessNet::ConnectTcp)));
    let status = ruleset.add_rules(dirs)?.add_rules(ports)?.restrict_self()?;
    Ok(match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => Some(effective_abi as i32),
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => None,
    })
}

fn reading() -> BitFlags<AccessFs> {
    make_bitflags!(AccessFs::{ReadFile | ReadDir})
}

/// No devices, sockets or pipes: another process could hang on opening one. And nothing is ever executed.
fn changing() -> BitFlags<AccessFs> {
    reading()
        | make_bitflags!(AccessFs::{
            WriteFile | Truncate | MakeReg | MakeDir | MakeSym | RemoveFile | RemoveDir | Refer
        })
}
