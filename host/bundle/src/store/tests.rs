use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use super::*;
use crate::compatibility::EngineFacts;
use crate::installed::Code;
use crate::manifest::COMPONENT;
use crate::testing::engine;
use crate::testing::{Sample, keys, trusting};
use crate::trust::{SignatureStanding, TrustRefusal};
use crate::{Installation, SIGNATURE};

struct Scene {
    dir: tempfile::TempDir,
    store: Store,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path().join("store"));
        Self { dir, store }
    }

    fn install(&self, name: &str, version: &str) -> Installation {
        let file = Sample::new(name, version).save(self.dir.path(), None);
        let done = self.store.install(&file, &Trust::default(), Downgrade::Allow).unwrap();
        // The order of installations is that of their times.
        let ahead = SystemTime::now() - Duration::from_secs(1000) + Duration::from_secs(self.count() * 10);
        let manifest = File::options()
            .append(true)
            .open(done.installed.dir.join(MANIFEST))
            .unwrap();
        manifest.set_modified(ahead).unwrap();
        done
    }

    fn count(&self) -> u64 {
        self.store.list().unwrap().versions.len() as u64
    }

    fn resolve(&self, reference: &str) -> Result<Installed, StoreError> {
        self.store.resolve(&reference.parse().unwrap())
    }

    fn choose(&self, reference: &str) -> Result<Switch, StoreError> {
        self.store.choose(&reference.parse().unwrap(), &Trust::default())
    }

    fn version(&self, reference: &str) -> String {
        self.resolve(reference).unwrap().version.to_string()
    }

    fn names(&self) -> Vec<String> {
        let all = fs::read_dir(&self.store.dir).unwrap();
        let mut names: Vec<String> = all
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn what_is_installed_is_found_by_name_and_version() {
    let scene = Scene::new();
    assert!(matches!(scene.resolve("hello"), Err(StoreError::Missing { .. })));
    for version in ["1.2.0", "1.2.1", "1.10.0", "2.0.0-rc.1", "1.0.0"] {
        scene.install("hello", version);
    }
    assert_eq!(scene.version("hello"), "1.0.0", "what was installed last");
    assert_eq!(scene.version("hello@1.2"), "1.2.1");
    assert_eq!(scene.version("hello@1"), "1.10.0");
    assert_eq!(scene.version("hello@1.2.0"), "1.2.0");
    assert_eq!(scene.version("hello@2.0.0-rc.1"), "2.0.0-rc.1");
    let missing = scene.resolve("hello@3").unwrap_err().to_string();
    assert!(
        missing.contains("no bundle hello@3") && missing.contains("1.2.1"),
        "{missing}"
    );
    assert!(matches!(scene.resolve("other"), Err(StoreError::Missing { .. })));
}

#[test]
fn going_back_is_said() {
    let scene = Scene::new();
    let first = scene.install("hello", "1.0.0").switch;
    assert_eq!((first.from.clone(), first.is_downgrade()), (None, false));
    assert!(!scene.install("hello", "1.1.0").switch.is_downgrade());
    let back = scene.install("hello", "1.0.0").switch;
    assert!(back.is_downgrade());
    assert_eq!(back.from.unwrap().0, Version::new(1, 1, 0));
    let forth = scene.choose("hello@1.1").unwrap();
    assert!(!forth.is_downgrade());
    assert_eq!(scene.version("hello"), "1.1.0");
    assert!(scene.choose("hello@1.0.0").unwrap().is_downgrade());
    assert_eq!(scene.version("hello"), "1.0.0");
}

#[test]
fn going_back_can_be_refused_and_builds_of_a_version_are_of_one_age() {
    let scene = Scene::new();
    let install = |version: &str| {
        let file = Sample::new("hello", version).save(scene.dir.path(), None);
        scene.store.install(&file, &Trust::default(), Downgrade::Refuse)
    };
    install("2.0.0").unwrap();
    let why = install("1.9.0").unwrap_err().to_string();
    assert!(
        why.contains("it is hello 1.9.0, and the current version here is the newer 2.0.0")
            && why.contains("--allow-downgrade"),
        "{why}"
    );
    assert!(install("2.0.0-rc.1").is_err());
    assert_eq!((scene.version("hello").as_str(), scene.count()), ("2.0.0", 1));
    assert_eq!(scene.names(), [".lock", "hello"]);
    for version in ["2.0.0+b2", "2.0.0+b10", "2.0.0+b9", "2.0.0", "2.1.0"] {
        assert!(!install(version).unwrap().switch.is_downgrade(), "{version}");
    }
    // By a series of versions, the build that was installed last.
    for (version, age) in [("3.0.0+b2", 20), ("3.0.0+b10", 10)] {
        let installed = install(version).unwrap().installed;
        let manifest = File::options().append(true).open(installed.dir.join(MANIFEST)).unwrap();
        manifest
            .set_modified(SystemTime::now() - Duration::from_secs(age))
            .unwrap();
    }
    assert_eq!(scene.version("hello@3"), "3.0.0+b10");
}

#[test]
fn what_runs_is_decided_at_each_load() {
    let scene = Scene::new();
    let host = engine();
    let (secret, public) = keys();
    let sample = Sample::new("hello", "1.0.0");
    let file = sample.save(scene.dir.path(), Some(&sample.sign(&secret)));
    let native = trusting(&[(&public, true)]);
    let installed = scene.store.install(&file, &native, Downgrade::Allow).unwrap().installed;
    let (standing, code) = installed.code(&native, &host).unwrap();
    assert_eq!(standing, SignatureStanding::Native(public.id()));
    let Code::Native { path, .. } = code else {
        panic!("{code:?}")
    };
    assert_eq!(fs::read(path).unwrap(), b"native code for here");
    // Each reason for a miss leaves the component.
    let why = |trust: &Trust, host: &EngineFacts| match installed.code(trust, host).unwrap().1 {
        Code::Portable { why, wasm, .. } => {
            assert_eq!(wasm, sample.files[COMPONENT]);
            why.to_string()
        }
        code => panic!("{code:?}"),
    };
    assert!(why(&trusting(&[(&public, false)]), &host).contains("no right to native code"));
    assert!(why(&Trust::default(), &host).contains("signed with a trusted key"));
    let other = EngineFacts {
        wasmtime: "48.0.9".to_owned(),
        ..host.clone()
    };
    assert!(why(&native, &other).contains("wasmtime 48.0.8, and here it is 48.0.9"));
    // A key that is gone is a refusal.
    let (_, another) = keys();
    let refusal = installed.code(&trusting(&[(&another, true)]), &host).unwrap_err();
    assert!(
        matches!(refusal, InstalledError::Refused(TrustRefusal::Untrusted { .. })),
        "{refusal}"
    );
    // And so is what is not what was signed.
    let damage = |name: &str, error: &str| {
        let path = installed.dir.join(name);
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[0] ^= 1;
        fs::write(&path, bad).unwrap();
        let said = scene.resolve("hello").map(|installed| installed.code(&native, &host));
        let said = match said {
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
            Ok(Ok(code)) => panic!("{name}: {code:?}"),
        };
        assert!(said.contains(error), "{name}: {said}");
        fs::write(&path, good).unwrap();
    };
    damage(&sample.manifest.native[0].path(), "damaged");
    damage(MANIFEST, "manifest.json");
    damage(SIGNATURE, "signature");
    let portable = trusting(&[(&public, false)]);
    fs::write(installed.dir.join(COMPONENT), b"x").unwrap();
    assert!(matches!(
        installed.code(&portable, &host),
        Err(InstalledError::Damaged(_))
    ));
    fs::write(installed.dir.join(COMPONENT), vec![0; 100_000]).unwrap();
    assert!(installed.code(&portable, &host).is_err());
    // What is damaged in the store is repaired by installing it again.
    scene.store.install(&file, &native, Downgrade::Allow).unwrap();
    installed.code(&portable, &host).unwrap();
}

#[test]
fn files_that_others_could_write_to_are_not_loaded() {
    let scene = Scene::new();
    let host = engine();
    let installed = scene.install("hello", "1.0.0").installed;
    let component = installed.dir.join(COMPONENT);
    let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    mode(&component, 0o666);
    assert!(installed.code(&Trust::default(), &host).is_err());
    mode(&component, 0o644);
    installed.code(&Trust::default(), &host).unwrap();
    // Nor through a link, though what it leads to is the same.
    fs::rename(&component, scene.dir.path().join("elsewhere")).unwrap();
    symlink(scene.dir.path().join("elsewhere"), &component).unwrap();
    assert!(installed.code(&Trust::default(), &host).is_err());
    mode(&scene.store.dir, 0o777);
    let said = scene.resolve("hello").unwrap_err().to_string();
    assert!(said.contains("others than its owner may write to it"), "{said}");
    assert!(scene.store.gc(0).is_err() && scene.store.list().is_err());
}

#[test]
fn what_is_refused_changes_nothing() {
    let scene = Scene::new();
    scene.install("hello", "1.0.0");
    let sample = Sample::new("hello", "2.0.0");
    let mut bytes = sample.pack(None);
    let last = bytes.len() - 2 * 512 - 500;
    bytes[last] ^= 1;
    let file = scene.dir.path().join("damaged.twb");
    fs::write(&file, &bytes).unwrap();
    let error = scene
        .store
        .install(&file, &Trust::default(), Downgrade::Allow)
        .unwrap_err()
        .to_string();
    assert!(error.contains("damaged.twb"), "{error}");
    fs::write(&file, &bytes[..600]).unwrap();
    assert!(scene.store.install(&file, &Trust::default(), Downgrade::Allow).is_err());
    let required = Trust {
        require_signed: true,
        ..Trust::default()
    };
    let unsigned = sample.save(scene.dir.path(), None);
    let error = scene
        .store
        .install(&unsigned, &required, Downgrade::Allow)
        .unwrap_err()
        .to_string();
    assert!(error.contains("not signed"), "{error}");
    assert!(
        scene
            .store
            .install(Path::new("/dev/null"), &Trust::default(), Downgrade::Allow)
            .is_err()
    );
    assert!(
        scene
            .store
            .install(scene.dir.path(), &Trust::default(), Downgrade::Allow)
            .is_err()
    );
    assert_eq!(scene.version("hello"), "1.0.0");
    assert_eq!(scene.names(), [".lock", "hello"], "no draft is left");
}

#[test]
fn the_store_is_for_all_to_read_and_its_owner_to_write_whatever_the_umask() {
    let scene = Scene::new();
    let installed = scene.install("hello", "1.0.0").installed;
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&scene.store.dir), 0o755);
    assert_eq!(mode(&installed.dir), 0o755);
    assert_eq!(mode(&installed.dir.join(COMPONENT)), 0o644);
    assert_eq!(mode(&installed.dir.join(installed.manifest.native[0].path())), 0o644);
    // Else any user could keep a version from being removed.
    assert_eq!(mode(&installed.dir.join(HOLD)), 0o600);
}

#[test]
fn gc_keeps_the_current_the_last_and_what_is_in_use() {
    let scene = Scene::new();
    for version in ["1.0.0", "1.1.0", "1.2.0", "1.3.0", "1.4.0"] {
        scene.install("hello", version);
    }
    scene.install("other", "1.0.0");
    scene.choose("hello@1.1.0").unwrap();
    let held = scene.resolve("hello@1.0.0").unwrap().hold().unwrap();
    assert!(scene.store.list().unwrap().versions.iter().any(|listed| listed.in_use));
    // Chosen last was 1.1.0, before it 1.4.0 was installed.
    let gone = |keep| -> Vec<String> {
        let removed = scene.store.gc(keep).unwrap();
        removed
            .iter()
            .map(|(name, version)| format!("{name} {version}"))
            .collect()
    };
    assert_eq!(gone(2), ["hello 1.3.0", "hello 1.2.0"]);
    assert_eq!(gone(0), ["hello 1.4.0"]);
    drop(held);
    assert_eq!(gone(0), ["hello 1.0.0"]);
    assert_eq!(gone(0), Vec::<String>::new());
    assert_eq!(
        (scene.version("hello"), scene.version("other")),
        ("1.1.0".to_owned(), "1.0.0".to_owned())
    );
}

#[test]
fn a_version_that_is_current_or_in_use_is_not_removed() {
    let scene = Scene::new();
    scene.install("hello", "1.0.0");
    scene.install("hello", "1.1.0");
    let remove = |reference: &str| scene.store.remove(&reference.parse().unwrap());
    assert!(matches!(remove("hello@1.1.0"), Err(StoreError::Current(..))));
    let held = scene.resolve("hello@1.0.0").unwrap().hold().unwrap();
    assert!(matches!(remove("hello@1.0.0"), Err(StoreError::InUse(..))));
    assert!(matches!(remove("hello"), Err(StoreError::InUse(..))));
    assert_eq!(scene.version("hello"), "1.1.0");
    let old = scene.resolve("hello@1.0.0").unwrap();
    drop(held);
    let (acquired, held) = scene.store.acquire(&"hello@1.0".parse().unwrap()).unwrap();
    assert_eq!(acquired.version, Version::new(1, 0, 0));
    assert!(matches!(remove("hello@1.0.0"), Err(StoreError::InUse(..))));
    drop(held);
    assert_eq!(remove("hello@1.0.0").unwrap(), [Version::new(1, 0, 0)]);
    assert!(matches!(old.hold(), Err(InstalledError::Gone(_))));
    assert!(matches!(
        scene.store.acquire(&"hello@1.0.0".parse().unwrap()),
        Err(StoreError::Missing { .. })
    ));
    assert_eq!(remove("hello").unwrap(), [Version::new(1, 1, 0)]);
    assert!(matches!(remove("hello"), Err(StoreError::Missing { .. })));
    assert_eq!(scene.names(), [".lock"]);
}

#[test]
fn another_signature_replaces_the_one_that_is_installed() {
    let scene = Scene::new();
    let sample = Sample::new("hello", "1.0.0");
    let ((old, old_public), (new, new_public)) = (keys(), keys());
    let both = trusting(&[(&old_public, true), (&new_public, true)]);
    let file = sample.save(scene.dir.path(), Some(&sample.sign(&old)));
    scene.store.install(&file, &both, Downgrade::Allow).unwrap();
    let file = sample.save(scene.dir.path(), Some(&sample.sign(&new)));
    scene.store.install(&file, &both, Downgrade::Allow).unwrap();
    // The old key can go now. By its own keys, the store would not even be told to use what it installed.
    let neither = trusting(&[]);
    let refused = scene.store.choose(&"hello".parse().unwrap(), &neither).unwrap_err();
    assert!(refused.to_string().contains("not trusted here"), "{refused}");
    let only_new = trusting(&[(&new_public, true)]);
    let installed = scene.resolve("hello").unwrap();
    assert_eq!(
        installed.judge(&only_new),
        Ok(SignatureStanding::Native(new_public.id()))
    );
    assert_eq!(scene.count(), 1);
    // One without a signature does not take it away.
    let file = sample.save(scene.dir.path(), None);
    let done = scene.store.install(&file, &both, Downgrade::Allow).unwrap();
    assert!(scene.resolve("hello").unwrap().signature.is_some());
    assert!(done.kept_signature);
    assert_eq!(done.standing, SignatureStanding::Native(new_public.id()));
    // And what would not be loaded is not said to be installed.
    let why = scene
        .store
        .install(&file, &neither, Downgrade::Allow)
        .unwrap_err()
        .to_string();
    assert!(
        why.contains("it is not signed") && why.contains("not trusted here"),
        "{why}"
    );
}

#[test]
fn what_a_crash_leaves_behind_is_never_seen_and_goes() {
    let scene = Scene::new();
    let installed = scene.install("hello", "1.0.0").installed;
    // Before the rename: a draft that nobody works on. Between the renames: a version that is not current yet, and half a link. While
    // one is removed: something in the trash.
    let draft = scene.store.dir.join(".install-crashed");
    fs::create_dir(&draft).unwrap();
    fs::write(draft.join(MANIFEST), "{\"for").unwrap();
    symlink("nowhere", scene.store.dir.join(".trash-current")).unwrap();
    fs::create_dir(scene.store.dir.join(".trash-0")).unwrap();
    fs::write(scene.store.dir.join(".trash-0/x"), "").unwrap();
    assert_eq!(scene.version("hello"), "1.0.0");
    assert_eq!(scene.count(), 1);
    // One that is worked on stays.
    let alive = scene.store.draft_for_tests();
    scene.store.gc(3).unwrap();
    assert_eq!(scene.names().len(), 3, "{:?}", scene.names());
    drop(alive);
    scene.install("hello", "1.1.0");
    assert_eq!(scene.names(), [".lock", "hello"]);
    assert!(installed.dir.exists());
    // A link that leads nowhere is a version that is missing, and can be set right.
    fs::remove_dir_all(scene.resolve("hello").unwrap().dir).unwrap();
    assert!(scene.resolve("hello").is_err());
    scene.choose("hello@1.0.0").unwrap();
    assert_eq!(scene.version("hello"), "1.0.0");
}

#[test]
fn installs_at_the_same_time_leave_one_whole_store() {
    let scene = Scene::new();
    let files: Vec<PathBuf> = (0..8)
        .map(|n| Sample::new("hello", &format!("1.{}.0", n % 4)).save(scene.dir.path(), None))
        .collect();
    std::thread::scope(|scope| {
        for file in &files {
            scope.spawn(|| {
                for _ in 0..5 {
                    scene.store.install(file, &Trust::default(), Downgrade::Allow).unwrap();
                    // At every moment there is one, and it is whole.
                    let current = scene.resolve("hello").unwrap();
                    current.verify().unwrap();
                }
            });
        }
    });
    assert_eq!(scene.count(), 4);
    assert_eq!(scene.names(), [".lock", "hello"]);
}

#[test]
fn what_does_not_belong_there_is_left_alone() {
    let scene = Scene::new();
    scene.install("hello", "1.0.0");
    fs::write(scene.store.dir.join("README"), "").unwrap();
    fs::create_dir(scene.store.dir.join("hello/notes")).unwrap();
    let broken = scene.store.dir.join("hello").join("0".repeat(64));
    fs::create_dir(&broken).unwrap();
    let listing = scene.store.list().unwrap();
    assert_eq!(listing.versions.len(), 1);
    assert_eq!(listing.broken.len(), 1);
    scene.store.gc(0).unwrap();
    assert!(scene.store.dir.join("README").exists() && broken.exists());
    // The directory of another version under this one's digest.
    let other = scene.install("other", "1.0.0").installed;
    fs::remove_dir(&broken).unwrap();
    fs::rename(&other.dir, &broken).unwrap();
    assert!(scene.resolve("hello@1").unwrap().version == Version::new(1, 0, 0));
    fs::remove_file(scene.store.current_link("hello")).unwrap();
    symlink("0".repeat(64), scene.store.current_link("hello")).unwrap();
    let said = scene.resolve("hello").unwrap_err().to_string();
    assert!(said.contains("damaged"), "{said}");
}
