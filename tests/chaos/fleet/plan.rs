//! What happens to a fleet, in which order: made from a seed alone.

use std::fmt;

use fastrand::Rng;

use super::MEMBERS;
use super::member::Verb;

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    ServerKill,
    ServerPause,
    QuorumLoss,
    /// Connections end.
    Sever,
    /// Nothing passes: by the proxies, or the link of the daemon's network is down.
    CutOff,
    /// The same, for longer than a session lasts.
    CutOffLong,
    DaemonKill,
    BothKill,
    /// Stopped for less than its session lasts.
    DaemonPause,
    /// Stopped for longer.
    DaemonPauseLong,
    DaemonRestart,
    /// Its action fails.
    Fail,
    /// Its action does not end.
    Hang,
}

/// What a fault has to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Servers,
    Network,
    Member,
    Action,
}

impl Fault {
    const ALL: [Fault; 13] = [
        Fault::ServerKill,
        Fault::ServerPause,
        Fault::QuorumLoss,
        Fault::Sever,
        Fault::CutOff,
        Fault::CutOffLong,
        Fault::DaemonKill,
        Fault::BothKill,
        Fault::DaemonPause,
        Fault::DaemonPauseLong,
        Fault::DaemonRestart,
        Fault::Fail,
        Fault::Hang,
    ];

    pub fn scope(self) -> Scope {
        use Fault::*;
        match self {
            ServerKill | ServerPause | QuorumLoss => Scope::Servers,
            Sever | CutOff | CutOffLong => Scope::Network,
            DaemonKill | BothKill | DaemonPause | DaemonPauseLong | DaemonRestart => Scope::Member,
            Fail | Hang => Scope::Action,
        }
    }

    fn hold(self, rng: &mut Rng) -> u64 {
        match self {
            Fault::CutOffLong | Fault::DaemonPauseLong => rng.u64(5_000..7_000),
            Fault::Sever => 0,
            Fault::QuorumLoss => rng.u64(300..4_000),
            _ => rng.u64(100..2_500),
        }
    }
}

/// A fault at a place.
#[derive(Debug, Clone)]
pub struct Trouble {
    pub kind: Fault,
    pub member: usize,
    pub server: usize,
    /// Milliseconds it goes on at least.
    pub hold: u64,
}

/// One thing that happens.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// The znode has other data, which actions fail for if it is bad.
    Change {
        bad: bool,
    },
    /// Somebody operates, at one of the daemons.
    Verb {
        member: usize,
        verb: Verb,
    },
    /// A fault begins. The number is its place in [`Episode::faults`].
    Begin(usize),
    End(usize),
    /// Nothing for so many milliseconds.
    Pass(u64),
}

/// Faults and what else happens meanwhile.
#[derive(Debug)]
pub struct Episode {
    pub number: u64,
    pub seed: u64,
    pub faults: Vec<Trouble>,
    pub steps: Vec<Step>,
}

impl Episode {
    /// An episode of a seed. Each kind of fault has its turn before any has its second.
    pub fn new(seed: u64, number: u64) -> Self {
        let own = seed.rotate_left(17) ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut rng = Rng::with_seed(own);
        let count = 5;
        let kind = |place: u64| {
            let (cycle, place) = (place / Fault::ALL.len() as u64, place % Fault::ALL.len() as u64);
            let mut all = Fault::ALL;
            Rng::with_seed(seed ^ cycle.wrapping_mul(0xd134_2543_de82_ef95)).shuffle(&mut all);
            all[place as usize]
        };
        let faults: Vec<Trouble> = (0..count)
            .map(|at| {
                let kind = kind(number * count + at);
                Trouble {
                    kind,
                    member: rng.usize(..MEMBERS),
                    server: rng.usize(..3),
                    hold: kind.hold(&mut rng),
                }
            })
            .collect();
        let steps = steps(&mut rng, &faults);
        Self {
            number,
            seed: own,
            faults,
            steps,
        }
    }
}

fn steps(rng: &mut Rng, faults: &[Trouble]) -> Vec<Step> {
    let mut steps = vec![Step::Change { bad: false }];
    let mut open: Vec<usize> = Vec::new();
    for (index, fault) in faults.iter().enumerate() {
        let collides = |other: &usize| {
            let other = &faults[*other];
            let scope = fault.kind.scope();
            other.kind.scope() == scope && (scope == Scope::Servers || other.member == fault.member)
        };
        let (ending, staying): (Vec<usize>, Vec<usize>) = open.iter().partition(|other| collides(other));
        steps.extend(ending.into_iter().map(Step::End));
        open = staying;
        steps.push(Step::Begin(index));
        open.push(index);
        between(rng, &mut steps);
        while open.len() > 2 || (!open.is_empty() && rng.u8(..10) < 4) {
            steps.push(Step::End(open.swap_remove(rng.usize(..open.len()))));
        }
        between(rng, &mut steps);
    }
    rng.shuffle(&mut open);
    steps.extend(open.into_iter().map(Step::End));
    steps
}

fn between(rng: &mut Rng, steps: &mut Vec<Step>) {
    steps.push(Step::Pass(rng.u64(..900)));
    match rng.u8(..10) {
        0..=3 => steps.push(Step::Change { bad: rng.u8(..5) == 0 }),
        4..=7 => {
            let all = Verb::ALL;
            let verb = all[rng.usize(..all.len())];
            let member = rng.usize(..MEMBERS);
            steps.push(Step::Verb { member, verb });
            if matches!(verb, Verb::Pause | Verb::Abort) {
                // Long enough to see that nobody starts any more.
                steps.push(Step::Pass(rng.u64(1_000..6_000)));
            }
        }
        _ => {}
    }
}

impl fmt::Display for Episode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            let Trouble {
                kind,
                member,
                server,
                hold,
            } = fault;
            writeln!(
                f,
                "  fault {index}: {kind:?} member {member} server {server} for {hold} ms"
            )?;
        }
        let steps: Vec<String> = self.steps.iter().map(|step| format!("{step:?}")).collect();
        writeln!(f, "  {}", steps.join("; "))
    }
}
