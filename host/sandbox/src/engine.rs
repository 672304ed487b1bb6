//! The engine's settings. Code is compiled in one process and run in another: both must be of one mind, or it does not load.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use wasmtime::{Config, CustomCodeMemory, Engine, WasmBacktraceDetails};

use twitcher_model::Target;

/// The engine's version. Wasmtime itself compares the major number only, but code of another patch release may be what the release
/// corrects.
pub const WASMTIME: &str = "48.0.8";
/// The name of the settings below. There is one set of them: whatever runs components runs them so.
pub const PROFILE: &str = "sandbox";

/// Raised when other native code is made of the same file, or it is entered differently, so that what a cache holds of before is left.
const MADE: u32 = 2;

/// Stack of a component's own calls, in bytes.
const WASM_STACK: usize = 1 << 20;
/// Stack of a call together with the host functions it calls, in bytes.
const STACK: usize = WASM_STACK + (1 << 20);

/// An engine that compiles: for this machine with all that its CPU can do, or for all machines of a target. It runs nothing: what it has
/// compiled can be looked at, and is never made executable, which a helper is not allowed to do.
pub fn compiling(target: Option<Target>) -> wasmtime::Result<Engine> {
    let mut config = config();
    config.with_custom_code_memory(Some(Arc::new(NeverExecutable)));
    if let Some(target) = target {
        config.target(target.triple())?;
    }
    Engine::new(&config)
}

/// An engine that only runs what was compiled: it holds no compiler, and so costs little memory.
pub fn running() -> wasmtime::Result<Engine> {
    let mut config = config();
    config.enable_compiler(false);
    Engine::new(&config)
}

/// What native code depends on besides the component: the version of wasmtime, the settings, this CPU, and how we use it. As part of a
/// file name.
pub fn profile() -> wasmtime::Result<String> {
    let mut hasher = DefaultHasher::new();
    MADE.hash(&mut hasher);
    compiling(None)?.precompile_compatibility_hash().hash(&mut hasher);
    Ok(format!("wasmtime-{:016x}", hasher.finish()))
}

/// A fingerprint of the settings that code for a target is compiled with, the same on every machine: 16 hexadecimal digits.
pub fn settings(target: Target) -> wasmtime::Result<String> {
    let mut hasher = Fingerprint::default();
    compiling(Some(target))?
        .precompile_compatibility_hash()
        .hash(&mut hasher);
    Ok(format!("{:016x}", hasher.finish()))
}

/// A hash that does not change with the version of the standard library, which promises nothing for its own.
#[derive(Default)]
struct Fingerprint(Sha256);

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest: [u8; 32] = self.0.clone().finalize().into();
        digest.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }
}

/// Native code that stays data.
struct NeverExecutable;

impl CustomCodeMemory for NeverExecutable {
    fn required_alignment(&self) -> usize {
        1
    }

    fn publish_executable(&self, _: *const u8, _: usize) -> wasmtime::Result<()> {
        Ok(())
    }

    fn unpublish_executable(&self, _: *const u8, _: usize) -> wasmtime::Result<()> {
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_lock_file() {
        let lock = include_str!("../../../Cargo.lock");
        assert!(lock.contains(&format!("name = \"wasmtime\"\nversion = \"{WASMTIME}\"\n")));
    }

    #[test]
    fn targets_differ_and_a_fingerprint_stays() {
        let of = |target| settings(target).unwrap();
        assert_ne!(of(Target::X86_64Linux), of(Target::Aarch64Linux));
        assert_eq!(of(Target::X86_64Linux), of(Target::X86_64Linux));
    }
}
