//! The command line of what is asked of the fleet.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::operate::Common;
use super::{SourceArguments, seconds};

const FLEET_STATUS_HELP: &str = "\
Any daemon of the fleet can be asked: what it says it reads in ZooKeeper at that moment. With --json it is the same as \
`twitcher fleet hosts`.

Examples:
  twitcher fleet status
  watch -n 2 twitcher fleet status";

const FLEET_HOSTS_HELP: &str = "\
A host is absent when no daemon of it is connected; what it has handled is known all the same. `twitcher fleet forget HOST` ends that.

Examples:
  twitcher fleet hosts
  twitcher fleet hosts --json | jq -r '.hosts[] | select(.live == null) | .name'
  twitcher fleet hosts --json | jq -r '.hosts[] | select(.labels.rack == \"r7\") | .name'";

const FORGET_HELP: &str = "\
What the host has published is deleted, so that it does not lag for ever. A host that is in the fleet is not forgotten: it would come \
back at once. Should one that is forgotten come back, it joins as a new one and publishes anew where it stands.

Example:
  twitcher fleet forget web-07";

const LAGGARDS_HELP: &str = "\
A host lags with a watch when the newest state of the znode is not one that its action has succeeded for, or needed not run for. What \
the znode is now is asked of ZooKeeper, so that a host that has not even seen the change lags, too. Hosts whose records cannot be read \
are shown and count as laggards.

Exit codes: 0 nobody lags; 1 somebody does; 5 it cannot be told: no daemon, no connection, no such watch.

Examples:
  twitcher fleet laggards
  twitcher fleet laggards 'pull the repo'
  twitcher fleet laggards /git/head
  until twitcher fleet laggards repo; do sleep 1; done    # with --fleet on every host: wait until all have it";

const PAUSE_ROLLOUT_HELP: &str = "\
What runs goes on to its end; hosts that have a slot and have not started keep it. Every daemon of the fleet knows at once.

Example: twitcher fleet pause repo";

const RESUME_ROLLOUT_HELP: &str = "\
After a halt the hosts that failed are left as they are, and so many more may fail as before. `retry` has them try again.

Example: twitcher fleet resume repo";

const PROMOTE_HELP: &str = "\
For waves with promote = MANUAL: they say so in `twitcher fleet status`.

Example: twitcher fleet promote repo";

const ABORT_HELP: &str = "\
Hosts that have the change keep it; no other gets it. The next change of the znode goes out as ever.

Example: twitcher fleet abort repo";

const RETRY_HELP: &str = "\
Hosts that failed come first. What has failed before is forgiven: so many more may fail as at the beginning.

Example: twitcher fleet retry repo";

const ROLLBACK_HELP: &str = "\
The steward keeps the data of the last two changes that all hosts have got, up to 64 KiB each, in ZooKeeper. Going back is a change as any \
other: at_once and max_failures hold, but no waves. It never happens by itself, and fails if somebody changes the znode at the same time.

Example: twitcher fleet rollback repo && twitcher fleet wait repo --timeout 600";

const RELEASE_HELP: &str = "\
For a host that went away in the middle of its action and will not come back soon. If its action still runs, one more host than at_once \
can act meanwhile. A host that comes back does not use the slot that was taken from it.

Example: twitcher fleet release web-31";

const WAIT_HELP: &str = "\
For pipelines: what the znode is now is what is waited for, whatever it was before. Exit code 0 once every host that is there has it; 1 if \
the rollout is halted or aborted, if it is done but for hosts that failed or are held, or if it takes too long; 5 if it cannot be told: no \
daemon, no connection, no such rollout.

Example: git push && twitcher znode set /git/head \"$(git rev-parse HEAD)\" && twitcher fleet wait repo --timeout 600";

const ENROLL_HELP: &str = "\
The first time it makes access strict, and needs --steward: from then on a host writes below its own znode only, stewards write \
everywhere, everybody reads, and a host that is not enrolled is not let in. Who runs it is a steward, too. Stewards are the daemons that do \
the work of rollouts, of which there should be two at least, and whoever enrolls hosts, forgets them or acts on rollouts. So this goes \
straight to the servers, with credentials that no other host should have.

ID is one of
  x509:SUBJECT       of a certificate (--zk-cert), as `openssl x509 -noout -subject -nameopt RFC2253` shows it
  sasl:USER          of --zk-sasl-file, or the principal of --zk-kerberos
  digest:USER:HASH   of --zk-digest-file, with the hash that ZooKeeper has for it
  digest:@FILE       the same, where FILE holds USER:PASSWORD

It can be repeated, and a host be enrolled as somebody else. `twitcher fleet forget HOST` ends it.

Examples:
  twitcher fleet enroll --zk zk1:2181 --zk-digest-file ops --fleet /twitcher web-01 --as sasl:web-01 --steward sasl:web-01
  twitcher fleet enroll --zk zk1:2181 --zk-digest-file ops --fleet /twitcher web-02 --as x509:CN=web-02,O=Example
  twitcher fleet enroll --zk zk1:2181 --zk-digest-file ops --fleet /twitcher --steward digest:@eve.digest";

/// The commands on a fleet.
#[derive(Debug, Subcommand)]
pub enum FleetCommands {
    #[command(flatten)]
    #[allow(missing_docs)]
    Ask(FleetCommand),
    /// Let a host into a fleet where access is strict, and make it strict; straight at the servers
    #[command(after_help = ENROLL_HELP, override_usage = "twitcher fleet enroll [OPTIONS] --fleet <PATH> [<HOST> --as <ID>] [--steward <ID>]")]
    Enroll(Box<EnrollArguments>),
}

/// Arguments of `fleet enroll`.
#[derive(Debug, Args)]
pub struct EnrollArguments {
    /// What the host is called in the fleet
    #[arg(value_name = "HOST", requires = "identity", required_unless_present = "steward")]
    pub host: Option<String>,
    /// Who the host is for ZooKeeper
    #[arg(long = "as", value_name = "ID", requires = "host")]
    pub identity: Option<String>,
    /// Who else is a steward of the fleet; may be repeated
    #[arg(long, value_name = "ID")]
    pub steward: Vec<String>,
    /// The znode below which the fleet has everything
    #[arg(long, value_name = "PATH")]
    pub fleet: String,
    /// How long to wait for a session, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub timeout: Duration,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub source: SourceArguments,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What is asked about a fleet, of any daemon that is in it.
#[derive(Debug, Subcommand)]
pub enum FleetCommand {
    /// Show what rolls out, and the watches of the fleet; or how one rollout stands, host by host
    #[command(after_help = FLEET_STATUS_HELP)]
    Status(FleetStatusArguments),
    /// Show the hosts of the fleet, and how many watches each lags with
    #[command(after_help = FLEET_HOSTS_HELP)]
    Hosts(FleetArguments),
    /// Show the hosts that have not handled the last change; exit code 1 if there are any
    #[command(after_help = LAGGARDS_HELP)]
    Laggards(LaggardsArguments),
    /// Have the fleet forget a host that is gone for good
    #[command(after_help = FORGET_HELP)]
    Forget(ForgetArguments),
    /// Let no more hosts start in a rollout, until it is resumed
    #[command(after_help = PAUSE_ROLLOUT_HELP)]
    Pause(RolloutArguments),
    /// Let a rollout go on that is paused or halted; hosts that failed stay as they are
    #[command(after_help = RESUME_ROLLOUT_HELP)]
    Resume(RolloutArguments),
    /// Let the next wave of a rollout go, where it waits for that
    #[command(after_help = PROMOTE_HELP)]
    Promote(RolloutArguments),
    /// End a rollout: its change goes no further
    #[command(after_help = ABORT_HELP)]
    Abort(RolloutArguments),
    /// Let a rollout go on, and hosts that failed try again
    #[command(after_help = RETRY_HELP)]
    Retry(RolloutArguments),
    /// Set the znode to what all hosts had before, and let that go out without waves
    #[command(after_help = ROLLBACK_HELP)]
    Rollback(RolloutArguments),
    /// Take back the slot of a host that will not give it back
    #[command(after_help = RELEASE_HELP)]
    Release(ReleaseArguments),
    /// Wait until the last change has gone out to all hosts
    #[command(after_help = WAIT_HELP)]
    Wait(WaitArguments),
}

impl FleetCommand {
    /// What all of them have.
    pub fn common(&self) -> &Common {
        match self {
            Self::Status(FleetStatusArguments { common, .. })
            | Self::Hosts(FleetArguments { common })
            | Self::Laggards(LaggardsArguments { common, .. })
            | Self::Forget(ForgetArguments { common, .. })
            | Self::Pause(RolloutArguments { common, .. })
            | Self::Resume(RolloutArguments { common, .. })
            | Self::Promote(RolloutArguments { common, .. })
            | Self::Abort(RolloutArguments { common, .. })
            | Self::Retry(RolloutArguments { common, .. })
            | Self::Rollback(RolloutArguments { common, .. })
            | Self::Release(ReleaseArguments { common, .. })
            | Self::Wait(WaitArguments { common, .. }) => common,
        }
    }
}

/// Arguments of `fleet status`.
#[derive(Debug, Args)]
pub struct FleetStatusArguments {
    /// Name of a rollout; all, and the watches without one, if it is left out
    pub rollout: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// Arguments of what is done to a rollout.
#[derive(Debug, Args)]
pub struct RolloutArguments {
    /// Name of the rollout, as `twitcher fleet status` shows it
    pub rollout: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// Arguments of `fleet release`.
#[derive(Debug, Args)]
pub struct ReleaseArguments {
    /// Name of the host
    #[arg(value_name = "HOST")]
    pub host: String,
    /// Name of the rollout; needed only where the host holds slots of several
    pub rollout: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// Arguments of `fleet wait`.
#[derive(Debug, Args)]
pub struct WaitArguments {
    /// Name of the rollout
    pub rollout: String,
    /// Wait so many seconds at most; without it, for ever
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// Arguments of `fleet hosts`.
#[derive(Debug, Args)]
pub struct FleetArguments {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// Arguments of `fleet laggards`.
#[derive(Debug, Args)]
pub struct LaggardsArguments {
    /// Name of a watch, or path of a znode; all watches without it
    #[arg(value_name = "WATCH|ZNODE")]
    pub of: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// Arguments of `fleet forget`.
#[derive(Debug, Args)]
pub struct ForgetArguments {
    /// Name of the host, as `twitcher fleet hosts` shows it
    #[arg(value_name = "HOST")]
    pub host: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}
