//! What viewers are shown of the fleet: read from ZooKeeper once for all of them, however many look, and not again before it is two
//! seconds old, or four times as old as it took to read: a large fleet is read for a fifth of the time at most. Operators on the socket
//! ask anew unless they say that something older will do.
//!
//! A failure is kept as well, so that a ZooKeeper in trouble is not asked more often than a sound one. It must not know how a fleet is
//! read.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Extensions, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::access_control::Peer;
use super::api::{Fleet, Rollouts};
use super::daemon_requests::{DaemonRequest, DaemonRequests, FleetRefused};
use super::disclosure::{Shown, Views};
use super::refusal::RequestRefusal;

/// How old what the TCP port shows may be.
pub const KEPT: Duration = Duration::from_secs(2);
/// So many times as old as a reading took it may be for those who want no new one.
const REST: u32 = 4;
/// How old anybody can say that an answer may be, in seconds.
pub const MAX_AGE: u32 = 60;

/// What is kept of the fleet.
#[derive(Debug, Default)]
pub(crate) struct FleetCache {
    /// The fleet with all that its hosts have published.
    fleet: Kept<Fleet>,
    /// The same without where the hosts stand with each watch, which is most of it.
    hosts: Kept<Fleet>,
    rollouts: Kept<Rollouts>,
}

/// How old an answer may be, for who asks like this.
pub(crate) fn age(extensions: &Extensions, asked: Option<u32>) -> Result<Duration, RequestRefusal> {
    let asked = asked.unwrap_or(0);
    if asked > MAX_AGE {
        let error = format!("max_age is from 0 to {MAX_AGE}");
        return Err(RequestRefusal::new(axum::http::StatusCode::BAD_REQUEST, error));
    }
    let asked = Duration::from_secs(asked.into());
    Ok(match extensions.get::<Peer>() {
        Some(_) => asked,
        None => asked.max(KEPT),
    })
}

impl FleetCache {
    /// The hosts; with where they stand with their watches, or without.
    pub async fn fleet(
        &self,
        requests: &DaemonRequests,
        with_watches: bool,
        age: Duration,
    ) -> Result<Arc<Reading<Fleet>>, RequestRefusal> {
        let kept = if with_watches { &self.fleet } else { &self.hosts };
        let read = async {
            let fleet = requests.survey(DaemonRequest::Fleet).await?;
            Ok(fleet.map(|mut fleet| {
                if !with_watches {
                    fleet.hosts.iter_mut().for_each(|host| host.watches = Vec::new());
                }
                fleet
            }))
        };
        kept.get(age, read).await
    }

    /// All rollouts.
    pub async fn rollouts(
        &self,
        requests: &DaemonRequests,
        age: Duration,
    ) -> Result<Arc<Reading<Rollouts>>, RequestRefusal> {
        let read = async {
            let asked = requests.survey(|reply| DaemonRequest::Rollouts(None, reply));
            Ok(asked.await?)
        };
        self.rollouts.get(age, read).await
    }
}

/// The last reading of one kind. Locked while another is made: all who ask meanwhile get that one.
#[derive(Debug)]
struct Kept<T>(Mutex<Option<Last<T>>>);

/// Empty, whatever `T` is.
impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

#[derive(Debug)]
struct Last<T> {
    begun: Instant,
    ended: Instant,
    read: Result<Arc<Reading<T>>, FleetRefused>,
}

impl<T> Kept<T> {
    async fn get(
        &self,
        age: Duration,
        read: impl Future<Output = Result<Result<T, FleetRefused>, RequestRefusal>>,
    ) -> Result<Arc<Reading<T>>, RequestRefusal> {
        let asked = Instant::now();
        let mut last = self.0.lock().await;
        if let Some(last) = &*last {
            // Counted from the end, or a slow one would never be of use.
            let age = match age.is_zero() {
                true => age,
                false => age.max((last.ended - last.begun) * REST),
            };
            // Begun after the question, it is as new as can be.
            if last.begun >= asked || last.ended.elapsed() < age {
                return Ok(last.read.clone()?);
            }
        }
        let begun = Instant::now();
        let read = read.await?.map(|value| Arc::new(Reading::new(value)));
        *last = Some(Last {
            begun,
            ended: Instant::now(),
            read: read.clone(),
        });
        Ok(read?)
    }
}

/// Something that was read, and the same as JSON once somebody wanted it.
#[derive(Debug)]
pub(crate) struct Reading<T> {
    pub value: T,
    json: Views<OnceLock<Bytes>>,
}

impl<T: Clone + Serialize> Reading<T> {
    /// As an answer that shows as much of it as `show` leaves.
    pub fn answer(&self, shown: Shown, show: fn(Shown, T) -> T) -> Response {
        let json = self.json.get(shown).get_or_init(|| {
            // The types have no value that cannot be written as JSON.
            serde_json::to_vec(&show(shown, self.value.clone()))
                .unwrap_or_default()
                .into()
        });
        ([(header::CONTENT_TYPE, "application/json")], json.clone()).into_response()
    }
}

impl<T> Reading<T> {
    fn new(value: T) -> Self {
        Self {
            value,
            json: Views::new(|_| OnceLock::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// A reading that takes a while and counts how many were made.
    async fn counted(count: &AtomicU64) -> Result<Result<u64, FleetRefused>, RequestRefusal> {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(Ok(count.fetch_add(1, Ordering::Relaxed) + 1))
    }

    #[tokio::test]
    async fn many_viewers_are_one_reading_and_nobody_gets_one_that_is_older_than_he_said() {
        const LONG: Duration = Duration::from_secs(600);
        let shared = Arc::new((Kept::default(), AtomicU64::new(0)));
        let get = |age| {
            let shared = Arc::clone(&shared);
            async move { shared.0.get(age, counted(&shared.1)).await.unwrap().value }
        };
        let herd: Vec<_> = (0..1000).map(|_| tokio::spawn(get(LONG))).collect();
        for viewer in herd {
            assert_eq!(viewer.await.unwrap(), 1);
        }
        assert_eq!(get(LONG).await, 1);
        assert_eq!(get(Duration::ZERO).await, 2);
        // Who wants no old one gets none; those who ask while one is made that is too old for them share the next.
        assert_eq!(tokio::join!(get(Duration::ZERO), get(LONG)), (3, 3));
        let herd: Vec<_> = (0..100).map(|_| tokio::spawn(get(Duration::ZERO))).collect();
        for viewer in herd {
            assert!((4..=5).contains(&viewer.await.unwrap()));
        }
        let age = Duration::from_millis(30);
        let mut last = 5;
        let begun = Instant::now();
        while begun.elapsed() < 10 * age {
            last = get(age).await;
        }
        assert!((6..=16).contains(&last), "{last} readings");
    }

    #[tokio::test]
    async fn what_took_long_is_kept_for_longer() {
        let (kept, count) = (Kept::default(), AtomicU64::new(0));
        let slow = || async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            counted(&count).await
        };
        for _ in 0..3 {
            let read = kept.get(Duration::from_millis(1), slow()).await.unwrap();
            assert_eq!(read.value, 1);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(kept.get(Duration::ZERO, slow()).await.unwrap().value, 2);
    }

    #[tokio::test]
    async fn a_failure_is_kept_as_well() {
        let (kept, count) = (Kept::<u64>::default(), AtomicU64::new(0));
        let fail = || async {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(Err(FleetRefused::Unreadable("no connection".to_owned())))
        };
        for _ in 0..10 {
            assert!(kept.get(Duration::from_secs(600), fail()).await.is_err());
        }
        assert_eq!(count.load(Ordering::Relaxed), 1);
        assert!(kept.get(Duration::ZERO, fail()).await.is_err());
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }
}
