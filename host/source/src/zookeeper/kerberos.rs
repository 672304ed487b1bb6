//! SASL GSSAPI (Kerberos): whose tickets for which service, and getting them where waiting for a KDC holds up nobody.
//!
//! The client asks the Kerberos library for a ticket while it talks to a server, on a thread that others need. So it is asked for before, on a
//! thread that may block, and then there is one in the library's cache. It must not know what the session is for.

use std::ffi::OsString;
use std::path::PathBuf;

/// How to authenticate by SASL GSSAPI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kerberos {
    /// Whose tickets, `NAME` or `NAME@REALM`. None: those of the credential cache, or of the first principal in the keytab.
    pub principal: Option<String>,
    /// The file with the principal's keys. None: somebody else keeps the credential cache filled (`kinit`, `k5start`).
    pub keytab: Option<PathBuf>,
    /// The first part of the servers' principals, before their host names. Usually `zookeeper`.
    pub service: String,
}

impl Kerberos {
    /// What has to be in the environment of the process from its start: the Kerberos library is told of a keytab by nothing else.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let Some(keytab) = &self.keytab else { return Vec::new() };
        let mut file = OsString::from("FILE:");
        file.push(keytab);
        // A cache of its own: that of root's logins may hold somebody else's tickets.
        vec![("KRB5_CLIENT_KTNAME", file), ("KRB5CCNAME", "MEMORY:twitcher".into())]
    }
}

/// Whether this program was built with Kerberos.
pub const KERBEROS: bool = cfg!(feature = "kerberos");

/// Why there is no ticket.
#[derive(Debug, thiserror::Error)]
#[error("Kerberos: no ticket for {service} as {principal} ({keys}): {why}")]
pub struct TicketError {
    service: String,
    principal: String,
    keys: String,
    why: String,
}

#[cfg(feature = "kerberos")]
pub(super) use with_library::{sasl, tickets};

#[cfg(feature = "kerberos")]
mod with_library {
    use libgssapi::context::{ClientCtx, CtxFlags};
    use libgssapi::credential::{Cred, CredUsage};
    use libgssapi::error::Error;
    use libgssapi::name::Name;
    use libgssapi::oid::{GSS_MECH_KRB5, GSS_NT_HOSTBASED_SERVICE, GSS_NT_KRB5_PRINCIPAL, OidSet};
    use zookeeper_client::GssapiSaslOptions;

    use super::{Kerberos, TicketError};

    /// Gets tickets for the service on these hosts; one host that can be asked is enough. Blocks for as long as the KDC takes to answer. What is
    /// still good for long is not asked for again, and what is not is renewed with the keytab.
    pub fn tickets<'a>(kerberos: &Kerberos, hosts: impl Iterator<Item = &'a str>) -> Result<(), TicketError> {
        let mut failure = Ok(());
        for host in hosts {
            match ticket(kerberos, host) {
                Ok(()) => return Ok(()),
                Err(error) if failure.is_ok() => failure = Err(failed(kerberos, host, &error)),
                Err(_) => {}
            }
        }
        failure
    }

    fn ticket(kerberos: &Kerberos, host: &str) -> Result<(), Error> {
        let mut mechanisms = OidSet::new()?;
        mechanisms.add(&GSS_MECH_KRB5)?;
        let principal = kerberos.principal.as_deref();
        let principal = principal.map(|name| Name::new(name.as_bytes(), Some(&GSS_NT_KRB5_PRINCIPAL)));
        // With these the library's cache begins, whose principal is then the one that the client uses.
        let ours = Cred::acquire(
            principal.transpose()?.as_ref(),
            None,
            CredUsage::Initiate,
            Some(&mechanisms),
        )?;
        let service = format!("{}@{host}", kerberos.service);
        let service = Name::new(service.as_bytes(), Some(&GSS_NT_HOSTBASED_SERVICE))?;
        // Its first step is what needs the ticket; it is thrown away.
        let mut context = ClientCtx::new(Some(ours), service, CtxFlags::GSS_C_MUTUAL_FLAG, Some(&GSS_MECH_KRB5));
        context.step(None, None).map(drop)
    }

    fn failed(kerberos: &Kerberos, host: &str, error: &Error) -> TicketError {
        TicketError {
            service: format!("{}/{host}", kerberos.service),
            principal: match (&kerberos.principal, &kerberos.keytab) {
                (Some(principal), _) => principal.clone(),
                (None, Some(_)) => "the keytab's first principal".to_owned(),
                (None, None) => "the credential cache's principal".to_owned(),
            },
            keys: match &kerberos.keytab {
                Some(keytab) => format!("keytab {}", keytab.display()),
                None => "no keytab".to_owned(),
            },
            why: error.to_string(),
        }
    }

    /// For the client.
    pub fn sasl(kerberos: &Kerberos) -> GssapiSaslOptions {
        zookeeper_client::SaslOptions::gssapi().with_username(kerberos.service.clone())
    }
}
