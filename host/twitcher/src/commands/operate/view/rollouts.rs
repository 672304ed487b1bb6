//! What rolls out, and how one rollout stands, host by host.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::commands::operate::table::{Table, cut, whole};
use crate::commands::operate::theme::{Theme, Tone, number};
use twitcher_control::api::{BrokenRollout, RolloutHost, RolloutStatus, Rollouts};
use twitcher_model::sanitize;

use super::quoted;

/// Hosts that are as they should be are listed if there are no more than these.
const FEW: usize = 12;

/// The words of all rollouts, above what else there is of the fleet.
pub(crate) fn rollouts(found: &Rollouts, look: &Theme) -> String {
    let mut text = String::new();
    for rollout in &found.rollouts {
        text.push_str(&head(rollout, look));
    }
    for broken in &found.broken {
        text.push_str(&broken_rollout(broken, look));
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

/// One of which nothing can be said, with what ends that.
fn broken_rollout(broken: &BrokenRollout, look: &Theme) -> String {
    let name = look.paint(&sanitize::line(&broken.name), Tone::Strong);
    let problem = sanitize::line(&broken.problem);
    let mut text = format!("{name}: {}, {problem}\n", look.paint("cannot be read", Tone::Bad));
    if let Some(help) = &broken.help {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {}", sanitize::line(help));
    }
    text
}

/// A rollout with its hosts.
pub(crate) fn rollout(rollout: &RolloutStatus, look: &Theme) -> String {
    let mut text = head(rollout, look);
    let is_told = |host: &&RolloutHost| rollout.hosts.len() <= FEW || is_of_interest(host);
    let mut hosts: Vec<&RolloutHost> = rollout.hosts.iter().filter(is_told).collect();
    hosts.sort_by_key(|host| (!is_of_interest(host), host.host.as_str()));
    if hosts.is_empty() {
        return text;
    }
    text.push('\n');
    let mut table = Table::new(&[cut("HOST", 12), whole("STATE"), whole("STARTED"), cut("WHY", 16)]);
    for host in hosts {
        // What ran for an older change, or with the slot before this one, says nothing of what is happening now.
        let is_former = matches!(host.state.as_str(), "waiting" | "granted" | "acting");
        let ran = host
            .last_run
            .as_ref()
            .filter(|_| host.serial == rollout.serial && !is_former);
        let started = ran.map(|run| look.ago(run.started));
        table.row([
            (sanitize::line(&host.host), None),
            (sanitize::line(&host.state), Some(tone(&host.state))),
            (started.unwrap_or_default(), None),
            (why(host, rollout), None),
        ]);
    }
    text.push_str(&table.render(look));
    text
}

fn is_of_interest(host: &RolloutHost) -> bool {
    let is_ungoverned = host.last_run.as_ref().is_some_and(|last| last.ungoverned);
    !matches!(host.state.as_str(), "current" | "waiting" | "absent") || host.policy_differs || is_ungoverned
}

fn tone(state: &str) -> Tone {
    match state {
        "current" => Tone::Good,
        "acting" | "verifying" | "granted" => Tone::Busy,
        "failed" | "lost" => Tone::Bad,
        "declined" | "other" | "absent" => Tone::Odd,
        _ => Tone::Dull,
    }
}

/// A rollout in two lines.
fn head(rollout: &RolloutStatus, look: &Theme) -> String {
    let name = look.paint(&sanitize::line(&rollout.name), Tone::Strong);
    let Some(znode) = &rollout.znode else {
        return format!("{name}: nothing has gone out yet{}\n", steward(rollout));
    };
    let state = sanitize::line(&rollout.state);
    let tone = match rollout.state.as_str() {
        "done" => Tone::Good,
        "halted" | "aborted" => Tone::Bad,
        "paused" | "promoting" => Tone::Odd,
        _ => Tone::Busy,
    };
    let znode = sanitize::line(znode);
    let (serial, since) = (rollout.serial, look.ago(rollout.since));
    let mut text = format!("{name} {znode}  change {serial}: {} {since}", look.paint(&state, tone));
    if let Some(why) = &rollout.why {
        // Writing to a String cannot fail.
        let _ = write!(text, ", {}", sanitize::line(why));
    }
    if rollout.newest.is_some() && rollout.newest != rollout.goal {
        text.push_str("; the znode has changed since, and that goes out next");
    }
    text.push_str(&steward(rollout));
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for host in &rollout.hosts {
        *counts.entry(&host.state).or_default() += 1;
    }
    let counts: Vec<String> = counts
        .into_iter()
        .map(|(state, count)| format!("{count} {}", sanitize::line(state)))
        .collect();
    let hosts = number(rollout.hosts.len() as u64, "host", "hosts");
    let _ = write!(
        text,
        "\n  wave {} of {}, {} at once, {} may fail; {hosts}: {}",
        rollout.wave,
        rollout.waves.max(rollout.wave),
        rollout.at_once,
        rollout.max_failures,
        counts.join(", ")
    );
    let differs = rollout
        .hosts
        .iter()
        .filter(|host| host.policy_differs && host.live)
        .count();
    if differs > 0 {
        let _ = write!(
            text,
            "; {} another configuration of it",
            match differs {
                1 => "1 has".to_owned(),
                count => format!("{count} have"),
            }
        );
    }
    text.push('\n');
    let counts_failed = rollout
        .hosts
        .iter()
        .any(|host| matches!(host.state.as_str(), "failed" | "lost"));
    let next = match rollout.state.as_str() {
        "halted" if !counts_failed => Some(format!(
            "twitcher fleet retry {0} asks again, resume {0} goes on all the same, rollback {0} goes back, abort {0} ends it",
            quoted(&rollout.name)
        )),
        "halted" => Some(format!(
            "twitcher fleet retry {0} tries them again, resume {0} goes on without them, rollback {0} goes back, abort {0} ends it",
            quoted(&rollout.name)
        )),
        "paused" => Some(format!("twitcher fleet resume {}", quoted(&rollout.name))),
        "promoting" => Some(format!(
            "twitcher fleet promote {} lets the next wave go",
            quoted(&rollout.name)
        )),
        _ => None,
    };
    if let Some(next) = next {
        let _ = writeln!(text, "  {next}");
    }
    text
}

fn steward(rollout: &RolloutStatus) -> String {
    match &rollout.steward {
        Some(steward) => format!("  steward {}", sanitize::line(steward)),
        None if rollout.hosts.iter().any(|host| host.live) => {
            "  no steward: none of the hosts that are there is it yet, or may be; `twitcher status` on one of them says so".to_owned()
        }
        None => "  no steward: no host that has it is there".to_owned(),
    }
}

/// What is known of why a host stands so, and what to do.
fn why(host: &RolloutHost, rollout: &RolloutStatus) -> String {
    let last = host.last_run.as_ref();
    let differs = match host.policy_differs && host.live {
        true => "another configuration of the rollout",
        false => "",
    };
    match (host.state.as_str(), last) {
        ("failed", Some(last)) => format!(
            "{}, attempt {}: on the host, twitcher logs {}",
            sanitize::line(&last.outcome),
            last.attempt,
            sanitize::line(&last.run)
        ),
        ("lost", _) => format!(
            "went away with a slot: twitcher fleet release {} {}",
            quoted(&host.host),
            quoted(&rollout.name)
        ),
        ("declined", _) => "held on the host, or it cannot read the znode: twitcher status there".to_owned(),
        ("other", _) => "its watch of this rollout watches another znode".to_owned(),
        ("granted" | "acting" | "verifying", _) if !host.live => "it is not there".to_owned(),
        ("verifying", Some(last)) if last.outcome.starts_with("verify: ") => format!(
            "not well yet, {}: on the host, twitcher logs {}",
            sanitize::line(&last.outcome),
            sanitize::line(&last.run)
        ),
        ("verifying", _) => "its action has succeeded; verify says whether it is well, and has not said no".to_owned(),
        ("current", Some(last)) if last.ungoverned => match differs {
            "" => "acted without its turn".to_owned(),
            differs => format!("acted without its turn; {differs}"),
        },
        _ => differs.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use twitcher_control::api::FleetRun;
    use twitcher_model::WatchType;

    fn look() -> Theme {
        Theme {
            width: Some(120),
            colour: false,
            now: Timestamp::UNIX_EPOCH,
            zone: None,
        }
    }

    fn host(name: &str, state: &str) -> RolloutHost {
        RolloutHost {
            host: name.to_owned(),
            state: state.to_owned(),
            wave: Some(1),
            live: state != "absent" && state != "lost",
            slot: state == "lost",
            serial: 41,
            policy_differs: false,
            last_run: (state == "failed").then(|| FleetRun {
                run: "1m83w1vm50002".to_owned(),
                outcome: "exit code 1\u{1b}[31m".to_owned(),
                attempt: 3,
                started: Timestamp::UNIX_EPOCH,
                duration: 1.0,
                ungoverned: false,
            }),
        }
    }

    fn halted(hosts: Vec<RolloutHost>) -> RolloutStatus {
        RolloutStatus {
            name: "repo".to_owned(),
            znode: Some("/git/head".to_owned()),
            watch_type: Some(WatchType::Data),
            serial: 41,
            goal: Some("0x7".to_owned()),
            newest: Some("0x7".to_owned()),
            state: "halted".to_owned(),
            since: Timestamp::UNIX_EPOCH,
            why: Some("3 hosts failed, 2 allowed".to_owned()),
            by: "web-07".to_owned(),
            wave: 2,
            waves: 3,
            plan: Vec::new(),
            at_once: 5,
            slots: 1,
            max_failures: 2,
            steward: Some("web-07".to_owned()),
            hosts,
        }
    }

    #[test]
    fn what_verify_answers_is_told_and_what_ran_before_this_turn_is_not() {
        let ran = |outcome: &str, host: RolloutHost| RolloutHost {
            last_run: Some(FleetRun {
                run: "1m83w1vm50002".to_owned(),
                outcome: outcome.to_owned(),
                attempt: 1,
                started: Timestamp::UNIX_EPOCH - jiff::SignedDuration::from_secs(120),
                duration: 1.0,
                ungoverned: false,
            }),
            ..host
        };
        let hosts = vec![
            ran("exit code 1", host("web-1", "acting")),
            ran("success", host("web-2", "verifying")),
            ran("verify: exit code 4", host("web-3", "verifying")),
        ];
        let text = rollout(
            &RolloutStatus {
                steward: None,
                ..halted(hosts)
            },
            &look(),
        );
        let row = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        assert!(!row("web-1").contains("min"), "{text}");
        assert!(row("web-2").contains("has not said no"), "{text}");
        assert!(
            row("web-3").contains("not well yet, verify: exit code 4: on the host, twitcher logs 1m83w1vm50002"),
            "{text}"
        );
        assert!(
            text.contains("none of the hosts that are there is it yet, or may be"),
            "{text}"
        );
    }

    #[test]
    fn a_stuck_rollout_names_its_hosts_and_what_ends_it() {
        let mut hosts: Vec<RolloutHost> = (0..40)
            .map(|number| host(&format!("web-{number:02}"), "current"))
            .collect();
        hosts.extend([
            host("web-90", "failed"),
            host("web-91", "lost"),
            host("web-92", "waiting"),
        ]);
        let text = rollout(&halted(hosts), &look());
        for part in [
            "repo /git/head  change 41: halted just now, 3 hosts failed, 2 allowed  steward web-07\n",
            "  wave 2 of 3, 5 at once, 2 may fail; 43 hosts: 40 current, 1 failed, 1 lost, 1 waiting\n",
            "twitcher fleet retry repo tries them again",
            "exit code 1",
            "twitcher logs 1m83w1vm50002",
            "twitcher fleet release web-91 repo",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("web-00") && !text.contains("web-92"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}
