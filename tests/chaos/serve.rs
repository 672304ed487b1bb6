//! The programs that stay: this very program, called by the daemons. It writes down with which data it began and each that it was told of, and
//! stays until somebody ends it, or until it has been told to end by itself.
//!
//! As actions do, it holds a lock for as long as its main process lives.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::exit;
use std::thread;
use std::time::Duration;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal, raise};

use super::act::{
    Behaviour, LONGEST_LIFE, append, behave, escape, ignore_sigterm, leave_behind, now, take_slot, variable,
};
use super::journal::{Line, Start, flat};

/// The first argument of this program when it is a program that stays.
pub const SERVE: &str = "serve";
/// How often it looks whether it is to end by itself.
const LOOK: Duration = Duration::from_millis(100);

struct Service<'a> {
    dir: &'a Path,
    watch: &'a str,
    run: String,
    journal: File,
}

/// `serve DIR WATCH FILE`: the program of a watch whose data is in FILE. DIR is the daemon's `out`.
pub fn serve(arguments: &[String]) -> ! {
    // Told of newer data before it could listen, it would die of it.
    let told = SigSet::from(Signal::SIGHUP);
    told.thread_block().unwrap();
    let [dir, watch, file] = arguments else {
        exit(2);
    };
    let (dir, file) = (Path::new(dir), Path::new(file));
    let run = variable("TWITCHER_RUN_ID");
    let parent = std::os::unix::process::parent_id() as i32;
    let held = take_slot(dir, watch, 1, parent, &run);
    let mut service = Service {
        journal: append(&dir.join("journal").join(watch)),
        run,
        dir,
        watch,
    };
    service.write(Line::Start(Start {
        at: now(),
        run: service.run.clone(),
        pid: std::process::id() as i32,
        parent,
        event: variable("TWITCHER_EVENT"),
        attempt: variable("TWITCHER_ATTEMPT").parse().unwrap_or(0),
        mzxid: variable("TWITCHER_MZXID").parse().unwrap_or(-1),
        revision: variable("CHAOS_REVISION"),
        stdin: data(file),
    }));
    if let Err(others) = &held {
        let (run, others) = (service.run.clone(), others.clone());
        service.write(Line::Crowd { at: now(), run, others });
    }
    // What has made children is to be ended together with them, and does not end by itself.
    let mut ends = true;
    match service.behaviour() {
        Behaviour::Stubborn => ignore_sigterm(),
        Behaviour::Fork => {
            for how in ["group", "session", "stubborn"] {
                leave_behind(how, LONGEST_LIFE);
            }
            ends = false;
        }
        Behaviour::Escape => {
            escape(dir, watch, &service.run, held.as_ref().ok());
            ends = false;
        }
        Behaviour::Flood => drop(behave(Behaviour::Flood)),
        _ => {}
    }
    let mut teller = Service {
        journal: service.journal.try_clone().unwrap(),
        run: service.run.clone(),
        dir,
        watch,
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                told.wait().unwrap();
                let (at, run) = (now(), teller.run.clone());
                let data = data(file);
                teller.write(Line::Told { at, run, data });
            }
        });
        loop {
            thread::sleep(LOOK);
            if ends {
                service.end_if_told();
            }
        }
    })
}

impl Service<'_> {
    fn write(&mut self, line: Line) {
        self.journal.write_all(line.text().as_bytes()).unwrap();
    }

    fn behaviour(&self) -> Behaviour {
        Behaviour::of(&fs::read_to_string(self.dir.join("behaviour").join(self.watch)).unwrap_or_default())
    }

    /// Ends, sooner or later, if it is to: well, badly, or with something left behind.
    fn end_if_told(&mut self) {
        let behaviour = self.behaviour();
        if !matches!(behaviour, Behaviour::Fail | Behaviour::Crash | Behaviour::Leave) || fastrand::u8(..4) > 0 {
            return;
        }
        if behaviour == Behaviour::Leave {
            leave_behind("group", Duration::from_millis(700));
        }
        let run = self.run.clone();
        self.write(Line::End { at: now(), run });
        if behaviour == Behaviour::Crash {
            setrlimit(Resource::RLIMIT_CORE, 0, 0).unwrap();
            raise(Signal::SIGABRT).unwrap();
        }
        exit(if behaviour == Behaviour::Fail { 3 } else { 0 })
    }
}

fn data(file: &Path) -> String {
    flat(&fs::read_to_string(file).unwrap_or_default())
}
