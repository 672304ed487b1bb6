//! All watches at a glance, looked at seldom: however many ask, the daemon's loop is asked at most ten times a second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::api::StateCount;
use super::ask::{Ask, Asks, Unanswered};
use super::facts::Watched;
use super::view;

/// For so long a survey is as good as a new one.
const FRESH: Duration = Duration::from_millis(100);

/// All watches, as they were at about the same time.
#[derive(Debug)]
pub struct Survey {
    taken: Instant,
    /// By name.
    pub watches: Vec<Watched>,
    /// How many are in each state.
    pub counts: Vec<StateCount>,
}

/// Keeps the last survey.
#[derive(Debug)]
pub struct Lookout {
    asks: Asks,
    /// Locked while a new one is made, so that all who ask meanwhile get that one.
    last: Mutex<Option<Arc<Survey>>>,
}

impl Lookout {
    /// Has seen nothing yet.
    pub fn new(asks: Asks) -> Self {
        Self {
            asks,
            last: Mutex::default(),
        }
    }

    /// A survey that is at most a tenth of a second old.
    pub async fn survey(&self) -> Result<Arc<Survey>, Unanswered> {
        let mut last = self.last.lock().await;
        if let Some(survey) = last.as_ref().filter(|survey| survey.taken.elapsed() < FRESH) {
            return Ok(Arc::clone(survey));
        }
        let taken = Instant::now();
        let mut watches = self.asks.ask(Ask::Survey).await?;
        watches.sort_unstable_by(|a, b| a.watch.name.cmp(&b.watch.name));
        let counts = view::count(&watches);
        let survey = Arc::new(Survey { taken, watches, counts });
        *last = Some(Arc::clone(&survey));
        Ok(survey)
    }

    /// Something was done: what was seen before does not show it.
    pub async fn forget(&self) {
        *self.last.lock().await = None;
    }
}
