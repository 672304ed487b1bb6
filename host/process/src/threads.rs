//! Threads that exist from the start. Later the system may have none to give: an action has used up what the user, the unit or the machine
//! may have, and that is when they are needed most.
//!
//! It must not know what the threads do, nor whose pool they are.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// How long an idle thread of a pool is kept: for as long as the process lives. Not the longest time that there is, which overflows clocks.
pub const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

/// How long threads that were started may take to get their first turn.
const FIRST_TURN: Duration = Duration::from_secs(30);

/// Work for a thread of a pool.
pub type Job = Box<dyn FnOnce() + Send>;

/// Where threads meet: whoever has come waits until all have, or until it is called off.
#[derive(Debug, Default)]
struct Meeting {
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Meeting {
    fn come(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 += 1;
        self.changed.notify_all();
        while !state.1 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for so many, then lets all go. False if not all came in time.
    fn dissolve(&self, count: usize, end: Instant) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.0 < count {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.1 = true;
        self.changed.notify_all();
        state.0 >= count
    }
}

/// Makes sure that the process can have `count` more threads at once right now.
///
/// # Errors
///
/// Why one of them cannot be started: most often `EAGAIN`, when as many processes run as are allowed.
pub fn can_start(count: usize) -> io::Result<()> {
    let meeting = Arc::new(Meeting::default());
    let start = || {
        let meeting = Arc::clone(&meeting);
        Builder::new().stack_size(64 << 10).spawn(move || meeting.come())
    };
    let mut threads: Vec<JoinHandle<()>> = Vec::with_capacity(count);
    let mut result = Ok(());
    while threads.len() < count && result.is_ok() {
        result = start().map(|thread| threads.push(thread));
    }
    meeting.dissolve(threads.len(), Instant::now() + FIRST_TURN);
    for thread in threads {
        // They do nothing that could panic.
        let _ = thread.join();
    }
    result
}

/// Has a pool start `count` threads, which it must keep [for ever](FOR_EVER), by giving it as much to do at once.
///
/// # Errors
///
/// If so many threads cannot be had.
pub fn fill_pool(count: usize, run: impl Fn(Job)) -> io::Result<()> {
    // A pool that gets no thread at all may panic.
    can_start(count)?;
    let meeting = Arc::new(Meeting::default());
    for _ in 0..count {
        let meeting = Arc::clone(&meeting);
        run(Box::new(move || meeting.come()));
    }
    match meeting.dissolve(count, Instant::now() + FIRST_TURN) {
        true => Ok(()),
        false => Err(io::ErrorKind::WouldBlock.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_filled_when_all_have_had_a_turn_at_once() {
        let started = Mutex::new(Vec::new());
        fill_pool(3, |job| started.lock().unwrap().push(std::thread::spawn(job))).unwrap();
        let started = started.into_inner().unwrap();
        assert_eq!(started.len(), 3);
        for thread in started {
            thread.join().unwrap();
        }
    }

    #[test]
    fn a_meeting_that_not_all_come_to_is_called_off() {
        let meeting = Meeting::default();
        assert!(!meeting.dissolve(1, Instant::now()));
        // Who comes late does not wait.
        meeting.come();
    }
}
