//! Executes `unreachable`, without a word before.

guests::action!(|_| core::arch::wasm32::unreachable());
