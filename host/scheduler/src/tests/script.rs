//! Scripts: what happens to a machine and what it answers, one step a line, as text that reads as documentation.
//!
//!     SECONDS INPUT => EFFECT; EFFECT
//!
//! Inputs: `data N` (or `data CZXID.N`, data being `N`), `empty N`, `kids N NAME…`, `tree N PATH…`, `absent`, `exit #R`,
//! `fail #R` (or `fail #R CODE`), `asks #R` (for a retry; or `asks #R SECONDS`), `permanent #R`, `superseded #R`, `timer`,
//! `started #R`, `told #R`, `untold #R`, `retire`, `pause`, `resume`, `unpark`, `run-now`, `forgo-run`, `reload` (same node) and `reload other`, which take the policy last set. Runs are numbered from `#1`.

use std::sync::Arc;
use std::time::Duration;

use super::super::{Admission, Cause, Effect, Ending, Input, Machine, RunIds, Start};
use super::{data, stat, tree};
use twitcher_model::{Observation, Policy, RunId, Stamp, Version, WatchId};

pub struct Script {
    pub machine: Machine,
    policy: Arc<Policy>,
    ids: RunIds,
    pub admission: Admission,
}

impl Script {
    pub fn new(policy: Policy) -> Self {
        let policy = Arc::new(policy);
        let mut ids = RunIds::new(0);
        ids.allot();
        Self {
            machine: Machine::new(WatchId(1), policy.clone()),
            policy,
            ids,
            admission: Admission::new(usize::MAX),
        }
    }

    /// The policy of reloads to come.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = Arc::new(policy);
        self
    }

    /// Plays the script and compares it with what happens, as a whole.
    #[track_caller]
    pub fn play(mut self, script: &str) -> Self {
        let mut expected = String::new();
        let mut actual = String::new();
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (step, effects) = line.split_once("=>").unwrap_or((line, ""));
            let (seconds, input) = step.trim().split_once(' ').expect("SECONDS INPUT");
            let now = Duration::from_secs_f64(seconds.parse().expect("seconds"));
            let mut answer = Vec::new();
            let input = self.input(input.trim());
            self.machine
                .step(now, input, &mut self.ids, &mut self.admission, &mut answer);
            assert_eq!(self.admission.running(), self.machine.placed());
            let answer: Vec<_> = answer.iter().map(render).collect();
            expected += &format!("{} => {}\n", step.trim(), effects.trim());
            actual += &format!("{} => {}\n", step.trim(), answer.join("; "));
        }
        assert!(expected == actual, "expected:\n{expected}\nactual:\n{actual}");
        self
    }

    fn input(&self, text: &str) -> Input {
        let words: Vec<&str> = text.split_whitespace().collect();
        let run = |text: &str| RunId(text.strip_prefix('#').and_then(|n| n.parse().ok()).expect("#RUN"));
        match *words {
            ["absent"] => Input::Observed(Observation::absent()),
            ["data", version] => {
                let (czxid, mzxid) = version.split_once('.').unwrap_or(("1", version));
                let (czxid, mzxid) = (czxid.parse().unwrap(), mzxid.parse().unwrap());
                Input::Observed(data(czxid, mzxid, version.to_owned()))
            }
            ["empty", mzxid] => Input::Observed(data(1, mzxid.parse().unwrap(), "")),
            ["kids", pzxid, ref names @ ..] => Input::Observed(Observation {
                version: Version::Children {
                    czxid: 1,
                    pzxid: pzxid.parse().unwrap(),
                    stamp: Stamp::default(),
                },
                stat: stat(1, 1),
                stdin: names.join("\n").into(),
                nodes: None,
                znodes: 0,
                several: None,
            }),
            ["tree", digest, ref paths @ ..] => Input::Observed(tree(digest.parse().unwrap(), paths)),
            ["started", id] => Input::Started { run: run(id) },
            ["told", id] => Input::Told {
                run: run(id),
                failed: None,
            },
            ["untold", id] => Input::Told {
                run: run(id),
                failed: Some(Cause::Untold),
            },
            [how, id, ref more @ ..] if id.starts_with('#') => {
                let number = more.first().map(|text| text.parse().expect("a number"));
                let ending = match how {
                    "exit" => Ending::Succeeded,
                    "fail" => Ending::Failed(Cause::Code(number.unwrap_or(1.0) as i32)),
                    "asks" => Ending::Failed(Cause::AsksForRetry {
                        after: number.map(Duration::from_secs_f64),
                    }),
                    "permanent" => Ending::Failed(Cause::Permanent),
                    "superseded" => Ending::Superseded,
                    _ => panic!("unknown ending {text:?}"),
                };
                Input::Exited { run: run(id), ending }
            }
            ["timer"] => Input::Timer,
            ["retire"] => Input::Retire,
            ["pause"] => Input::Pause,
            ["resume"] => Input::Resume,
            ["unpark"] => Input::Unpark,
            ["run-now"] => Input::RunNow { ungoverned: false },
            ["forgo-run"] => Input::ForgoRun,
            ["reload", ref other @ ..] => Input::Reload {
                policy: self.policy.clone(),
                same_node: other.is_empty(),
            },
            _ => panic!("unknown input {text:?}"),
        }
    }
}

fn render(effect: &Effect) -> String {
    match effect {
        Effect::Start(Start {
            run,
            event,
            attempt,
            observation,
        }) => {
            let stdin = String::from_utf8_lossy(&observation.stdin);
            let words = stdin.split_whitespace().collect::<Vec<_>>().join(" ");
            let again = if *attempt > 1 {
                format!(" attempt {attempt}")
            } else {
                String::new()
            };
            format!("start #{} {event} {words}", run.0).trim_end().to_owned() + &again
        }
        Effect::Notify { start, signal } => format!("signal #{} {signal}", start.run.0),
        Effect::Up { run, state } => format!("up #{}{}", run.0, if state.is_some() { " found" } else { "" }),
        Effect::Terminate { run } => format!("terminate #{}", run.0),
        Effect::ArmTimer { at } => format!("timer {}", at.as_secs_f64()),
        Effect::DisarmTimer => "no timer".to_owned(),
        Effect::Park { run } => format!("park #{}", run.0),
        Effect::Record(decision) => decision.to_string(),
    }
}
