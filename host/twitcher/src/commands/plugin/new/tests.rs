use std::collections::BTreeSet;
use std::env;
use std::process::Command;

use super::*;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn a_new_plugin_passes_its_test_and_builds() {
    let parent = tempfile::tempdir().unwrap();
    let dir = create(parent.path(), "my-action").unwrap();
    assert_eq!(dir, parent.path().join("my-action"));
    // The versions that are here already: the test neither depends on the newest, nor on fetching them.
    fs::copy(repository().join("Cargo.lock"), dir.join("Cargo.lock")).unwrap();
    // Kept, so that the dependencies are compiled once; beside the one of this build, whose lock may be held.
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from);
    let target = target.join("plugin-new");

    let cargo = |args: &[&str]| {
        let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(args)
            .current_dir(&dir)
            .env("CARGO_TARGET_DIR", &target)
            .output()
            .unwrap();
        let [stdout, stderr] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
        assert!(output.status.success(), "cargo {args:?}\n{stdout}{stderr}");
        assert!(!stderr.contains("warning"), "{stderr}");
        stdout
    };
    assert!(cargo(&["test"]).contains("2 passed"));
    cargo(&["build", "--release", "--target", "wasm32-wasip2"]);

    let component = fs::read(target.join("wasm32-wasip2/release/my_action.wasm")).unwrap();
    assert!(component.starts_with(b"\0asm\x0d\0\x01\0"), "not a component");
    assert!(component.len() < 100_000, "{} bytes", component.len());
}

#[test]
fn the_whole_sdk_is_embedded() {
    fn files(dir: &Path, root: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => files(&path, root, found),
                false => _ = found.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned()),
            }
        }
    }
    let sdk = repository().join("sdk");
    let mut found = BTreeSet::new();
    files(&sdk, &sdk, &mut found);
    found.retain(|path| !path.starts_with("tests/"));
    let embedded = SDK.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(found, embedded);
}

#[test]
fn what_exists_is_left_alone() {
    let parent = tempfile::tempdir().unwrap();
    fs::create_dir(parent.path().join("mine")).unwrap();
    fs::write(parent.path().join("mine/work"), "x").unwrap();
    assert!(matches!(create(parent.path(), "mine"), Err(NewError::Exists(_))));
    assert!(parent.path().join("mine/work").exists());
    fs::write(parent.path().join("file"), "x").unwrap();
    assert!(matches!(create(parent.path(), "file"), Err(NewError::Exists(_))));

    let error = create(&parent.path().join("nowhere"), "mine").unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("nowhere/mine: No such file or directory (os error 2)"),
        "{error}"
    );
}

#[test]
fn names_are_those_of_crates() {
    for good in ["a", "my-action", "my_action2", "A"] {
        assert_eq!(check_name(good), Ok(()), "{good}");
    }
    let long = "a".repeat(65);
    for bad in [
        "",
        "2nd",
        "-a",
        "_a",
        "a b",
        "a/b",
        "..",
        "ü",
        "a\n",
        "fn",
        "test",
        "twitcher-sdk",
        &long,
    ] {
        let error = create(Path::new("/nowhere"), bad).unwrap_err();
        assert!(matches!(error, NewError::Name { .. }), "{bad:?}: {error}");
        assert!(error.to_string().contains("such as my-action"), "{error}");
    }
}
