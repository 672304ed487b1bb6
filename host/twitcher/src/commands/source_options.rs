//! From the command line to a source: servers, credentials, certificates. It must not know what is done with the znodes.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use twitcher_daemon::SourceOptions;
use twitcher_files::system::ca_bundle;
use twitcher_source::{tree, zookeeper};

use super::THIS_PROGRAM;
use crate::args::SourceArguments;

/// What is given, or TWITCHER_ZK; files with credentials and certificates are read. `without` is what to say of neither.
pub fn read(given: &SourceArguments, without: &str) -> Result<SourceOptions> {
    if let Some(dir) = &given.tree {
        let root = std::path::absolute(dir).with_context(|| format!("--tree {}", dir.display()))?;
        let mut options = tree::TreeOptions::new(root);
        options.max_data = given.max_znode_size;
        return Ok(SourceOptions::Tree(options));
    }
    let servers = given.zk.clone().or_else(|| std::env::var("TWITCHER_ZK").ok());
    let Some(servers) = servers else {
        bail!("{without}: give --zk HOST:PORT,... (or set TWITCHER_ZK), or --tree DIR");
    };
    // Each error names what it is about, and no more: a password may have been written here.
    let servers = servers.parse().context("--zk, or TWITCHER_ZK")?;
    let mut options = zookeeper::ZooKeeperOptions::new(servers);
    options.session_timeout = given.zk_session_timeout;
    options.max_data = usize::try_from(given.max_znode_size).unwrap_or(usize::MAX);
    if let Some(file) = &given.zk_digest_file {
        let (user, password) = credentials(file)?;
        let credentials = format!("{user}:{password}").into_bytes();
        options.auth.push(zookeeper::Auth {
            scheme: "digest".to_owned(),
            credentials,
        });
    }
    if let Some(file) = &given.zk_sasl_file {
        let (user, password) = credentials(file)?;
        options.sasl = Some(zookeeper::SaslDigest { user, password });
    }
    if given.zk_kerberos || given.zk_keytab.is_some() || given.zk_principal.is_some() {
        options.kerberos = Some(kerberos(given)?);
    }
    if given.zk_tls || given.zk_ca.is_some() || given.zk_cert.is_some() {
        let ca = given.zk_ca.clone().or_else(ca_bundle).context(
            "no certificate authorities were found on this machine; name a file with --zk-ca, or in SSL_CERT_FILE",
        )?;
        let tls = zookeeper::Tls {
            ca,
            identity: given.zk_cert.clone().zip(given.zk_key.clone()),
        };
        // Read again for each session; now only to refuse early what cannot work.
        tls.load()?;
        options.tls = Some(tls);
    }
    Ok(SourceOptions::ZooKeeper(Box::new(options)))
}

fn kerberos(given: &SourceArguments) -> Result<zookeeper::Kerberos> {
    if !zookeeper::KERBEROS {
        bail!(
            "this twitcher was built without Kerberos: `twitcher help systemd` says how one is built with it (--features kerberos)"
        );
    }
    let keytab = given.zk_keytab.as_deref().map(std::path::absolute).transpose();
    let kerberos = zookeeper::Kerberos {
        principal: given.zk_principal.clone(),
        keytab: keytab.context("--zk-keytab")?,
        service: given.zk_service.clone(),
    };
    if let Some(keytab) = &kerberos.keytab {
        // Read by the library, when a session is opened; now only to refuse early what cannot work.
        std::fs::File::open(keytab).with_context(|| format!("cannot read the keytab {}", keytab.display()))?;
    }
    let environment = kerberos.environment();
    let is_set = |(name, value): &(&str, std::ffi::OsString)| std::env::var_os(name).as_ref() == Some(value);
    if !environment.iter().all(is_set) {
        // No process that may have threads changes its environment: the program is executed once more, with what is missing.
        let mut again = Command::new(THIS_PROGRAM);
        let error = again.args(std::env::args_os().skip(1)).envs(environment).exec();
        return Err(error).context("cannot execute this program again with the keytab in its environment");
    }
    Ok(kerberos)
}

/// The first line of a file, USER:PASSWORD. On the command line everyone could read them.
pub fn credentials(file: &Path) -> Result<(String, String)> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let pair = text.lines().next().and_then(|line| line.split_once(':'));
    let (user, password) = pair.with_context(|| format!("{}:1: expected USER:PASSWORD", file.display()))?;
    Ok((user.to_owned(), password.to_owned()))
}
