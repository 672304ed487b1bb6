//! What tells one definition of a watch from another, wherever it stands: for who wants to know what a reload would change.

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use twitcher_model::{Action, Watch};

/// A digest of all that a watch is defined by, but for where it stands and where its native code is. As it covers values that may be
/// secrets, it is for operators alone.
pub fn definition(watch: &Watch) -> String {
    // These types have no value that cannot be written as JSON.
    let mut action = serde_json::to_value(&watch.action).unwrap_or_default();
    if let Some(native) = action.pointer_mut("/wasm/component/native") {
        *native = Value::Null;
    }
    if let Some(program) = action.pointer_mut("/function/program") {
        // The same texts in another directory are the same function.
        program["file"] = Value::Null;
        for load in program["loads"].as_array_mut().into_iter().flatten() {
            load[0] = Value::Null;
        }
    }
    if let Action::Wasm(wasm) = &watch.action
        && !wasm.grants.secrets.is_empty()
        && let Some(grants) = action.pointer_mut("/wasm/grants")
    {
        // Which files they are in: their values nobody knows here.
        grants["secrets"] = serde_json::to_value(&wasm.grants.secrets).unwrap_or_default();
    }
    let all = (
        &*watch.name,
        watch.znodes().collect::<Vec<_>>(),
        watch.watch_type,
        action,
        &*watch.description,
        &*watch.policy,
        &*watch.process,
    );
    let text = serde_json::to_vec(&all).unwrap_or_default();
    let hash: [u8; 32] = Sha256::digest(text).into();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use twitcher_model::{FunctionAction, Program};

    use super::*;
    use crate::testing::watch;

    fn function(directory: &str, text: &str) -> Watch {
        let path = |name: &str| std::path::Path::new(directory).join(name).into();
        let program = Arc::new(Program {
            file: path("a.twc"),
            source: text.into(),
            loads: vec![(path("lib.twc"), "x = 1".into())],
        });
        let mut watch = watch("a");
        watch.action = Action::Function(FunctionAction { program, call: 0 });
        watch
    }

    #[test]
    fn a_definition_is_the_same_wherever_it_stands() {
        let here = function("/etc/twitcher", "def f(): pass");
        let mut there = function("/tmp/staged", "def f(): pass");
        there.origin.line += 7;
        assert_eq!(definition(&here), definition(&there));
        assert_ne!(
            definition(&here),
            definition(&function("/etc/twitcher", "def f(): print(1)"))
        );
        let mut other = here.clone();
        other.description = "another".into();
        assert_ne!(definition(&here), definition(&other));
    }
}
