use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

const PROFILE: &str = "wasmtime-1";

fn entries(dir: &Path) -> Entries {
    let entries = Entries::new(dir.join("cache"));
    entries.own().unwrap();
    entries
}

fn keep(entries: &Entries, name: &str, size: usize) -> PathBuf {
    let native = entries.path(&format!("{name}.{EXTENSION}"));
    let compiled = Compiled {
        native: vec![7; size],
        entry: EntryPoint::Handler,
        checked: true,
    };
    entries.keep(&native, &compiled).unwrap();
    native
}

#[test]
fn a_cache_that_others_can_write_to_is_not_even_read() {
    let dir = tempfile::tempdir().unwrap();
    let own = |name: &str| Entries::new(dir.path().join(name)).own();
    own("mine").unwrap();
    own("mine").unwrap();
    fs::set_permissions(dir.path().join("mine"), Permissions::from_mode(0o777)).unwrap();
    assert!(own("mine").unwrap_err().to_string().contains("only its owner"));
    fs::create_dir(dir.path().join("other")).unwrap();
    symlink(dir.path().join("other"), dir.path().join("link")).unwrap();
    assert!(own("link").is_err());
}

#[test]
fn what_is_damaged_or_gone_is_not_found_nor_opened() {
    let dir = tempfile::tempdir().unwrap();
    type Damage = fn(&Path) -> io::Result<()>;
    let damages: [(&str, Damage); 5] = [
        ("cut short", |native| {
            File::options().write(true).open(native)?.set_len(10)
        }),
        ("other bytes", |native| fs::write(native, vec![8; 1000])),
        ("gone", |native| fs::remove_file(native)),
        ("a directory", |native| {
            fs::remove_file(native)?;
            fs::create_dir(native)
        }),
        ("others could write to it", |native| {
            fs::set_permissions(native, Permissions::from_mode(0o666))
        }),
    ];
    for (what, damage) in damages {
        let ours = entries(dir.path());
        let native = keep(&ours, what, 1000);
        assert!(ours.find(&native).is_some() && ours.open(&native).is_ok());
        assert!(entries(dir.path()).find(&native).is_some(), "also after a restart");
        damage(&native).unwrap();
        assert!(ours.find(&native).is_none(), "{what}");
        assert!(ours.open(&native).is_err(), "{what}");
        assert!(entries(dir.path()).find(&native).is_none(), "{what}, after a restart");
    }
    let ours = entries(dir.path());
    let native = keep(&ours, "no facts", 1000);
    fs::write(facts_of(&native), "{}").unwrap();
    assert!(entries(dir.path()).find(&native).is_none());
    // Nothing is wrong with a file that only looks changed.
    let native = keep(&ours, "touched", 1000);
    fs::set_permissions(&native, Permissions::from_mode(0o400)).unwrap();
    assert!(ours.open(&native).is_err());
    assert!(ours.find(&native).is_some() && ours.open(&native).is_ok());
}

#[test]
fn what_nobody_uses_goes() {
    let dir = tempfile::tempdir().unwrap();
    let ours = entries(dir.path());
    let used = keep(&ours, "used-wasmtime-1", 10);
    let used_of_old = keep(&ours, "used-wasmtime-0", 10);
    let hold = [ours.hold(&used), ours.hold(&used_of_old)];
    let of_old = keep(&ours, "a-wasmtime-0", 10);
    let names = ["b-wasmtime-1", "c-wasmtime-1", "d-wasmtime-1"];
    let unused = names.map(|name| {
        let native = keep(&ours, name, 10);
        // Sparse: it takes no room.
        let file = File::options().write(true).open(&native).unwrap();
        file.set_len(UNUSED_MAX / 2).unwrap();
        native
    });
    let at = |native: &Path, seconds| {
        let time = SystemTime::now() - Duration::from_secs(seconds);
        File::open(facts_of(native)).unwrap().set_modified(time).unwrap();
    };
    at(&unused[0], 30);
    at(&unused[1], 500);
    at(&unused[2], 40);
    let litter = ours.path(".tmpabc");
    fs::write(&litter, "half").unwrap();
    assert!(ours.tidy(PROFILE).unwrap() >= UNUSED_MAX / 2);
    let left = |native: &Path| (native.exists(), facts_of(native).exists());
    assert_eq!(left(&of_old), (false, false));
    assert_eq!(left(&unused[1]), (false, false), "not used for longest");
    for native in [&used, &used_of_old, &unused[0], &unused[2]] {
        assert_eq!(left(native), (true, true), "{}", native.display());
    }
    assert!(litter.exists(), "somebody may be writing it");
    let old = SystemTime::now() - LITTER * 2;
    File::open(&litter).unwrap().set_modified(old).unwrap();
    drop(hold);
    ours.tidy(PROFILE).unwrap();
    assert_eq!(left(&used_of_old), (false, false));
    assert!(!litter.exists());
    assert_eq!(ours.tidy(PROFILE).unwrap(), 0);
}
