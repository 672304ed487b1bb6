//! The programs that are measured: copies, as what is installed is one. A linker writes its output piece by piece, and so the page cache holds it;
//! of a copy a page fault maps more, and a component has twenty of them less.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// This build.
pub fn ours() -> &'static Path {
    static COPY: LazyLock<PathBuf> = LazyLock::new(|| copy(Path::new(env!("CARGO_BIN_EXE_twitcher")), "twitcher"));
    &COPY
}

/// The build before, if one is named.
pub fn before() -> Option<&'static Path> {
    static COPY: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
        let named = std::env::var_os("TWITCHER_BENCH_BASE").filter(|name| !name.is_empty())?;
        let program = PathBuf::from(&named);
        assert!(
            program.is_file(),
            "BASE={}: there is no such program",
            program.display()
        );
        Some(copy(&program, "twitcher-before"))
    });
    COPY.as_deref()
}

fn copy(program: &Path, name: &str) -> PathBuf {
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    // What still runs from an earlier copy keeps it.
    let _ = fs::remove_file(&copy);
    fs::copy(program, &copy).unwrap_or_else(|error| panic!("{}: {error}", copy.display()));
    copy
}
