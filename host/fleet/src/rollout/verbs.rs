//! What operators do to a rollout. Pure.

use jiff::Timestamp;

use super::records::{Gate, GateState};

/// What an operator wants of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// No host starts until it is resumed, for this change or, where none goes out, for the next.
    Pause,
    /// It goes on, where it was paused or halted; hosts that failed stay as they are.
    Resume,
    /// The next wave goes.
    Promote,
    /// This change goes no further.
    Abort,
    /// It goes on, where it was halted, and hosts that failed try again.
    Retry,
}

impl Verb {
    /// As on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Promote => "promote",
            Self::Abort => "abort",
            Self::Retry => "retry",
        }
    }
}

/// Why a rollout cannot be done that to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerbError {
    /// Nothing goes out.
    #[error("nothing is going out: it is {}", .0.as_str())]
    NotInProgress(GateState),
    /// It goes on already.
    #[error("it is not held: it is {}", .0.as_str())]
    NotHeld(GateState),
    /// It does not wait for that.
    #[error("it does not wait to be promoted: it is {}", .0.as_str())]
    NotPromoting(GateState),
    /// No host has failed.
    #[error("no host has failed for this change")]
    NothingFailed,
}

/// The gate after it. `granted` is how many slots were granted; `failed` whether a host counts as failed; `by` who wants it.
pub(crate) fn apply(
    gate: &Gate,
    verb: Verb,
    (granted, failed): (u64, bool),
    (at, by): (Timestamp, &str),
) -> Result<Gate, VerbError> {
    let mut next = gate.clone();
    let state = gate.state;
    let is_in_progress = match state {
        GateState::Halted => true,
        GateState::Paused => !matches!(gate.before, Some(GateState::Done | GateState::Aborted)),
        state => state.is_open() && state != GateState::Done,
    };
    match verb {
        // Where nothing goes out it is the next change that is held.
        Verb::Pause if state.is_open() || state == GateState::Aborted => {
            next.before = Some(state);
            next.state = GateState::Paused;
            next.why = Some(format!("paused by {by}"));
        }
        Verb::Abort if is_in_progress => {
            next.before = None;
            next.state = GateState::Aborted;
            next.why = Some(format!("aborted by {by}"));
        }
        Verb::Pause | Verb::Abort => return Err(VerbError::NotInProgress(state)),
        Verb::Resume if gate.check_has_failed() => {
            (next.before, next.why) = (None, None);
            next.pass_check();
        }
        Verb::Resume if matches!(state, GateState::Paused | GateState::Halted) => {
            next.state = gate
                .before
                .filter(|_| state == GateState::Paused)
                .unwrap_or(GateState::Rolling);
            next.before = None;
            next.why = None;
            if state == GateState::Halted {
                next.forgiven = granted;
            }
        }
        Verb::Resume => return Err(VerbError::NotHeld(state)),
        Verb::Promote if state == GateState::Promoting => next.pass_wave(),
        Verb::Promote => return Err(VerbError::NotPromoting(state)),
        Verb::Retry if matches!(state, GateState::Aborted | GateState::Unknown) => {
            return Err(VerbError::NotInProgress(state));
        }
        // What is tried again is the check.
        Verb::Retry if gate.check_has_failed() => {
            (next.before, next.why) = (None, None);
            next.state = GateState::Checking;
            if failed {
                (next.forgiven, next.retried) = (granted, granted);
            }
        }
        Verb::Retry if !failed => return Err(VerbError::NothingFailed),
        Verb::Retry => {
            if matches!(state, GateState::Halted | GateState::Done) {
                next.state = GateState::Rolling;
                next.why = None;
            }
            next.forgiven = granted;
            next.retried = granted;
        }
    }
    (next.since, next.by) = (at, by.to_owned());
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::model::gate;

    fn done(state: GateState, verb: Verb) -> Result<GateState, VerbError> {
        let mut gate = Gate { state, ..gate() };
        gate.plan.waves.extend(gate.plan.waves.clone());
        apply(&gate, verb, (7, true), (Timestamp::UNIX_EPOCH, "ann")).map(|gate| gate.state)
    }

    #[test]
    fn what_can_be_done_when() {
        use GateState::{Aborted, Baking, Done, Halted, Paused, Promoting, Rolling};
        for (state, verb, expected) in [
            (Rolling, Verb::Pause, Some(Paused)),
            (Paused, Verb::Pause, None),
            (Done, Verb::Pause, Some(Paused)),
            (Aborted, Verb::Pause, Some(Paused)),
            (Halted, Verb::Pause, None),
            (Halted, Verb::Resume, Some(Rolling)),
            (Paused, Verb::Resume, Some(Rolling)),
            (Rolling, Verb::Resume, None),
            (Promoting, Verb::Promote, Some(Rolling)),
            (Baking, Verb::Promote, None),
            (Paused, Verb::Abort, Some(Aborted)),
            (Halted, Verb::Abort, Some(Aborted)),
            (Done, Verb::Abort, None),
            (Aborted, Verb::Abort, None),
            (Halted, Verb::Retry, Some(Rolling)),
            (Paused, Verb::Retry, Some(Paused)),
            (Aborted, Verb::Retry, None),
        ] {
            assert_eq!(done(state, verb).ok(), expected, "{state:?} {verb:?}");
        }
    }

    #[test]
    fn it_goes_on_where_it_was_paused_and_forgives_what_has_failed() {
        let before = Gate {
            state: GateState::Baking,
            wave: 1,
            ..gate()
        };
        let by = (Timestamp::UNIX_EPOCH, "ann");
        let paused = apply(&before, Verb::Pause, (7, false), by).unwrap();
        let resumed = apply(&paused, Verb::Resume, (7, false), by).unwrap();
        assert_eq!(
            (resumed.state, resumed.wave, resumed.forgiven),
            (GateState::Baking, 1, 0)
        );
        let idle = Gate {
            state: GateState::Done,
            ..gate()
        };
        let paused = apply(&idle, Verb::Pause, (7, false), by).unwrap();
        assert!(matches!(
            apply(&paused, Verb::Abort, (7, false), by),
            Err(VerbError::NotInProgress(_))
        ));
        let resumed = apply(&paused, Verb::Resume, (7, false), by).unwrap();
        assert_eq!(
            (resumed.state, resumed.before, resumed.why),
            (GateState::Done, None, None)
        );
        let halted = Gate {
            state: GateState::Halted,
            ..gate()
        };
        let resumed = apply(&halted, Verb::Resume, (7, true), by).unwrap();
        assert_eq!((resumed.forgiven, resumed.retried), (7, 0));
        let retried = apply(&halted, Verb::Retry, (7, true), by).unwrap();
        assert_eq!((retried.forgiven, retried.retried), (7, 7));
        assert_eq!(
            apply(&halted, Verb::Retry, (7, false), by),
            Err(VerbError::NothingFailed)
        );
    }
    #[test]
    fn a_check_that_said_no_is_asked_again_or_passed_by() {
        let by = (Timestamp::UNIX_EPOCH, "ann");
        let waves = [(false, 3), (true, 3), (false, 1)].map(|(manual, waves)| {
            let wave = twitcher_model::Wave {
                manual,
                ..twitcher_model::Wave::default()
            };
            let mut gate = gate();
            gate.plan.waves = vec![(&wave).into(); waves];
            Gate {
                state: GateState::Halted,
                before: Some(GateState::Checking),
                why: Some("no".to_owned()),
                ..gate
            }
        });
        let resumed = waves.each_ref().map(|gate| {
            let gate = apply(gate, Verb::Resume, (7, false), by).unwrap();
            (gate.state, gate.wave, gate.before, gate.why)
        });
        let expected = [(GateState::Rolling, 1), (GateState::Promoting, 0), (GateState::Done, 0)];
        assert_eq!(resumed, expected.map(|(state, wave)| (state, wave, None, None)));
        let retried = apply(&waves[0], Verb::Retry, (7, false), by).unwrap();
        assert_eq!((retried.state, retried.before), (GateState::Checking, None));
    }
}
