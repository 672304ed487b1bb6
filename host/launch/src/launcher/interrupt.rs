//! Ending a component where it is: SIGTERM interrupts it, in its own code, which then says where it was, or where the host waits for it.
//!
//! A signal handler has nothing but globals to work on; this is the only one.

use std::sync::OnceLock;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use wasmtime::Engine;

static ENGINE: OnceLock<Engine> = OnceLock::new();

/// Has SIGTERM interrupt what this engine runs, in this process: it must be one made for a single call.
pub fn on_sigterm(engine: &Engine) {
    let _ = ENGINE.set(engine.clone());
    let action = SigAction::new(SigHandler::Handler(advance), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler only reads a cell that was set before, and what it calls changes atomic values: both are safe at any moment.
    // Should the call fail, SIGTERM ends the process, which SIGKILL would do a little later anyway.
    #[allow(unsafe_code)]
    let _ = unsafe { sigaction(Signal::SIGTERM, &action) };
}

extern "C" fn advance(_: i32) {
    if let Some(engine) = ENGINE.get() {
        twitcher_sandbox::interrupt(engine);
    }
}
