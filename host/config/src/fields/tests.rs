//! Whether the reader takes what the published schema allows, and refuses what that excludes, for every field that is declared.

use serde_json::{Value as Json, json};

use super::Fields;
use super::component::ComponentFields;
use super::deployment::DeployFields;
use super::group::GroupFields;
use super::mismatch::Mismatch;
use super::retry::RetryFields;
use super::rollout::RolloutFields;
use super::rollout::wave::WaveFields;
use crate::json::plain;
use crate::schema;

/// For each pattern of the schema, texts that it allows and the reader takes, and texts that neither does.
const PATTERNS: [(&str, &[&str], &[&str]); 18] = [
    (
        r"^(oci://[^/@]+/[^:@]+|/([^{]*/)?[^/{]*\{version\}[^/{]*)$",
        &[
            "/{version}",
            "/srv/render-{version}.twb",
            "oci://127.0.0.1:5000/tools/render",
        ],
        &[
            "render",
            "oci://h/a:1",
            "oci://h/a@sha256:00",
            "/srv/render.twb",
            "/{version}/a",
            "",
        ],
    ),
    (
        "^[a-z0-9][a-z0-9_-]*$",
        &["render", "0a-b_c"],
        &["", "Render", "-a", "a.b"],
    ),
    (
        "^([1-9][0-9]?|100)%$",
        &["1%", "99%", "100%"],
        &["0%", "101%", "5", "-1%", "05%", "%", ""],
    ),
    ("^[0-9A-Za-z._-]{1,64}$", &["repo", "a.b_c-1"], &["", "a b", "a/b", "ü"]),
    (r"^/(.*/)?[^/]+$", &["/run/app", "/a/b"], &["run", "/", "/run/"]),
    (
        "^CAP_[A-Z_]+$",
        &["CAP_CHOWN", "CAP_SYS_ADMIN"],
        &["CHOWN", "cap_chown", "CAP_", ""],
    ),
    (
        "^[1-9][0-9]{0,4}%$",
        &["1%", "50%", "99999%"],
        &["0%", "50", "100000%", "-1%", "050%", "%"],
    ),
    (
        "^[1-9][0-9]{0,5}(MiB|GiB)$",
        &["1MiB", "999999GiB"],
        &["0MiB", "1KiB", "1 MiB", "1000000GiB", "1", ""],
    ),
    ("^/", &["/x", "/x/y"], &["x", ""]),
    ("[^/]$", &["/a.wasm", "render@1.2"], &["a/", ""]),
    ("^/([^/]+(/[^/]+)*)?$", &["/", "/a/b"], &["a", "/a/", "//", ""]),
    ("^/.*?(:ro|:rw)?$", &["/a", "/a:ro", "/a:rw"], &["a", "a:rw", ""]),
    (
        "^/[^*]*(/\\*\\*)?$|^/\\*\\*$",
        &["/a", "/a/**", "/**"],
        &["a", "/a*", "/*/a"],
    ),
    ("^(?!TWITCHER_)[^=]+$", &["A", "twitcher_a"], &["TWITCHER_A", "A=B", ""]),
    ("^0*[0-7]{1,3}$", &["000", "777", "0022"], &["8", "1000", "+22", ""]),
    (
        "^[0-9]+(KiB|MiB|GiB)$",
        &["1024KiB", "1MiB", "4GiB"],
        &["1 MiB", "+1MiB", "1mib", "MiB"],
    ),
    (
        "^(\\[[0-9A-Fa-f:.]+\\]|[0-9A-Za-z._-]+):[0-9]{1,5}$",
        &["a:1", "[::1]:65535"],
        &["a", "a b:1", "::1:1", "a:655350"],
    ),
    (
        "^https?://(\\[[0-9A-Fa-f:.]+\\]|[0-9A-Za-z._-]+)(:[0-9]{1,5})?$",
        &["https://a", "http://[::1]:80"],
        &["ftp://a", "a", "https://a/", "https://*"],
    ),
];

/// Values at the bounds of a schema.
#[derive(Default)]
struct Bounds {
    within: Vec<Json>,
    beyond: Vec<Json>,
}

impl Bounds {
    fn of(schema: &Json) -> Self {
        let integer = |name: &str| schema[name].as_u64().map(|n| usize::try_from(n).unwrap());
        if let Some(reference) = schema["$ref"].as_str() {
            let document = crate::schema();
            return Self::of(document.pointer(reference.trim_start_matches('#')).unwrap());
        }
        if let Some(branches) = schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
            return branches.iter().map(Self::of).fold(Self::default(), Self::and);
        }
        if let Some(values) = schema["enum"].as_array() {
            return Self::new(values.iter().cloned(), [json!("NO SUCH WORD"), json!("")]);
        }
        if !schema["const"].is_null() {
            let next = schema["const"].as_i64().map(|n| json!(n + 1));
            let beyond = [json!("NO SUCH WORD"), json!(-1)];
            return Self::new([schema["const"].clone()], beyond.into_iter().chain(next));
        }
        let of_type = |name: &str| schema["type"] == name || schema["type"][0] == name;
        if of_type("null") {
            return Self::default();
        }
        if of_type("boolean") {
            return Self::new([json!(true), json!(false)], [json!("true"), json!(1)]);
        }
        if of_type("integer") || of_type("number") {
            return Self::of_number(schema, of_type("integer"));
        }
        if of_type("array") {
            let items = Self::of(&schema["items"]);
            let list = |length: usize| Json::Array(vec![items.within[0].clone(); length]);
            let (least, most) = (integer("minItems").unwrap_or(0), integer("maxItems"));
            let pad = |item: Json| Json::Array([vec![items.within[0].clone(); least.max(1) - 1], vec![item]].concat());
            let within = items.within.iter().cloned().map(pad).chain([list(least)]);
            let beyond = items.beyond.iter().cloned().map(pad);
            return Self::new(
                within.chain(most.map(list)),
                beyond
                    .chain(most.map(|most| list(most + 1)))
                    .chain(least.checked_sub(1).map(list)),
            );
        }
        if !schema["properties"].is_null() {
            return Self::of_named_properties(schema);
        }
        if of_type("object") {
            return Self::of_dict(schema, integer("maxProperties"));
        }
        assert!(of_type("string") || schema["type"].is_null(), "{schema}");
        let (least, most) = (integer("minLength").unwrap_or(0), integer("maxLength"));
        let begin = match schema["pattern"]
            .as_str()
            .map(|pattern| PATTERNS.iter().find(|(known, ..)| *known == pattern))
        {
            None => "x",
            // Some end with what only a path has.
            Some(Some((_, [first, ..], _))) if !first.starts_with('/') || first.contains('{') => first,
            Some(_) => "/",
        };
        let long = |length: usize| json!(begin.to_owned() + &"x".repeat(length - begin.len()));
        let bounds = match schema["pattern"].as_str() {
            None => Self::new([json!("x")], [json!(false)]),
            Some(pattern) => {
                let known = PATTERNS.iter().find(|(known, ..)| *known == pattern);
                let (_, within, beyond) = known.unwrap_or_else(|| panic!("{pattern} has no examples"));
                Self::new(
                    within.iter().map(|text| json!(text)),
                    beyond.iter().map(|text| json!(text)),
                )
            }
        };
        let shorter = least.checked_sub(1).map(|length| json!("x".repeat(length)));
        bounds.and(Self::new(
            most.map(long),
            most.map(|most| long(most + 1)).into_iter().chain(shorter),
        ))
    }

    fn of_number(schema: &Json, whole: bool) -> Self {
        let least = schema["minimum"].as_i64().unwrap();
        let most = schema["maximum"].as_f64().map(|most| most as i64);
        let bounds = Self::new(most.map(|n| json!(n)), most.map(|n| json!(n + 1)));
        let (within, beyond) = match schema["exclusiveMinimum"].as_i64() {
            Some(least) => (json!(least + 1), json!(least)),
            None => (json!(least), json!(least - 1)),
        };
        let kinds = [json!(true)].into_iter().chain(whole.then(|| json!(1.5)));
        bounds.and(Self::new([within], [beyond])).and(Self::new([], kinds))
    }

    fn of_named_properties(schema: &Json) -> Self {
        let mut bounds = Self::new([], [json!({"no such name": "x"})]);
        let needs_one = !schema["minProperties"].is_null() || !schema["required"].is_null();
        if needs_one {
            bounds.beyond.push(json!({}));
        } else {
            bounds.within.push(json!({}));
        }
        for (name, property) in schema["properties"].as_object().unwrap() {
            // A call: its arguments are fields, and looked at as such.
            if property["$ref"].is_null() {
                let required = [&schema["required"], &schema["dependentRequired"][name]];
                let required = required.into_iter().filter_map(Json::as_array).flatten();
                let required = required.filter_map(Json::as_str);
                let others = required.filter(|required| required != name);
                let others: Json = others
                    .map(|other| {
                        (
                            other.to_owned(),
                            Self::of(&schema["properties"][other]).within[0].clone(),
                        )
                    })
                    .collect();
                let Self { within, beyond } = Self::of(property);
                let object = |value: Json| {
                    let mut object = others.clone();
                    object[name] = value;
                    object
                };
                bounds = bounds.and(Self::new(
                    within.into_iter().map(object),
                    beyond.into_iter().map(object),
                ));
            }
        }
        bounds
    }

    fn of_dict(schema: &Json, most: Option<usize>) -> Self {
        let (keys, values) = (
            Self::of(&schema["propertyNames"]),
            Self::of(&schema["additionalProperties"]),
        );
        let (key, value) = (keys.within[0].as_str().unwrap(), &values.within[0]);
        let with_key = |key: &Json| key.as_str().map(|key| json!({key: value}));
        let with_value = |value: &Json| json!({key: value});
        let dict = |length: usize| {
            (0..length)
                .map(|n| (format!("{key}{n}"), value.clone()))
                .collect::<Json>()
        };
        let within = keys
            .within
            .iter()
            .filter_map(with_key)
            .chain(values.within.iter().map(with_value));
        let beyond = keys
            .beyond
            .iter()
            .filter_map(with_key)
            .chain(values.beyond.iter().map(with_value));
        Self::new(
            within.chain(most.map(dict)).chain([json!({})]),
            beyond
                .chain(most.map(|most| dict(most + 1)))
                .chain([json!([1]), json!("x")]),
        )
    }

    fn new(within: impl IntoIterator<Item = Json>, beyond: impl IntoIterator<Item = Json>) -> Self {
        Self {
            within: within.into_iter().collect(),
            beyond: beyond.into_iter().collect(),
        }
    }

    fn and(mut self, other: Self) -> Self {
        self.within.extend(other.within);
        self.beyond.extend(other.beyond);
        self
    }
}

/// Holds the reader of a set of fields, which are published as `definition`, against their schema.
fn check(definition: &str, names: &[&str], read: impl Fn(&str, &Json) -> Result<(), Mismatch>) {
    // Calls, and lists of them: their arguments are fields, and looked at as such.
    for name in names.iter().filter(|name| !["rollout", "waves"].contains(name)) {
        let property = &schema()["$defs"][definition]["properties"][name];
        let Bounds { within, beyond } = Bounds::of(property);
        assert!(!within.is_empty() && !beyond.is_empty(), "{definition}.{name}");
        for value in within.iter().chain(property.get("default")) {
            // Both are published with the bound of all durations, and hold a tighter one.
            if *value == property["maximum"] && ["initial", "max_delay"].contains(name) {
                continue;
            }
            let read = read(name, value);
            assert!(read.is_ok(), "{definition}.{name} refuses {}: {read:?}", shown(value));
        }
        for value in &beyond {
            assert!(read(name, value).is_err(), "{definition}.{name} takes {}", shown(value));
        }
    }
}

fn shown(value: &Json) -> String {
    value.to_string().chars().take(200).collect()
}

#[test]
fn the_reader_and_the_schema_have_the_same_bounds() {
    check("Watch", &super::NAMES, |name, value| {
        Fields::default().set(name, &plain(value.clone()))
    });
    check("Component", &super::component::NAMES, |name, value| {
        ComponentFields::default().set(name, &plain(value.clone()))
    });
    check("Retry", &super::retry::NAMES, |name, value| {
        RetryFields::default().set(name, &plain(value.clone()))
    });
    check("Deploy", &super::deployment::NAMES, |name, value| {
        DeployFields::default().set(name, &plain(value.clone()))
    });
    check("Rollout", &super::rollout::NAMES, |name, value| {
        RolloutFields::default().set(name, &plain(value.clone()))
    });
    check("Wave", &super::rollout::wave::NAMES, |name, value| {
        WaveFields::default().set(name, &plain(value.clone()))
    });
    check("Group", &super::group::NAMES, |name, value| {
        GroupFields::default().set(name, &plain(value.clone()))
    });
}
