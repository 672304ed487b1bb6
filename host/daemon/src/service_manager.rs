//! What the service manager is told: systemd, or whoever set `NOTIFY_SOCKET`. Without one nothing of this does anything.

use std::io;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// The service, as its manager sees it.
#[derive(Debug)]
pub(super) struct ServiceManager {
    /// Said once.
    ready: bool,
    status: String,
    watchdog: Option<Interval>,
}

impl ServiceManager {
    pub(super) fn new() -> Self {
        // Half of what is allowed, as sd_watchdog_enabled(3) recommends.
        let watchdog = sd_notify::watchdog_enabled().map(|allowed| {
            let mut interval = interval((allowed / 2).max(Duration::from_millis(1)));
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        });
        Self {
            ready: false,
            status: String::new(),
            watchdog,
        }
    }

    /// The source is connected and every watch is armed; or, after [`ServiceManager::reloading`], the configuration is loaded.
    pub(super) fn ready(&mut self) -> io::Result<()> {
        self.ready = true;
        sd_notify::notify(&[NotifyState::Ready])
    }

    /// Whether it was ready before.
    pub(super) fn was_ready(&self) -> bool {
        self.ready
    }

    /// The configuration is being loaded. Before the service was ready once there is nothing to be said: READY=1 follows either way.
    pub(super) fn reloading(&self) -> io::Result<()> {
        if !self.ready {
            return Ok(());
        }
        // With the time, systemd can tell the answer to its signal from one to an earlier.
        sd_notify::notify(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?])
    }

    /// The daemon ends.
    pub(super) fn stopping(&self) -> io::Result<()> {
        sd_notify::notify(&[NotifyState::Stopping])
    }

    /// How it does, on one line; said if it is something new.
    pub(super) fn status(&mut self, status: String) -> io::Result<()> {
        if self.status == status {
            return Ok(());
        }
        self.status = status;
        sd_notify::notify(&[NotifyState::Status(&self.status)])
    }

    /// When the watchdog wants to hear from the loop. Never, unless there is one. Cancel safe.
    pub(super) async fn watchdog(&mut self) {
        match &mut self.watchdog {
            Some(interval) => {
                interval.tick().await;
            }
            None => std::future::pending().await,
        }
    }

    /// The loop turns.
    pub(super) fn alive(&self) -> io::Result<()> {
        sd_notify::notify(&[NotifyState::Watchdog])
    }
}
