//! The canonical ABI of the WIT package, as wit-bindgen generates it. Not an interface of this crate: [`crate::action!`] alone, and
//! the private module `component`, may use it.
//!
//! `action` is world `action`; `check` adds the one export of world `action-checked`. Each macro `export!` puts a description of its
//! world into the component, and the linker merges the two: so a plugin without a check does not promise one.
//!
//! `tests/bindings.rs` fails when these files are not what the generator makes of `wit/`, and says how to make them anew.
#![allow(
    missing_docs,
    unsafe_code,
    clippy::all,
    clippy::unwrap_used,
    reason = "generated; what is passed over the boundary of a component is raw memory"
)]

#[rustfmt::skip]
pub mod action;
#[rustfmt::skip]
pub mod check;
