//! What is printed as a JSON Schema, as other people's validators take it.

use std::process::Command;

use boon::{Compiler, Schemas};
use serde_json::Value;

use super::daemon::PROGRAM;

/// What `twitcher schema` prints with these arguments.
pub fn printed(arguments: &[&str]) -> Value {
    let output = Command::new(PROGRAM).arg("schema").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Whether an action may find the document on stdin with `payload = JSON`.
pub fn is_payload(document: &Value) -> Result<(), String> {
    let mut compiler = Compiler::new();
    let mut schemas = Schemas::new();
    compiler.add_resource("payload.json", printed(&["--payload"])).unwrap();
    let index = compiler.compile("payload.json", &mut schemas).unwrap();
    let valid = schemas.validate(document, index);
    valid.map_err(|error| error.to_string())
}
