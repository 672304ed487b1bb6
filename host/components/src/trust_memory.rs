//! The keys that are trusted, read anew for each component, and what the daemon remembers of them while it runs.
//!
//! A directory of keys that goes away takes no decision back: until the next start it counts as an empty one. It must not know
//! bundles, only what may be trusted.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tracing::{info, warn};

use twitcher_bundle::Trust;
use twitcher_bundle::trust::{Keys, TrustError};

use super::BundleLocations;

/// What is trusted, and was.
#[derive(Debug)]
pub struct TrustMemory {
    dir: PathBuf,
    require_signed: bool,
    was_configured: AtomicBool,
    told: Mutex<String>,
}

impl TrustMemory {
    pub fn new(sources: &BundleLocations) -> Self {
        Self {
            dir: sources.keys.clone(),
            require_signed: sources.require_signed,
            was_configured: AtomicBool::new(false),
            told: Mutex::default(),
        }
    }

    /// What is trusted now: a key that was removed stops the next load.
    pub fn read(&self) -> Result<Trust, TrustError> {
        let mut keys = Keys::load(&self.dir)?;
        match keys.configured {
            true => self.was_configured.store(true, Ordering::Relaxed),
            false => keys.configured = self.was_configured.load(Ordering::Relaxed),
        }
        Ok(Trust {
            keys,
            require_signed: self.require_signed,
        })
    }

    /// Has the log say what is trusted, if that is not what it said last.
    pub fn tell(&self) {
        let (regime, is_good) = match self.read() {
            Ok(trust) => (trust.regime(&self.dir), true),
            Err(error) => (error.to_string(), false),
        };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if *told == regime {
            return;
        }
        match is_good {
            true => info!("trust: {regime}"),
            false => warn!("trust: {regime}"),
        }
        *told = regime;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_directory_of_keys_that_goes_away_takes_no_decision_back() {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("keys");
        let memory = TrustMemory::new(&BundleLocations {
            store: dir.path().join("bundles"),
            keys: keys.clone(),
            require_signed: false,
        });
        assert!(!memory.read().unwrap().keys.configured);
        assert!(
            memory
                .read()
                .unwrap()
                .regime(&keys)
                .starts_with("signatures say nothing")
        );
        fs::create_dir(&keys).unwrap();
        assert!(memory.read().unwrap().keys.configured);
        fs::remove_dir(&keys).unwrap();
        let trust = memory.read().unwrap();
        assert!(trust.keys.configured, "what was revoked would run again");
        assert!(
            trust.regime(&keys).ends_with("no key is trusted"),
            "{}",
            trust.regime(&keys)
        );
    }
}
