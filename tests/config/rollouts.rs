//! `Rollout(…)` in a `.twc` file: its `verify`, and what is wrong with one.

use super::{Dir, errors};

#[test]
fn a_rollout_can_have_its_hosts_verified_and_its_waves_checked() {
    let text = r#"
healthy = Exec(["/usr/local/bin/healthy", "--now"], no_new_privs = True)
RegisterWatch("/git/head", Exec("x"), timeout = 300, rollout = Rollout("repo", at_once = 5, verify = healthy, verify_for = 30,
    waves = [Wave(percent = 10, bake = 300, check = Exec(["/usr/local/bin/errors-ok"])), Wave(percent = 100)], unavailable = 600))
RegisterWatch("/b", Exec("x"), timeout = 300, rollout = Rollout("b", at_once = 1, unavailable = WAIT))
"#;
    let watches = Dir::new(&[("a.twc", text)]).watches();
    let rollout = watches[0].rollout.as_ref().unwrap();
    let verify = rollout.verify.as_ref().unwrap();
    assert_eq!(verify.probe.argv.len(), 2);
    assert!(verify.probe.hardening.no_new_privs);
    assert_eq!((verify.steady.as_secs(), verify.deadline.as_secs()), (30, 300));
    assert_eq!(
        &*rollout.waves[0].check.as_ref().unwrap().argv[0],
        "/usr/local/bin/errors-ok"
    );
    assert_eq!(rollout.unavailable.map(|time| time.as_secs()), Some(600));
    let other = watches[1].rollout.as_ref().unwrap();
    assert_eq!((&other.verify, other.unavailable), (&None, None));
}

#[test]
fn what_is_wrong_with_verify_or_a_check_is_told_where_it_stands() {
    let said = errors(
        r#"
def healthy():
    pass
RegisterWatch("/a", Exec("x"), timeout = 9, rollout = Rollout("a", at_once = 1, verify = Exec("true"), verify_for = 60, verify_deadline = 30))
RegisterWatch("/b", Exec("x"), timeout = 9, rollout = Rollout("b", at_once = 1, verify = healthy))
RegisterWatch("/c", Exec("x"), timeout = 9, rollout = Rollout("c", at_once = 1,
    waves = [Wave(check = healthy), Wave(check = Exec("true", uid = "app")), Wave()]))
RegisterWatch("/d", Exec("x"), timeout = 9, rollout = Rollout("d", at_once = 1, verify_deadline = 30, unavailable = "soon"))
"#,
    );
    insta::assert_snapshot!(said, @r#"
    DIR/a.twc:4:117: verify_for must be less than verify_deadline, or every host would fail: 60 s is not less than 30 s
      | RegisterWatch("/a", Exec("x"), timeout = 9, rollout = Rollout("a", at_once = 1, verify = Exec("true"), verify_for = 60, verify_deadline = 30))
      |                                                                                                                     ^
      hint: verify_deadline is counted from the end of the action, and what verify_for counts comes within it

    DIR/a.twc:5:90: verify must be an Exec(…), not a function
      | RegisterWatch("/b", Exec("x"), timeout = 9, rollout = Rollout("b", at_once = 1, verify = healthy))
      |                                                                                          ^
      hint: it is asked again and again, so it is a command whose exit code says how it stands: write Exec(["/usr/local/bin/healthy"]); in JSON {"exec": ["/usr/local/bin/healthy"]}

    DIR/a.twc:7:27: check must be an Exec(…), not a function
      |     waves = [Wave(check = healthy), Wave(check = Exec("true", uid = "app")), Wave()]))
      |                           ^
      hint: it is asked again and again, so it is a command whose exit code says how it stands: write Exec(["/usr/local/bin/healthy"]); in JSON {"exec": ["/usr/local/bin/healthy"]}

    DIR/a.twc:7:50: check has "uid", which is for commands of a component
      |     waves = [Wave(check = healthy), Wave(check = Exec("true", uid = "app")), Wave()]))
      |                                                  ^
      hint: the watch has a uid of its own: RegisterWatch(…, uid = …)

    DIR/a.twc:8:99: verify_deadline goes with verify, which is not given
      | RegisterWatch("/d", Exec("x"), timeout = 9, rollout = Rollout("d", at_once = 1, verify_deadline = 30, unavailable = "soon"))
      |                                                                                                   ^
      hint: verify = Exec(["/usr/local/bin/healthy"]) says whether a host that has acted is well

    DIR/a.twc:8:117: unavailable must be WAIT or a number of seconds from 0 to 604800, a week, not "soon"
      | RegisterWatch("/d", Exec("x"), timeout = 9, rollout = Rollout("d", at_once = 1, verify_deadline = 30, unavailable = "soon"))
      |                                                                                                                     ^
    "#);
}
