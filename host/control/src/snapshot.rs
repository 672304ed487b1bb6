//! All watches at a glance, for all who ask at the same time, and so seldom that the daemon's loop hardly notices.
//!
//! What is shown is never older than the question: whoever requests while others are waiting gets the same snapshot as they do, but not one
//! that was begun before. (A page that follows the events would otherwise overwrite what it knows with what was.)

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use super::api::StateCount;
use super::daemon_requests::{DaemonRequest, DaemonRequests, Unanswered};
use super::disclosure::{Shown, Views};
use super::facts::WatchFacts;
use super::view;

/// The share of its time that the loop may spend on surveys: one in so many.
const SHARE: u32 = 20;
/// Least and most time from the beginning of one snapshot to that of the next.
const GAP: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// What of that time is saved when nobody requests: whoever looks again, or does something and looks, need not wait in between.
const SAVED: Duration = Duration::from_millis(500);

/// The JSON of a watch, in bytes, as it usually is.
const USUAL: usize = 512;

/// All watches, as they were at about the same time.
#[derive(Debug)]
pub struct Snapshot {
    begun: Instant,
    /// By then the loop's time has been made up for.
    paid: Instant,
    /// By name.
    pub watches: Vec<WatchFacts>,
    /// How many are in each state.
    pub counts: Vec<StateCount>,
    /// All of them as JSON, as much as is shown, once somebody wanted it.
    json: Views<OnceLock<Bytes>>,
}

impl Snapshot {
    /// All watches, as JSON.
    pub fn json(&self, shown: Shown) -> Bytes {
        let json = self.json.get(shown).get_or_init(|| {
            let mut json = Vec::with_capacity(self.watches.len() * USUAL);
            json.extend_from_slice(br#"{"watches":["#);
            for (at, watched) in self.watches.iter().enumerate() {
                if at > 0 {
                    json.push(b',');
                }
                // The type has no value that cannot be written as JSON. One after the other: all at once would be much more memory.
                let _ = serde_json::to_writer(&mut json, &shown.summary(watched));
            }
            json.extend_from_slice(b"]}");
            json.into()
        });
        json.clone()
    }
}

/// Makes surveys.
#[derive(Debug)]
pub struct Snapshots {
    requests: DaemonRequests,
    /// Locked while a new one is made, so that all who ask meanwhile share the one after it.
    last: Mutex<Option<Arc<Snapshot>>>,
}

impl Snapshots {
    /// Has seen nothing yet.
    pub fn new(requests: DaemonRequests) -> Self {
        Self {
            requests,
            last: Mutex::default(),
        }
    }

    /// All watches as they are now.
    pub async fn newest(&self) -> Result<Arc<Snapshot>, Unanswered> {
        let asked = Instant::now();
        let mut last = self.last.lock().await;
        let paid = match &*last {
            Some(snapshot) if snapshot.begun >= asked => return Ok(Arc::clone(snapshot)),
            Some(snapshot) => {
                sleep_until(not_before(snapshot.paid).unwrap_or(asked)).await;
                snapshot.paid
            }
            None => asked,
        };
        let begun = Instant::now();
        let watches = self.requests.ask(DaemonRequest::Snapshot).await?;
        let paid = paid_by(paid, begun, begun.elapsed());
        let watches = by_name(watches);
        let snapshot = Arc::new(Snapshot {
            begun,
            paid,
            counts: view::count(&watches),
            watches,
            json: Views::new(|_| OnceLock::new()),
        });
        *last = Some(Arc::clone(&snapshot));
        Ok(snapshot)
    }
}

/// In the order of their names, in which they mostly come. Each is moved once, for they are large.
fn by_name(watches: Vec<WatchFacts>) -> Vec<WatchFacts> {
    if watches.is_sorted_by_key(|watched| &watched.watch.name) {
        return watches;
    }
    let mut order: Vec<usize> = (0..watches.len()).collect();
    order.sort_unstable_by(|a, b| watches[*a].watch.name.cmp(&watches[*b].watch.name));
    let mut watches: Vec<Option<WatchFacts>> = watches.into_iter().map(Some).collect();
    order.into_iter().filter_map(|at| watches[at].take()).collect()
}

/// When the next snapshot may begin.
fn not_before(paid: Instant) -> Option<Instant> {
    paid.checked_sub(SAVED)
}

/// By when one that was begun then and took so long is made up for, as well as those before.
fn paid_by(paid: Instant, begun: Instant, took: Duration) -> Instant {
    paid.max(begun) + took.saturating_mul(SHARE).clamp(GAP.0, GAP.1)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::daemon_requests;
    use super::super::testing::watched;
    use super::*;

    #[tokio::test]
    async fn those_who_ask_at_the_same_time_share_and_nobody_gets_what_was() {
        let (requests, mut questions) = daemon_requests::channel();
        let surveys = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&surveys);
        tokio::spawn(async move {
            while let Some(DaemonRequest::Snapshot(reply)) = questions.recv().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let _ = reply.send(vec![watched("b"), watched("a")]);
            }
        });
        let snapshots = Arc::new(Snapshots::new(requests));
        let asked = Instant::now();
        let first = snapshots.newest().await.unwrap();
        assert!(first.begun >= asked);
        assert_eq!(&*first.watches[0].watch.name, "a");
        let ask = || {
            let snapshots = Arc::clone(&snapshots);
            tokio::spawn(async move { (Instant::now(), snapshots.newest().await.unwrap()) })
        };
        for answer in (0..100).map(|_| ask()).collect::<Vec<_>>() {
            let (asked, snapshot) = answer.await.unwrap();
            assert!(snapshot.begun >= asked);
        }
        assert!(surveys.load(Ordering::Relaxed) <= 3, "{surveys:?}");
    }

    #[test]
    fn a_few_are_begun_at_once_and_then_no_more_than_the_loop_can_spare() {
        let mut now = Instant::now();
        let mut paid = now;
        for _ in 0..2 {
            let asked = now;
            for snapshot in 0..30 {
                now = now.max(not_before(paid).unwrap_or(now));
                let due = (GAP.0 * snapshot).saturating_sub(SAVED);
                assert_eq!(now - asked, due, "{snapshot}");
                paid = paid_by(paid, now, Duration::from_millis(1));
            }
            now += Duration::from_secs(5);
        }
        // One that takes long costs in proportion, with a bound.
        assert_eq!(
            paid_by(paid, now, Duration::from_millis(10)),
            now + Duration::from_millis(200)
        );
        assert_eq!(paid_by(paid, now, Duration::from_secs(9)), now + GAP.1);
    }
}
