//! Filters and functions for what confd's and consul-template's templates do, where Jinja has none of its own.

use std::borrow::Cow;
use std::fs;
use std::io::ErrorKind as IoError;
use std::time::{SystemTime, UNIX_EPOCH};

use ct_codecs::{Base64, Base64UrlSafe, Base64UrlSafeNoPadding, Decoder, Encoder};
use jiff::Timestamp;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Value};
use regex_lite::Regex;
use sha2::{Digest, Sha256};
use twitcher_sdk::znodes;

use crate::tree::wrong;

/// What the time is written as, unless the template says otherwise.
const TIME: &str = "%Y-%m-%dT%H:%M:%SZ";

pub fn add_to(environment: &mut Environment<'_>) {
    environment.add_filter("base", base);
    environment.add_filter("dir", dir);
    environment.add_filter("json", json);
    environment.add_filter("explode", explode);
    environment.add_filter("base64_encode", base64_encode);
    environment.add_filter("base64_decode", base64_decode);
    environment.add_filter("sha256", sha256);
    environment.add_filter("parse_bool", parse_bool);
    environment.add_filter("parse_int", parse_int);
    environment.add_filter("trim_prefix", trim_prefix);
    environment.add_filter("trim_suffix", trim_suffix);
    environment.add_filter("regex_replace", regex_replace);
    environment.add_filter("sort_by_length", sort_by_length);
    environment.add_test("matching", matching);
    environment.add_function("seq", seq);
    environment.add_function("env", env);
    environment.add_function("file", file);
    environment.add_function("file_exists", file_exists);
    environment.add_function("znode", znode);
    environment.add_function("now", now);
    environment.add_function("fail", fail);
}

/// The last name of a path, as Go has it: of nothing it is ".".
fn base(path: Cow<'_, str>) -> String {
    match (path.is_empty(), path.trim_end_matches('/')) {
        (true, _) => ".".to_owned(),
        (false, "") => "/".to_owned(),
        (false, path) => path.rsplit('/').next().unwrap_or_default().to_owned(),
    }
}

/// What a path is in, as Go has it.
fn dir(path: Cow<'_, str>) -> String {
    match path.rsplit_once('/') {
        None => ".".to_owned(),
        Some((above, _)) => match above.trim_end_matches('/') {
            "" => "/".to_owned(),
            above => above.to_owned(),
        },
    }
}

fn json(text: Cow<'_, str>) -> Result<Value, Error> {
    serde_json::from_str(&text).map_err(|error| wrong(format!("it is not JSON: {error}")))
}

/// A map from paths to values as maps within maps.
fn explode(pairs: &Value) -> Result<Value, Error> {
    let mut top = serde_json::Map::new();
    if pairs.kind() != ValueKind::Map {
        return Err(wrong(
            "explode is for a map from paths to values, such as tree".to_owned(),
        ));
    }
    for key in pairs.try_iter()? {
        let path = key.to_string();
        let value = serde_json::to_value(pairs.get_item(&key)?);
        let value = value.map_err(|error| wrong(format!("{path}: {error}")))?;
        let mut names: Vec<_> = path.split('/').filter(|name| !name.is_empty()).collect();
        let Some(last) = names.pop() else { continue };
        let mut here = &mut top;
        for name in names {
            let next = here.entry(name).or_insert_with(|| serde_json::Map::new().into());
            // A znode with data and children: what is below it counts.
            if !next.is_object() {
                *next = serde_json::Map::new().into();
            }
            let serde_json::Value::Object(next) = next else {
                return Err(wrong(format!("{path} is in no map")));
            };
            here = next;
        }
        here.entry(last).or_insert(value);
    }
    serde_json::from_value(top.into()).map_err(|error| wrong(error.to_string()))
}

fn base64_encode(text: Cow<'_, str>, options: Kwargs) -> Result<String, Error> {
    let url = options.get::<Option<bool>>("url")?.unwrap_or_default();
    options.assert_all_used()?;
    let encoded = match url {
        true => Base64UrlSafe::encode_to_string(&*text),
        false => Base64::encode_to_string(&*text),
    };
    encoded.map_err(|error| wrong(format!("it cannot be written in base64: {error}")))
}

fn base64_decode(text: Cow<'_, str>) -> Result<String, Error> {
    let text = text.trim();
    let decoded = match text.contains(['-', '_']) {
        true => Base64UrlSafeNoPadding::decode_to_vec(text.trim_end_matches('='), None),
        false => Base64::decode_to_vec(text, None),
    };
    let decoded = decoded.map_err(|error| wrong(format!("it is not base64: {error}")))?;
    String::from_utf8(decoded).map_err(|_| wrong("what is in base64 is not UTF-8".to_owned()))
}

fn sha256(text: Cow<'_, str>) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse_bool(value: &Value) -> Result<bool, Error> {
    if value.kind() == ValueKind::Bool {
        return Ok(value.is_true());
    }
    match value.as_str().map(str::trim) {
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        _ => Err(wrong(format!("must be true or false, not {value:?}"))),
    }
}

/// As `int`, which takes "80.5" too, and what is no text.
fn parse_int(text: Cow<'_, str>) -> Result<i64, Error> {
    let number = text.trim().parse();
    number.map_err(|_| wrong(format!("must be a whole number, not {text:?}")))
}

fn trim_prefix(text: Cow<'_, str>, prefix: &str) -> String {
    text.strip_prefix(prefix).unwrap_or(&text).to_owned()
}

fn trim_suffix(text: Cow<'_, str>, suffix: &str) -> String {
    text.strip_suffix(suffix).unwrap_or(&text).to_owned()
}

fn regex(pattern: &str) -> Result<Regex, Error> {
    Regex::new(pattern).map_err(|error| wrong(format!("{pattern:?} is no regular expression: {error}")))
}

fn regex_replace(text: Cow<'_, str>, pattern: &str, with: &str) -> Result<String, Error> {
    Ok(regex(pattern)?.replace_all(&text, with).into_owned())
}

fn matching(text: Cow<'_, str>, pattern: &str) -> Result<bool, Error> {
    Ok(regex(pattern)?.is_match(&text))
}

/// The shortest first; with an attribute, by the length of that. What is of one length stays in order.
fn sort_by_length(items: &Value, options: Kwargs) -> Result<Value, Error> {
    let attribute = options.get::<Option<&str>>("attribute")?;
    options.assert_all_used()?;
    let mut sorted = Vec::new();
    for item in items.try_iter()? {
        let by = match attribute {
            Some(attribute) => item.get_attr(attribute)?,
            None => item.clone(),
        };
        sorted.push((by.to_string().len(), item));
    }
    sorted.sort_by_key(|(length, _)| *length);
    Ok(sorted.into_iter().map(|(_, item)| item).collect())
}

/// From the first to the last, which is one of them: as GNU's.
fn seq(first: i64, last: i64) -> Result<Value, Error> {
    if last.saturating_sub(first) >= 100_000 {
        return Err(wrong("seq has more than 100000 numbers".to_owned()));
    }
    Ok((first..=last).collect())
}

fn env(name: &str, default: Option<Value>) -> Result<Value, Error> {
    match (std::env::var(name), default) {
        (Ok(text), _) => Ok(text.into()),
        (Err(_), Some(default)) => Ok(default),
        (Err(_), None) => Err(wrong(format!(
            "the environment has no {name}; to give it: env = {{{name:?}: \"...\"}} in Wasm(...)"
        ))),
    }
}

fn file(path: &str) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|error| wrong(format!("{path}: {error}")))
}

fn file_exists(path: &str) -> Result<bool, Error> {
    match fs::metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == IoError::NotFound => Ok(false),
        Err(error) => Err(wrong(format!("{path}: {error}"))),
    }
}

/// Another znode than the watched one, as it is now: what it becomes does not have the file written anew.
fn znode(path: &str, default: Option<Value>) -> Result<Value, Error> {
    match (znodes::get(path), default) {
        (Ok(node), _) => String::from_utf8(node.data)
            .map(Value::from)
            .map_err(|_| wrong(format!("the data of {path} is not UTF-8"))),
        (Err(error), Some(default)) if matches!(error.kind(), znodes::ErrorKind::NoNode) => Ok(default),
        (Err(error), _) => Err(Error::new(ErrorKind::InvalidOperation, "znode failed").with_source(error)),
    }
}

fn now(format: Option<&str>) -> Result<String, Error> {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let time = Timestamp::from_second(i64::try_from(seconds).unwrap_or_default()).unwrap_or_default();
    let format = format.unwrap_or(TIME);
    jiff::fmt::strtime::format(format, time)
        .map_err(|error| wrong(format!("{format:?} is no format of a time: {error}")))
}

fn fail(why: Cow<'_, str>) -> Result<Value, Error> {
    Err(wrong(why.into_owned()))
}
