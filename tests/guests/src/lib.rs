//! What the guests have in common: how one is entered, and how it says what it found.
//!
//! They speak WIT directly and not through the SDK, so that they can do what the SDK does not let an author do. Each macro makes
//! its bindings in the guest that uses it: what a component imports and exports is then that guest's own.

/// A component with the world `action`, whose `on-change` is this function of the data.
#[macro_export]
macro_rules! action {
    ($on_change:expr) => {
        #[allow(warnings)]
        mod bindings {
            wit_bindgen::generate!({ path: "../../wit", world: "action" });

            pub struct Guest;
            export!(Guest);
        }
        $crate::handler!(bindings, $on_change);
    };
}

/// A component with the world `action-checked`: `on-change`, and `validate`.
#[macro_export]
macro_rules! checked {
    ($on_change:expr, $validate:expr) => {
        #[allow(warnings)]
        mod bindings {
            wit_bindgen::generate!({ path: "../../wit", world: "action-checked" });

            pub struct Guest;
            export!(Guest);
        }
        $crate::handler!(bindings, $on_change);

        impl bindings::exports::twitcher::action::check::Guest for bindings::Guest {
            fn validate() -> Result<(), Vec<String>> {
                let validate: fn() -> Result<(), Vec<String>> = $validate;
                validate()
            }
        }
    };
}

/// Implements the export, and brings the imports into scope.
#[macro_export]
macro_rules! handler {
    ($bindings:ident, $on_change:expr) => {
        #[allow(unused_imports)]
        use $bindings::twitcher::action::{
            cancel, change, commands, config, context, log,
            types::{Failure, RetryHint},
            znodes,
        };

        impl $bindings::exports::twitcher::action::handler::Guest for $bindings::Guest {
            fn on_change(data: Vec<u8>) -> Result<(), Failure> {
                let on_change: fn(Vec<u8>) -> Result<(), Failure> = $on_change;
                on_change(data)
            }
        }

        /// A value of the configuration, empty when it is not there.
        #[allow(dead_code)]
        fn setting(key: &str) -> String {
            config::get(key).unwrap_or_default()
        }

        /// What became of something forbidden: a permanent failure that says how it was refused; success if it was not.
        #[allow(dead_code)]
        fn refused<T>(tried: Result<T, impl std::fmt::Debug>) -> Result<(), Failure> {
            tried
                .map(drop)
                .map_err(|error| Failure::Permanent(format!("refused: {error:?}")))
        }
    };
}
