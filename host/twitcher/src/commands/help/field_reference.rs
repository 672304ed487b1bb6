//! The reference of the configuration: each field with what it accepts, its default and its meaning, out of the JSON Schema.
//!
//! It must not know any field: what is missing here is missing in the schema.

use serde_json::{Map, Value};
use twitcher_control::api::StateInfo;

/// Where lines are broken.
const WIDTH: usize = 80;
const INDENT: &str = "    ";
/// Of more named values than these, one stands for all.
const NAMED_MAX: usize = 8;
/// A bound above this only keeps numbers sane.
const BOUND_MAX: f64 = 1_000_000.0;

/// The fields of the object `name` of the schema as items: those that are required first, the others by name.
pub(super) fn fields(schema: &Value, name: &str) -> String {
    let object = &schema["$defs"][name];
    let empty = Map::new();
    let properties = object["properties"].as_object().unwrap_or(&empty);
    let required: Vec<&str> = strings(&object["required"]).collect();
    let is_optional = |name: &String| !required.contains(&name.as_str());
    let mut names: Vec<&String> = properties.keys().collect();
    names.sort_by_key(|name| (is_optional(name), name.as_str()));
    let mut text = String::new();
    for name in names {
        let field = &properties[name];
        let mut notes = vec![accepted(schema, field)];
        match field.get("default") {
            _ if !is_optional(name) => notes.push("required".to_owned()),
            None | Some(Value::Null) => {}
            Some(default) => notes.push(format!("default {}", constant(default))),
        }
        text.push_str(&format!("{name} ({})\n", notes.join("; ")));
        text.push_str(&wrapped(field["description"].as_str().unwrap_or_default()));
        text.push('\n');
    }
    // The line after the fields in the page is empty already.
    text.pop();
    text
}

/// The states of a watch as items: each with what it means and what comes next.
pub(super) fn states(states: &[StateInfo]) -> String {
    let items = states
        .iter()
        .map(|info| format!("{}\n{}", info.words, wrapped(&format!("{} {}", info.means, info.next))));
    items.collect::<Vec<_>>().join("\n")
}

fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// What a value may be, in words.
fn accepted(schema: &Value, value: &Value) -> String {
    if let Some(name) = value["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/")) {
        return match name {
            "Action" => "Exec(...), Wasm(...), Deploy(...) or a function".to_owned(),
            call @ ("Retry" | "Rollout" | "Wave") => format!("{call}(...)"),
            _ => accepted(schema, &schema["$defs"][name]),
        };
    }
    if let Some(retry) = value["properties"].get("retry") {
        return accepted(schema, retry);
    }
    if value["properties"].get("exec").is_some() {
        return "Exec(...)".to_owned();
    }
    for alternatives in ["oneOf", "anyOf"] {
        if let Some(list) = value[alternatives].as_array() {
            let mut words: Vec<String> = list
                .iter()
                .filter(|one| one["type"] != "null")
                .map(|one| accepted(schema, one))
                .collect();
            words.dedup();
            return words.join(" or ");
        }
    }
    if let Some(named) = value["enum"].as_array() {
        let words: Vec<String> = named.iter().map(constant).collect();
        return match words.as_slice() {
            [first, ..] if words.len() > NAMED_MAX => format!("a name such as {first}"),
            _ => words.join(" | "),
        };
    }
    if let Some(only) = value.get("const") {
        return literal(only);
    }
    let kinds = &value["type"];
    let kind = kinds.as_str().or_else(|| strings(kinds).find(|kind| *kind != "null"));
    match kind {
        Some("boolean") => "True | False".to_owned(),
        Some("integer") => bounded("whole number", value),
        Some("number") => bounded("number", value),
        Some("array") => "list".to_owned(),
        Some("object") => "dict".to_owned(),
        Some(other) => other.to_owned(),
        None => "value".to_owned(),
    }
}

fn bounded(what: &str, value: &Value) -> String {
    match (value["minimum"].as_f64(), value["maximum"].as_f64()) {
        (Some(least), Some(most)) if most <= BOUND_MAX => format!("{what} from {least} to {most}"),
        _ => what.to_owned(),
    }
}

/// A named value: names are constants of a `.twc` file.
fn constant(value: &Value) -> String {
    match value {
        Value::String(name) if name.chars().all(|c| c.is_ascii_uppercase() || c == '_') => name.clone(),
        other => literal(other),
    }
}

/// A value as a `.twc` file has it.
fn literal(value: &Value) -> String {
    match value {
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        other => other.to_string(),
    }
}

/// A text in lines, indented.
fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut line = String::from(INDENT);
    for word in text.split_whitespace() {
        if line.len() > INDENT.len() && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push_str(line.trim_end());
            lines.push('\n');
            line = String::from(INDENT);
        }
        if line.len() > INDENT.len() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push_str(&line);
    lines.push('\n');
    lines
}
