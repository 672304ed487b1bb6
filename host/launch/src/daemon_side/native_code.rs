//! The native code that runs need: opened for each, and should it be damaged or gone, made again while the runs that need it wait.
//!
//! It must not know how code is made; that takes a thread that may block.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::daemon_side::invocation::Invocation;
use crate::protocol::Task;
use twitcher_model::{Component, RunId};
use twitcher_sandbox::code_cache::CodeCache;

/// What became of making native code again; an error is in words.
pub(crate) type Restored = Result<(), String>;

/// See the module's documentation.
pub(crate) struct NativeCode {
    /// Who can make it again; none if nobody can.
    cache: Option<Arc<CodeCache>>,
    waiting: HashMap<Arc<Path>, Vec<Invocation>>,
    done: mpsc::UnboundedSender<(Arc<Path>, Restored)>,
    done_end: mpsc::UnboundedReceiver<(Arc<Path>, Restored)>,
}

impl NativeCode {
    pub(crate) fn new(cache: Option<Arc<CodeCache>>) -> Self {
        let (done, done_end) = mpsc::unbounded_channel();
        Self {
            cache,
            waiting: HashMap::new(),
            done,
            done_end,
        }
    }

    /// The native code of a run, open; none if it needs none.
    pub(crate) fn open(&self, invocation: &Invocation) -> io::Result<Option<File>> {
        let Some(component) = component(invocation) else {
            return Ok(None);
        };
        let opened = match &self.cache {
            Some(cache) => cache.open(component),
            #[allow(
                clippy::disallowed_methods,
                reason = "on the disk of the state directory, which is local"
            )]
            None => File::open(&component.native),
        };
        opened.map(Some)
    }

    /// Whether code that could not be opened for this reason can be made again.
    pub(crate) fn can_restore(&self, error: &io::Error) -> bool {
        use io::ErrorKind::{InvalidData, InvalidInput, IsADirectory, NotADirectory, NotFound};
        let is_bad = matches!(
            error.kind(),
            InvalidData | InvalidInput | IsADirectory | NotADirectory | NotFound
        );
        is_bad && self.cache.is_some()
    }

    /// Has the code of a run made again. The run is told by [`NativeCode::restored`].
    pub(crate) fn restore(&mut self, invocation: Invocation) {
        let (Some(component), Some(cache)) = (component(&invocation), &self.cache) else {
            return;
        };
        let (component, cache, done) = (component.clone(), Arc::clone(cache), self.done.clone());
        let native = Arc::clone(&component.native);
        let runs = self.waiting.entry(Arc::clone(&native)).or_default();
        runs.push(invocation);
        if runs.len() > 1 {
            return;
        }
        tokio::spawn(async move {
            let restored = spawn_blocking(move || cache.restore(&component)).await;
            let restored = restored.unwrap_or_else(|defect| Err(defect.to_string()));
            let _ = done.send((native, restored));
        });
    }

    /// The runs whose code has been made again, or could not be. Can be dropped at any time.
    pub(crate) async fn restored(&mut self) -> (Vec<Invocation>, Restored) {
        match self.done_end.recv().await {
            Some((native, restored)) => (self.waiting.remove(&native).unwrap_or_default(), restored),
            None => std::future::pending().await,
        }
    }

    /// Lets go of a run. Whether it waited.
    pub(crate) fn remove(&mut self, run: RunId) -> bool {
        let mut removed = false;
        for runs in self.waiting.values_mut() {
            let before = runs.len();
            runs.retain(|waiting| waiting.run != run);
            removed |= runs.len() < before;
        }
        removed
    }
}

fn component(invocation: &Invocation) -> Option<&Component> {
    match &invocation.task {
        Task::Wasm(task) => Some(&task.action.component),
        Task::Wait(action) => Some(&action.component),
        Task::Exec(_) | Task::Function(_) | Task::Write(_) => None,
    }
}
