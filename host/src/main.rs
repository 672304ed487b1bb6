//! The `twitcher` program.

use std::env;
use std::process::exit;

fn main() {
    if env::args().nth(1).as_deref() == Some("evaluate") {
        exit(twitcher::config::helper::serve());
    }
}
