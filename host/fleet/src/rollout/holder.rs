//! What a host does about its slot. Pure: no clock of its own, no ZooKeeper.

use std::time::Duration;

use super::context::{Doing, Local, Verification};
use super::records::{Gate, Grant, Part, PartState, SlotId};
use crate::record::{ResultState, StateId};

/// How long a host may have a slot and not start. Somebody else can have it then.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a host does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Write down that it starts, if the gate is still open for this slot, and start.
    Start(SlotId),
    /// The change that it has failed for is to be run for once more: have it wait for its turn.
    Again(SlotId),
    /// Write down that the action has succeeded, and find out whether the host is well.
    Verify(SlotId, StateId),
    /// Find out no more whether the host is well: the slot for which that was begun is not its own any more.
    EndVerify,
    /// Give the slot back.
    GiveBack(SlotId, PartState),
    /// Say where the watch stands.
    Tell,
    /// Nothing, until something happens or the gate has been looked at again.
    LookAgain,
    /// Nothing, until something happens.
    Wait,
}

/// What it does. `grant` is its own; `part` is what it has last written, with where its watch stood then; `held_for` is how long it has had
/// the grant; `again` is the slot that it was last told to try again with.
pub(crate) fn next(
    gate: Option<&Gate>,
    grant: Option<&Grant>,
    part: Option<(&Part, ResultState, Option<StateId>)>,
    local: &Local,
    held_for: Duration,
    again: Option<SlotId>,
) -> Act {
    let is_over = |grant: &Grant| part.is_some_and(|(part, ..)| part.slot == Some(grant.slot) && part.state.is_over());
    let grant = grant.filter(|grant| grant.taken_back.is_none() && !is_over(grant));
    if let Some((slot, Verification::Running)) = local.verification
        && grant.is_none_or(|grant| grant.slot != slot)
    {
        return Act::EndVerify;
    }
    let Some(grant) = grant else {
        return tell(part, local);
    };
    let slot = grant.slot;
    // It has left the rollout, or is not the machine that it was: whoever wants the slot may be about to take it.
    if part.is_none() {
        return Act::GiveBack(slot, without_slot(local, PartState::Declined));
    }
    // The machine was installed anew: the action of its former self may still run, and nobody knows. An operator may.
    let is_of_former = part.is_some_and(|(part, ..)| part.state.is_in_use() && part.host != local.host);
    if is_of_former {
        return Act::Wait;
    }
    let has_started = part.is_some_and(|(part, ..)| part.slot == Some(slot) && part.state.is_in_use());
    let is_outdated = gate.is_some_and(|gate| gate.serial > grant.serial || gate.epoch != slot.epoch);
    match local.doing {
        Doing::Unsure => Act::Wait,
        Doing::Wants(state) if state == grant.state && !is_outdated => Act::Start(slot),
        _ if local.acting => Act::Wait,
        _ if local.good == Some(grant.state) && local.verifies => {
            // It has acted with an earlier slot, did not get well, and is to try again.
            let was_unwell = part.is_some_and(|(part, ..)| {
                part.state == PartState::Unwell && part.serial == grant.serial && part.slot != Some(slot)
            });
            match (was_unwell && !is_outdated, again == Some(slot)) {
                (false, _) => after_success(grant, local, is_outdated),
                (true, false) => Act::Again(slot),
                (true, true) if held_for >= PATIENCE => Act::GiveBack(slot, PartState::Unwell),
                (true, true) => Act::LookAgain,
            }
        }
        _ if local.good == Some(grant.state) => Act::GiveBack(slot, PartState::Succeeded),
        _ if has_started && local.at == Some(grant.state) => Act::GiveBack(slot, PartState::Failed),
        _ if is_outdated => Act::GiveBack(slot, PartState::Declined),
        _ if matches!(local.state, ResultState::Held | ResultState::Unreadable) && !has_failed(local, grant) => {
            Act::GiveBack(slot, PartState::Declined)
        }
        Doing::Nothing | Doing::Waiting if has_failed(local, grant) && again != Some(slot) => Act::Again(slot),
        _ if held_for >= PATIENCE => Act::GiveBack(slot, PartState::Declined),
        // It has not seen that state yet, or a newer one for which the gate will be opened.
        _ => Act::LookAgain,
    }
}

/// The slot is given back once it is known whether the host is well. What a newer change has overtaken nobody needs to know any more; but
/// only when the newer goes out is the slot not needed to hold the older back.
fn after_success(grant: &Grant, local: &Local, is_outdated: bool) -> Act {
    let slot = grant.slot;
    let known = local.verification.filter(|(of, _)| *of == slot);
    match known.map(|(_, how)| how) {
        _ if is_outdated => Act::GiveBack(slot, without_slot(local, PartState::Declined)),
        Some(Verification::Well) => Act::GiveBack(slot, PartState::Succeeded),
        Some(Verification::Unwell) => Act::GiveBack(slot, PartState::Unwell),
        _ if local.seen != Some(grant.state) => Act::LookAgain,
        Some(Verification::Running) => Act::Wait,
        None => Act::Verify(slot, grant.state),
    }
}

/// What a host says of itself that has no slot, or gives back one that it has not used: that it has acted and is not known to be well
/// must not be lost with the slot under which that was to be found out.
pub(crate) fn without_slot(local: &Local, otherwise: PartState) -> PartState {
    match local.unverified {
        true => PartState::Unverified,
        false => otherwise,
    }
}

/// Whether the watch has failed for what is granted, and is done with it.
fn has_failed(local: &Local, grant: &Grant) -> bool {
    local.at == Some(grant.state) && local.good != Some(grant.state) && local.seen == Some(grant.state)
}

/// Without a slot only that is told which a steward has to know.
fn tell(part: Option<(&Part, ResultState, Option<StateId>)>, local: &Local) -> Act {
    if matches!(local.doing, Doing::Unsure) {
        return Act::Wait;
    }
    let Some((part, state, good)) = part else {
        return Act::Tell;
    };
    let cannot = |state| matches!(state, ResultState::Held | ResultState::Unreadable);
    let is_news = part.policy != local.policy
        || part.host != local.host
        || cannot(state) != cannot(local.state)
        || (local.good != good && local.state == ResultState::Current)
        || (local.state == ResultState::Failed && state != ResultState::Failed);
    match is_news {
        true => Act::Tell,
        false => Act::Wait,
    }
}

/// Why a host may not start now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The gate is not open.
    Closed,
    /// What was granted is not what goes out now.
    Outdated,
    /// It is not its slot any more.
    Gone,
}

/// Whether it may start for a state, from what it has just read.
pub(crate) fn may_start(gate: &Gate, grant: Option<&Grant>, slot: SlotId, state: StateId) -> Result<(), Refusal> {
    let grant = grant.filter(|grant| grant.slot == slot && grant.taken_back.is_none());
    let Some(grant) = grant else { return Err(Refusal::Gone) };
    let is_goal = gate.goal.as_ref().is_some_and(|goal| goal.state == state);
    if grant.state != state || grant.serial != gate.serial || gate.epoch != slot.epoch || !is_goal {
        Err(Refusal::Outdated)
    } else if !gate.state.is_open() {
        Err(Refusal::Closed)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::FormatVersion;
    use crate::rollout::model::gate;

    const SLOT: SlotId = SlotId { epoch: 1, number: 7 };

    fn grant() -> Grant {
        Grant {
            v: FormatVersion,
            slot: SLOT,
            serial: 0,
            state: StateId::Zxid(9),
            taken_back: None,
        }
    }

    fn part(state: PartState) -> Part {
        Part {
            rollout: "repo".parse().unwrap(),
            serial: 0,
            slot: Some(SLOT),
            state,
            policy: String::new(),
            host: String::new(),
        }
    }

    /// It has acted, and is being verified.
    fn local() -> Local {
        let state = Some(StateId::Zxid(9));
        Local {
            doing: Doing::Nothing,
            acting: false,
            state: ResultState::Current,
            seen: state,
            at: state,
            good: state,
            policy: String::new(),
            host: String::new(),
            verifies: true,
            verification: Some((SLOT, Verification::Running)),
            unverified: true,
        }
    }

    fn act(grant: Option<&Grant>, part: Option<&Part>, local: &Local) -> Act {
        let part = part.map(|part| (part, ResultState::Current, local.good));
        next(Some(&gate()), grant, part, local, Duration::ZERO, None)
    }

    #[test]
    fn a_slot_that_is_taken_back_ends_verify_and_the_next_one_begins_it_anew() {
        let verifying = part(PartState::Verifying);
        assert_eq!(act(Some(&grant()), Some(&verifying), &local()), Act::Wait);
        let taken_back = Grant {
            taken_back: Some("ann".to_owned()),
            ..grant()
        };
        assert_eq!(act(Some(&taken_back), Some(&verifying), &local()), Act::EndVerify);
        assert_eq!(act(None, Some(&verifying), &local()), Act::EndVerify);
        let ended = Local {
            verification: None,
            ..local()
        };
        assert_eq!(act(Some(&taken_back), Some(&verifying), &ended), Act::Wait);
        let next = Grant {
            slot: SlotId { epoch: 1, number: 8 },
            ..grant()
        };
        assert_eq!(
            act(Some(&next), Some(&verifying), &ended),
            Act::Verify(next.slot, grant().state)
        );
    }

    #[test]
    fn a_watch_that_comes_back_says_that_it_was_not_found_well() {
        let ended = Local {
            verification: None,
            ..local()
        };
        assert_eq!(
            act(Some(&grant()), None, &ended),
            Act::GiveBack(SLOT, PartState::Unverified)
        );
        let verified = Local {
            unverified: false,
            ..ended
        };
        assert_eq!(
            act(Some(&grant()), None, &verified),
            Act::GiveBack(SLOT, PartState::Declined)
        );
    }

    /// What a retry has failed for it is not good for, though it was once.
    #[test]
    fn a_retry_that_fails_has_failed() {
        let acting = part(PartState::Acting);
        let failed = Local {
            state: ResultState::Failed,
            good: None,
            verification: None,
            unverified: false,
            ..local()
        };
        assert_eq!(
            act(Some(&grant()), Some(&acting), &failed),
            Act::GiveBack(SLOT, PartState::Failed)
        );
    }
}
