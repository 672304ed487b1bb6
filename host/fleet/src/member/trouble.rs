//! Why a host is not in its fleet, and what to do about it. Pure.

use crate::access;
use crate::layout::{FleetRoot, HostName};
use crate::record::RecordError;
use crate::requests::RequestError;
use twitcher_model::sanitize;
use twitcher_source::zookeeper::Credentials;

/// Why a host is not in its fleet, or cannot publish.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    /// There is nothing by which it could be told from another one of its name.
    #[error("{0}")]
    NoId(String),
    #[error(transparent)]
    Request(#[from] RequestError),
    /// What others have written cannot be understood.
    #[error("znode {0}: {1}")]
    Record(String, RecordError),
    /// Another session holds the name.
    #[error(
        "a host called {name} is in the fleet already{who}; if that is another host, give this one another name with --fleet-name. \
         Where the daemon was killed or its machine has crashed a moment ago, the name is free once the old session has expired"
    )]
    NameTaken { name: String, who: String },
    /// The host may not write where it is to write.
    #[error(
        "no permission for znode {znode} (NoAuth): where access to a fleet is strict, only hosts that are enrolled are in it. {}",
        remedy(name, root, credentials)
    )]
    NotEnrolled {
        znode: String,
        name: String,
        root: String,
        credentials: Credentials,
    },
    /// The presence has gone though the session lives.
    #[error("somebody has deleted the presence of this host in the fleet")]
    PresenceGone,
}

impl Trouble {
    /// The same, with what to do where a host may not write below its own znode.
    pub fn explained(self, root: &FleetRoot, name: &HostName, credentials: &Credentials) -> Self {
        let own = root.host(name.as_str());
        let is_own = |path: &str| {
            path.strip_prefix(&own)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        match self {
            Self::Request(RequestError::Denied(znode)) if is_own(&znode) => Self::NotEnrolled {
                znode,
                name: name.to_string(),
                root: root.to_string(),
                credentials: credentials.clone(),
            },
            trouble => trouble,
        }
    }

    /// Whether it is for lack of a permission.
    pub fn is_denial(&self) -> bool {
        matches!(self, Self::NotEnrolled { .. } | Self::Request(RequestError::Denied(_)))
    }
}

/// How a host is let in. The command goes straight to the servers, and so needs to be told which they are and where the fleet is.
fn remedy(name: &str, root: &str, credentials: &Credentials) -> String {
    let command = |whom: &str| {
        let root = sanitize::shell_word(root);
        format!(
            "A steward of the fleet lets it in: `twitcher fleet enroll {name} --as {whom} --fleet {root} --zk SERVERS`"
        )
    };
    match access::enrolled_as(credentials) {
        Some(whom) => command(&whom),
        None => format!(
            "Give the daemon credentials, by --zk-cert, --zk-kerberos, --zk-sasl-file or --zk-digest-file. {}",
            command("ID")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_lets_a_host_in_can_be_run_as_it_is_told() {
        let (root, name) = ("/a fleet".parse().unwrap(), "web-1".parse().unwrap());
        let denied = Trouble::from(RequestError::Denied("/a fleet/hosts/web-1/live".to_owned()));
        let said = denied.explained(&root, &name, &Credentials::default()).to_string();
        let command = "`twitcher fleet enroll web-1 --as ID --fleet '/a fleet' --zk SERVERS`";
        assert!(said.contains(command), "{said}");
    }
}
