//! Credentials as Docker keeps them: in its `config.json`, or with a helper that it names.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;
use std::{env, fs, thread};

use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};

use super::address::Remote;
use super::error::printable;

/// Largest `config.json`, in bytes.
const CONFIG_MAX: u64 = 1 << 20;
/// How long a helper may take; it may have to ask somebody.
const HELPER_TIME: Duration = Duration::from_secs(60);

/// Why credentials cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The error of the system call.
        error: io::Error,
    },
    /// The file makes no sense.
    #[error("{}: {why}", file.display())]
    Config {
        /// The file.
        file: PathBuf,
        /// What is wrong, in words.
        why: String,
    },
    /// The helper that the file names does not help.
    #[error("the credential helper that {} names does not work: {why}", file.display())]
    Helper {
        /// Which file.
        file: PathBuf,
        /// What is wrong, in words.
        why: String,
    },
}

/// What was found, and where it was looked for.
pub(super) struct Credentials {
    pub found: Option<DockerCredential>,
    /// What credentials are kept under.
    server: String,
    file: Option<PathBuf>,
}

impl Credentials {
    /// Looks for those of a registry.
    pub fn of(remote: &Remote) -> Result<Self, CredentialsError> {
        Self::in_file(remote, config_file())
    }

    fn in_file(remote: &Remote, file: Option<PathBuf>) -> Result<Self, CredentialsError> {
        let server = match remote.registry.as_str() {
            // It was called so long before there were others.
            "docker.io" => "https://index.docker.io/v1/",
            registry => registry,
        };
        let found = match &file {
            Some(file) => look_up(file, server)?,
            None => None,
        };
        Ok(Self {
            found,
            server: server.to_owned(),
            file,
        })
    }

    /// What to tell whom the registry refuses.
    pub fn advice(&self) -> String {
        let server = &self.server;
        match (&self.found, &self.file) {
            (_, None) => "no credentials: neither DOCKER_CONFIG nor HOME says where they are".to_owned(),
            (None, Some(file)) => {
                format!(
                    "no credentials for {server} in {}: see `docker login {server}`",
                    file.display()
                )
            }
            (Some(DockerCredential::UsernamePassword(user, _)), Some(file)) => {
                let user = printable(user);
                format!(
                    "the credentials are those of the user {user} for {server} in {}",
                    file.display()
                )
            }
            (Some(DockerCredential::IdentityToken(_)), Some(file)) => {
                format!("the credentials are the token for {server} in {}", file.display())
            }
        }
    }
}

/// Docker's configuration, of which nothing is there yet perhaps.
fn config_file() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let dir = set("DOCKER_CONFIG").or_else(|| set("HOME").map(|home| home.join(".docker")));
    dir.map(|dir| dir.join("config.json"))
}

fn look_up(file: &PathBuf, server: &str) -> Result<Option<DockerCredential>, CredentialsError> {
    let failed = |error| CredentialsError::Io {
        file: file.clone(),
        error,
    };
    let invalid = |why: String| CredentialsError::Config {
        file: file.clone(),
        why,
    };
    let helper = |why: String| CredentialsError::Helper {
        file: file.clone(),
        why,
    };
    let mut config = Vec::new();
    match fs::File::open(file) {
        Ok(opened) => opened.take(CONFIG_MAX).read_to_end(&mut config).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    // The crate that looks into it does not say where the mistake is.
    serde_json::from_slice::<serde_json::Map<_, serde_json::Value>>(&config)
        .map_err(|error| invalid(error.to_string()))?;
    let (sender, receiver) = mpsc::channel();
    let key = server.to_owned();
    // It waits for a helper as long as that takes. What hangs ends with this process, or at the end of its input.
    thread::spawn(move || sender.send(get_credential_from_reader(config.as_slice(), &key)));
    let Ok(found) = receiver.recv_timeout(HELPER_TIME) else {
        return Err(helper(format!("it does not answer within {} s", HELPER_TIME.as_secs())));
    };
    match found {
        Ok(found) => Ok(Some(found)),
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(None),
        Err(CredentialRetrievalError::HelperFailure {
            stdout,
            stderr,
            helper: name,
        }) => {
            let said = format!("{stdout}{stderr}");
            // That is how a helper says that it has none.
            match said.contains("credentials not found") {
                true => Ok(None),
                false => Err(helper(format!("{name} fails: {}", printable(&said)))),
            }
        }
        Err(
            error @ (CredentialRetrievalError::HelperCommunicationError
            | CredentialRetrievalError::MalformedHelperResponse),
        ) => Err(helper(error.to_string())),
        Err(error) => Err(invalid(format!("what it has for {server} is not right: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn of(dir: &Path, registry: &str, config: &str) -> Result<Credentials, CredentialsError> {
        let file = dir.join("config.json");
        fs::write(&file, config).unwrap();
        let remote: Remote = format!("oci://{registry}/x:1").parse().unwrap();
        Credentials::in_file(&remote, Some(file))
    }

    #[test]
    fn credentials_are_found_as_docker_keeps_them() {
        let dir = tempfile::tempdir().unwrap();
        let config = r#"{"auths": {"r.example:5000": {"auth": "dTpwOnE="}, "t.example": {"auth": "dTo=", "identitytoken": "tok"},
                         "https://index.docker.io/v1/": {"auth": "aDpo"}, "empty.example": {}}}"#;
        let user = |user: &str, password: &str| Some(DockerCredential::UsernamePassword(user.into(), password.into()));
        for (registry, expected) in [
            ("r.example:5000", user("u", "p:q")),
            ("docker.io", user("h", "h")),
            ("t.example", Some(DockerCredential::IdentityToken("tok".into()))),
            ("empty.example", None),
            ("r.example", None),
        ] {
            assert_eq!(of(dir.path(), registry, config).unwrap().found, expected, "{registry}");
        }
        let none = of(dir.path(), "r.example", config).unwrap().advice();
        assert!(
            none.contains("no credentials for r.example in ") && none.contains("docker login r.example"),
            "{none}"
        );
        let found = of(dir.path(), "r.example:5000", config).unwrap().advice();
        assert!(found.contains("user u") && !found.contains("p:q"), "{found}");
    }

    #[test]
    fn no_file_is_no_mistake_and_a_broken_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let remote: Remote = "oci://r.example/x:1".parse().unwrap();
        let none = Credentials::in_file(&remote, Some(dir.path().join("config.json"))).unwrap();
        assert_eq!(none.found, None);
        assert!(
            Credentials::in_file(&remote, None)
                .unwrap()
                .advice()
                .contains("DOCKER_CONFIG")
        );
        for (config, words) in [
            ("{\"auths\": ", "line 1 column 10"),
            ("[]", "config.json: invalid type"),
            (r#"{"auths": 1}"#, "config.json: "),
            (
                r#"{"auths": {"r.example": {"auth": "!"}}}"#,
                "what it has for r.example is not right",
            ),
            (r#"{"credsStore": "of-nobody"}"#, "config.json names does not work"),
        ] {
            let why = of(dir.path(), "r.example", config).err().unwrap().to_string();
            assert!(why.contains(words), "{config}: {why}");
        }
    }
}
