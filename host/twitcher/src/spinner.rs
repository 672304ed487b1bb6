//! Signs of life for work that takes long: on stderr, and only if that is a terminal.
//!
//! It must not know what the work is.

use std::time::Duration;

use indicatif::ProgressBar;

/// Turns until it is dropped; then nothing of it is left on the terminal. It starts a thread, so it must not be made before what
/// is to be forked while there is only one.
#[derive(Debug)]
pub struct Spinner(ProgressBar);

impl Spinner {
    /// Shows what is being done.
    pub fn new(text: impl Into<String>) -> Self {
        // Hidden where stderr is no terminal.
        let bar = ProgressBar::new_spinner().with_message(text.into());
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }

    /// Shows something else from now on.
    pub fn say(&self, text: impl Into<String>) {
        self.0.set_message(text.into());
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
