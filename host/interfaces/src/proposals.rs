//! What WebAssembly and WASI have, or are about to have, and components here cannot use: named as their authors know it.

use wasmparser::{Validator, WasmFeatures};

/// Something that a component needs and that it will not get here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsupported {
    /// What it is called.
    pub what: &'static str,
    /// What to build instead.
    pub instead: &'static str,
}

/// WASI of version 0.3.
pub const WASI_0_3: Unsupported = Unsupported {
    what: "WASI 0.3, with its asynchronous functions",
    instead: "build it for WASI 0.2, as for wasm32-wasip2",
};
/// WASI of its first snapshot.
pub const PREVIEW0: Unsupported = Unsupported {
    what: "WASI's preview 0 (wasi_unstable)",
    instead: "build it with a compiler of 2020 or later, for wasm32-wasip1 or wasm32-wasip2",
};

/// Each is on in no engine of ours.
const PROPOSALS: [(WasmFeatures, Unsupported); 6] = [
    (WasmFeatures::CM_ASYNC, WASI_0_3),
    (
        WasmFeatures::THREADS,
        Unsupported {
            what: "threads (shared memory)",
            instead: "build it for one thread, not for wasm32-wasip1-threads or with -pthread",
        },
    ),
    (
        WasmFeatures::LEGACY_EXCEPTIONS,
        Unsupported {
            what: "exceptions of WebAssembly",
            instead: "build it without, as with -fno-exceptions",
        },
    ),
    (
        WasmFeatures::EXCEPTIONS,
        Unsupported {
            what: "exceptions of WebAssembly",
            instead: "build it without, as with -fno-exceptions",
        },
    ),
    (
        WasmFeatures::GC,
        Unsupported {
            what: "garbage collection by the engine (WebAssembly GC)",
            instead: "use a compiler that brings its own, as those of Go and Python do",
        },
    ),
    (
        WasmFeatures::STACK_SWITCHING,
        Unsupported {
            what: "stack switching",
            instead: "build it without",
        },
    ),
];

/// What a component or module needs of what is not supported, if it is valid otherwise.
pub fn unsupported(wasm: &[u8]) -> Option<Unsupported> {
    let is_valid = |features| Validator::new_with_features(features).validate_all(wasm).is_ok();
    let all = WasmFeatures::all();
    let missing = |(proposal, _): &&(WasmFeatures, Unsupported)| !is_valid(all.difference(*proposal));
    is_valid(all)
        .then(|| PROPOSALS.iter().find(missing))?
        .map(|(_, why)| *why)
}
