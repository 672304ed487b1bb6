//! Ending a call where it is: in its own code at the engine's next epoch, and where a function of the host waits for it.
//!
//! What ends neither way is a system call that blocks, such as a read of a pipe: that is for SIGKILL.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wasmtime::Engine;

/// Whether the one call of this process is to end.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// How often a call that waits is looked after. A signal handler can wake nobody.
const LOOK: Duration = Duration::from_millis(50);

/// Interrupts the call of this process. For a signal handler: it sets a flag and adds to a number, both atomic.
pub fn interrupt(engine: &Engine) {
    INTERRUPTED.store(true, Ordering::Relaxed);
    engine.increment_epoch();
}

/// Returns once the call is interrupted.
pub(super) async fn interrupted() {
    while !INTERRUPTED.load(Ordering::Relaxed) {
        tokio::time::sleep(LOOK).await;
    }
}
