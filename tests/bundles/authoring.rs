//! From a component to a bundle.

use std::fs;
use std::fs::File;

use twitcher_bundle::{BundleReader, Code, SignatureStanding, Trust, trust::Keys};
use twitcher_components::this_host;
use twitcher_sandbox::LoadedCode;

use super::Bench;
use crate::support::guests::{guest, save};

#[test]
fn a_bundle_holds_native_code_for_both_targets_and_ours_loads_here() {
    let bench = Bench::new();
    bench.key("k");
    let build = format!(
        "bundle build {} --name hello --version 1.0.0 --key ./k",
        guest("logs").display()
    );
    let said = bench.ok(&format!(
        "{build} --target x86_64-linux --target aarch64-linux --out dist"
    ));
    assert!(
        said.contains("with native code for aarch64-linux and x86_64-linux"),
        "{said}"
    );
    let file = bench.path("dist/hello-1.0.0.twb");
    let manifest = BundleReader::open(File::open(&file).unwrap()).unwrap().check().unwrap();
    assert_eq!(manifest.native.len(), 2);

    bench.ok("key trust k.pub --native --keys keys");
    bench.install(&file);
    let trust = Trust {
        keys: Keys::load(&bench.path("keys")).unwrap(),
        require_signed: true,
    };
    let host = this_host().unwrap();
    let installed = bench.resolve("hello");
    let (standing, code) = installed.code(&trust, &host).unwrap();
    assert!(matches!(standing, SignatureStanding::Native(_)));
    let Code::Native { path, .. } = code else {
        panic!("{code:?}")
    };
    assert!(path.to_string_lossy().contains(&host.target), "{path:?}");
    let entry = installed.manifest.world.entry();
    let file = File::open(&path).unwrap();
    LoadedCode::default().get(installed.digest, entry, file.into()).unwrap();

    // Wasmtime's own check is the last: code of the other machine would not load even if it were taken for ours.
    let other = manifest
        .native
        .iter()
        .find(|native| native.target != host.target)
        .unwrap();
    let foreign = File::open(installed.dir.join(other.path())).unwrap();
    let error = LoadedCode::default()
        .get(installed.digest, entry, foreign.into())
        .err()
        .unwrap();
    assert!(error.to_string().contains("architecture"), "{error}");
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let bench = Bench::new();
    let build = format!("bundle build {} --name hello --version 1.0.0", guest("logs").display());
    for dir in ["one", "other"] {
        bench.ok(&format!("{build} --out {dir}"));
    }
    let read = |dir: &str| fs::read(bench.path(dir).join("hello-1.0.0.twb")).unwrap();
    assert!(read("one") == read("other"));
}

/// A crate whose component is a program that prints a text.
struct Authored<'a> {
    bench: &'a Bench,
}

impl Authored<'_> {
    fn write(&self, version: &str, text: &str, metadata: &str) {
        fs::create_dir_all(self.bench.path("my/src")).unwrap();
        let source = format!("fn main() {{ println!({text:?}); }}\n");
        // What has not changed is not written: cargo goes by the times of files.
        if fs::read_to_string(self.bench.path("my/src/main.rs")).unwrap_or_default() != source {
            fs::write(self.bench.path("my/src/main.rs"), source).unwrap();
        }
        let cargo = format!(
            "[package]\nname = \"my-action\"\nversion = \"{version}\"\nedition = \"2024\"\n[workspace]\n\
             [profile.release]\nopt-level = 0\n{metadata}"
        );
        fs::write(self.bench.path("my/Cargo.toml"), cargo).unwrap();
    }

    /// Whether it was done, and everything that was said.
    fn build(&self, line: &str) -> (bool, String) {
        let mut command = self.bench.command(line);
        command
            .env("CARGO", env!("CARGO"))
            .env("CARGO_TARGET_DIR", self.bench.path("target"));
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }
}

#[test]
fn a_crate_says_what_its_bundle_is() {
    let bench = Bench::new();
    let crate_ = Authored { bench: &bench };
    crate_.write(
        "0.3.1",
        "one",
        "[package.metadata.twitcher]\nconfig = [\"dest\"]\nrequests = { dirs = { \"/out\" = \"rw\" }, commands = [\"reload\"] }\n",
    );
    let (done, said) = crate_.build("bundle build my --portable --dir /tmp=ro --memory 128MiB --out .");
    assert!(done && !said.contains("note:"), "{said}");
    let shown = bench.ok("bundle inspect my-action-0.3.1.twb --keys keys");
    for line in [
        "        \"my-action\",",
        "        config = {\"dest\": \"VALUE\"},",
        "        dirs = {\"/out\": \"/host/dir:rw\", \"/tmp\": \"/host/dir:ro\"},",
        "        commands = {\"reload\": [\"/path/of/program\"]},",
        "        memory = 134217728,",
        "  \"world\": \"wasi:cli/command\",",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
    }
    let (done, said) =
        crate_.build("bundle build --manifest-path my/Cargo.toml --portable --name other --version 9.0.0");
    assert!(done, "{said}");
    assert!(bench.path("other-9.0.0.twb").exists());
    crate_.write("0.3.1", "one", "[package.metadata.twitcher]\nrequest = {}\n");
    let (_, errors) = crate_.build("bundle build my --portable");
    assert!(
        errors.contains("[package.metadata.twitcher]") && errors.contains("request"),
        "{errors}"
    );
}

#[test]
fn a_bundle_of_a_crate_is_of_its_present_sources() {
    let bench = Bench::new();
    let crate_ = Authored { bench: &bench };
    let component = |version: &str| {
        let shown = bench.ok(&format!("bundle inspect my-action-{version}.twb --keys keys"));
        let digest = shown.lines().skip_while(|line| !line.contains("\"component\""));
        digest.clone().find(|line| line.contains("sha256")).unwrap().to_owned()
    };
    crate_.write("1.0.0", "one", "");
    let (done, said) = crate_.build("bundle build my --portable --out .");
    assert!(done, "{said}");
    assert!(
        said.contains("note: it requests nothing") && said.contains("--dir"),
        "{said}"
    );
    // Nothing was changed but the number.
    let (done, said) = crate_.build("bundle build my --portable --out . --version 1.1.0");
    assert!(done, "{said}");
    assert_eq!(component("1.0.0"), component("1.1.0"));
    assert!(said.contains("note: its component is that of version 1.0.0"), "{said}");
    crate_.write("1.2.0", "two", "");
    let made = bench.path("target/wasm32-wasip2/release/my-action.wasm");
    let (done, said) = crate_.build(&format!(
        "bundle build {} --name my-action --version 1.2.0",
        made.display()
    ));
    assert!(
        !done && said.contains("was built before") && said.contains("main.rs was changed"),
        "{said}"
    );
    let (done, said) = crate_.build("bundle build my --portable --out .");
    assert!(done && !said.contains("is that of version"), "{said}");
    assert_ne!(component("1.1.0"), component("1.2.0"));
    fs::write(bench.path("my/src/main.rs"), "fn main() { no }\n").unwrap();
    let (done, said) = crate_.build("bundle build my --portable --out .");
    assert!(
        !done && said.contains("cargo cannot build") && said.contains("cannot find value `no`"),
        "{said}"
    );
}

#[test]
fn what_cannot_become_a_bundle_is_refused_in_words() {
    let bench = Bench::new();
    let component = guest("logs");
    let component = component.display();
    let script = save("no_bundle", b"#!/bin/sh\n");
    let build = |arguments: &str| bench.fails(&format!("bundle build {arguments}"));
    for (said, words) in [
        (build(&format!("{component} --name hello")), "version is missing"),
        (build(&format!("{component} --version 1.0.0")), "name is missing"),
        (
            build(&format!("{component} --name Hello --version 1.0.0")),
            "lower-case",
        ),
        (build(&format!("{component} --name ../x --version 1.0.0")), "lower-case"),
        (
            build(&format!("{} --name x --version 1.0.0", script.display())),
            "not WebAssembly",
        ),
        (build("none.wasm --name x --version 1.0.0"), "none.wasm"),
        (build("/dev/zero --name x --version 1.0.0"), "not a regular file"),
        (
            build(&format!("{component} --name x --version 1.0.0 --dir /a=w")),
            "expected PATH=ro",
        ),
        (
            build(&format!("{component} --name x --version 1.0.0 --dir a=ro")),
            "absolute path",
        ),
        (
            build(&format!("{component} --name x --version 1.0.0 --http x")),
            "not an origin",
        ),
        (
            build(&format!("{component} --name x --version 1.0.0 --memory 1")),
            "a size",
        ),
        (
            build(&format!("{component} --name x --version 1.0.0 --key none")),
            "none",
        ),
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let line = format!("bundle build {component} --name x --version 1.0.0 --target sparc-solaris");
    assert_eq!(bench.run(&line).status.code(), Some(2));
    assert_eq!(fs::read_dir(bench.dir.path()).unwrap().count(), 0, "nothing is left");
}

#[test]
fn what_a_component_imports_and_does_not_request_is_noted() {
    let bench = Bench::new();
    let build = format!(
        "bundle build {} --name x --version 1.0.0 --portable",
        guest("commands").display()
    );
    assert!(bench.ok(&build).contains("note: it imports twitcher:action/commands"));
    assert!(!bench.ok(&format!("{build} --command a")).contains("note:"));
}

#[test]
fn a_core_module_can_be_bundled() {
    let bench = Bench::new();
    let module = crate::support::guests::text_guest("core_exits_7");
    bench.ok(&format!(
        "bundle build {} --name seven --version 7.0.0 --target x86_64-linux",
        module.display()
    ));
    let shown = bench.ok("bundle inspect seven-7.0.0.twb --keys keys");
    assert!(shown.contains("\"world\": \"wasi_snapshot_preview1\""), "{shown}");
}
