//! What `net` and `http` of `Wasm(…)` accept: addresses and origins, spelled out one by one.
//!
//! This module must not know whether a name resolves: that is done when it is used.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use super::field_types::{FromValue, LIST_MAX, Mismatch};
use super::grant_types::strings;
use super::value::{Value, quoted};
use crate::model::{HostPort, HttpOrigin};

/// Longest name of a host, and longest part between dots.
const NAME_MAX: usize = 253;
const LABEL_MAX: usize = 63;

/// `net`.
#[derive(Debug, Clone, Default)]
pub(super) struct Hosts(pub(super) Vec<HostPort>);

impl FromValue for Hosts {
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let hosts = strings(value)?
            .into_iter()
            .map(|text| address(text, None).map_err(|fault| fault.mismatch(text, "host:port")));
        hosts.collect::<Result<_, _>>().map(Self)
    }
}

impl Serialize for Hosts {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(HostPort::to_string))
    }
}

impl JsonSchema for Hosts {
    fn schema_name() -> Cow<'static, str> {
        "Hosts".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let host = json_schema!({"type": "string", "pattern": "^(\\[[0-9A-Fa-f:.]+\\]|[0-9A-Za-z._-]+):[0-9]{1,5}$"});
        json_schema!({"type": "array", "maxItems": LIST_MAX, "items": host})
    }
}

/// `http`.
#[derive(Debug, Clone, Default)]
pub(super) struct Origins(pub(super) Vec<HttpOrigin>);

impl FromValue for Origins {
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let origins = strings(value)?.into_iter().map(|text| {
            origin(text).map_err(|fault| fault.mismatch(text, "an origin, https://host or https://host:port"))
        });
        origins.collect::<Result<_, _>>().map(Self)
    }
}

impl Serialize for Origins {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(HttpOrigin::to_string))
    }
}

impl JsonSchema for Origins {
    fn schema_name() -> Cow<'static, str> {
        "Origins".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let pattern = "^https?://(\\[[0-9A-Fa-f:.]+\\]|[0-9A-Za-z._-]+)(:[0-9]{1,5})?$";
        json_schema!({"type": "array", "maxItems": LIST_MAX, "items": {"type": "string", "pattern": pattern}})
    }
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
    fn mismatch(self, text: &str, expected: &str) -> Mismatch {
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
        Mismatch::new(format!("has {}, which is not {expected}", quoted(text))).hint(hint.to_owned())
    }
}

/// An address as `net` takes it; an error ends a sentence.
pub(crate) fn host_port(text: &str) -> Result<HostPort, String> {
    address(text, None).map_err(|fault| fault.mismatch(text, "host:port").message)
}

/// An origin as `http` takes it; an error ends a sentence.
pub(crate) fn http_origin(text: &str) -> Result<HttpOrigin, String> {
    let expected = "an origin, https://host or https://host:port";
    origin(text).map_err(|fault| fault.mismatch(text, expected).message)
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
    if name.len() > NAME_MAX || !name.split('.').all(good) {
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
