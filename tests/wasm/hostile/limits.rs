//! Memory, tables, instances, the stack, resources of the host: all have an end, and reaching it ends that one call.

use super::{Scene, hostile, outcome, said, site};
use crate::support::guests::{guest, text_guest};

#[test]
fn memory_ends_where_it_is_granted_to() {
    let site = site();
    let within = "config={'mib': '20'}, memory='32MiB'";
    hostile(&site, "within", &guest("takes_memory"), within, "");
    let beyond = "config={'mib': '40'}, memory='32MiB'";
    hostile(&site, "beyond", &guest("takes_memory"), beyond, "");
    hostile(&site, "bomb", &text_guest("memory_bomb"), "memory='48MiB'", "");
    hostile(&site, "large", &text_guest("large_memory"), "", "");
    let scene = Scene::start(site);
    scene.others_react();
    let [within, beyond, bomb, large] = ["within", "beyond", "bomb", "large"].map(|name| scene.end(name));
    assert_eq!(outcome(&within), "success");
    for (run, mebibytes, enough) in [(&beyond, 32, 64), (&bomb, 48, 96), (&large, 64, 4096)] {
        let says = format!(
            "trapped: it needs more memory than it may have; grant it with Wasm(..., memory = \"{enough}MiB\"), now {mebibytes} MiB"
        );
        assert_eq!(outcome(run), says);
        let kib = run["max_rss_kib"].as_u64().unwrap();
        assert!(kib < (mebibytes + 48) * 1024, "{kib} KiB of {mebibytes} MiB: {run}");
    }
    scene.is_unharmed();
}

#[test]
fn every_other_resource_has_an_end_too() {
    let site = site();
    let cases = [
        (
            "table_bomb",
            text_guest("table_bomb"),
            "`unreachable` instruction executed",
        ),
        (
            "large_table",
            text_guest("large_table"),
            "table minimum size of 10000000 elements",
        ),
        ("recurses", guest("recurses"), "call stack exhausted"),
        (
            "unreachable",
            guest("unreachable"),
            "`unreachable` instruction executed",
        ),
        ("leaves", guest("leaves"), "it left with exit code 1"),
        (
            "hoards_handles",
            guest("hoards_handles"),
            "resource table has no free keys",
        ),
    ];
    for (name, file, _) in &cases {
        hostile(&site, name, file, "", "");
    }
    hostile(&site, "exits_3", &guest("exits_3"), "", "");
    let scene = Scene::start(site);
    scene.others_react();
    for (name, _, says) in &cases {
        let run = scene.end(name);
        let end = outcome(&run);
        assert!(end.starts_with("trapped: ") && end.contains(says), "{run}");
        let kib = run["max_rss_kib"].as_u64().unwrap();
        assert!(kib < 64 << 10, "{run}");
    }
    assert_eq!(outcome(&scene.end("exits_3")), "exit code 3");
    scene.is_unharmed();
}

#[test]
fn memory_of_the_host_ends_too() {
    // As many as it may hold are a gigabyte.
    let scene = Scene::of("hoards_fields", "memory='16MiB'", "");
    let run = scene.end("w");
    assert_eq!(outcome(&run), "killed by SIGABRT", "{run}");
    said(&scene.daemon, "memory allocation of");
    let kib = run["max_rss_kib"].as_u64().unwrap();
    assert!(kib < 400 << 10, "{run}");
    scene.is_unharmed();
}
