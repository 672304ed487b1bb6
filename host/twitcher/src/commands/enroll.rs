//! `twitcher fleet enroll`: who may do what in a fleet. Straight at the servers: the credentials for it are an operator's, and no daemon
//! that could do it for others should be there to be asked.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::json;
use tokio::runtime::Builder;
use tokio::task::LocalSet;
use twitcher_daemon::SourceOptions;
use twitcher_fleet::enroll::{EnrollError, Enrolled, Enrollment, enroll};
use twitcher_fleet::{FleetRoot, HostName, Identity};
use twitcher_model::sanitize;
use twitcher_source::zookeeper;

use super::source_options;
use crate::args::{EnrollArguments, exit};

/// Carries it out. The result is the exit code; what went wrong has been said on stderr.
pub fn run(arguments: &EnrollArguments) -> u8 {
    let (root, wanted, options) = match read(arguments) {
        Ok(read) => read,
        Err(error) => {
            eprintln!("twitcher: {error:#}");
            return exit::USAGE;
        }
    };
    let servers = options.servers.to_string();
    let done = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(LocalSet::new().run_until(ask(arguments, &root, &wanted, options))),
        Err(error) => {
            eprintln!("twitcher: cannot wait for input and output: {error}");
            return exit::FAILURE;
        }
    };
    match done {
        Ok(enrolled) => {
            let text = match arguments.json {
                true => format!("{}\n", in_json(&root, &wanted, &enrolled)),
                false => in_words(&root, &wanted, &enrolled),
            };
            match io::stdout().write_all(text.as_bytes()) {
                // Whoever read it, `head` for example, has seen enough.
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    eprintln!("twitcher: cannot write to standard output: {error}");
                    exit::FAILURE
                }
                _ => exit::SUCCESS,
            }
        }
        Err((error, problem)) => {
            match (&error, problem) {
                (EnrollError::Disconnected, Some(problem)) => eprintln!("twitcher: {error} at {servers} ({problem})"),
                (EnrollError::Disconnected, None) => eprintln!("twitcher: {error} at {servers}"),
                _ => eprintln!("twitcher: {error}"),
            }
            if let Some(hint) = hint(&error) {
                eprintln!("  hint: {hint}");
            }
            match error {
                EnrollError::Disconnected => exit::UNREACHABLE,
                EnrollError::NotSteward(_) | EnrollError::Owned { .. } => exit::DENIED,
                _ => exit::FAILURE,
            }
        }
    }
}

fn read(arguments: &EnrollArguments) -> Result<(FleetRoot, Enrollment, zookeeper::ZooKeeperOptions)> {
    let root = arguments.fleet.parse().context("--fleet")?;
    let host = match (&arguments.host, &arguments.identity) {
        (Some(host), Some(whom)) => {
            let host = host.parse::<HostName>()?;
            Some((host, identity(whom).context("--as")?))
        }
        _ => None,
    };
    let stewards = arguments.steward.iter().map(|whom| identity(whom).context("--steward"));
    let stewards = stewards.collect::<Result<_>>()?;
    let options = match source_options::read(&arguments.source, "no servers")? {
        SourceOptions::ZooKeeper(options) => *options,
        SourceOptions::Tree(_) => bail!("a fleet is in ZooKeeper: give --zk, not --tree"),
    };
    Ok((root, Enrollment { host, stewards }, options))
}

/// A file keeps a password from whoever lists processes.
fn identity(text: &str) -> Result<Identity> {
    match text.strip_prefix("digest:@") {
        Some(file) => {
            let (user, password) = source_options::credentials(Path::new(file))?;
            Ok(Identity::digest(&user, &password)?)
        }
        None => Ok(text.parse()?),
    }
}

async fn ask(
    arguments: &EnrollArguments,
    root: &FleetRoot,
    wanted: &Enrollment,
    mut options: zookeeper::ZooKeeperOptions,
) -> Result<Enrolled, (EnrollError, Option<String>)> {
    options.patience = arguments.timeout;
    let requests = zookeeper::requests(options);
    let connection = requests.connection.clone();
    let done = match requests.znodes.keep_session() {
        Some(session) => enroll(&session, root, wanted, arguments.timeout).await,
        None => Err(EnrollError::Disconnected),
    };
    let problem = connection.borrow().problem.clone();
    requests.close().await;
    done.map_err(|error| (error, problem))
}

fn hint(error: &EnrollError) -> Option<&'static str> {
    Some(match error {
        EnrollError::NoCredentials => "give --zk-digest-file, --zk-sasl-file, --zk-kerberos or --zk-cert",
        EnrollError::Open(_) => {
            "--steward ID says whose daemons do the work of rollouts, besides who runs this; from then on hosts that are not enrolled \
             are not let in"
        }
        EnrollError::NotSteward(_) => "`twitcher znode stat --acl` shows who may administer the znode",
        EnrollError::Unknown { .. } => {
            "they need an authentication provider for each scheme, authProvider.N in zoo.cfg; who runs this must be somebody for them, too"
        }
        EnrollError::Owned { .. } => {
            "stop the daemon that is called so, and delete the znode and what is below it with its credentials; or enroll the host as \
             whom it is"
        }
        _ => return None,
    })
}

fn in_json(root: &FleetRoot, wanted: &Enrollment, enrolled: &Enrolled) -> serde_json::Value {
    json!({
        "fleet": root.to_string(),
        "host": wanted.host.as_ref().map(|(name, _)| name.as_str()),
        "as": wanted.host.as_ref().map(|(_, identity)| identity.to_string()),
        "stewards": enrolled.stewards,
        "changed": enrolled.changed,
        "was_open": enrolled.was_open,
        "shut_out": enrolled.shut_out,
        "same": enrolled.same,
    })
}

fn in_words(root: &FleetRoot, wanted: &Enrollment, enrolled: &Enrolled) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    if let Some((name, identity)) = &wanted.host {
        let already = if enrolled.changed == 0 { "already " } else { "" };
        let identity = sanitize::line(&identity.to_string()).to_string();
        let _ = writeln!(text, "{name}: {already}enrolled in {root} as {identity}");
    }
    if let (Some((name, _)), false) = (&wanted.host, enrolled.same.is_empty()) {
        let same = sanitize::line(&enrolled.same.join(" "));
        let _ = writeln!(
            text,
            "warning: for ZooKeeper {name} is the same as {same}: each can write what only the other is to write, and take its place. Give \
             each host credentials of its own"
        );
    }
    if enrolled.was_open {
        let _ = writeln!(text, "access to {root} is strict now");
    }
    if enrolled.was_open || wanted.host.is_none() {
        let stewards = enrolled.stewards.join(", ");
        let _ = writeln!(text, "stewards: {}", sanitize::line(&stewards));
    }
    if !enrolled.shut_out.is_empty() {
        let hosts = enrolled.shut_out.join(" ");
        let _ = writeln!(
            text,
            "not enrolled, and shut out until they are: {}",
            sanitize::line(&hosts)
        );
    }
    text
}
