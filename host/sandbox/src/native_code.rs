//! Native code in memory: loaded once by the launcher, run by the processes that it clones.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::stat::fstat;
use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p2::bindings::CommandPre;

use super::confine::{ConfineError, Filters};
use super::engine;
use super::host::{self, Host};
use super::host_imports::ActionPre;
use twitcher_model::{Digest, EntryPoint};

/// Why native code cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The engine does not start.
    #[error("cannot start WebAssembly: {0:#}")]
    Engine(wasmtime::Error),
    /// Its file cannot be looked at.
    #[error("cannot look at the native code: {0}")]
    File(Errno),
    /// The code is of another version, machine or profile, or is damaged.
    #[error("cannot load the native code: {0:#}")]
    Code(wasmtime::Error),
    /// Its processes could not be confined.
    #[error("cannot prepare the sandbox: {0}")]
    Confine(#[from] ConfineError),
    /// It needs what the host does not have.
    #[error("cannot link the component: {0:#}")]
    Link(wasmtime::Error),
}

/// A component that is ready to be called.
pub struct Ready {
    pub(super) call: Call,
    pub(super) filters: Arc<Filters>,
    descriptors: Vec<RawFd>,
}

/// How it is called.
pub(super) enum Call {
    /// By `on-change`.
    Handler(ActionPre<Host>),
    /// By `run`.
    Command(CommandPre<Host>),
}

impl Ready {
    /// The engine that runs it.
    pub fn engine(&self) -> &Engine {
        match &self.call {
            Call::Handler(pre) => pre.engine(),
            Call::Command(pre) => pre.engine(),
        }
    }

    /// The descriptors that it needs to be instantiated, in ascending order: wasmtime maps the initial content of memories from
    /// its file each time.
    pub fn descriptors(&self) -> &[RawFd] {
        &self.descriptors
    }
}

/// Most components that are kept loaded; of more, the one that was not used for longest is loaded again when it is needed.
const KEPT: usize = 64;

/// What all components need. Made when the first is loaded: most daemons run programs only.
struct Ground {
    engine: Engine,
    linker: Linker<Host>,
    filters: Arc<Filters>,
}

/// The device and inode of a file. The code of one component may be of a bundle at first, and be compiled here once that is not trusted
/// any more.
type FileId = (u64, u64);

/// The components that the launcher has loaded.
#[derive(Default)]
pub struct LoadedCode {
    ground: Option<Ground>,
    components: HashMap<(Digest, EntryPoint, FileId), (Ready, u64)>,
    uses: u64,
}

impl LoadedCode {
    /// The component with this digest, whose code is in `native`.
    pub fn get(&mut self, digest: Digest, entry: EntryPoint, native: OwnedFd) -> Result<&Ready, LoadError> {
        self.uses += 1;
        let file = fstat(&native).map_err(LoadError::File)?;
        let key = (digest, entry, (file.st_dev, file.st_ino));
        let loaded = match self.components.remove(&key) {
            Some((ready, _)) => ready,
            None => {
                self.make_room();
                self.load(entry, &native)?
            }
        };
        let (ready, _) = self.components.entry(key).insert_entry((loaded, self.uses)).into_mut();
        Ok(ready)
    }

    fn load(&mut self, entry: EntryPoint, native: &OwnedFd) -> Result<Ready, LoadError> {
        let Ground {
            engine,
            linker,
            filters,
        } = match &mut self.ground {
            Some(ground) => ground,
            none => none.insert(Self::ground()?),
        };
        let before = open_descriptors();
        let component = deserialize(engine, native).map_err(LoadError::Code)?;
        // Else it would be done again in each process.
        component.initialize_copy_on_write_image().map_err(LoadError::Code)?;
        let pre = linker.instantiate_pre(&component).map_err(LoadError::Link)?;
        let call = call(pre, entry).map_err(LoadError::Link)?;
        let opened = |fd: &RawFd| !before.contains(fd);
        Ok(Ready {
            call,
            filters: Arc::clone(filters),
            descriptors: open_descriptors().into_iter().filter(opened).collect(),
        })
    }

    fn make_room(&mut self) {
        while self.components.len() >= KEPT {
            let oldest = self
                .components
                .iter()
                .min_by_key(|(_, (_, used))| *used)
                .map(|(key, _)| *key);
            oldest.and_then(|key| self.components.remove(&key));
        }
    }

    fn ground() -> Result<Ground, LoadError> {
        let engine = engine::running().map_err(LoadError::Engine)?;
        let linker = host::linker(&engine).map_err(LoadError::Engine)?;
        let filters = Arc::new(Filters::compile()?);
        // What is made once in a process is made here, or each of its clones would: the stack for signals, and the random
        // numbers' look at the processor, which in a virtual machine costs as much as a short call.
        Engine::tls_eager_initialize();
        drop(WasiCtxBuilder::new().build());
        Ok(Ground {
            engine,
            linker,
            filters,
        })
    }
}

fn call(pre: InstancePre<Host>, entry: EntryPoint) -> wasmtime::Result<Call> {
    Ok(match entry {
        EntryPoint::Handler => Call::Handler(ActionPre::new(pre)?),
        EntryPoint::Command => Call::Command(CommandPre::new(pre)?),
    })
}

/// In ascending order.
fn open_descriptors() -> BTreeSet<RawFd> {
    let listed = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let listed: Vec<RawFd> = listed
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    // The one through which they were listed is closed by now.
    let open = |fd: &RawFd| std::fs::symlink_metadata(format!("/proc/self/fd/{fd}")).is_ok();
    listed.into_iter().filter(open).collect()
}

/// Maps the file, rather than reads it: pages come when they are used, and all processes share them.
fn deserialize(engine: &Engine, native: &OwnedFd) -> wasmtime::Result<Component> {
    let path = format!("/proc/self/fd/{}", native.as_raw_fd());
    // SAFETY: the file is one that only root can write to, is complete (it was renamed into place), and is never changed afterwards. It
    // is of the daemon's own cache, made by wasmtime in a helper process from this very component; or of an installed bundle, and the
    // daemon has found it to be the code that a key signed which the operator trusts with native code. Code for another version of
    // wasmtime, other settings or another CPU is refused by wasmtime itself.
    #[allow(unsafe_code)]
    unsafe {
        Component::deserialize_file(engine, path)
    }
}

/// Loads a component in the helper process, which may not open the cache, for a call of its `check`.
pub fn load_copy(engine: &Engine, native: &[u8]) -> Result<InstancePre<Host>, LoadError> {
    // SAFETY: as above; the daemon has read these bytes from its cache.
    #[allow(unsafe_code)]
    let component = unsafe { Component::deserialize(engine, native) }.map_err(LoadError::Code)?;
    let linker = host::linker(engine).map_err(LoadError::Engine)?;
    linker.instantiate_pre(&component).map_err(LoadError::Link)
}
