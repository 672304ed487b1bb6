//! Write actions for Twitcher, which runs them when a znode in ZooKeeper changes.
//!
//! An action is one small file, compiled to a WebAssembly component. Each run gets a fresh instance, in a process of its own, in a
//! sandbox that holds nothing but what the operator's configuration grants.
//!
//! ```rust
//! use twitcher_sdk::{Change, Failure, action, commands, log};
//!
//! action!(on_change);
//!
//! #[derive(serde::Deserialize)]
//! struct Upstream {
//!     port: u16,
//! }
//!
//! fn on_change(change: Change) -> Result<(), Failure> {
//!     let upstream: Upstream = change.json()?; // data that does not parse is a permanent failure
//!     std::fs::write("/out/port.conf", format!("port = {}\n", upstream.port))?;
//!     commands::run("reload")?;
//!     log::info!("configured", path = change.path(), version = change.version());
//!     Ok(())
//! }
//! # fn main() {}
//! ```
//!
//! `Cargo.toml` says that a component is wanted, `cargo build` makes it:
//!
//! ```toml
//! [lib]
//! crate-type = ["cdylib"]
//!
//! [dependencies]
//! serde = { version = "1", features = ["derive"] }
//! twitcher-sdk = "1"
//! ```
//!
//! ```console
//! $ rustup target add wasm32-wasip2
//! $ cargo build --release --target wasm32-wasip2
//! ```
//!
//! And the operator says what it may do:
//!
//! ```python
//! RegisterWatch(
//!     znode = "/app/upstream",
//!     action = Wasm("/usr/lib/twitcher/my_action.wasm",
//!                   dirs = {"/out": "/etc/app:rw"},
//!                   commands = {"reload": ["/usr/bin/systemctl", "reload", "app"]}),
//!     uid = "app",
//! )
//! ```
//!
//! # What there is
//!
//! - [`Change`]: the znode's data, path, stat, children; the event, the attempt, the time left; with `payload = JSON` in the watch also
//!   the whole subtree ([`Change::tree`]) and what changed
//! - [`Failure`]: `?` on any error fails for good, [`or_retry`](ResultExt::or_retry) asks for another attempt
//! - [`config`], [`log`], [`cancel`], [`commands`],
//!   [`znodes`]: what the daemon does for an action
//! - files, the clock, arguments, the environment: the standard library, within what is granted; permissions of [`files`]
//! - `testing`: a host for tests, so that all of this runs under plain `cargo test`
//!
//! # What an action can rely on
//!
//! The last state of the znode is always run for, but the same state may be run for again (after a restart of the daemon, after a
//! failure), so an action must be idempotent. A panic ends the run as a failure: its message, and where it happened, are in the daemon's
//! log.

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod bindings;
pub mod cancel;
mod change;
pub mod commands;
#[cfg(target_arch = "wasm32")]
mod component;
pub mod config;
mod failure;
pub mod files;
pub mod log;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod tree;
pub mod znodes;

pub use change::{Change, Difference, Event, Stat};
pub use failure::{Failure, ResultExt};
pub use tree::{Fate, NoTree, Tree, TreeNode};

#[cfg(target_arch = "wasm32")]
use component as host;
#[cfg(not(target_arch = "wasm32"))]
use testing::double as host;

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub use component::{on_change as __on_change, validate as __validate};

/// Makes a function what Twitcher calls when the znode changes: `fn(Change) -> Result<(), Failure>`.
///
/// With `check`, a second function is called when the daemon, or `twitcher check`, loads the configuration. It says what is wrong
/// with this plugin's part of it; the watch is then refused, as with any other mistake in a configuration. It may ask for
/// [`config`] and write to [`log`], nothing else.
///
/// ```
/// use twitcher_sdk::{action, config, Change, Failure};
///
/// action!(on_change, check = validate);
///
/// fn on_change(change: Change) -> Result<(), Failure> {
///     std::fs::write(config::require("dest")?, change.data())?;
///     Ok(())
/// }
///
/// fn validate() -> Result<(), Vec<String>> {
///     config::require("dest").map(drop).map_err(|error| vec![error.to_string()])
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! action {
    ($handler:path $(,)?) => {
        const _: fn($crate::Change) -> ::std::result::Result<(), $crate::Failure> = $handler;

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::bindings::action::exports::twitcher::action::handler;

            struct Action;

            impl handler::Guest for Action {
                fn on_change(data: ::std::vec::Vec<u8>) -> ::std::result::Result<(), handler::Failure> {
                    $crate::__on_change($handler, data)
                }
            }

    $crate::bindings::action::export!(Action with_types_in $crate::bindings::action);
        };
    };
    ($handler:path, check = $check:path $(,)?) => {
        $crate::action!($handler);

        const _: fn() -> ::std::result::Result<(), ::std::vec::Vec<::std::string::String>> = $check;

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct Check;

            impl $crate::bindings::check::exports::twitcher::action::check::Guest for Check {
                fn validate() -> ::std::result::Result<(), ::std::vec::Vec<::std::string::String>> {
                    $crate::__validate($check)
                }
            }

    $crate::bindings::check::export!(Check with_types_in $crate::bindings::check);
        };
    };
}
