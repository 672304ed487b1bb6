//! What `net` and `http` of `Wasm(…)` accept: addresses and origins, spelled out one by one.
//!
//! This module must not know whether a name resolves: that is done when it is used.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use super::grants::strings;
use super::types::{FromValue, LIST_MAX, Mismatch};
use crate::value::Value;
use twitcher_model::grant_syntax::{host_port, http_origin};
use twitcher_model::{HostPort, HttpOrigin};

/// `net`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hosts(pub(crate) Vec<HostPort>);

impl FromValue for Hosts {
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let hosts = strings(value)?
            .into_iter()
            .map(|text| host_port(text).map_err(Mismatch::from));
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
pub(crate) struct Origins(pub(crate) Vec<HttpOrigin>);

impl FromValue for Origins {
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let origins = strings(value)?
            .into_iter()
            .map(|text| http_origin(text).map_err(Mismatch::from));
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
