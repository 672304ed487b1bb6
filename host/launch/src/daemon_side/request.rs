//! From an invocation to what the launcher is asked for, and from a failed step to words.

use nix::errno::Errno;

use crate::daemon_side::invocation::Invocation;
use crate::journal::JournalEntry;
use crate::protocol::{ProcessSetup, Request, Step, Task};
use twitcher_model::{Hardening, Limit, Outcome, ProcessSettings, Resource, RunLimits, WasmAction};
use twitcher_process::cgroup::CgroupLimits;
use twitcher_process::{RUN_ID_VARIABLE, usage};
use twitcher_sandbox::process_limits;

/// The request for an invocation.
pub(crate) fn request(
    seq: u64,
    invocation: &Invocation,
    may_share_memory: bool,
    journal: Option<JournalEntry>,
    in_cgroup: bool,
) -> Request {
    let settings = &invocation.process;
    let identity = &settings.identity;
    let mut env = invocation.env.clone();
    let mut task = invocation.task.clone();
    invocation.secrets.give(&mut env, &mut task);
    let mark = invocation.mark();
    env.push((RUN_ID_VARIABLE.to_owned(), mark.name));
    Request {
        seq,
        task,
        env,
        cwd: settings.cwd.to_string_lossy().into_owned(),
        setup: ProcessSetup {
            uid: identity.uid,
            gid: identity.gid,
            groups: identity.groups.clone(),
            umask: settings.umask,
            mark: mark.number,
            limits: match &invocation.task {
                Task::Exec(_) | Task::Function(_) | Task::Write(_) => settings.limits.clone(),
                Task::Wasm(task) => component_limits(settings, &task.action),
                Task::Wait(action) => component_limits(settings, action),
            },
            hardening: match &invocation.task {
                Task::Exec(_) => settings.hardening.clone(),
                // A component has its sandbox.
                Task::Function(_) | Task::Wasm(_) | Task::Wait(_) | Task::Write(_) => Hardening::default(),
            },
            journal,
        },
        may_share_memory,
        in_cgroup,
    }
}

fn component_limits(settings: &ProcessSettings, action: &WasmAction) -> Vec<Limit> {
    process_limits(
        &settings.limits,
        settings.timeout,
        settings.kill_after,
        action.grants.memory,
    )
}

fn cpu_limit(limits: &[Limit]) -> Option<(u64, u64)> {
    let cpu = limits.iter().find(|limit| limit.resource == Resource::Cpu)?;
    Some((cpu.soft, cpu.hard))
}

/// The limits of processor time, in seconds, that a process that waits is made with.
pub(crate) fn own_cpu_limit(invocation: &Invocation) -> (u64, u64) {
    let own = match &invocation.task {
        Task::Wait(action) => cpu_limit(&component_limits(&invocation.process, action)),
        Task::Exec(_) | Task::Function(_) | Task::Wasm(_) | Task::Write(_) => None,
    };
    own.unwrap_or_else(usage::own_cpu_limit)
}

/// What the run may use, in the form of the kernel's.
pub(crate) fn cgroup_limits(limits: &RunLimits) -> CgroupLimits {
    CgroupLimits {
        memory: limits.memory,
        tasks: limits.tasks,
        cpu_percent: limits.cpu_percent,
    }
}

/// The mounts that a run asks for, as the configuration has them.
fn own_mounts(hardening: &Hardening) -> String {
    let dirs = hardening.read_only.iter().map(|dir| dir.to_string_lossy());
    let read_only = dirs.collect::<Vec<_>>().join(", ");
    match (hardening.private_tmp, read_only.is_empty()) {
        (true, true) => "private_tmp".to_owned(),
        (true, false) => format!("private_tmp, read_only: {read_only}"),
        (false, _) => format!("read_only: {read_only}"),
    }
}

/// What a failed step means, in words.
pub(crate) fn launch_failed(invocation: &Invocation, step: Step, errno: Errno) -> Outcome {
    let identity = &invocation.process.identity;
    let step = match step {
        Step::Decode => "read the request".to_owned(),
        Step::Clone => "make a process".to_owned(),
        Step::Cgroup => "enter its cgroup".to_owned(),
        Step::Signals => "reset the signals".to_owned(),
        Step::Session => "make a session".to_owned(),
        Step::Stdio => "place the standard streams".to_owned(),
        Step::Mounts => format!(
            "make its own mounts, which takes root ({})",
            own_mounts(&invocation.process.hardening)
        ),
        Step::Limit(resource) => format!("set the limit {resource:?}").to_lowercase(),
        Step::Groups => format!("set the groups of user {}", identity.user),
        Step::Gid => format!("change to group {}", identity.gid.unwrap_or_default()),
        Step::Uid => format!(
            "change to user {} (uid {})",
            identity.user,
            identity.uid.unwrap_or_default()
        ),
        Step::Chdir => format!("enter directory {}", invocation.process.cwd.display()),
        Step::Capabilities => "change its capabilities, which takes root".to_owned(),
        Step::NoNewPrivs => "set no_new_privs".to_owned(),
        Step::Descriptors => "close inherited descriptors".to_owned(),
        Step::Load => match &invocation.task {
            Task::Wasm(task) => format!("load the native code of {}", task.action.component),
            Task::Wait(action) => format!("load the native code of {}", action.component),
            Task::Exec(_) | Task::Function(_) | Task::Write(_) => "load native code".to_owned(),
        },
        Step::Exec => match &invocation.task {
            Task::Exec(argv) => format!("execute {:?}", argv.first().map_or("", String::as_str)),
            Task::Function(_) => "run the function".to_owned(),
            Task::Write(path) => format!("write {}", path.display()),
            Task::Wasm(task) => format!("run {}", task.action.component),
            Task::Wait(action) => format!("run {}", action.component),
        },
    };
    Outcome::LaunchFailed {
        step,
        errno: errno as i32,
    }
}
