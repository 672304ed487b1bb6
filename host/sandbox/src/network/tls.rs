//! Whom TLS trusts: the certificates that this machine trusts, as its administrator keeps them.
//!
//! Not a list that is built in: servers inside a company have certificates of the company.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use twitcher_files::system::CA_BUNDLE_VARIABLE;

/// Largest file of trusted certificates, in bytes; Debian's has 200 KiB.
const BUNDLE_MAX: u64 = 16 << 20;

/// The trusted certificates, parsed only when they are needed.
pub struct TlsTrust {
    pem: Result<Vec<u8>, String>,
    connector: Option<TlsConnector>,
}

impl TlsTrust {
    /// Reads them; what goes wrong is said when they are needed.
    pub fn read(file: Option<&Path>) -> Self {
        let pem = match file {
            None => Err(format!(
                "no certificates to trust were found on this machine; {CA_BUNDLE_VARIABLE} can name a file"
            )),
            Some(file) => read(file)
                .map_err(|error| format!("cannot read the trusted certificates in {}: {error}", file.display())),
        };
        Self { pem, connector: None }
    }

    /// Makes TLS connections; or says why it cannot.
    pub fn connector(&mut self) -> Result<TlsConnector, String> {
        if let Some(connector) = &self.connector {
            return Ok(connector.clone());
        }
        let connector = connector(self.pem.as_deref().map_err(String::clone)?)?;
        Ok(self.connector.insert(connector).clone())
    }
}

fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut pem = Vec::new();
    File::open(file)?.take(BUNDLE_MAX).read_to_end(&mut pem)?;
    Ok(pem)
}

fn connector(pem: &[u8]) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    // One that cannot be read, as old ones may be, takes nothing from the others.
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).flatten());
    if roots.is_empty() {
        return Err("the file of trusted certificates has none".to_owned());
    }
    // Named, because with more than one in the program there is no default.
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said() {
        let why = |mut trust: TlsTrust| trust.connector().err().unwrap();
        assert!(why(TlsTrust::read(None)).contains(CA_BUNDLE_VARIABLE));
        assert!(why(TlsTrust::read(Some(Path::new("/no/such.pem")))).contains("/no/such.pem"));
        assert!(why(TlsTrust::read(Some(Path::new("/dev/null")))).contains("has none"));
    }
}
