//! The published JSON Schema of `.json` configuration files.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;

use super::fields::Fields;
use super::fields::group::GroupFields;

/// Watches for Twitcher, as data: either a list of them, or an object that names this schema beside the list.
#[derive(JsonSchema)]
#[schemars(rename = "TwitcherConfiguration", untagged)]
#[allow(
    dead_code,
    reason = "only its schema is used; config::json reads the same two forms with locations"
)]
enum Document {
    List(Vec<Registered>),
    Object(Object),
}

/// A list of watches with the schema's address.
#[derive(JsonSchema)]
#[schemars(rename = "Document", deny_unknown_fields)]
#[allow(dead_code, reason = "see Document")]
struct Object {
    /// Address of this schema, for editors.
    #[schemars(rename = "$schema")]
    schema: Option<String>,
    /// The watches, and the limits of groups.
    watches: Vec<Registered>,
}

/// A watch, or a group with its limit.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[allow(dead_code, clippy::large_enum_variant, reason = "see Document")]
enum Registered {
    Watch(Fields),
    Group(GroupFields),
}

/// The JSON Schema (draft 2020-12) of a `.json` configuration file.
pub fn schema() -> serde_json::Value {
    SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<Document>()
        .to_value()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::fields::NAMES;
    use crate::fields::component::{self, ComponentFields};
    use crate::fields::hardening;
    use crate::value::Value;

    fn watch() -> serde_json::Value {
        schema()["$defs"]["Watch"].clone()
    }

    #[test]
    fn the_schema_has_exactly_the_fields_that_are_read() {
        let watch = watch();
        let properties = watch["properties"].as_object().unwrap();
        let published: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
        assert_eq!(published, NAMES.into_iter().collect());
        for name in NAMES {
            assert!(properties[name]["description"].is_string(), "{name} has no description");
            let refused = Fields::default().set(name, &Value::Other("something odd".into()));
            assert!(refused.is_err(), "{name} is not read, or takes anything");
        }
        assert_eq!(watch["required"], serde_json::json!(["znode", "action"]));
        assert_eq!(watch["additionalProperties"], serde_json::json!(false));
    }

    #[test]
    fn the_schema_has_exactly_the_arguments_that_a_component_takes() {
        let forms = schema()["$defs"]["Action"]["oneOf"].clone();
        let (wasm, exec) = (&forms[0]["properties"], &forms[1]["properties"]);
        assert_eq!(wasm["wasm"]["$ref"], "#/$defs/Component");
        for name in ["exec"].into_iter().chain(hardening::NAMES) {
            assert!(exec[name]["description"].is_string(), "{name} has no description");
        }
        let schema = &schema()["$defs"]["Component"];
        let properties = schema["properties"].as_object().unwrap();
        let published: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
        assert_eq!(published, component::NAMES.into_iter().collect());
        for name in component::NAMES {
            assert!(properties[name]["description"].is_string(), "{name} has no description");
            let refused = ComponentFields::default().set(name, &Value::Other("something odd".into()));
            assert!(refused.is_err(), "{name} is not read, or takes anything");
        }
        assert_eq!(schema["required"], serde_json::json!(["component"]));
        assert_eq!(schema["additionalProperties"], serde_json::json!(false));
        assert_eq!(properties["memory"]["default"], "64MiB");
        assert!(
            properties["warm"]
                .get("default")
                .is_none_or(|default| default.is_null())
        );
    }

    #[test]
    fn the_published_defaults_are_the_ones_in_force() {
        let watch = watch();
        let default = |name: &str| watch["properties"][name]["default"].clone();
        let defaults: BTreeMap<&str, _> = NAMES
            .iter()
            .map(|name| (*name, default(name)))
            .filter(|(_, d)| !d.is_null())
            .collect();
        insta::assert_snapshot!(serde_json::to_string_pretty(&defaults).unwrap(), @r#"
        {
          "cwd": "/",
          "env": {},
          "inherit_env": false,
          "kill_after": 5,
          "limits": {},
          "max_parallel": 16,
          "min_interval": 0,
          "on_delete": false,
          "on_failure": "KEEP",
          "payload": "DATA",
          "pipe_stdin": true,
          "publish": true,
          "ready_after": 1,
          "refuse_empty": false,
          "run_mode": "QUEUE",
          "run_on_load": true,
          "service": false,
          "settle": 0,
          "settle_max": 0,
          "splay": 0,
          "umask": "022",
          "watch_type": "WATCH_DATA"
        }
        "#);
    }
}
