//! Ending a component where it is: SIGTERM interrupts it, in its own code, which then says where it was, or where the host waits for it.
//!
//! A signal handler has nothing but globals to work on; this is the only one.

use std::sync::OnceLock;

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use wasmtime::Engine;

static ENGINE: OnceLock<Engine> = OnceLock::new();

/// Says which engine runs all components. In the launcher, so that no process need say it again.
pub fn know(engine: &Engine) {
    ENGINE.get_or_init(|| engine.clone());
}

/// Has SIGTERM interrupt what the engine runs, in this process: it must be one made for a single call.
pub fn on_sigterm() {
    let action = SigAction::new(SigHandler::Handler(advance), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler only reads a cell that was set before, and what it calls changes atomic values: both are safe at any moment.
    // Should the call fail, SIGTERM ends the process, which SIGKILL would do a little later anyway.
    #[allow(unsafe_code)]
    let _ = unsafe { sigaction(Signal::SIGTERM, &action) };
}

/// Most processor time of what comes before the call of a process that waits, in seconds.
const START: i64 = 10;

/// Ends this process should an endless loop be what an instance begins with: when the daemon is killed, nobody is left to.
pub fn guard_start() {
    let zero = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let once = libc::itimerval {
        it_interval: zero,
        it_value: libc::timeval { tv_sec: START, ..zero },
    };
    // SAFETY: the pointer is to a live value, and nothing is to be told of a timer before. The signal of this one ends the process.
    #[allow(unsafe_code)]
    unsafe {
        libc::setitimer(libc::ITIMER_PROF, &raw const once, std::ptr::null_mut());
    }
}

/// The same is not for the call. The sandbox lets no timer be stopped, but its signal be ignored.
pub fn end_guard() {
    // SAFETY: SIG_IGN runs no code.
    #[allow(unsafe_code)]
    unsafe {
        libc::signal(libc::SIGPROF, libc::SIG_IGN);
    }
}

extern "C" fn advance(_: i32) {
    if let Some(engine) = ENGINE.get() {
        twitcher_sandbox::interrupt(engine);
    }
}
