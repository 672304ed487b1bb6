//! The engine's settings. Code is compiled in one process and run in another: both must be of one mind, or it does not load.

use std::hash::{DefaultHasher, Hash, Hasher};

use wasmtime::{Config, Engine, WasmBacktraceDetails};

/// Stack of a component's own calls, in bytes.
const WASM_STACK: usize = 1 << 20;
/// Stack of a call together with the host functions it calls, in bytes.
const STACK: usize = WASM_STACK + (1 << 20);

/// An engine that compiles.
pub fn compiling() -> wasmtime::Result<Engine> {
    Engine::new(&config())
}

/// An engine that only runs what was compiled: it holds no compiler, and so costs little memory.
pub fn running() -> wasmtime::Result<Engine> {
    let mut config = config();
    config.enable_compiler(false);
    Engine::new(&config)
}

/// What native code depends on besides the component: the version of wasmtime, the settings, and this CPU. As part of a file name.
pub fn profile() -> wasmtime::Result<String> {
    let mut hasher = DefaultHasher::new();
    compiling()?.precompile_compatibility_hash().hash(&mut hasher);
    Ok(format!("wasmtime-{:016x}", hasher.finish()))
}

fn config() -> Config {
    let mut config = Config::new();
    // The last step before SIGKILL: a loop is ended where it is, and says where that was.
    config.epoch_interruption(true);
    config.wasm_backtrace_details(WasmBacktraceDetails::Enable);
    config.max_wasm_stack(WASM_STACK);
    config.async_stack_size(STACK);
    // Backtraces follow frame pointers; tables for a C++ unwinder would only be larger and slower to register.
    config.native_unwind_info(false);
    config
}
