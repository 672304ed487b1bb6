//! An action of Twitcher: it runs when the znode changes. See README.md for how it is built and configured, and
//! `cargo doc --open --package twitcher-sdk` for what there is.

use twitcher_sdk::{Change, Failure, action, config, log};

action!(on_change);

fn on_change(change: Change) -> Result<(), Failure> {
    // What the operator wrote in Wasm(..., config = {"greeting": "..."}).
    let greeting = config::get("greeting").unwrap_or_else(|| "hello".to_owned());

    // `?` on any error fails the run for good; `.or_retry()?` asks for another attempt.
    let text = change.text()?;

    log::info!("{greeting}", path = change.path(), event = change.event(), bytes = text.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use twitcher_sdk::testing::Host;

    use super::*;

    #[test]
    fn greets() {
        let host = Host::new().path("/x").config("greeting", "good morning");
        assert_eq!(host.run(on_change, r#"{"a": 1}"#), Ok(()));
        assert_eq!(host.logs()[0].message, "good morning");
        assert_eq!(host.logs()[0].field("path"), Some("/x"));
    }

    #[test]
    fn data_that_is_no_text_fails_for_good() {
        let failure = Host::new().run(on_change, [0xff]).unwrap_err();
        assert!(matches!(failure, Failure::Permanent { .. }));
    }
}
