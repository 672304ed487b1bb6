//! A blob as it comes: bounded by the size that was announced, and the right one only if its digest is.
//!
//! This module must not know how it is asked for.

use std::io::{self, Read};

use reqwest::blocking::Response;
use sha2::{Digest as _, Sha256};

use super::error::{RegistryProblem, printable};
use super::progress::Progress;
use twitcher_bundle::FileFacts;
use twitcher_model::Digest;

/// The connection broke while something was read.
pub(super) fn broken(error: &io::Error) -> RegistryProblem {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<reqwest::Error>());
    inner.map_or_else(
        || RegistryProblem::Unreachable {
            why: printable(&error.to_string()),
            hint: "",
        },
        RegistryProblem::unreachable,
    )
}

/// A blob that is being read.
pub(super) struct Blob {
    response: Response,
    what: String,
    size: u64,
    left: u64,
    expected: Digest,
    hasher: Sha256,
    progress: Progress,
    /// Why reading failed, where an I/O error would say less.
    problem: Option<RegistryProblem>,
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let length = self.response.read(&mut buffer[..most]).inspect_err(|error| {
            self.problem = Some(broken(error));
        })?;
        self.hasher.update(&buffer[..length]);
        self.progress.add(length);
        self.left -= length as u64;
        Ok(length)
    }
}

impl Blob {
    /// What a response has as its body; of that size and digest, if it is the right one.
    pub fn new(response: Response, facts: FileFacts, what: &str) -> Self {
        Self {
            response,
            what: what.to_owned(),
            size: facts.size,
            left: facts.size,
            expected: facts.sha256,
            hasher: Sha256::new(),
            progress: Progress::new(what, facts.size),
            problem: None,
        }
    }

    /// Whether it was read to its end, and is the one that was asked for.
    pub fn finish(mut self) -> Result<(), RegistryProblem> {
        if let Some(problem) = self.problem {
            return Err(problem);
        }
        let what = self.what;
        if self.left > 0 {
            return Err(RegistryProblem::CutOff {
                what,
                missing: self.left,
            });
        }
        if self.response.read(&mut [0]).map_err(|error| broken(&error))? > 0 {
            return Err(RegistryProblem::TooLarge { what, most: self.size });
        }
        let found = Digest(self.hasher.finalize().into());
        match found == self.expected {
            true => Ok(()),
            false => Err(RegistryProblem::Digest {
                what,
                found,
                expected: self.expected,
            }),
        }
    }
}
