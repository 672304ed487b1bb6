//! Native code in memory: loaded once by the launcher, run by the processes that it clones.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::stat::fstat;
use tokio::runtime::{Builder, Runtime};
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Engine, Module};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p2::bindings::CommandPre;

use super::engine;
use super::host::{self, Host};
use super::host_imports::ActionPre;
use super::preview1;
use twitcher_confine::{ConfineError, Filters};
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
    /// What waits for its calls cannot be made.
    #[error("cannot start the async runtime: {0}")]
    Runtime(io::Error),
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
    /// For a call that the kernel need not be asked to poll anything for.
    pub(super) runtime: Arc<Runtime>,
    descriptors: Vec<RawFd>,
}

/// How it is called.
pub(super) enum Call {
    /// By `on-change`.
    Handler(ActionPre<Host>),
    /// By `run`.
    Command(CommandPre<Host>),
    /// By `_start`.
    Preview1(wasmtime::InstancePre<Host>),
}

impl Ready {
    /// The engine that runs it.
    pub fn engine(&self) -> &Engine {
        match &self.call {
            Call::Handler(pre) => pre.engine(),
            Call::Command(pre) => pre.engine(),
            Call::Preview1(pre) => pre.module().engine(),
        }
    }

    /// Whether how it exits is the outcome.
    pub(super) fn is_program(&self) -> bool {
        !matches!(self.call, Call::Handler(_))
    }

    /// The descriptors that it needs to be instantiated, in ascending order: wasmtime maps the initial content of memories from
    /// its file each time.
    pub fn descriptors(&self) -> &[RawFd] {
        &self.descriptors
    }

    /// Whether the file that it was loaded from, and still maps, has been removed.
    fn is_removed(&self, file: FileId) -> bool {
        self.descriptors.iter().any(|fd| {
            std::fs::metadata(format!("/proc/self/fd/{fd}"))
                .is_ok_and(|stat| (stat.dev(), stat.ino()) == file && stat.nlink() == 0)
        })
    }
}

/// Most components that are kept loaded; of more, the one that was not used for longest is loaded again when it is needed.
const KEPT: usize = 64;

/// What all components need. Made when the first is loaded: most daemons run programs only.
struct Ground {
    engine: Engine,
    components: Linker<Host>,
    modules: wasmtime::Linker<Host>,
    filters: Arc<Filters>,
    runtime: Arc<Runtime>,
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
                self.let_go_of_removed();
                self.make_room();
                self.load(entry, &native)?
            }
        };
        let (ready, _) = self.components.entry(key).insert_entry((loaded, self.uses)).into_mut();
        Ok(ready)
    }

    fn load(&mut self, entry: EntryPoint, native: &OwnedFd) -> Result<Ready, LoadError> {
        let ground = match &mut self.ground {
            Some(ground) => ground,
            none => none.insert(Ground::prepare()?),
        };
        let before = open_descriptors();
        let call = match entry {
            EntryPoint::Preview1 => ground.load_module(native)?,
            EntryPoint::Handler | EntryPoint::Command => ground.load_component(entry, native)?,
        };
        let opened = |fd: &RawFd| !before.contains(fd);
        Ok(Ready {
            call,
            filters: Arc::clone(&ground.filters),
            runtime: Arc::clone(&ground.runtime),
            descriptors: open_descriptors().into_iter().filter(opened).collect(),
        })
    }

    /// Nobody can ask any more for code whose file was removed, because it was damaged or nothing used it; kept loaded, it would also keep the
    /// file's room on the disk.
    fn let_go_of_removed(&mut self) {
        self.components
            .retain(|(_, _, file), (ready, _)| !ready.is_removed(*file));
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
}

impl Ground {
    fn prepare() -> Result<Self, LoadError> {
        let engine = engine::running().map_err(LoadError::Engine)?;
        let components = host::linker(&engine).map_err(LoadError::Engine)?;
        let modules = preview1::linker(&engine).map_err(LoadError::Engine)?;
        let filters = Arc::new(Filters::compile()?);
        // What is made once in a process is made here, or each of its clones would: the stack for signals, and the random
        // numbers' look at the processor, which in a virtual machine costs as much as a short call.
        Engine::tls_eager_initialize();
        drop(WasiCtxBuilder::new().build());
        // It has neither threads nor descriptors, so each clone has a whole one.
        let runtime = Builder::new_current_thread().enable_time().build();
        Ok(Self {
            engine,
            components,
            modules,
            filters,
            runtime: Arc::new(runtime.map_err(LoadError::Runtime)?),
        })
    }

    fn load_component(&self, entry: EntryPoint, native: &OwnedFd) -> Result<Call, LoadError> {
        let component = map_component(&self.engine, native).map_err(LoadError::Code)?;
        // Else it would be done again in each process.
        component.initialize_copy_on_write_image().map_err(LoadError::Code)?;
        let pre = self.components.instantiate_pre(&component).map_err(LoadError::Link)?;
        let call = match entry {
            EntryPoint::Handler => ActionPre::new(pre).map(Call::Handler),
            EntryPoint::Command | EntryPoint::Preview1 => CommandPre::new(pre).map(Call::Command),
        };
        call.map_err(LoadError::Link)
    }

    fn load_module(&self, native: &OwnedFd) -> Result<Call, LoadError> {
        let module = map_module(&self.engine, native).map_err(LoadError::Code)?;
        module.initialize_copy_on_write_image().map_err(LoadError::Code)?;
        let pre = self.modules.instantiate_pre(&module).map_err(LoadError::Link)?;
        Ok(Call::Preview1(pre))
    }
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

/// By which the file is mapped, rather than read: pages come when they are used, and all processes share them.
fn path(native: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", native.as_raw_fd())
}

fn map_component(engine: &Engine, native: &OwnedFd) -> wasmtime::Result<Component> {
    // SAFETY: the file is one that only root can write to, is complete (it was renamed into place), and is never changed afterwards. It
    // is of the daemon's own cache, made by wasmtime in a helper process from this very component; or of an installed bundle, and the
    // daemon has found it to be the code that a key signed which the operator trusts with native code. Code for another version of
    // wasmtime, other settings or another CPU is refused by wasmtime itself.
    #[allow(unsafe_code)]
    unsafe {
        Component::deserialize_file(engine, path(native))
    }
}

fn map_module(engine: &Engine, native: &OwnedFd) -> wasmtime::Result<Module> {
    // SAFETY: as above.
    #[allow(unsafe_code)]
    unsafe {
        Module::deserialize_file(engine, path(native))
    }
}

/// Loads a component in the helper process, which may not open the cache, for a call of its `check`. Nothing is left for the call that the
/// process may not do any more by then.
pub fn load_copy(engine: &Engine, native: &[u8]) -> Result<InstancePre<Host>, LoadError> {
    // SAFETY: as above; the daemon has read these bytes from its cache.
    #[allow(unsafe_code)]
    let component = unsafe { Component::deserialize(engine, native) }.map_err(LoadError::Code)?;
    component.initialize_copy_on_write_image().map_err(LoadError::Code)?;
    let linker = host::linker(engine).map_err(LoadError::Engine)?;
    linker.instantiate_pre(&component).map_err(LoadError::Link)
}
