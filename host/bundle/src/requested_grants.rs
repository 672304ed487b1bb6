//! What a plugin asks for, and what becomes of it beside what the operator grants.
//!
//! A request names what the plugin knows things by; what they are on a host, the operator says. Where the plugin leaves the names
//! themselves to the operator it asks for `*`. Nothing is granted by a request: what a run may do is what is both requested and
//! granted. This module must not know how either is written or enforced.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use twitcher_model::grant_syntax::{GrantSyntaxError, check_name, check_path, host_port, http_origin, znode_pattern};
use twitcher_model::{DirGrant, Grants, SecretPlace, ZnodeGrant, ZnodePath};

/// Whatever the operator names.
pub const ANY: &str = "*";
/// Most entries of one kind.
const ENTRIES_MAX: usize = 256;

/// What a plugin needs to be granted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Requests {
    /// Whether it takes arguments.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub args: bool,
    /// Commands, by the names that it knows them by.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub commands: BTreeSet<String>,
    /// Directories, by the paths at which it finds them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub dirs: BTreeMap<String, DirAccess>,
    /// Variables of its environment.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub env: BTreeSet<String>,
    /// Origins that it sends HTTP requests to.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub http: BTreeSet<String>,
    /// Memory that it needs, in bytes, where the default does not do. How much it gets is for the operator alone to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Addresses that it connects to, as `host:port`.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub net: BTreeSet<String>,
    /// Znodes, as `/path` or `/path/**`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub znodes: BTreeMap<String, ZnodeAccess>,
}

/// What is done with a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DirAccess {
    /// It is read.
    Ro,
    /// It is also written.
    Rw,
}

/// What is done with a znode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ZnodeAccess {
    /// It is read.
    R,
    /// It is also set or created.
    Rw,
}

/// What was requested beside what was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// What is both: what a run may do. The configuration is passed on as it is: it reaches nothing.
    pub effective: Grants,
    /// What was requested and not granted, each in words: the plugin may fail for it.
    pub not_granted: Vec<String>,
    /// What was granted and not requested, each in words: the plugin does not get it.
    pub not_requested: Vec<String>,
}

impl Requests {
    /// Whether nothing is requested.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Checks every name by the rules of grants; an error ends a sentence.
    pub fn check(&self) -> Result<(), String> {
        let lengths = [
            self.commands.len(),
            self.dirs.len(),
            self.env.len(),
            self.http.len(),
            self.net.len(),
            self.znodes.len(),
        ];
        if lengths.iter().any(|length| *length > ENTRIES_MAX) {
            return Err(format!("have more than {ENTRIES_MAX} entries of one kind"));
        }
        let named = |kind: &'static str| move |why: GrantSyntaxError| format!("for {kind} {why}");
        let spelled_out = |text: &&String| *text != ANY;
        for name in self.commands.iter().chain(&self.env) {
            check_name(name).map_err(named("commands or env"))?;
        }
        for path in self.dirs.keys().filter(spelled_out) {
            check_path(path).map_err(named("dirs"))?;
        }
        for origin in self.http.iter().filter(spelled_out) {
            http_origin(origin).map_err(named("http"))?;
        }
        for address in self.net.iter().filter(spelled_out) {
            host_port(address).map_err(named("net"))?;
        }
        for pattern in self.znodes.keys().filter(spelled_out) {
            znode_pattern(pattern).map_err(named("znodes"))?;
        }
        Ok(())
    }
}

/// Compares what a plugin requests with what it is granted.
pub fn compare(requested: &Requests, granted: &Grants) -> Comparison {
    let mut comparison = Comparison {
        effective: Grants {
            config: granted.config.clone(),
            secrets: granted.secrets_in(SecretPlace::Config).cloned().collect(),
            memory: granted.memory,
            warm: granted.warm,
            ..Grants::default()
        },
        not_granted: Vec::new(),
        not_requested: Vec::new(),
    };
    comparison.args(requested.args, &granted.args);
    comparison.dirs(&requested.dirs, &granted.dirs);
    comparison.znodes(&requested.znodes, &granted.znodes);
    let plain = granted.env.iter().map(|(name, text)| (name.clone(), Ok(text.clone())));
    let secrets = granted.secrets_in(SecretPlace::Env);
    let secrets = secrets.map(|secret| (secret.name.clone(), Err(secret.clone())));
    let env: Vec<_> = plain.chain(secrets).collect();
    for (name, value) in comparison.names("env", &requested.env, &env, |(name, _)| name.clone()) {
        match value {
            Ok(text) => comparison.effective.env.push((name, text)),
            Err(secret) => comparison.effective.secrets.push(secret),
        }
    }
    comparison.effective.commands = comparison.names("commands", &requested.commands, &granted.commands, |command| {
        command.name.clone()
    });
    // Both sides in the one form that grants are shown in: https://host:443 is https://host.
    let shown = |texts: &BTreeSet<String>, show: fn(&str) -> Option<String>| -> BTreeSet<String> {
        texts
            .iter()
            .map(|text| show(text).unwrap_or_else(|| text.clone()))
            .collect()
    };
    let origins = shown(&requested.http, |text| {
        http_origin(text).ok().map(|origin| origin.to_string())
    });
    comparison.effective.http = comparison.names("http", &origins, &granted.http, ToString::to_string);
    let hosts = shown(&requested.net, |text| host_port(text).ok().map(|host| host.to_string()));
    comparison.effective.net = comparison.names("net", &hosts, &granted.net, ToString::to_string);
    if let Some(memory) = requested.memory.filter(|memory| *memory > granted.memory) {
        let text = format!("memory of {memory} bytes (it gets {})", granted.memory);
        comparison.not_granted.push(text);
    }
    comparison
}

impl Comparison {
    fn args(&mut self, requested: bool, granted: &[String]) {
        match requested {
            true => self.effective.args = granted.to_vec(),
            false if !granted.is_empty() => self.not_requested.push("args".to_owned()),
            false => {}
        }
    }

    /// What is known by its name alone. Notes the differences, and returns what is both.
    fn names<T: Clone>(
        &mut self,
        kind: &str,
        requested: &BTreeSet<String>,
        granted: &[T],
        name: impl Fn(&T) -> String,
    ) -> Vec<T> {
        let any = requested.contains(ANY);
        let names: BTreeSet<String> = granted.iter().map(&name).collect();
        for missing in requested.difference(&names) {
            match missing == ANY {
                true if granted.is_empty() => self.not_granted.push(format!("{kind}, any")),
                true => {}
                false => self.not_granted.push(format!("{kind} {missing:?}")),
            }
        }
        if !any {
            let unasked = names.difference(requested).map(|name| format!("{kind} {name:?}"));
            self.not_requested.extend(unasked);
        }
        let both = |grant: &&T| any || requested.contains(&name(grant));
        granted.iter().filter(both).cloned().collect()
    }

    fn dirs(&mut self, requested: &BTreeMap<String, DirAccess>, granted: &[DirGrant]) {
        for grant in granted {
            let asked = requested.get(&grant.guest).max(requested.get(ANY));
            let Some(asked) = asked else {
                self.not_requested.push(format!("dirs {:?}", grant.guest));
                continue;
            };
            let writes = *asked == DirAccess::Rw;
            match (writes, grant.writable) {
                (false, true) => self.not_requested.push(format!("dirs {:?} to write", grant.guest)),
                // Of any directory, some may well be meant to be read only.
                (true, false) if requested.get(&grant.guest) == Some(&DirAccess::Rw) => {
                    self.not_granted.push(format!("dirs {:?} to write", grant.guest));
                }
                _ => {}
            }
            self.effective.dirs.push(DirGrant {
                writable: writes && grant.writable,
                ..grant.clone()
            });
        }
        for guest in requested.keys() {
            match guest == ANY {
                true if granted.is_empty() => self.not_granted.push("dirs, any".to_owned()),
                true => {}
                false if !granted.iter().any(|grant| grant.guest == *guest) => {
                    self.not_granted.push(format!("dirs {guest:?}"));
                }
                false => {}
            }
        }
    }

    fn znodes(&mut self, requested: &BTreeMap<String, ZnodeAccess>, granted: &[ZnodeGrant]) {
        let asked: Vec<ZnodeGrant> = requested
            .iter()
            .filter_map(|(pattern, access)| {
                let (path, below) = match pattern == ANY {
                    true => (ZnodePath::root(), true),
                    false => znode_pattern(pattern).ok()?,
                };
                let writable = *access == ZnodeAccess::Rw;
                Some(ZnodeGrant { path, below, writable })
            })
            .collect();
        for grant in granted {
            for ask in &asked {
                if let Some(common) = common(grant, ask).filter(|common| !self.effective.znodes.contains(common)) {
                    self.effective.znodes.push(common);
                }
            }
            if !asked.iter().any(|ask| includes(ask, grant)) {
                self.not_requested.push(format!("znodes {grant}"));
            }
        }
        for ask in &asked {
            let any = ask.below && ask.path == ZnodePath::root() && requested.contains_key(ANY);
            match any {
                true if granted.is_empty() => self.not_granted.push("znodes, any".to_owned()),
                true => {}
                false if !granted.iter().any(|grant| includes(grant, ask)) => {
                    self.not_granted.push(format!("znodes {ask}"));
                }
                false => {}
            }
        }
    }
}

/// Whether everything that one allows, the other allows too.
fn includes(one: &ZnodeGrant, other: &ZnodeGrant) -> bool {
    (one.writable || !other.writable) && (one.below || !other.below) && one.covers(&other.path)
}

/// What both allow.
fn common(one: &ZnodeGrant, other: &ZnodeGrant) -> Option<ZnodeGrant> {
    let writable = one.writable && other.writable;
    let narrower = match (one.covers(&other.path), other.covers(&one.path)) {
        // The same path, or a part of one that is the other.
        (true, true) => (&one.path, one.below && other.below),
        (true, false) => (&other.path, other.below),
        (false, true) => (&one.path, one.below),
        (false, false) => return None,
    };
    let (path, below) = narrower;
    Some(ZnodeGrant {
        path: path.clone(),
        below,
        writable,
    })
}

#[cfg(test)]
mod tests;
