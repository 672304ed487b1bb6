//! What happens, in which order: made from a seed alone, so that the same seed always gives the same plan. When exactly things happen
//! is the machine's affair and differs from run to run.
//!
//! A new kind of fault is a new variant of [`Fault`], its scope, and what `host.rs` and `stage.rs` do for it.

use std::fmt;

use fastrand::Rng;

use super::act::Behaviour;
use super::watches::{Node, WATCHES, Watch};

/// How many daemons there are.
pub const HOSTS: usize = 3;
/// How many servers there are.
pub const SERVERS: usize = 3;
/// The daemon that has a clock of its own.
pub const OWN_CLOCK: usize = 0;
/// The daemon that is a user of its own, who may have so many processes and no more, and who has no cgroups.
pub const OWN_USER: usize = HOSTS - 1;
/// Faults in an episode that healthy watches may notice.
const WILD: u64 = 6;
/// Faults in an episode that they must not notice.
const TAME: u64 = 4;
/// Misbehaviours of actions beside other faults: a daemon is killed while its actions hang.
const BESIDE: u64 = 2;

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    ServerKill,
    ServerPause,
    QuorumLoss,
    EnsembleWipe,
    PermissionTaken,
    Sever,
    Refuse,
    Blackhole,
    Delay,
    SessionExpiry,
    DaemonKill,
    LauncherKill,
    BothKill,
    DaemonPause,
    DaemonRestart,
    ClockStep,
    DiskFull,
    CacheDamage,
    LogStall,
    ConfigChange,
    ConfigRemove,
    ConfigBreak,
    ConfigDelete,
    ComponentSwap,
    ActionHang,
    ActionStubborn,
    ActionFail,
    ActionCrash,
    ActionFork,
    ActionLeave,
    ActionEscape,
    ActionFlood,
    ActionExhaust,
}

/// What a fault has to itself: two of one scope never go on at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Servers,
    Znodes,
    Network,
    Process,
    Disk,
    Log,
    Config,
    Component,
    Actions,
}

impl Scope {
    /// Whether there is one for all daemons, not one for each.
    pub fn is_shared(self) -> bool {
        matches!(self, Scope::Servers | Scope::Znodes)
    }
}

impl Fault {
    pub const ALL: &'static [Fault] = &[
        Fault::ServerKill,
        Fault::ServerPause,
        Fault::QuorumLoss,
        Fault::EnsembleWipe,
        Fault::PermissionTaken,
        Fault::Sever,
        Fault::Refuse,
        Fault::Blackhole,
        Fault::Delay,
        Fault::SessionExpiry,
        Fault::DaemonKill,
        Fault::LauncherKill,
        Fault::BothKill,
        Fault::DaemonPause,
        Fault::DaemonRestart,
        Fault::ClockStep,
        Fault::DiskFull,
        Fault::CacheDamage,
        Fault::LogStall,
        Fault::ConfigChange,
        Fault::ConfigRemove,
        Fault::ConfigBreak,
        Fault::ConfigDelete,
        Fault::ComponentSwap,
        Fault::ActionHang,
        Fault::ActionStubborn,
        Fault::ActionFail,
        Fault::ActionCrash,
        Fault::ActionFork,
        Fault::ActionLeave,
        Fault::ActionEscape,
        Fault::ActionFlood,
        Fault::ActionExhaust,
    ];

    pub fn scope(self) -> Scope {
        use Fault::*;
        match self {
            ServerKill | ServerPause | QuorumLoss | EnsembleWipe => Scope::Servers,
            PermissionTaken => Scope::Znodes,
            Sever | Refuse | Blackhole | Delay | SessionExpiry => Scope::Network,
            // No daemon can be started where there are no processes to be had.
            DaemonKill | LauncherKill | BothKill | DaemonPause | DaemonRestart | ClockStep | ActionExhaust => {
                Scope::Process
            }
            // What is damaged cannot be made again on a full disk.
            DiskFull | CacheDamage => Scope::Disk,
            LogStall => Scope::Log,
            ConfigChange | ConfigRemove | ConfigBreak | ConfigDelete => Scope::Config,
            ComponentSwap => Scope::Component,
            ActionHang | ActionStubborn | ActionFail | ActionCrash | ActionFork | ActionLeave | ActionEscape
            | ActionFlood => Scope::Actions,
        }
    }

    /// How actions behave while it goes on.
    pub fn behaviour(self) -> Option<Behaviour> {
        Some(match self {
            Fault::ActionHang => Behaviour::Hang,
            Fault::ActionStubborn => Behaviour::Stubborn,
            Fault::ActionFail => Behaviour::Fail,
            Fault::ActionCrash => Behaviour::Crash,
            Fault::ActionFork => Behaviour::Fork,
            Fault::ActionLeave => Behaviour::Leave,
            Fault::ActionEscape => Behaviour::Escape,
            Fault::ActionFlood => Behaviour::Flood,
            Fault::ActionExhaust => Behaviour::Exhaust,
            _ => return None,
        })
    }

    /// How long it goes on at least, in milliseconds.
    fn hold(self, rng: &mut Rng) -> u64 {
        match self {
            // Longer than 1.4 times the session timeout of 3 s, when the client gives the session up.
            Fault::SessionExpiry => rng.u64(4_600..5_500),
            Fault::ServerKill | Fault::ServerPause | Fault::QuorumLoss => rng.u64(300..2_000),
            Fault::DaemonPause | Fault::Blackhole | Fault::Refuse => rng.u64(100..2_500),
            Fault::DaemonKill | Fault::BothKill => rng.u64(0..600),
            Fault::LauncherKill | Fault::Sever | Fault::EnsembleWipe | Fault::CacheDamage => 0,
            // Long enough for some hundred processes to be made.
            Fault::ActionExhaust => rng.u64(1_000..2_500),
            _ => rng.u64(100..1_500),
        }
    }

    /// Whether healthy watches must not notice it.
    pub fn spares_the_healthy(self) -> bool {
        matches!(self.scope(), Scope::Actions | Scope::Log)
    }
}

/// A fault at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub fault: Fault,
    /// Whose.
    pub host: usize,
    /// Which server, for those that happen to one.
    pub server: usize,
    /// Milliseconds it goes on at least.
    pub hold: u64,
    /// Whatever else there is to choose.
    pub choice: u32,
}

/// What is done to the znode of a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// Its data, or that of a znode below; what is missing is created.
    Set,
    /// The same, so many times as fast as it goes.
    Burst(u32),
    /// Deleted, with everything below.
    Delete,
    /// Deleted and created again.
    Recreate,
    AddChild,
    RemoveChild,
}

/// One thing that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Write {
        watch: &'static str,
        write: Write,
    },
    /// A fault begins. The number is its place in [`Episode::troubles`].
    Begin(usize),
    /// It ends.
    End(usize),
    /// A healthy watch is timed beside the others.
    Canary,
}

/// Troubles, and what is written meanwhile. Afterwards everything is healed and judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Episode {
    pub number: u64,
    pub troubles: Vec<Trouble>,
    pub steps: Vec<Step>,
}

/// The plan of a seed: an endless number of episodes.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    /// Kinds of faults that this machine can have.
    pub faults: Vec<Fault>,
}

impl Plan {
    /// One of the episodes. Every third has only what must not disturb others, misbehaving actions mostly: the times of healthy watches mean something there.
    pub fn episode(&self, number: u64) -> Episode {
        let mut rng = Rng::with_seed(mix(self.seed, number));
        let calm = |fault: &Fault| fault.spares_the_healthy();
        let (tame, wild): (Vec<Fault>, Vec<Fault>) = self.faults.iter().partition(|fault| calm(fault));
        let (third, rest) = (number / 3, number % 3);
        let mut faults = match rest {
            2 => self.rotation(1, &tame, third, TAME),
            _ => self.rotation(0, &wild, third * 2 + rest, WILD),
        };
        if rest != 2 {
            faults.extend(self.rotation(2, &tame, third * 2 + rest, BESIDE));
            rng.shuffle(&mut faults);
        }
        let troubles: Vec<Trouble> = faults
            .into_iter()
            .map(|fault| Trouble {
                fault,
                host: match fault {
                    Fault::ClockStep => OWN_CLOCK,
                    Fault::ActionExhaust => OWN_USER,
                    _ => rng.usize(..HOSTS),
                },
                server: rng.usize(..SERVERS),
                hold: fault.hold(&mut rng),
                choice: rng.u32(..),
            })
            .collect();
        let steps = steps(&mut rng, &troubles, rest == 2);
        Episode {
            number,
            troubles,
            steps,
        }
    }

    /// The faults of the `nth` episode of a kind: each kind has its turn before any has its second.
    fn rotation(&self, salt: u64, kinds: &[Fault], nth: u64, count: u64) -> Vec<Fault> {
        let at = |index: u64| {
            let (cycle, place) = (index / kinds.len() as u64, index % kinds.len() as u64);
            let mut shuffled = kinds.to_vec();
            Rng::with_seed(mix(self.seed ^ salt.rotate_left(32), cycle)).shuffle(&mut shuffled);
            shuffled[place as usize]
        };
        (0..count).map(|i| at(nth * count + i)).collect()
    }
}

fn mix(seed: u64, number: u64) -> u64 {
    (seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).rotate_left(17) ^ number
}

fn steps(rng: &mut Rng, troubles: &[Trouble], canaries: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    writes(rng, 1..4, &mut steps);
    for (index, trouble) in troubles.iter().enumerate() {
        let collides = |other: &usize| {
            let other = &troubles[*other];
            let scope = trouble.fault.scope();
            other.fault.scope() == scope && (scope.is_shared() || other.host == trouble.host)
        };
        let (ending, staying): (Vec<usize>, Vec<usize>) = open.iter().partition(|other| collides(other));
        steps.extend(ending.into_iter().map(Step::End));
        open = staying;
        steps.push(Step::Begin(index));
        open.push(index);
        writes(rng, 2..6, &mut steps);
        if canaries {
            steps.push(Step::Canary);
        }
        while open.len() > 3 || (!open.is_empty() && rng.u8(..10) < 5) {
            steps.push(Step::End(open.swap_remove(rng.usize(..open.len()))));
        }
        writes(rng, 0..4, &mut steps);
    }
    rng.shuffle(&mut open);
    for index in open {
        steps.push(Step::End(index));
        // What the last fault hid is hidden for good more often than not.
        if rng.u8(..10) < 3 {
            writes(rng, 1..2, &mut steps);
        }
    }
    steps
}

fn writes(rng: &mut Rng, count: std::ops::Range<usize>, steps: &mut Vec<Step>) {
    for _ in 0..rng.usize(count) {
        let watch = &WATCHES[rng.usize(1..WATCHES.len())];
        let write = write(rng, watch);
        steps.push(Step::Write {
            watch: watch.name,
            write,
        });
    }
}

fn write(rng: &mut Rng, watch: &Watch) -> Write {
    let often: &[(Write, u32)] = match watch.node {
        Node::Data => &[
            (Write::Set, 11),
            (Write::Burst(rng.u32(3..12)), 4),
            (Write::Delete, 2),
            (Write::Recreate, 3),
        ],
        Node::Children => &[
            (Write::AddChild, 12),
            (Write::RemoveChild, 5),
            (Write::Delete, 1),
            (Write::Recreate, 2),
        ],
        Node::Tree => &[
            (Write::Set, 7),
            (Write::Burst(rng.u32(3..12)), 3),
            (Write::AddChild, 6),
            (Write::RemoveChild, 4),
        ],
    };
    let all: u32 = often.iter().map(|(_, times)| times).sum();
    let mut at = rng.u32(..all);
    for (write, times) in often {
        match at.checked_sub(*times) {
            Some(rest) => at = rest,
            None => return *write,
        }
    }
    Write::Set
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Write { watch, write } => write!(f, "{write:?} {watch}"),
            Step::Begin(index) => write!(f, "begin {index}"),
            Step::End(index) => write!(f, "end {index}"),
            Step::Canary => f.write_str("canary"),
        }
    }
}

impl fmt::Display for Episode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "episode {}", self.number)?;
        for (index, trouble) in self.troubles.iter().enumerate() {
            writeln!(
                f,
                "  fault {index}: {:?} host {} server {} for {} ms, choice {}",
                trouble.fault, trouble.host, trouble.server, trouble.hold, trouble.choice
            )?;
        }
        let steps: Vec<String> = self.steps.iter().map(Step::to_string).collect();
        writeln!(f, "  {}", steps.join("; "))
    }
}
