//! Logs what changed: the smallest action, to copy and to check an installation with.
//!
//! ```console
//! $ cargo build --release --target wasm32-wasip2        # hello.wasm in the target directory
//! ```
//!
//! ```python
//! RegisterWatch(
//!     znode = "/app/config",
//!     action = Wasm("/usr/lib/twitcher/hello.wasm", config = {"greeting": "good morning"}),
//!     uid = "nobody",
//! )
//! ```
//!
//! | config | meaning | default |
//! | --- | --- | --- |
//! | `greeting` | the message | `hello` |
//!
//! It needs no grants. It logs how much data there is, never the data itself: that may be secret.

use twitcher_sdk::{Change, Failure, action, config, log};

action!(on_change);

fn on_change(change: Change) -> Result<(), Failure> {
    let greeting = config::get("greeting").unwrap_or_else(|| "hello".to_owned());
    log::info!(
        "{greeting}",
        path = change.path(),
        event = change.event(),
        version = change.version(),
        bytes = change.data().len(),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use twitcher_sdk::Event;
    use twitcher_sdk::testing::Host;

    use super::*;

    #[test]
    fn logs_the_change_and_not_the_data() {
        let host = Host::new().path("/app/config").config("greeting", "good morning");
        assert_eq!(host.run(on_change, "secret"), Ok(()));

        let [record] = &host.logs()[..] else {
            panic!("{:?}", host.logs())
        };
        assert_eq!(record.message, "good morning");
        assert_eq!(record.field("path"), Some("/app/config"));
        assert_eq!(record.field("bytes"), Some("6"));
        assert!(!format!("{record:?}").contains("secret"));
    }

    #[test]
    fn a_deleted_znode_has_no_data() {
        let host = Host::new().event(Event::Deleted);
        assert_eq!(host.run(on_change, ""), Ok(()));
        assert_eq!(host.logs()[0].field("event"), Some("deleted"));
        assert_eq!(host.logs()[0].field("bytes"), Some("0"));
    }
}
