//! The lines that wait for the thread which writes the log, and that thread.
//!
//! Whoever logs holds the lock for as long as it takes to append a line, and never for as long as a line takes to be written: a
//! destination that nobody reads costs lines, not time. It must not know what is in a line, nor what it is written to.

use std::collections::VecDeque;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use tracing::warn;

/// How long a destination that has refused a line is left alone.
const PAUSE: Duration = Duration::from_secs(1);
/// The same once somebody waits for the end.
const LAST_PAUSE: Duration = Duration::from_millis(20);

/// What may wait.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    /// Most lines.
    pub lines: usize,
    /// Most bytes of all of them.
    pub bytes: usize,
}

/// What lines are written to. All of it may block: it has a thread of its own.
pub trait Sink: Send {
    /// Writes a line whole. After an error it is called with the same line again, some time later.
    fn write(&mut self, line: &[u8]) -> io::Result<()>;
}

/// Lines on their way to a [`Sink`]. What does not fit is dropped and counted.
#[derive(Debug)]
pub struct LineQueue {
    limits: QueueLimits,
    state: Mutex<State>,
    /// Something is there to be written or said.
    news: Condvar,
    /// A line was written, or refused.
    progress: Condvar,
    /// Somebody waits for the end.
    hurry: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Box<[u8]>>,
    bytes: usize,
    /// The thread has something that is not written yet.
    writing: bool,
    /// There was no room for a line. Until half of the room is free again all lines are dropped, so that they are missed in one place
    /// rather than one here and one there.
    full: bool,
    /// Lines dropped so far, and those of them that the log has not told of yet.
    dropped: u64,
    untold: u64,
    /// Attempts to write that have failed.
    refusals: u64,
    ending: bool,
}

/// What there is to do for the thread.
#[derive(Debug, PartialEq, Eq)]
enum Task {
    Write(Box<[u8]>),
    /// To tell that so many lines were dropped.
    TellDropped(u64),
}

impl LineQueue {
    pub fn new(limits: QueueLimits) -> Self {
        Self {
            limits,
            state: Mutex::default(),
            news: Condvar::new(),
            progress: Condvar::new(),
            hurry: Condvar::new(),
        }
    }

    /// Takes a line, or drops it. Never waits for the sink.
    pub fn push(&self, line: Box<[u8]>) {
        let mut state = self.state();
        let room = state.waiting.len() < self.limits.lines && state.bytes + line.len() <= self.limits.bytes;
        if state.full || !room {
            state.full = true;
            state.drop_one();
        } else {
            state.bytes += line.len();
            state.waiting.push_back(line);
        }
        drop(state);
        self.news.notify_one();
    }

    /// How many lines were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.state().dropped
    }

    /// Waits until everything is written; no longer than `limit`, nor for a sink that refuses what it is given.
    pub fn finish(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut state = self.state();
        let refusals = state.refusals;
        state.ending = true;
        self.hurry.notify_all();
        while state.has_work() && state.refusals == refusals {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = wait(&self.progress, state, left);
        }
    }

    /// Writes what comes, for ever.
    pub fn serve(&self, mut sink: Box<dyn Sink>) -> ! {
        loop {
            match self.next() {
                Task::Write(line) => self.write(&line, &mut *sink),
                Task::TellDropped(dropped) => {
                    warn!(
                        dropped,
                        "lines of this log were dropped: nobody read them fast enough, or they could not be written"
                    );
                    self.done(true);
                }
            }
        }
    }

    fn write(&self, line: &[u8], sink: &mut dyn Sink) {
        let mut written = sink.write(line);
        while let Err(error) = &written {
            match Errno::from_raw(error.raw_os_error().unwrap_or_default()) {
                // It had its time, and nobody has read anything.
                Errno::EAGAIN => {}
                // It is the line's fault, and another attempt ends no better.
                Errno::EMSGSIZE | Errno::EINVAL => break,
                _ => self.pause(),
            }
            written = sink.write(line);
        }
        self.done(written.is_ok());
    }

    fn done(&self, written: bool) {
        let mut state = self.state();
        state.writing = false;
        if !written {
            state.drop_one();
        }
        self.progress.notify_all();
    }

    fn next(&self) -> Task {
        let mut state = self.state();
        loop {
            let half_empty = state.waiting.len() <= self.limits.lines / 2 && state.bytes <= self.limits.bytes / 2;
            if state.untold > 0 && half_empty {
                (state.full, state.writing) = (false, true);
                return Task::TellDropped(std::mem::take(&mut state.untold));
            }
            if let Some(line) = state.waiting.pop_front() {
                state.bytes -= line.len();
                state.writing = true;
                return Task::Write(line);
            }
            state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// After a refusal.
    fn pause(&self) {
        let mut state = self.state();
        state.refusals += 1;
        self.progress.notify_all();
        let deadline = Instant::now() + if state.ending { LAST_PAUSE } else { PAUSE };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let was_ending = state.ending;
            state = wait(&self.hurry, state, left);
            if state.ending && !was_ending {
                return;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_work(&self) -> bool {
        self.writing || self.untold > 0 || !self.waiting.is_empty()
    }

    fn drop_one(&mut self) {
        self.dropped += 1;
        self.untold += 1;
    }
}

fn wait<'a>(condition: &Condvar, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
    let woken = condition.wait_timeout(state, time);
    woken.unwrap_or_else(PoisonError::into_inner).0
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};
    use std::thread;

    use super::*;

    const LIMITS: QueueLimits = QueueLimits { lines: 4, bytes: 100 };

    fn line(text: &str) -> Box<[u8]> {
        text.as_bytes().into()
    }

    fn tasks(queue: &LineQueue) -> Vec<Task> {
        let mut tasks = Vec::new();
        while queue.state().has_work() {
            tasks.push(queue.next());
            queue.state().writing = false;
        }
        tasks
    }

    #[test]
    fn what_does_not_fit_is_missed_in_one_place_and_told_of_there() {
        let queue = LineQueue::new(LIMITS);
        for text in ["1", "2", "3", "4", "lost", "lost", "lost"] {
            queue.push(line(text));
        }
        assert_eq!(queue.next(), Task::Write(line("1")));
        queue.push(line("lost although there is room for one"));
        assert_eq!(queue.next(), Task::Write(line("2")));
        assert_eq!(queue.next(), Task::TellDropped(4));
        queue.push(line("5"));
        assert_eq!(tasks(&queue), ["3", "4", "5"].map(|text| Task::Write(line(text))));
        assert_eq!(queue.dropped(), 4);
    }

    #[test]
    fn bytes_are_bounded_as_lines_are() {
        let queue = LineQueue::new(LIMITS);
        queue.push(line(&"x".repeat(60)));
        queue.push(line(&"x".repeat(60)));
        queue.push(line(&"x".repeat(60)));
        assert_eq!(queue.dropped(), 2);
        assert_eq!(tasks(&queue)[1], Task::TellDropped(2));
        // Larger than all that may wait, while nothing does.
        queue.push(line(&"x".repeat(101)));
        assert_eq!(tasks(&queue), [Task::TellDropped(1)]);
    }

    /// A sink that is told how each attempt ends.
    struct Told {
        answers: mpsc::Receiver<io::Result<()>>,
        attempts: mpsc::Sender<Vec<u8>>,
    }

    impl Sink for Told {
        fn write(&mut self, line: &[u8]) -> io::Result<()> {
            self.attempts.send(line.to_vec()).unwrap();
            // Once nobody answers any more, it is one that stalls.
            self.answers.recv().unwrap_or_else(|_| {
                loop {
                    thread::park();
                }
            })
        }
    }

    fn served() -> (Arc<LineQueue>, mpsc::Sender<io::Result<()>>, mpsc::Receiver<Vec<u8>>) {
        let (answer, answers) = mpsc::channel();
        let (attempts, attempted) = mpsc::channel();
        let queue = Arc::new(LineQueue::new(LIMITS));
        let serving = Arc::clone(&queue);
        thread::spawn(move || serving.serve(Box::new(Told { answers, attempts })));
        (queue, answer, attempted)
    }

    #[test]
    fn a_line_that_was_refused_is_tried_again_and_the_end_waits_for_it() {
        let (queue, answer, attempted) = served();
        queue.push(line("a"));
        queue.push(line("b"));
        answer.send(Err(Errno::EAGAIN.into())).unwrap();
        answer.send(Ok(())).unwrap();
        answer.send(Err(Errno::EMSGSIZE.into())).unwrap();
        queue.finish(Duration::from_secs(30));
        assert_eq!(attempted.try_iter().collect::<Vec<_>>(), [b"a", b"a", b"b"]);
        assert_eq!(queue.dropped(), 1, "the one that can never be written");
    }

    #[test]
    fn the_end_waits_neither_for_a_sink_that_refuses_nor_long_for_one_that_stalls() {
        let begin = Instant::now();
        let (queue, answer, attempted) = served();
        queue.push(line("a"));
        answer.send(Err(Errno::ENOSPC.into())).unwrap();
        attempted.recv().unwrap();
        // In the pause, or before it; either way it is asked once more at the most.
        answer.send(Err(Errno::ENOSPC.into())).unwrap();
        queue.finish(Duration::from_secs(3600));
        drop(answer);
        let (queue, answer, attempted) = served();
        queue.push(line("a"));
        attempted.recv().unwrap();
        queue.finish(Duration::from_millis(10));
        assert!(queue.state().has_work());
        drop(answer);
        assert!(begin.elapsed() < Duration::from_secs(30));
    }
}
