//! What commands are kept from, if they ask to be: seen from within, by what they can no longer do.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::unistd::geteuid;

use crate::support::daemon::{Daemon, Site};

/// A command's output, once it has ended. Takes root, as what is tested does; else none.
fn output(command: &str, fields: &str, watch: &str) -> Option<(String, Daemon, Site)> {
    if !geteuid().is_root() {
        eprintln!("only root can do that: left out");
        return None;
    }
    let site = Site::new();
    fs::set_permissions(site.path(""), Permissions::from_mode(0o777)).unwrap();
    let mine = site.path("mine");
    fs::create_dir(&mine).unwrap();
    fs::set_permissions(&mine, Permissions::from_mode(0o777)).unwrap();
    let command = command.replace("SITE", &site.path("").to_string_lossy());
    let fields = fields.replace("SITE", &site.path("").to_string_lossy());
    site.config(
        "w.twc",
        &format!("RegisterWatch('/x', Exec({command:?}, {fields}), name='w', {watch})\n"),
    );
    site.set("/x", "1");
    let daemon = site.start();
    daemon.wait_runs("w", 1);
    let text = daemon.text();
    Some((text, daemon, site))
}

/// Whether a line of the output is this.
fn said(output: &str, line: &str) -> bool {
    output.contains(&format!("\"message\":\"{line}\""))
}

const SETS: &str = "sed -n 's/^\\(Cap[A-Z][a-z]*\\|NoNewPrivs\\):[ \t]*/\\1=/p' /proc/self/status";

#[test]
fn a_user_has_the_capabilities_that_are_named_and_no_others_can_be_got() {
    let Some((text, ..)) = output(
        SETS,
        "capabilities=['CAP_NET_BIND_SERVICE', 'CAP_CHOWN']",
        "uid='nobody'",
    ) else {
        return;
    };
    for set in ["CapPrm", "CapEff", "CapBnd", "CapAmb", "CapInh"] {
        assert!(said(&text, &format!("{set}=0000000000000401")), "{set}: {text}");
    }
    assert!(said(&text, "NoNewPrivs=0"), "{text}");
}

#[test]
fn root_is_left_without_capabilities_if_none_are_named() {
    let Some((text, ..)) = output(SETS, "capabilities=[], no_new_privs=True", "") else {
        return;
    };
    for set in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(said(&text, &format!("{set}=0000000000000000")), "{set}: {text}");
    }
    assert!(said(&text, "NoNewPrivs=1"), "{text}");
}

#[test]
fn a_set_user_id_program_gives_nothing_to_who_asks_for_no_new_privileges() {
    let id = "cp /usr/bin/id SITE/mine/id && chmod 4755 SITE/mine/id";
    let command = "echo effective=$(SITE/mine/id -u)";
    for (fields, user) in [("", "0"), ("no_new_privs=True", "65534")] {
        if !geteuid().is_root() {
            return;
        }
        let site = Site::new();
        fs::set_permissions(site.path(""), Permissions::from_mode(0o777)).unwrap();
        fs::create_dir(site.path("mine")).unwrap();
        let place = |text: &str| text.replace("SITE", &site.path("").to_string_lossy());
        let prepared = std::process::Command::new("sh")
            .args(["-c", &place(id)])
            .status()
            .unwrap();
        assert!(prepared.success());
        let command = place(command);
        site.config(
            "w.twc",
            &format!("RegisterWatch('/x', Exec({command:?}, {fields}), name='w', uid='nobody')\n"),
        );
        site.set("/x", "1");
        let daemon = site.start();
        daemon.wait_runs("w", 1);
        assert!(said(&daemon.text(), &format!("effective={user}")), "{}", daemon.text());
    }
}

#[test]
fn what_is_temporary_is_the_run_s_own_and_goes_with_it() {
    let name = format!("twitcher-private-{}", std::process::id());
    let command =
        format!("echo found=$(ls -A /tmp /var/tmp | grep -vc :) && touch /tmp/{name} /var/tmp/{name} && echo made");
    let Some((text, ..)) = output(&command, "private_tmp=True", "uid='nobody'") else {
        return;
    };
    // ls says nothing of empty directories but their names and a line between them.
    assert!(said(&text, "found=1") && said(&text, "made"), "{text}");
    for dir in ["/tmp", "/var/tmp"] {
        assert!(!Path::new(dir).join(&name).exists());
    }
}

#[test]
fn what_is_read_only_is_so_for_root_too_and_the_rest_is_not() {
    let command = "touch SITE/mine/a || echo kept; touch SITE/b && echo wrote";
    let Some((text, _, site)) = output(command, "read_only=['SITE/mine']", "") else {
        return;
    };
    assert!(said(&text, "kept") && said(&text, "wrote"), "{text}");
    assert!(site.path("b").exists() && !site.path("mine/a").exists());
}

#[test]
fn everything_is_read_only_but_what_is_its_own() {
    let outside = format!("/var/lib/twitcher-read-only-{}", std::process::id());
    let command = format!(
        "touch {outside} || echo kept; echo data=$(cat); touch /tmp/mine && echo wrote; echo x > /dev/null && echo null"
    );
    let Some((text, ..)) = output(&command, "read_only=True, private_tmp=True", "") else {
        return;
    };
    for line in ["kept", "wrote", "null", "data=1"] {
        assert!(said(&text, line), "{line}: {text}");
    }
    assert!(!Path::new(&outside).exists());
}

#[test]
fn what_cannot_be_made_read_only_is_a_run_that_did_not_start() {
    let Some((text, ..)) = output("echo ran", "read_only=['/no/such/directory']", "") else {
        return;
    };
    assert!(
        text.contains("make its own mounts, which takes root (read_only: /no/such/directory)"),
        "{text}"
    );
    assert!(!said(&text, "ran"));
}
