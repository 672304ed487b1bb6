//! The components of tests/guests, built once for a run of the tests.
//!
//! Each is one small file: `examples/` in Rust, `wat/` in the text format where Rust would be in the way.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A component of `tests/guests/examples`, by the name of its file.
pub fn guest(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    find(BUILT.get_or_init(|| build("wasm32-wasip2", &["--examples"])), name)
}

/// A core module for WASI's first preview, of one of these of `tests/guests/examples`.
pub fn preview1_guest(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let examples = PREVIEW1.map(|name| ["--example", name]);
        build("wasm32-wasip1", examples.as_flattened())
    };
    find(BUILT.get_or_init(build), name)
}

/// What is also built for WASI's first preview; `logs` is no program, but a component but for its frame.
const PREVIEW1: [&str; 6] = ["exits", "files", "logs", "naps", "opens_many", "program"];

/// The programs of WASI's own test suite, as core modules, in the order of their names: see `tests/guests/wasi-testsuite/Cargo.toml`.
pub fn wasi_testsuite() -> Vec<PathBuf> {
    let dir = build_in(&source().join("wasi-testsuite"), "wasm32-wasip1", &["--bins"]);
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut programs: Vec<PathBuf> = files
        .filter(|path| path.extension().is_some_and(|end| end == "wasm"))
        .collect();
    programs.sort();
    programs
}

fn find(dir: &Path, name: &str) -> PathBuf {
    let built = dir.join(format!("{name}.wasm"));
    assert!(built.is_file(), "no guest {name:?} in tests/guests/Cargo.toml");
    built
}

/// A core module or component of `tests/guests/wat`, by the name of its file.
pub fn text_guest(name: &str) -> PathBuf {
    let source = source().join("wat").join(format!("{name}.wat"));
    save(name, &wat::parse_file(source).unwrap())
}

/// A component that was built against version 1.0.0 of `twitcher:action` and is kept as it is: `tests/guests/built/of_1_0_0.rs`.
pub fn guest_of_1_0_0() -> PathBuf {
    source().join("built/of_1_0_0.wasm")
}

/// A component of so many core instances.
pub fn instance_bomb(instances: usize) -> PathBuf {
    let mut text = String::from(r#"(component (core module $run (func (export "run") (result i32) (i32.const 0)))"#);
    for _ in 0..instances {
        text.push_str(" (core instance (instantiate $run))");
    }
    write!(
        text,
        r#" (core instance $last (instantiate $run))
        (func $run (result (result)) (canon lift (core func $last "run")))
        (instance $entry (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $entry)))"#
    )
    .unwrap();
    save(&format!("instance_bomb_{instances}"), &wat::parse_str(text).unwrap())
}

/// A file with this content, which need not be a component.
pub fn save(name: &str, content: &[u8]) -> PathBuf {
    let dir = target().join("made");
    fs::create_dir_all(&dir).unwrap();
    // Other tests may be doing the same: none may see half a file.
    let whole = tempfile::NamedTempFile::new_in(&dir).unwrap();
    fs::write(whole.path(), content).unwrap();
    let path = dir.join(format!("{name}.wasm"));
    whole.persist(&path).unwrap();
    path
}

fn source() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/guests"))
}

/// Below the directory that cargo gives the tests, so that `cargo clean` finds it.
fn target() -> &'static Path {
    Path::new(concat!(env!("CARGO_TARGET_TMPDIR"), "/guests"))
}

/// Builds these for a target; returns where they are.
fn build(for_target: &str, examples: &[&str]) -> PathBuf {
    build_in(source(), for_target, examples).join("examples")
}

/// Builds what is meant of a package for a target; returns where it is.
fn build_in(package: &Path, for_target: &str, what: &[&str]) -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--release", "--target", for_target])
        .args(what)
        .env("CARGO_TARGET_DIR", target())
        .current_dir(package)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "cannot build {}; the target is installed by `rustup target add {for_target}`\n{}",
        package.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    target().join(for_target).join("release")
}
