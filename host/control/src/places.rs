//! The places of a way in: how many connections there may be, and whose place a newcomer gets once all are taken.
//!
//! A client that has a place and asks nothing keeps nobody out: thousands of connections with half a request would otherwise be as good as
//! no interface. It must not know what is asked.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::task::{AbortHandle, Id};
use tokio::time::Instant;

/// Since when a connection asks nothing; none while something is answered.
#[derive(Debug)]
pub struct Activity(Mutex<Option<Instant>>);

impl Activity {
    /// That of a connection which has just been made.
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(Instant::now()))))
    }

    /// Something is asked, until what it gives is dropped.
    pub fn begin(self: &Arc<Self>) -> Busy {
        self.set(None);
        Busy(Arc::clone(self))
    }

    fn set(&self, idle: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = idle;
    }

    fn idle_since(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// That a connection is not idle.
#[derive(Debug)]
pub struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set(Some(Instant::now()));
    }
}

/// An answer's body, during which the connection is not idle.
#[derive(Debug)]
pub struct BusyBody {
    body: Body,
    _busy: Busy,
}

impl BusyBody {
    /// A body that keeps it busy.
    pub fn new(body: Body, busy: Busy) -> Self {
        Self { body, _busy: busy }
    }
}

impl HttpBody for BusyBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The connections of a way in.
#[derive(Debug)]
pub struct Places {
    most: usize,
    held: HashMap<Id, (AbortHandle, Arc<Activity>)>,
}

impl Places {
    /// So many places.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            held: HashMap::new(),
        }
    }

    /// Whether there is a place, if need be that of the connection that has asked nothing for longest, which is ended.
    pub fn make_room(&mut self) -> bool {
        if self.held.len() < self.most {
            return true;
        }
        let idle = self.held.iter();
        let idle = idle.filter_map(|(id, (_, activity))| Some((activity.idle_since()?, *id)));
        let Some((_, longest)) = idle.min_by_key(|(since, _)| *since) else {
            return false;
        };
        if let Some((task, _)) = self.held.remove(&longest) {
            task.abort();
        }
        true
    }

    /// Gives a place to the connection that this task serves.
    pub fn take(&mut self, task: AbortHandle, activity: Arc<Activity>) {
        self.held.insert(task.id(), (task, activity));
    }

    /// Takes back the place of a task that has ended.
    pub fn leave(&mut self, task: Id) {
        self.held.remove(&task);
    }
}
