//! What follows on a wave that is through: it is watched for a while, its check is asked, an operator must let the next one go. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::decide::{Decision, Moment, set};
use super::records::{Gate, GateState, PlanWave};
use super::world::{HostState, World};

/// What a steward remembers.
#[derive(Debug, Default, Clone)]
pub(crate) struct Timers {
    /// Since when it has seen holders of slots away.
    pub(super) away: BTreeMap<String, Duration>,
    /// Since when it has watched a wave of a change.
    bake: Option<((u64, usize), Duration)>,
    /// Since when there is this steward, where that may matter.
    begun: Option<Duration>,
    /// What is known of that wave's check.
    check: Option<((u64, usize), CheckAnswer)>,
}

/// How long after it has begun a steward waits for hosts that are not there. What has made the former one go, such as a server that was
/// away, may have made them go, too, and they are about to come back.
const REJOIN: Duration = Duration::from_secs(20);

/// How long a check that has no answer yet is left alone before it is asked again.
const CHECK_PAUSE: Duration = Duration::from_secs(10);

/// What is known of a wave's check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CheckAnswer {
    /// It runs.
    Asked,
    /// The next wave may go.
    Good,
    /// It has no answer, since then.
    NotYet(Duration),
    /// The next wave must not go, for this reason.
    Bad(String),
}

impl Timers {
    /// Whether a holder of a slot counts as lost.
    pub fn is_lost(&self, host: &str, now: Duration, world: &World) -> bool {
        let since = self.away.get(host);
        since.is_some_and(|since| now.saturating_sub(*since) >= world.gate.plan.lost_after)
    }

    /// Those of a steward that begins now.
    pub fn begin(now: Duration) -> Self {
        Self {
            begun: Some(now),
            ..Self::default()
        }
    }

    /// Whether an answer to the check of a wave is of use: the wave has been through since it was asked for.
    pub fn waits_for_check(&self, of: (u64, usize)) -> bool {
        self.check == Some((of, CheckAnswer::Asked))
    }

    /// Notes what is known of the check of a wave.
    pub fn note_check(&mut self, of: (u64, usize), answer: CheckAnswer) {
        self.check = Some((of, answer));
    }
}
/// What follows on a wave that is through.
pub(super) fn go_on(
    world: &World,
    states: &BTreeMap<&str, HostState>,
    timers: &mut Timers,
    moment: Moment<'_>,
) -> Option<Decision> {
    let gate = &world.gate;
    let is_in_use = |state: &HostState| matches!(state, HostState::Acting | HostState::Verifying | HostState::Granted);
    let is_busy = states.values().any(is_in_use) || !world.candidates(states).is_empty();
    if is_busy || gate.state != GateState::Checking {
        // What is asked once the wave is through again has an answer of its own.
        timers.check = None;
    }
    if is_busy {
        return None;
    }
    let begun = timers
        .begun
        .map_or(Duration::MAX, |begun| moment.now.saturating_sub(begun));
    let is_awaited = |state: &HostState| *state == HostState::Absent;
    if gate.state == GateState::Rolling && begun < REJOIN && states.values().any(is_awaited) {
        return Some(Decision::Wait(Some(REJOIN.saturating_sub(begun))));
    }
    let wave = gate.reached();
    let checks = wave.is_some_and(PlanWave::check);
    let pass_bake = |gate: &mut Gate| match checks {
        true => gate.state = GateState::Checking,
        false => gate.pass_check(),
    };
    match gate.state {
        GateState::Rolling if wave.is_some_and(|wave| !wave.bake().is_zero()) => {
            Some(set(gate, moment, |gate| gate.state = GateState::Baking))
        }
        GateState::Rolling => Some(set(gate, moment, pass_bake)),
        GateState::Baking => {
            let which = (gate.serial, gate.wave);
            let since = match timers.bake {
                Some((of, since)) if of == which => since,
                _ => moment.now,
            };
            timers.bake = Some((which, since));
            let left = wave
                .map_or(Duration::ZERO, PlanWave::bake)
                .saturating_sub(moment.now.saturating_sub(since));
            match left.is_zero() {
                true => Some(set(gate, moment, pass_bake)),
                false => Some(Decision::Wait(Some(left))),
            }
        }
        GateState::Checking => Some(after_check(gate, timers, moment)),
        _ => None,
    }
}

/// What follows on what is known of a check. Whoever becomes the steward meanwhile knows nothing, and asks again.
fn after_check(gate: &Gate, timers: &Timers, moment: Moment<'_>) -> Decision {
    let which = (gate.serial, gate.wave);
    let known = timers.check.as_ref().filter(|(of, _)| *of == which);
    match known.map(|(_, answer)| answer) {
        None => Decision::Check(which),
        Some(CheckAnswer::Asked) => Decision::Wait(None),
        Some(CheckAnswer::Good) => set(gate, moment, Gate::pass_check),
        Some(CheckAnswer::NotYet(since)) => {
            let left = CHECK_PAUSE.saturating_sub(moment.now.saturating_sub(*since));
            match left.is_zero() {
                true => Decision::Check(which),
                false => Decision::Wait(Some(left)),
            }
        }
        Some(CheckAnswer::Bad(why)) => set(gate, moment, |gate| {
            gate.before = Some(GateState::Checking);
            gate.state = GateState::Halted;
            gate.why = Some(why.clone());
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Labels;
    use crate::record::{FormatVersion, ResultState, StateId, WatchResult};
    use crate::rollout::decide::decide;
    use crate::rollout::model;
    use crate::rollout::records::{Goal, Grant, Part, PartState, Plan, SlotId};
    use crate::rollout::world::HostView;
    use jiff::Timestamp;
    use twitcher_model::{Rollout, WatchType, Wave};

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    struct Stage {
        policy: Rollout,
        goal: Goal,
        world: World,
        timers: Timers,
    }

    impl Stage {
        /// A change goes out in two waves with a check between them.
        fn new(state: GateState) -> Self {
            let mut policy = model::policy(1);
            policy.waves.insert(
                0,
                Wave {
                    check: Some(model::probe()),
                    ..Wave::default()
                },
            );
            let goal = Goal {
                znode: "/git/head".to_owned(),
                kind: WatchType::Data,
                state: StateId::Zxid(7),
            };
            let gate = Gate {
                serial: 3,
                goal: Some(goal.clone()),
                state,
                plan: Plan::of(&policy),
                ..model::gate()
            };
            let world = World {
                gate,
                granted: 9,
                grants: BTreeMap::new(),
                hosts: BTreeMap::new(),
            };
            Self {
                policy,
                goal,
                world,
                timers: Timers::begin(seconds(0)),
            }
        }

        fn host(&mut self, name: &str, live: bool, part: PartState) {
            let slot = SlotId { epoch: 1, number: 4 };
            let result = WatchResult {
                v: FormatVersion,
                watch: "repo".to_owned(),
                znode: self.goal.znode.clone(),
                kind: WatchType::Data,
                state: ResultState::Behind,
                at: None,
                good: None,
                last: None,
                part: Some(Part {
                    rollout: self.policy.name.clone(),
                    serial: 3,
                    slot: Some(slot),
                    state: part,
                    policy: String::new(),
                    host: String::new(),
                }),
            };
            let view = HostView::of(live, Labels::default(), Some(result), false);
            self.world.hosts.insert(name.to_owned(), view);
        }

        fn at(&mut self, now: u64) -> Decision {
            let moment = Moment {
                now: seconds(now),
                at: Timestamp::UNIX_EPOCH,
                by: "web-1",
            };
            decide(&self.world, &self.goal, &self.policy, &mut self.timers, moment)
        }

        /// The gate that is decided on.
        fn gate_at(&mut self, now: u64) -> Gate {
            match self.at(now) {
                Decision::Set(gate) => *gate,
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_check_is_asked_again_after_a_while_and_its_answer_counts() {
        let mut stage = Stage::new(GateState::Rolling);
        stage.world.gate = stage.gate_at(100);
        assert_eq!(stage.world.gate.state, GateState::Checking);
        let which = (3, 0);
        assert_eq!(stage.at(100), Decision::Check(which));
        stage.timers.note_check(which, CheckAnswer::Asked);
        assert_eq!(stage.at(101), Decision::Wait(None));
        stage.timers.note_check(which, CheckAnswer::NotYet(seconds(101)));
        assert_eq!(stage.at(105), Decision::Wait(Some(seconds(6))));
        assert_eq!(stage.at(111), Decision::Check(which));
        // Whoever becomes the steward now knows of no answer.
        let mine = std::mem::replace(&mut stage.timers, Timers::begin(seconds(111)));
        assert_eq!(stage.at(111), Decision::Check(which));
        stage.timers = mine;
        stage
            .timers
            .note_check(which, CheckAnswer::Bad("it says no".to_owned()));
        let halted = stage.gate_at(112);
        assert_eq!(
            (halted.check_has_failed(), halted.why.as_deref()),
            (true, Some("it says no"))
        );
        stage.timers.note_check(which, CheckAnswer::Good);
        let gone_on = stage.gate_at(112);
        assert_eq!((gone_on.state, gone_on.wave), (GateState::Rolling, 1));
    }

    #[test]
    fn what_a_check_says_of_hosts_that_have_acted_since_does_not_count() {
        let mut stage = Stage::new(GateState::Checking);
        stage.timers.note_check((3, 0), CheckAnswer::Asked);
        // It comes late, and has its turn.
        stage.host("web-2", true, PartState::None);
        assert!(matches!(stage.at(100), Decision::Slots(_)));
        let Decision::Slots(slots) = stage.at(100) else {
            panic!()
        };
        stage.world.grants.extend(slots.grants);
        assert_eq!(stage.at(100), Decision::Wait(None));
        assert!(!stage.timers.waits_for_check((3, 0)));
    }

    #[test]
    fn a_new_steward_waits_for_hosts_that_may_be_about_to_come_back() {
        let mut stage = Stage::new(GateState::Rolling);
        stage.host("web-2", false, PartState::None);
        assert_eq!(stage.at(5), Decision::Wait(Some(seconds(15))));
        assert_eq!(stage.gate_at(20).state, GateState::Checking);
    }

    #[test]
    fn a_host_that_is_not_known_to_be_well_gets_another_slot_when_it_has_lost_one() {
        for (part, gets_one) in [
            (PartState::Verifying, true),
            (PartState::Unverified, true),
            (PartState::Succeeded, false),
        ] {
            let mut stage = Stage::new(GateState::Rolling);
            stage.host("web-1", true, part);
            let taken_back = Grant {
                v: FormatVersion,
                slot: SlotId { epoch: 1, number: 4 },
                serial: 3,
                state: stage.goal.state,
                taken_back: Some("ann".to_owned()),
            };
            stage.world.grants.insert("web-1".to_owned(), taken_back);
            let (_, standing) = stage.world.hosts.get_mut("web-1").unwrap().part.as_mut().unwrap();
            standing.good = Some(stage.goal.state);
            match stage.at(100) {
                Decision::Slots(slots) => assert!(gets_one && slots.grants[0].1.slot.number == 10, "{slots:?}"),
                other => assert!(!gets_one, "{part:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_slot_that_somebody_has_deleted_is_there_again_before_another_is_granted() {
        let mut stage = Stage::new(GateState::Rolling);
        stage.host("web-1", true, PartState::Verifying);
        stage.host("web-2", true, PartState::None);
        let Decision::Slots(slots) = stage.at(100) else {
            panic!()
        };
        let restored: Vec<_> = slots
            .grants
            .iter()
            .map(|(host, grant)| (host.as_str(), grant.slot.number))
            .collect();
        assert_eq!((restored, slots.granted), (vec![("web-1", 4)], 9));
        stage.world.grants.extend(slots.grants);
        assert_eq!(stage.at(100), Decision::Wait(None));
    }
}
