//! What can go wrong between here and a registry, in words that say what to do.

use std::error::Error;
use std::io;

use super::address::Remote;
use super::credentials::CredentialsError;
use super::tag::Mismatch;
use twitcher_bundle::InstallError;
use twitcher_bundle::ManifestError;
use twitcher_bundle::ReadError;
use twitcher_bundle::SignatureError;
use twitcher_bundle::WriteError;
use twitcher_model::Digest;
use twitcher_model::sanitize;

/// Longest text of a registry that is shown, in characters.
const SAID_MAX: usize = 300;

/// A push or pull that failed.
#[derive(Debug, thiserror::Error)]
#[error("{remote}: {problem}")]
pub struct OciError {
    /// The repository and version that were asked for.
    pub remote: Remote,
    /// What went wrong.
    pub problem: Box<RegistryProblem>,
}

/// What can go wrong between here and a registry.
#[derive(Debug, thiserror::Error)]
pub enum RegistryProblem {
    /// No connection, or one that broke.
    #[error("cannot reach the registry: {why}{hint}")]
    Unreachable {
        /// What is wrong, in words.
        why: String,
        /// What to do.
        hint: &'static str,
    },
    /// The registry wants credentials, or others.
    #[error("the registry refuses: {said}; {credentials}")]
    Denied {
        /// Its status and words.
        said: String,
        /// Which credentials were used, and where they were looked for.
        credentials: String,
    },
    /// It leads to somebody who refuses.
    #[error(
        "the registry leads to {origin}, which answers {said}; a password or token for the registry is not for there, so none was sent"
    )]
    Elsewhere {
        /// Where it leads.
        origin: String,
        /// Status and words from there.
        said: String,
    },
    /// It leads to where nobody follows.
    #[error("the registry leads to {to}, and is not followed: {why}")]
    Led {
        /// Where it leads.
        to: String,
        /// The reason, in words.
        why: &'static str,
    },
    /// It has no time.
    #[error("the registry is busy: it answers {said}, and {why}")]
    Busy {
        /// Its status and words.
        said: String,
        /// Why nobody waits any more, in words.
        why: String,
    },
    /// Credentials cannot be had.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// There is no such thing.
    #[error("the registry has no {0}")]
    NotFound(String),
    /// The registry does not do what it was asked.
    #[error("the registry answers {said} when asked for {what}")]
    Status {
        /// For what.
        what: String,
        /// Its status and words.
        said: String,
    },
    /// The answer is no HTTP that makes sense.
    #[error("the registry's answer for {what} is not right: {why}")]
    Malformed {
        /// To what.
        what: String,
        /// What is wrong, in words.
        why: String,
    },
    /// There is more than there should be.
    #[error("{what} is larger than {most} bytes")]
    TooLarge {
        /// What was asked of the registry.
        what: String,
        /// What is allowed, or was announced.
        most: u64,
    },
    /// It ends too early.
    #[error("{what} is cut off: {missing} bytes are missing")]
    CutOff {
        /// What was asked of the registry.
        what: String,
        /// How much.
        missing: u64,
    },
    /// It is something else.
    #[error(
        "the registry sends another {what} than the one asked for: its SHA-256 is {found}, and should be {expected}"
    )]
    Digest {
        /// What was asked of the registry.
        what: String,
        /// The SHA-256 of what came.
        found: Digest,
        /// The SHA-256 that was asked for.
        expected: Digest,
    },
    /// What is there is no component.
    #[error("it is not a component: {0}")]
    NotComponent(String),
    /// A component that nobody made a bundle of.
    #[error(
        "it is a component, not a bundle: pull it with --component, then make a bundle of it with `twitcher bundle build`, or name the \
         file in Wasm(...)"
    )]
    Plain,
    /// The component is there, and the rest is not.
    #[error(
        "the component is there, and what makes it a bundle is not: nothing of type {artifact} refers to it{said}. Was it copied without \
         its referrers? Push the bundle again"
    )]
    Incomplete {
        /// What was looked for.
        artifact: &'static str,
        /// What the registry says when it is asked for it, with its own punctuation.
        said: String,
    },
    /// What refers to the component does not fit it.
    #[error("the bundle is not consistent: {0}")]
    Inconsistent(String),
    /// Its manifest is refused.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Its signature is no signature.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The bundle's file cannot be opened.
    #[error(transparent)]
    Open(#[from] InstallError),
    /// The bundle, here, is refused.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The bundle cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A file here cannot be used.
    #[error("cannot read or write files here: {0}")]
    Io(#[from] io::Error),
    /// A document cannot be made.
    #[error("cannot describe the bundle: {0}")]
    Describe(serde_json::Error),
    /// It is another one than the one that was asked for.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// A digest names what is there, and nothing can be put there.
    #[error("a push needs a tag: oci://{0}:TAG")]
    NoTag(String),
}

impl RegistryProblem {
    /// A failure in dealing with this.
    pub fn at(self, remote: &Remote) -> OciError {
        OciError {
            remote: remote.clone(),
            problem: Box::new(self),
        }
    }

    /// A request that got no answer. The address is left out: it can have secrets in it.
    pub(super) fn unreachable(error: &reqwest::Error) -> Self {
        let timeout = error.is_timeout();
        let mut parts: Vec<String> = Vec::new();
        let mut refused = false;
        let mut next = error.source();
        while let Some(source) = next {
            let io = source.downcast_ref::<io::Error>();
            refused |= io.is_some_and(|io| io.kind() == io::ErrorKind::ConnectionRefused);
            let text = printable(&source.to_string());
            // Each layer tends to repeat what is below it, and one says nothing at all.
            if !text.starts_with("client error") && !parts.last().is_some_and(|last| last.contains(&text)) {
                parts.push(text);
            }
            next = source.source();
        }
        let why = match (timeout, parts.is_empty()) {
            (true, _) => "it does not answer in time".to_owned(),
            (false, true) => printable(&error.to_string()),
            (false, false) => parts.join(": "),
        };
        let hint = match () {
            () if refused => "; is a registry running there?",
            () if why.contains("InvalidContentType") || why.contains("WrongVersion") => {
                "; it does not seem to speak TLS: use --plain-http if that is meant to be"
            }
            () if why.contains("certificate") => {
                "; if its authority is your own, add it to those of the system, or name its file in SSL_CERT_FILE"
            }
            () => "",
        };
        Self::Unreachable { why, hint }
    }
}

/// What someone else said, fit to be shown on one line of a terminal.
pub(super) fn printable(text: &str) -> String {
    let text = sanitize::line(text);
    let mut shown: String = text.chars().take(SAID_MAX).collect();
    if text.chars().nth(SAID_MAX).is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_cannot_move_the_cursor() {
        assert_eq!(printable(" a\u{1b}[2Jb\nc\u{9b} "), "a\\u{1b}[2Jb c\\u{9b}");
        let long = printable(&"x".repeat(1000));
        assert_eq!(long, format!("{}...", "x".repeat(SAID_MAX)));
    }
}
