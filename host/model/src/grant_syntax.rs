//! How the names and places in a grant are written, for all who write some: configurations, the requests of bundles, command lines.
//!
//! Whatever could be read in two ways is refused. This module must not know whether any of what is named exists.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::sanitize::is_harmful;
use crate::{HostPort, HttpOrigin, ZnodePath};

/// Longest name in a grant, in bytes.
pub const NAME_MAX: usize = 255;
/// Longest path, in bytes: the kernel's PATH_MAX without the final NUL.
pub const PATH_MAX: usize = 4095;
/// Longest name of a host, and longest part between dots.
const HOST_MAX: usize = 253;
const LABEL_MAX: usize = 63;
/// How much of a text is shown in a message, in characters.
const SHOWN: usize = 60;

/// A text that is not what a grant takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct GrantSyntaxError {
    /// Why: the end of a sentence that begins with where the text stands.
    pub message: String,
    /// What to write instead, if that is clear.
    pub hint: Option<String>,
}

impl GrantSyntaxError {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }
}

/// A text in quotes, shortened for a message.
pub fn quoted(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        None => in_quotes(text),
        Some((at, _)) => format!("{}…", in_quotes(&text[..at])),
    }
}

/// A text in quotes, in which whoever reads it sees what looks like a space and is none.
fn in_quotes(text: &str) -> String {
    let text = format!("{text:?}");
    let mut quoted = String::with_capacity(text.len());
    for c in text.chars() {
        match (c.is_whitespace() && c != ' ') || is_harmful(c) {
            true => quoted.extend(c.escape_unicode()),
            false => quoted.push(c),
        }
    }
    quoted
}

/// Checks a name by which a component asks for something.
pub fn check_name(name: &str) -> Result<(), GrantSyntaxError> {
    if name.trim().is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control) {
        return Err(GrantSyntaxError::new(format!(
            "has {}, which is not a name: 1 to {NAME_MAX} bytes without control characters",
            quoted(name)
        )));
    }
    Ok(())
}

/// Checks a path as a component sees it: absolute, and in its shortest form.
pub fn check_path(path: &str) -> Result<(), GrantSyntaxError> {
    let names = path.strip_prefix('/');
    let odd = |names: &str| !names.is_empty() && names.split('/').any(|name| matches!(name, "" | "." | ".."));
    let hint = match names {
        Some(names) if !odd(names) && path.len() <= PATH_MAX && !path.contains('\0') => return Ok(()),
        Some(names) if odd(names) => Some("leave out \"//\", \".\", \"..\" and a \"/\" at the end".to_owned()),
        _ => None,
    };
    Err(GrantSyntaxError::new(format!(
        "has {}, which is not an absolute path in its simplest form",
        quoted(path)
    ))
    .hint(hint))
}

/// What a pattern of `znodes` names: a node, and whether everything below it too.
pub fn znode_pattern(pattern: &str) -> Result<(ZnodePath, bool), GrantSyntaxError> {
    let (path, below) = match pattern.strip_suffix("/**") {
        Some("") => ("/", true),
        Some(path) if path != "/" => (path, true),
        _ => (pattern, false),
    };
    // ZooKeeper allows it in names, but here it would rather be meant as a pattern than as a name.
    if path.contains('*') {
        let hint = "\"/path\" is that node alone, \"/path/**\" the node and everything below it".to_owned();
        let message = format!("has {}, and \"*\" is only for a final \"/**\"", quoted(pattern));
        return Err(GrantSyntaxError::new(message).hint(hint));
    }
    if path.len() > PATH_MAX {
        return Err(GrantSyntaxError::new(format!(
            "has a path of more than {PATH_MAX} bytes"
        )));
    }
    let path = ZnodePath::new(path).map_err(|error| GrantSyntaxError::new(format!("has a bad path: {error}")))?;
    Ok((path, below))
}

/// Why a text is no address or origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Scheme,
    BeyondOrigin,
    UserInfo,
    Wildcard,
    Brackets,
    Host,
    NoPort,
    Port,
}

impl Fault {
    fn error(self, text: &str, expected: &str) -> GrantSyntaxError {
        let hint = match self {
            Self::Scheme => "begin with https:// or http://",
            Self::BeyondOrigin => {
                "leave out what follows the host and port, also a \"/\" at the end: a grant is for all of an origin"
            }
            Self::UserInfo => "leave out what is before the \"@\": give the component credentials by its config",
            Self::Wildcard => "\"*\" cannot be granted: name every host",
            Self::Brackets => "write an IPv6 address in brackets: [::1]:443",
            Self::Host => "the host must be a name of letters, digits, \"-\", \"_\" and dots, or an IP address",
            Self::NoPort => "the port is missing",
            Self::Port => "the port must be a number from 1 to 65535",
        };
        GrantSyntaxError::new(format!("has {}, which is not {expected}", quoted(text))).hint(hint.to_owned())
    }
}

/// An address as `net` takes it: `host:port`.
pub fn host_port(text: &str) -> Result<HostPort, GrantSyntaxError> {
    address(text, None).map_err(|fault| fault.error(text, "host:port"))
}

/// An origin as `http` takes it: `https://host` or `https://host:port`.
pub fn http_origin(text: &str) -> Result<HttpOrigin, GrantSyntaxError> {
    origin(text).map_err(|fault| fault.error(text, "an origin, https://host or https://host:port"))
}

fn origin(text: &str) -> Result<HttpOrigin, Fault> {
    let (scheme, rest) = text.split_once("://").ok_or(Fault::Scheme)?;
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "https" => true,
        "http" => false,
        _ => return Err(Fault::Scheme),
    };
    let end = rest.find(['/', '?', '#', '\\']);
    if rest[..end.unwrap_or(rest.len())].contains('@') {
        return Err(Fault::UserInfo);
    }
    if end.is_some() {
        return Err(Fault::BeyondOrigin);
    }
    let at = address(rest, Some(if tls { 443 } else { 80 }))?;
    Ok(HttpOrigin { tls, at })
}

/// A host and a port, which can be left out where there is a default.
fn address(text: &str, default: Option<u16>) -> Result<HostPort, Fault> {
    if text.contains('*') {
        return Err(Fault::Wildcard);
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']').ok_or(Fault::Brackets)?;
            let address: Ipv6Addr = address.parse().map_err(|_| Fault::Host)?;
            let port = match after {
                "" => None,
                _ => Some(after.strip_prefix(':').ok_or(Fault::Port)?),
            };
            (address.to_string(), port)
        }
        None if text.matches(':').count() > 1 => return Err(Fault::Brackets),
        None => match text.split_once(':') {
            Some((host, port)) => (name(host)?, Some(port)),
            None => (name(text)?, None),
        },
    };
    let port = match (port, default) {
        (None, Some(default)) => default,
        (None, None) => return Err(Fault::NoPort),
        (Some(digits), _) => number(digits).ok_or(Fault::Port)?,
    };
    Ok(HostPort { host, port })
}

fn number(digits: &str) -> Option<u16> {
    // The parser would take a sign.
    let digits = digits.bytes().all(|b| b.is_ascii_digit()).then_some(digits)?;
    digits.parse().ok().filter(|port| *port > 0)
}

/// A host's name in lower case, or an IPv4 address.
fn name(text: &str) -> Result<String, Fault> {
    let name = text.to_ascii_lowercase();
    let good = |label: &str| {
        let letters = label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        letters && (1..=LABEL_MAX).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    if name.len() > HOST_MAX || !name.split('.').all(good) {
        return Err(Fault::Host);
    }
    // What ends in a number is an address to resolvers, in old forms such as 127.1, octal or 0x7f000001: only the plain one is taken.
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|b| b.is_ascii_digit())
        || last
            .strip_prefix("0x")
            .is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
    if is_number && name.parse::<Ipv4Addr>().is_err() {
        return Err(Fault::Host);
    }
    Ok(name)
}

/// A size of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemorySize(u64);

impl MemorySize {
    /// The least that a component can be granted, in bytes.
    pub const MIN: u64 = 1 << 20;
    /// The most, in bytes.
    pub const MAX: u64 = 4 << 30;
    /// The units that a size can be given in, the smallest first.
    pub const UNITS: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

    /// A number of bytes that can be granted.
    pub fn of_bytes(bytes: u64) -> Option<Self> {
        (Self::MIN..=Self::MAX).contains(&bytes).then_some(Self(bytes))
    }

    /// A whole number with its unit right after it: `64MiB`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::UNITS.iter().find_map(|(unit, size)| {
            let digits = text.strip_suffix(unit)?;
            // The parser would take a sign.
            let digits = digits.bytes().all(|b| b.is_ascii_digit()).then_some(digits)?;
            let count: u64 = digits.parse().ok()?;
            Self::of_bytes(count.checked_mul(*size)?)
        })
    }

    /// Its number of bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }
}
