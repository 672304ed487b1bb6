//! What belongs to one call of a component: its view of WASI, its limits, its channel.
//!
//! It must not know how the process was set up; that there is one of its own is what lets everything here block.

use std::cell::OnceCell;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use nix::errno::Errno;
use nix::unistd::{chdir, fchdir};
use rand::Rng as _;
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Engine, ResourceLimiter};
use wasmtime_wasi::cli::{InputFile, OutputFile};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_config::WasiConfigVariables;
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::channel::{CallEnd, Channel};
use super::description::Description;
use super::directories::{self, Directories};
use super::host_imports::Action;
use super::network::{self, NetworkGrants, Reach};
use super::{file_streams, proposals};
use twitcher_model::{ChangeFacts, Grants, Payload, WasmAction};

/// Most elements in all tables of a component together: a large program has some ten thousand functions.
const TABLE_ELEMENTS: usize = 1_000_000;
/// Most core instances, tables and memories of a component, each.
const PARTS: usize = 1_000;
/// Most resources that a component holds at a time: streams, files, timers, requests. They are the host's memory, which its own limit
/// does not count.
const RESOURCES: usize = 10_000;
/// Longest data that is handed to a component, in bytes.
const DATA_MAX: u64 = 64 << 20;

/// What the functions that a component imports work on.
pub struct Host {
    pub(super) action: Arc<WasmAction>,
    /// None while it waits to be called.
    change: Option<ChangeFacts>,
    pub(super) channel: Channel,
    pub(super) started: Instant,
    pub(super) data: Bytes,
    /// What the data says with `payload = JSON`, once somebody asked.
    description: OnceCell<Description>,
    pub(super) limits: GuestLimits,
    /// WASI as a component sees it, and what core modules have beside it: their descriptors by number.
    pub(super) wasi: WasiP1Ctx,
    pub(super) directories: Directories,
    http: WasiHttpCtx,
    /// What `wasi:config` gives, once it is asked for.
    pub(super) wasi_config: Option<WasiConfigVariables>,
    pub(super) net: NetworkGrants,
}

/// The standard streams of the process.
pub struct Stdio {
    /// Descriptor 0: the data.
    pub stdin: File,
    /// Descriptor 1.
    pub stdout: File,
    /// Descriptor 2.
    pub stderr: File,
}

impl Host {
    /// Gives what is granted; `dirs` are the directories, open, in the order of the grants. The process is in `/` afterwards if there are any.
    /// Without a change it waits for one: [`Host::is_called_for`] is to follow.
    pub fn new(
        action: &Arc<WasmAction>,
        change: Option<&ChangeFacts>,
        reach: &Reach,
        channel: Channel,
        stdio: Stdio,
        dirs: &[OwnedFd],
    ) -> Result<Self, CallEnd> {
        let grants = &action.grants;
        let data = read_all(&stdio.stdin).map_err(|error| not_called("read the data".to_owned(), &error))?;
        let name = action.component.name();
        let mut wasi = WasiCtxBuilder::new();
        wasi.stdin(InputFile::new(stdio.stdin))
            .stdout(OutputFile::new(stdio.stdout))
            .stderr(OutputFile::new(stdio.stderr))
            .envs(&grants.env)
            .arg(name)
            .args(&grants.args)
            // There is nothing else to do in this process meanwhile, and a thread would cost more than most calls.
            .allow_blocking_current_thread(true);
        draw_from_kernel(&mut wasi);
        for (dir, opened) in grants.dirs.iter().zip(dirs) {
            let perms = if dir.writable {
                FsPerms::ReadWrite
            } else {
                FsPerms::ReadOnly
            };
            let failed = |errno| {
                let step = format!("open directory {}", dir.host.display());
                not_called(step, &io::Error::from_raw_os_error(errno))
            };
            // The library opens by name only, and this is the name of what is open, also where there is no /proc.
            fchdir(opened).map_err(|errno| failed(errno as i32))?;
            wasi.preopened_dir(".", &dir.guest, perms).map_err(|error| {
                let errno = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
                failed(errno.unwrap_or(libc::EIO))
            })?;
        }
        if !dirs.is_empty() {
            chdir("/").map_err(|errno| not_called("leave the granted directories".to_owned(), &errno.into()))?;
        }
        let started = Instant::now();
        let timeout = change.and_then(|change| change.timeout);
        let ends = timeout.and_then(|timeout| started.checked_add(timeout));
        let net = NetworkGrants::new(grants, reach, channel.speaker(), ends);
        net.configure(&mut wasi);
        let mut wasi = wasi.build_p1();
        wasi.ctx().table.set_max_capacity(RESOURCES);
        Ok(Self {
            limits: GuestLimits::new(grants.memory),
            action: Arc::clone(action),
            change: change.cloned(),
            channel,
            started,
            data,
            description: OnceCell::new(),
            wasi,
            directories: Directories::new(dirs)
                .map_err(|error| not_called("keep the granted directories".to_owned(), &error))?,
            http: WasiHttpCtx::new(),
            wasi_config: None,
            net,
        })
    }

    /// What is now called is called for this, with the values of its secrets among the grants. The time of the call begins.
    pub(super) fn is_called_for(
        &mut self,
        action: Arc<WasmAction>,
        change: ChangeFacts,
        data: &File,
    ) -> Result<(), CallEnd> {
        self.started = Instant::now();
        self.data = read_all(data).map_err(|error| not_called("read the data".to_owned(), &error))?;
        self.action = action;
        self.change = Some(change);
        Ok(())
    }

    /// What it is told of the change.
    pub(super) fn change(&self) -> wasmtime::Result<&ChangeFacts> {
        let why = "the component asks for the change before it is called";
        self.change.as_ref().ok_or_else(|| wasmtime::format_err!(why))
    }

    /// Whether it waits to be called.
    pub(super) fn is_waiting(&self) -> bool {
        self.change.is_none()
    }

    /// What an instance took that is not there any more can be taken again.
    pub(super) fn forget_instance(&mut self) {
        self.limits = GuestLimits::new(self.action.grants.memory);
    }

    pub(super) fn grants(&self) -> &Grants {
        &self.action.grants
    }

    /// What the data says of the change; none without `payload = JSON`.
    pub(super) fn description(&self) -> wasmtime::Result<Option<&Description>> {
        if self.change()?.payload == Payload::Data {
            return Ok(None);
        }
        if let Some(read) = self.description.get() {
            return Ok(Some(read));
        }
        let read = Description::of(&self.data)?;
        Ok(Some(self.description.get_or_init(|| read)))
    }

    /// The data as lines; in a children or tree watch, each is a name or a path.
    pub(super) fn lines(&self) -> Vec<String> {
        String::from_utf8_lossy(&self.data).lines().map(str::to_owned).collect()
    }
}

/// Has random numbers come from the kernel, when they are asked for. The library would seed its own generators from one whose state this
/// process has as a copy of the launcher's, as all others have: each of them would draw the same numbers.
fn draw_from_kernel(wasi: &mut WasiCtxBuilder) {
    let mut kernel = UnwrapErr(SysRng);
    let mut seed = [0; 16];
    kernel.fill_bytes(&mut seed);
    wasi.secure_random(UnwrapErr(SysRng))
        .insecure_random(UnwrapErr(SysRng))
        .insecure_random_seed(u128::from_ne_bytes(seed));
}

/// What it means that something failed before the call.
pub(super) fn not_called(step: String, error: &io::Error) -> CallEnd {
    CallEnd::NotCalled {
        step,
        errno: error.raw_os_error().unwrap_or(libc::EIO),
    }
}

/// Without moving the offset: a program reads the same from its stdin.
pub(super) fn read_all(file: &File) -> io::Result<Bytes> {
    let size = file.metadata()?.len();
    if size > DATA_MAX {
        return Err(Errno::EFBIG.into());
    }
    let mut bytes = vec![0; size as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes.into())
}

/// A linker with everything that components may import.
pub fn linker(engine: &Engine) -> wasmtime::Result<Linker<Host>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    file_streams::add_to_linker(&mut linker)?;
    directories::add_to_linker(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    network::replace_in(&mut linker)?;
    Action::add_to_linker::<_, HasSelf<Host>>(&mut linker, |host| host)?;
    proposals::add_to_linker(&mut linker)?;
    Ok(linker)
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi.ctx()
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.net,
            table: self.wasi.ctx().table,
            ctx: &mut self.http,
        }
    }
}

/// What a component may take of the machine. The limits of wasmtime are for each memory; these are for all of them together.
#[derive(Debug)]
pub struct GuestLimits {
    memory: usize,
    memory_left: usize,
    elements_left: usize,
    /// The last refusal of memory, unless more of it was given since: that was not what the call failed for.
    pub(super) refused: Option<RefusedMemory>,
}

/// Why memory was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedMemory {
    /// All memories together would have this many bytes, which is more than granted.
    Granted {
        /// In bytes.
        asked: u64,
    },
    /// The memory would be larger than the component itself says that it will ever be.
    Declared {
        /// In bytes.
        most: u64,
    },
}

impl GuestLimits {
    fn new(memory: u64) -> Self {
        let memory = usize::try_from(memory).unwrap_or(usize::MAX);
        Self {
            memory,
            memory_left: memory,
            elements_left: TABLE_ELEMENTS,
            refused: None,
        }
    }
}

/// Takes what growing from `current` to `desired` needs.
fn take(left: &mut usize, current: usize, desired: usize) -> bool {
    match left.checked_sub(desired.saturating_sub(current)) {
        Some(rest) => {
            *left = rest;
            true
        }
        None => false,
    }
}

impl ResourceLimiter for GuestLimits {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let used = self.memory - self.memory_left;
        self.refused = match maximum {
            Some(most) if desired > most => Some(RefusedMemory::Declared { most: most as u64 }),
            _ if take(&mut self.memory_left, current, desired) => None,
            _ => Some(RefusedMemory::Granted {
                asked: used.saturating_add(desired.saturating_sub(current)) as u64,
            }),
        };
        Ok(self.refused.is_none())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(maximum.is_none_or(|most| desired <= most) && take(&mut self.elements_left, current, desired))
    }

    fn instances(&self) -> usize {
        PARTS
    }

    fn tables(&self) -> usize {
        PARTS
    }

    fn memories(&self) -> usize {
        PARTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_share_one_limit() {
        let mut limits = GuestLimits::new(100);
        assert!(limits.memory_growing(0, 60, None).unwrap());
        assert!(limits.memory_growing(0, 40, None).unwrap());
        assert_eq!(limits.refused, None);
        assert!(!limits.memory_growing(60, 61, None).unwrap());
        assert_eq!(limits.refused, Some(RefusedMemory::Granted { asked: 101 }));
    }

    #[test]
    fn the_last_refusal_counts_and_only_while_nothing_was_given_since() {
        let mut limits = GuestLimits::new(100);
        assert!(!limits.memory_growing(0, 101, None).unwrap());
        assert!(limits.memory_growing(0, 1, None).unwrap());
        assert_eq!(limits.refused, None);
        assert!(!limits.memory_growing(1, 11, Some(10)).unwrap());
        assert_eq!(limits.refused, Some(RefusedMemory::Declared { most: 10 }));
    }

    #[test]
    fn tables_share_one_limit() {
        let mut limits = GuestLimits::new(100);
        assert!(limits.table_growing(0, TABLE_ELEMENTS, None).unwrap());
        assert!(!limits.table_growing(0, 1, None).unwrap());
    }
}
