//! The machines that native code can be compiled for, beyond the one at hand.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// All machines of one architecture, however old: code for them uses no CPU feature that one of them may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Target {
    /// 64-bit ARM.
    Aarch64Linux,
    /// 64-bit x86.
    X86_64Linux,
}

/// Not the name of a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown target {0:?}; native code can be made for x86_64-linux and aarch64-linux")]
pub struct UnknownTarget(String);

impl Target {
    /// Every target, in the order of their names.
    pub const ALL: [Self; 2] = [Self::Aarch64Linux, Self::X86_64Linux];

    /// The machines like this one; none where no component runs.
    pub const HERE: Option<Self> = match () {
        () if cfg!(target_arch = "x86_64") => Some(Self::X86_64Linux),
        () if cfg!(target_arch = "aarch64") => Some(Self::Aarch64Linux),
        () => None,
    };

    /// Its name in bundles and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aarch64Linux => "aarch64-linux",
            Self::X86_64Linux => "x86_64-linux",
        }
    }

    /// The compiler's name for it. The C library that it speaks of does not matter: components call none.
    pub fn triple(self) -> &'static str {
        match self {
            Self::Aarch64Linux => "aarch64-unknown-linux-gnu",
            Self::X86_64Linux => "x86_64-unknown-linux-gnu",
        }
    }

    /// Whether this process can also load what it compiles for it. The engine compares the names of C libraries.
    pub fn loads_here(self) -> bool {
        Self::HERE == Some(self) && cfg!(target_env = "gnu")
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Target {
    type Err = UnknownTarget;

    fn from_str(text: &str) -> Result<Self, UnknownTarget> {
        let named = Self::ALL.into_iter().find(|target| target.as_str() == text);
        named.ok_or_else(|| UnknownTarget(text.to_owned()))
    }
}
