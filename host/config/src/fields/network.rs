//! What `net` and `http` of `Wasm(…)` accept: addresses and origins, spelled out one by one.
//!
//! This module must not know whether a name resolves: that is done when it is used.

use serde_json::Value as Json;

use super::collections::List;
use super::declaration::FieldType;
use super::forms::Text;
use super::mismatch::Refusal;
use super::types::LIST_MAX;
use twitcher_model::grant_syntax::{host_port, http_origin};
use twitcher_model::{HostPort, HttpOrigin};

/// `net`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hosts(pub(crate) Vec<HostPort>);

impl FieldType for Hosts {
    type Form = List<Text<HostPort>>;
    const FORM: Self::Form = List {
        items: Text::new(|text| Ok(host_port(text)?)).pattern("^(\\[[0-9A-Fa-f:.]+\\]|[0-9A-Za-z._-]+):[0-9]{1,5}$"),
        least: 0,
        most: LIST_MAX,
    };

    fn of(hosts: Vec<HostPort>) -> Result<Self, Refusal> {
        Ok(Self(hosts))
    }

    fn written(&self) -> Json {
        self.0.iter().map(HostPort::to_string).collect()
    }
}

/// `http`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origins(pub(crate) Vec<HttpOrigin>);

impl FieldType for Origins {
    type Form = List<Text<HttpOrigin>>;
    const FORM: Self::Form = List {
        items: Text::new(|text| Ok(http_origin(text)?))
            .pattern("^https?://(\\[[0-9A-Fa-f:.]+\\]|[0-9A-Za-z._-]+)(:[0-9]{1,5})?$"),
        least: 0,
        most: LIST_MAX,
    };

    fn of(origins: Vec<HttpOrigin>) -> Result<Self, Refusal> {
        Ok(Self(origins))
    }

    fn written(&self) -> Json {
        self.0.iter().map(HttpOrigin::to_string).collect()
    }
}
