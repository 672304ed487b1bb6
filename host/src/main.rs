//! The `twitcher` program.

fn main() {}
