//! Where this machine keeps what programs share.

use std::path::PathBuf;

/// The search path of a program that is given none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The variable that names the file with the trusted certificates, as for OpenSSL.
pub const CA_BUNDLE_VARIABLE: &str = "SSL_CERT_FILE";
/// Where distributions keep the trusted certificates: Debian, Fedora, openSUSE, Alpine.
const CA_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The file with the certificates that this machine trusts, or that the environment names; none if there is no such file.
pub fn ca_bundle() -> Option<PathBuf> {
    match std::env::var_os(CA_BUNDLE_VARIABLE) {
        Some(file) if !file.is_empty() => Some(file.into()),
        _ => CA_BUNDLES.iter().map(PathBuf::from).find(|file| file.exists()),
    }
}
