//! What watches and runs are called by, inside the daemon and by those who ask it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Identifies a watch for as long as the daemon lives. Stable over reloads: a watch keeps its id while its name stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchId(pub u32);

/// Identifies one run of an action, also across restarts of the daemon: milliseconds since 1970 at the daemon's start in the
/// upper 44 bits, a counter in the lower 20. Shown as 13 characters of Crockford's base 32, which sort by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RunId(pub u64);

impl RunId {
    const ALPHABET: &'static [u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    const LEN: usize = 13;
}

/// A text is no id of a run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no id of a run: that is 13 characters, such as 0mz5d1e0g0000")]
pub struct RunIdError {
    text: String,
}

impl std::str::FromStr for RunId {
    type Err = RunIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || RunIdError {
            text: text.chars().take(40).collect(),
        };
        if text.len() != Self::LEN {
            return Err(error());
        }
        text.bytes()
            .try_fold(0_u64, |id, byte| {
                let digit = Self::ALPHABET.iter().position(|letter| *letter == byte)?;
                // The first character has room for more than an id.
                id.checked_mul(32)?.checked_add(digit as u64)
            })
            .map(RunId)
            .ok_or_else(error)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; Self::LEN];
        let mut rest = self.0;
        for byte in text.iter_mut().rev() {
            *byte = Self::ALPHABET[(rest & 31) as usize];
            rest >>= 5;
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_sort_by_age_as_text() {
        let (a, b) = (RunId(5 << 20), RunId(5 << 20 | 77));
        assert!(a.to_string() < b.to_string());
        assert_eq!(a.to_string().len(), 13);
    }

    #[test]
    fn run_ids_are_read_as_they_are_written() {
        for id in [0, 1, 5 << 20 | 77, u64::MAX] {
            assert_eq!(RunId(id).to_string().parse(), Ok(RunId(id)));
        }
        for odd in [
            "",
            "0",
            "gzzzzzzzzzzzz",
            "000000000000u",
            "00000000000000",
            "00000000000é",
            "FZZZZZZZZZZZZ",
        ] {
            assert!(odd.parse::<RunId>().is_err(), "{odd}");
        }
    }
}
