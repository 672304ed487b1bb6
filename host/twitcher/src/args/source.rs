//! Where znodes are: what `run` and `znode` have in common.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};

use super::{seconds, znode_size};

/// Where znodes are: in ZooKeeper, or in a local directory.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("source").args(["zk", "tree"])))]
pub struct SourceArguments {
    /// ZooKeeper servers, and a chroot all paths are relative to [env: TWITCHER_ZK=, unless --tree is given]
    #[arg(
        long,
        value_name = "HOST:PORT,...[/CHROOT]",
        alias = "zkservers",
        help_heading = "Source"
    )]
    pub zk: Option<String>,
    /// A local directory instead: DIR/a/b is znode /a/b, a file's bytes are its data
    #[arg(long, value_name = "DIR", help_heading = "Source")]
    pub tree: Option<PathBuf>,
    /// Largest znode whose data is read, such as 4MiB; a larger one is shown as unreadable. Servers hold znodes of more than 1MiB only
    /// if their jute.maxbuffer was raised
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = znode_size, help_heading = "Source")]
    pub max_znode_size: u64,
    /// Session timeout to ask for, in seconds; the server may bound it
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds, help_heading = "ZooKeeper")]
    pub zk_session_timeout: Duration,
    /// Authenticate by the scheme digest: FILE holds USER:PASSWORD
    #[arg(long, value_name = "FILE", help_heading = "ZooKeeper")]
    pub zk_digest_file: Option<PathBuf>,
    /// Authenticate by SASL DIGEST-MD5: FILE holds USER:PASSWORD
    #[arg(long, value_name = "FILE", help_heading = "ZooKeeper")]
    pub zk_sasl_file: Option<PathBuf>,
    /// Authenticate by SASL GSSAPI (Kerberos), with the tickets of the credential cache (KRB5CCNAME) or those that --zk-keytab gets
    #[arg(long, conflicts_with = "zk_sasl_file", help_heading = "ZooKeeper")]
    pub zk_kerberos: bool,
    /// Keys with which tickets are got and renewed; implies --zk-kerberos
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "zk_sasl_file",
        help_heading = "ZooKeeper"
    )]
    pub zk_keytab: Option<PathBuf>,
    /// Whose tickets; by default the cache's, or the first in the keytab; implies --zk-kerberos
    #[arg(
        long,
        value_name = "NAME[@REALM]",
        conflicts_with = "zk_sasl_file",
        help_heading = "ZooKeeper"
    )]
    pub zk_principal: Option<String>,
    /// First part of the servers' principals, before their host names
    #[arg(long, value_name = "NAME", default_value = "zookeeper", help_heading = "ZooKeeper")]
    pub zk_service: String,
    /// Encrypt the connection, trusting the system's certificate authorities or those of --zk-ca
    #[arg(long, help_heading = "ZooKeeper")]
    pub zk_tls: bool,
    /// Certificate authorities to trust, PEM; implies --zk-tls
    #[arg(long, value_name = "FILE", help_heading = "ZooKeeper")]
    pub zk_ca: Option<PathBuf>,
    /// Certificate to present, PEM; needs --zk-key, implies --zk-tls
    #[arg(long, value_name = "FILE", requires = "zk_key", help_heading = "ZooKeeper")]
    pub zk_cert: Option<PathBuf>,
    /// Private key of --zk-cert, PEM
    #[arg(long, value_name = "FILE", requires = "zk_cert", help_heading = "ZooKeeper")]
    pub zk_key: Option<PathBuf>,
}
