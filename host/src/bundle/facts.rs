//! What this host runs: whether native code of a bundle fits, and if not, why.

use std::fmt;

use super::manifest::NativeFacts;
use crate::sandbox::{self, Target};

/// What native code has to fit to run here.
#[derive(Debug, Clone)]
pub struct HostFacts {
    /// The machine.
    pub target: String,
    /// Name of the engine's settings.
    pub profile: String,
    /// Full version of wasmtime.
    pub wasmtime: String,
    /// Fingerprint of the engine's settings.
    pub settings: String,
    /// Whether the CPU has a feature, by Cranelift's name for it. A feature that is not known, it has not.
    pub has_feature: fn(&str) -> bool,
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
    /// The CPU lacks what the code uses.
    CpuFeature(String),
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
            Self::CpuFeature(feature) => {
                write!(f, "its native code needs a CPU with {feature}, which this one has not")
            }
        }
    }
}

impl HostFacts {
    /// What this host is. An error is in words: then no component runs here.
    pub fn detect() -> Result<Self, String> {
        let target = Target::HERE.ok_or("WebAssembly does not run on this machine")?;
        let settings = sandbox::settings(target).map_err(|error| format!("cannot start WebAssembly: {error:#}"))?;
        Ok(Self {
            target: target.to_string(),
            profile: sandbox::PROFILE.to_owned(),
            wasmtime: sandbox::WASMTIME.to_owned(),
            settings,
            has_feature,
        })
    }

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
        let lacking = native.cpu_features.iter().find(|feature| !(self.has_feature)(feature));
        lacking.map_or(Ok(()), |feature| Err(Miss::CpuFeature(feature.clone())))
    }
}

/// The features that code for a target can use beyond what all its machines have.
#[cfg(target_arch = "x86_64")]
fn has_feature(name: &str) -> bool {
    macro_rules! any {
        ($($cranelift:literal $rust:tt),* $(,)?) => {
            match name { $($cranelift => std::arch::is_x86_feature_detected!($rust),)* _ => false }
        };
    }
    any!(
        "has_avx" "avx", "has_avx2" "avx2", "has_avx512bitalg" "avx512bitalg", "has_avx512dq" "avx512dq", "has_avx512f" "avx512f",
        "has_avx512vbmi" "avx512vbmi", "has_avx512vl" "avx512vl", "has_avx512vnni" "avx512vnni", "has_avx_vnni" "avxvnni",
        "has_bmi1" "bmi1", "has_bmi2" "bmi2", "has_cmpxchg16b" "cmpxchg16b", "has_fma" "fma", "has_lzcnt" "lzcnt",
        "has_popcnt" "popcnt", "has_sse3" "sse3", "has_sse41" "sse4.1", "has_sse42" "sse4.2", "has_ssse3" "ssse3",
    )
}

#[cfg(target_arch = "aarch64")]
fn has_feature(name: &str) -> bool {
    match name {
        "has_dotprod" => std::arch::is_aarch64_feature_detected!("dotprod"),
        "has_fp16" => std::arch::is_aarch64_feature_detected!("fp16"),
        "has_i8mm" => std::arch::is_aarch64_feature_detected!("i8mm"),
        "has_lse" => std::arch::is_aarch64_feature_detected!("lse"),
        "has_pauth" => std::arch::is_aarch64_feature_detected!("paca"),
        _ => false,
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_feature(_: &str) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::manifest::FileFacts;

    fn native(edit: impl FnOnce(&mut NativeFacts)) -> NativeFacts {
        let host = HostFacts::detect().unwrap();
        let FileFacts { size, sha256 } = FileFacts::of(b"code");
        let mut native = NativeFacts {
            target: host.target,
            profile: host.profile,
            wasmtime: host.wasmtime,
            settings: host.settings,
            cpu_features: vec![],
            size,
            sha256,
        };
        edit(&mut native);
        native
    }

    fn miss(edit: impl FnOnce(&mut NativeFacts)) -> String {
        let host = HostFacts::detect().unwrap();
        host.choose(&[native(edit)]).unwrap_err().to_string()
    }

    #[test]
    fn only_code_that_fits_in_everything_is_used() {
        let host = HostFacts::detect().unwrap();
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
            (
                miss(|native| native.cpu_features = vec!["has_teleport".to_owned()]),
                "has_teleport",
            ),
            (host.choose(&[]).unwrap_err().to_string(), "no native code"),
        ] {
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn features_of_the_cpu_are_looked_up() {
        let mut host = HostFacts::detect().unwrap();
        let code = native(|native| native.cpu_features = vec!["has_a".to_owned(), "has_b".to_owned()]);
        host.has_feature = |name| name == "has_a" || name == "has_b";
        assert_eq!(host.choose(std::slice::from_ref(&code)), Ok(&code));
        host.has_feature = |name| name == "has_a";
        assert_eq!(host.choose(&[code]), Err(Miss::CpuFeature("has_b".to_owned())));
    }
}
