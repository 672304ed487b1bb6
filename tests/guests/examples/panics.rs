//! Panics: the message and the backtrace belong in the log.

guests::action!(|_| the_function_that_panics());

#[inline(never)]
fn the_function_that_panics() -> Result<(), bindings::twitcher::action::types::Failure> {
    panic!("on purpose");
}
