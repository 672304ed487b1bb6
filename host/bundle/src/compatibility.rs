//! What this host runs: whether native code of a bundle fits, and if not, why.

use std::fmt;

use super::manifest::NativeFacts;

/// What native code depends on, besides the component: what it was made with, or what this host has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineFacts {
    /// The machine.
    pub target: String,
    /// Name of the engine's settings.
    pub profile: String,
    /// Full version of wasmtime.
    pub wasmtime: String,
    /// Fingerprint of the engine's settings.
    pub settings: String,
}

/// Why native code is not used. The component is compiled instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Miss {
    /// Nobody who may sign native code has.
    NotTrusted(&'static str),
    /// There is none for this machine.
    Target {
        /// This machine.
        ours: String,
        /// What there is code for.
        found: Vec<String>,
    },
    /// It was compiled with another version of wasmtime, or with other settings.
    Engine {
        /// What is compared.
        what: &'static str,
        /// What this host has.
        ours: String,
        /// What the code was made with.
        found: String,
    },
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotTrusted(why) => f.write_str(why),
            Self::Target { ours, found } if found.is_empty() => write!(f, "it has no native code, and this is {ours}"),
            Self::Target { ours, found } => {
                write!(f, "it has native code for {}, and this is {ours}", found.join(", "))
            }
            Self::Engine { what, ours, found } => {
                write!(
                    f,
                    "its native code was compiled with {what} {found}, and here it is {ours}"
                )
            }
        }
    }
}

impl EngineFacts {
    /// The native code that runs here, by what the manifest says of it.
    pub fn choose<'a>(&self, natives: &'a [NativeFacts]) -> Result<&'a NativeFacts, Miss> {
        let mut misses = Vec::new();
        for native in natives.iter().filter(|native| native.target == self.target) {
            match self.fits(native) {
                Ok(()) => return Ok(native),
                Err(miss) => misses.push(miss),
            }
        }
        // The last one is of the newest version of wasmtime.
        Err(misses.pop().unwrap_or_else(|| Miss::Target {
            ours: self.target.clone(),
            found: natives.iter().map(|native| native.target.clone()).collect(),
        }))
    }

    fn fits(&self, native: &NativeFacts) -> Result<(), Miss> {
        for (what, ours, found) in [
            ("the settings", &self.profile, &native.profile),
            ("wasmtime", &self.wasmtime, &native.wasmtime),
            ("settings of fingerprint", &self.settings, &native.settings),
        ] {
            if ours != found {
                return Err(Miss::Engine {
                    what,
                    ours: ours.clone(),
                    found: found.clone(),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::FileFacts;

    fn native(edit: impl FnOnce(&mut NativeFacts)) -> NativeFacts {
        let host = crate::testing::engine();
        let FileFacts { size, sha256 } = FileFacts::of(b"code");
        let mut native = NativeFacts {
            target: host.target,
            profile: host.profile,
            wasmtime: host.wasmtime,
            settings: host.settings,
            size,
            sha256,
        };
        edit(&mut native);
        native
    }

    fn miss(edit: impl FnOnce(&mut NativeFacts)) -> String {
        let host = crate::testing::engine();
        host.choose(&[native(edit)]).unwrap_err().to_string()
    }

    #[test]
    fn only_code_that_fits_in_everything_is_used() {
        let host = crate::testing::engine();
        let good = native(|_| {});
        assert_eq!(host.choose(std::slice::from_ref(&good)), Ok(&good));
        let older = native(|native| native.wasmtime = "47.0.0".to_owned());
        assert_eq!(host.choose(&[older, good.clone()]), Ok(&good));
        for (said, words) in [
            (
                miss(|native| native.target = "s390x-linux".to_owned()),
                "native code for s390x-linux",
            ),
            (miss(|native| native.wasmtime = "48.0.9".to_owned()), "wasmtime 48.0.9"),
            (miss(|native| native.profile = "pooling".to_owned()), "settings pooling"),
            (
                miss(|native| native.settings = "0".repeat(16)),
                "fingerprint 0000000000000000",
            ),
            (host.choose(&[]).unwrap_err().to_string(), "no native code"),
        ] {
            assert!(said.contains(words), "{said}");
        }
    }
}
