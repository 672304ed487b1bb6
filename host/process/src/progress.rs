//! Whether a process gets anywhere.

use std::fs;

use nix::unistd::Pid;

/// What a process has done so far, as the kernel counts it: two of these tell whether it did anything in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// It would run if it were given a processor.
    runnable: bool,
    /// How long it had a processor, and how often: counted to the nanosecond, where the kernel does that.
    run: String,
}

impl Progress {
    /// What the process has done until now; none if there is no such process.
    pub fn of(pid: Pid) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let rest = stat.rsplit_once(')')?.1.trim_start();
        let run = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_else(|_| {
            // Faults and time, in coarser units.
            let fields = rest.split_ascii_whitespace().skip(7).take(6);
            fields.collect::<Vec<_>>().join(" ")
        });
        Some(Self {
            runnable: rest.starts_with('R'),
            run,
        })
    }

    /// Whether it did something since `before`, or waits for nothing but a processor.
    pub fn is_alive_since(&self, before: &Progress) -> bool {
        self.runnable || self.run != before.run
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn one_that_waits_gets_nowhere_and_one_that_works_does() {
        let mut waiting = Command::new("sleep").arg("1000").spawn().unwrap();
        let mut working = Command::new("yes").stdout(Stdio::null()).spawn().unwrap();
        let of = |child: &std::process::Child| Progress::of(Pid::from_raw(child.id() as i32)).unwrap();
        let end = Instant::now() + Duration::from_secs(30);
        // It is on its way until it sleeps.
        loop {
            let before = of(&waiting);
            std::thread::sleep(Duration::from_millis(20));
            if !of(&waiting).is_alive_since(&before) {
                break;
            }
            assert!(Instant::now() < end);
        }
        let before = of(&working);
        while of(&working).run == before.run {
            assert!(of(&working).is_alive_since(&before));
            assert!(Instant::now() < end);
        }
        for child in [&mut waiting, &mut working] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
