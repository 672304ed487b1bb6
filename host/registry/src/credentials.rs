//! Credentials as Docker and podman keep them: in the files that `docker login` and `podman login` write, or with helpers that those name.
//!
//! The files are looked into one after the other, and the first that has something for the registry is believed.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;
use std::{env, fs, thread};

use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::address::Remote;
use super::error::printable;

/// Largest file of credentials, in bytes.
const CONFIG_MAX: u64 = 1 << 20;
/// How long a helper may take; it may have to ask somebody.
const HELPER_TIME: Duration = Duration::from_secs(60);
/// What the registry of Docker is called, beside `docker.io`.
const HUB: [&str; 2] = ["index.docker.io", "registry-1.docker.io"];

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
    /// Where they were found, or all places where they are not.
    files: Vec<PathBuf>,
}

impl Credentials {
    /// Looks for those of a registry.
    pub fn of(remote: &Remote) -> Result<Self, CredentialsError> {
        Self::in_files(remote, files())
    }

    fn in_files(remote: &Remote, files: Vec<PathBuf>) -> Result<Self, CredentialsError> {
        let server = match remote.registry.as_str() {
            // It was called so long before there were others.
            "docker.io" => "https://index.docker.io/v1/",
            registry => registry,
        };
        for file in &files {
            if let Some(found) = look_up(file, server, remote)? {
                return Ok(Self {
                    found: Some(found),
                    server: server.to_owned(),
                    files: vec![file.clone()],
                });
            }
        }
        Ok(Self {
            found: None,
            server: server.to_owned(),
            files,
        })
    }

    /// What to tell whom the registry refuses.
    pub fn advice(&self) -> String {
        let server = &self.server;
        let files: Vec<String> = self.files.iter().map(|file| file.display().to_string()).collect();
        match (&self.found, files.join(", ")) {
            (_, files) if files.is_empty() => {
                "no credentials: neither DOCKER_CONFIG nor HOME says where they are".to_owned()
            }
            (None, files) => format!("no credentials for {server} in {files}: see `docker login {server}`"),
            (Some(DockerCredential::UsernamePassword(user, _)), file) => {
                let user = printable(user);
                format!("the credentials are those of the user {user} for {server} in {file}")
            }
            (Some(DockerCredential::IdentityToken(_)), file) => {
                format!("the credentials are the token for {server} in {file}")
            }
        }
    }
}

/// Where credentials may be, what was said first: Docker's file, then those of podman, buildah and skopeo.
fn files() -> Vec<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = set("HOME");
    let runtime = match set("XDG_RUNTIME_DIR") {
        Some(dir) => Some(dir.join("containers")),
        // For whom nobody has logged in, such as root by sudo.
        None => {
            let user = fs::metadata("/proc/self").map(|process| process.uid().to_string());
            user.ok().map(|user| Path::new("/run/containers").join(user))
        }
    };
    let config = set("XDG_CONFIG_HOME").or_else(|| Some(home.clone()?.join(".config")));
    let docker = set("DOCKER_CONFIG").or_else(|| Some(home?.join(".docker")));
    let all = [
        docker.map(|dir| dir.join("config.json")),
        set("REGISTRY_AUTH_FILE"),
        runtime.map(|dir| dir.join("auth.json")),
        config.map(|dir| dir.join("containers/auth.json")),
    ];
    all.into_iter().flatten().collect()
}

/// What a file has, as far as it has to be known before it is asked.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Keys {
    #[serde(default)]
    auths: Option<BTreeMap<String, IgnoredAny>>,
    #[serde(default)]
    cred_helpers: Option<BTreeMap<String, String>>,
    #[serde(default)]
    creds_store: Option<String>,
}

impl Keys {
    /// What the file keeps things for this repository under, the most special first: podman has credentials for parts of a registry.
    fn fitting(&self, server: &str, remote: &Remote) -> Vec<String> {
        let auths = self.auths.iter().flat_map(BTreeMap::keys);
        let helpers = self.cred_helpers.iter().flat_map(BTreeMap::keys);
        let mut found: Vec<(usize, &String)> = auths
            .chain(helpers)
            .filter_map(|key| Some((special(key, remote)?, key)))
            .collect();
        found.sort_by_key(|(special, key)| (Reverse(*special), *key != server));
        found.dedup();
        let mut keys: Vec<String> = found.into_iter().map(|(_, key)| key.clone()).collect();
        // A store may have it without anything in the file.
        if !keys.iter().any(|key| key == server) {
            keys.push(server.to_owned());
        }
        keys
    }

    /// The helper that has what is kept under a key.
    fn helper(&self, key: &str) -> &str {
        let own = self.cred_helpers.as_ref().and_then(|helpers| helpers.get(key));
        own.or(self.creds_store.as_ref()).map_or("", String::as_str)
    }
}

/// Whether a key is for this repository, and how much of its name it says: nothing, if it is for the whole registry.
fn special(key: &str, remote: &Remote) -> Option<usize> {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let (registry, path) = bare.unwrap_or(key).split_once('/').unwrap_or((bare.unwrap_or(key), ""));
    let same =
        registry.eq_ignore_ascii_case(&remote.registry) || remote.registry == "docker.io" && HUB.contains(&registry);
    if !same {
        return None;
    }
    match path.trim_end_matches('/') {
        "" | "v1" | "v2" => Some(0),
        part => {
            let rest = remote.repository.strip_prefix(part)?;
            (rest.is_empty() || rest.starts_with('/')).then_some(part.len())
        }
    }
}

fn look_up(file: &Path, server: &str, remote: &Remote) -> Result<Option<DockerCredential>, CredentialsError> {
    let mut config = Vec::new();
    let read = fs::File::open(file).and_then(|opened| opened.take(CONFIG_MAX).read_to_end(&mut config));
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(CredentialsError::Io {
                file: file.to_owned(),
                error,
            });
        }
    }
    // The crate that looks into it does not say where the mistake is.
    let keys: Keys = serde_json::from_slice::<serde_json::Map<_, serde_json::Value>>(&config)
        .and_then(|_| serde_json::from_slice(&config))
        .map_err(|error| CredentialsError::Config {
            file: file.to_owned(),
            why: error.to_string(),
        })?;
    for key in keys.fitting(server, remote) {
        if let Some(found) = under(file, &config, &keys, &key)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// What a file or its helper has under a key.
fn under(file: &Path, config: &[u8], keys: &Keys, key: &str) -> Result<Option<DockerCredential>, CredentialsError> {
    let helper = |why: String| CredentialsError::Helper {
        file: file.to_owned(),
        why,
    };
    let (sender, receiver) = mpsc::channel();
    let (config, wanted) = (config.to_owned(), key.to_owned());
    // It waits for a helper as long as that takes. What hangs ends with this process, or at the end of its input.
    thread::spawn(move || sender.send(get_credential_from_reader(config.as_slice(), &wanted)));
    let Ok(found) = receiver.recv_timeout(HELPER_TIME) else {
        return Err(helper(format!("it does not answer within {} s", HELPER_TIME.as_secs())));
    };
    let program = format!("docker-credential-{}", printable(keys.helper(key)));
    match found {
        Ok(found) => Ok(Some(found)),
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(None),
        Err(CredentialRetrievalError::HelperFailure { stdout, stderr, .. }) => {
            let said = format!("{stdout}{stderr}");
            // That is how a helper says that it has none.
            match said.contains("credentials not found") {
                true => Ok(None),
                false => Err(helper(format!("{program} fails: {}", printable(&said)))),
            }
        }
        Err(CredentialRetrievalError::HelperCommunicationError) => Err(helper(format!(
            "{program} cannot be run: install it where PATH leads, or take it out of the file"
        ))),
        Err(CredentialRetrievalError::MalformedHelperResponse) => {
            Err(helper(format!("what {program} answers are no credentials")))
        }
        Err(error) => Err(CredentialsError::Config {
            file: file.to_owned(),
            why: format!("what it has for {key} is not right: {error}"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn of(dir: &Path, registry: &str, config: &str) -> Result<Credentials, CredentialsError> {
        let file = dir.join("config.json");
        fs::write(&file, config).unwrap();
        let remote: Remote = format!("oci://{registry}/tools/x:1").parse().unwrap();
        Credentials::in_files(&remote, vec![file])
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
    fn the_same_registry_is_written_in_several_ways_and_podman_knows_its_parts() {
        let dir = tempfile::tempdir().unwrap();
        let user = |name: &str| Some(DockerCredential::UsernamePassword(name.into(), name.into()));
        // `u:u`, `v:v` and `w:w`.
        let (u, v, w) = (r#"{"auth": "dTp1"}"#, r#"{"auth": "djp2"}"#, r#"{"auth": "dzp3"}"#);
        for (config, expected) in [
            (format!(r#"{{"r.example/": {u}}}"#), user("u")),
            (format!(r#"{{"https://r.example/": {u}}}"#), user("u")),
            (format!(r#"{{"https://r.example/v2/": {u}}}"#), user("u")),
            (format!(r#"{{"http://r.example": {u}}}"#), user("u")),
            (format!(r#"{{"r.example": {u}, "r.example/tools": {v}}}"#), user("v")),
            (
                format!(r#"{{"r.example/tools/x": {w}, "r.example/tools": {v}}}"#),
                user("w"),
            ),
            (format!(r#"{{"r.example": {{}}, "r.example/": {u}}}"#), user("u")),
            // Of somebody else.
            (
                format!(r#"{{"r.example/tool": {u}, "r.example/other": {v}, "r.example:1": {w}}}"#),
                None,
            ),
            (
                format!(r#"{{"r.example.evil/": {u}, "https://r.example@evil/": {v}, "evil/r.example": {w}}}"#),
                None,
            ),
        ] {
            let found = of(dir.path(), "r.example", &format!(r#"{{"auths": {config}}}"#)).unwrap();
            assert_eq!(found.found, expected, "{config}");
        }
        for key in ["docker.io", "index.docker.io", "https://registry-1.docker.io/v2/"] {
            let found = of(dir.path(), "docker.io", &format!(r#"{{"auths": {{"{key}": {u}}}}}"#)).unwrap();
            assert_eq!(found.found, user("u"), "{key}");
        }
    }

    #[test]
    fn the_first_file_that_has_something_is_believed() {
        let dir = tempfile::tempdir().unwrap();
        let files: Vec<PathBuf> = ["a", "b", "c"].iter().map(|name| dir.path().join(name)).collect();
        fs::write(&files[1], r#"{"auths": {"other.example": {"auth": "dTp1"}}}"#).unwrap();
        fs::write(&files[2], r#"{"auths": {"r.example": {"auth": "djp2"}}}"#).unwrap();
        let remote: Remote = "oci://r.example/x:1".parse().unwrap();
        let found = Credentials::in_files(&remote, files.clone()).unwrap();
        assert!(
            found
                .advice()
                .contains(&format!("user v for r.example in {}", files[2].display())),
            "{}",
            found.advice()
        );
        let remote: Remote = "oci://none.example/x:1".parse().unwrap();
        let none = Credentials::in_files(&remote, files.clone()).unwrap().advice();
        assert!(
            files.iter().all(|file| none.contains(&file.display().to_string())),
            "{none}"
        );
    }

    #[test]
    fn no_file_is_no_mistake_and_a_broken_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let remote: Remote = "oci://r.example/x:1".parse().unwrap();
        let none = Credentials::in_files(&remote, vec![dir.path().join("config.json")]).unwrap();
        assert_eq!(none.found, None);
        assert!(
            Credentials::in_files(&remote, vec![])
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
            (
                r#"{"credsStore": "of-nobody"}"#,
                "config.json names does not work: docker-credential-of-nobody cannot be run",
            ),
            (
                r#"{"credHelpers": {"r.example": "none"}}"#,
                "docker-credential-none cannot be run",
            ),
        ] {
            let why = of(dir.path(), "r.example", config).err().unwrap().to_string();
            assert!(why.contains(words), "{config}: {why}");
        }
    }
}
