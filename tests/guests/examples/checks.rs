//! Accepts the configuration `ok = "yes"` and refuses every other, with two reasons.

guests::checked!(|_| Ok(()), || match setting("ok").as_str() {
    "yes" => Ok(()),
    other => Err(vec![format!("ok is {other:?}"), "and a second reason\n".into()]),
});
