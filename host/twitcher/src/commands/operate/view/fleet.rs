//! The fleet by its watches and by its hosts, and who lags.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::commands::operate::table::{Table, cut, number as figures, whole};
use crate::commands::operate::theme::{Theme, Tone, number};
use twitcher_control::api::{Fleet, FleetHost, FleetResult, FleetRun, Forgotten, Laggard, Laggards};
use twitcher_model::sanitize;

use super::{WIDE, is_at_least, quoted};

/// So many hosts are named that lag with a watch.
const MOST_NAMED: usize = 5;

/// A fleet in one line.
fn head(fleet: &Fleet, look: &Theme) -> String {
    let count = |wanted: fn(&FleetHost) -> bool| fleet.hosts.iter().filter(|host| wanted(host)).count();
    let hosts = number(fleet.hosts.len() as u64, "host", "hosts");
    let mut text = format!("{} {hosts}", look.paint(&sanitize::line(&fleet.root), Tone::Strong));
    let parts = [
        (count(|host| host.live.is_none()), "absent"),
        (count(|host| host.lagging > 0), "lagging"),
        (count(|host| host.problem.is_some()), "not to be read"),
    ];
    let mut separator = ": ";
    for (count, what) in parts {
        if count > 0 {
            // Writing to a String cannot fail.
            let _ = write!(text, "{separator}{count} {what}");
            separator = ", ";
        }
    }
    if let Some(problem) = &fleet.problem {
        let said = format!(
            "{} is not in it: {}",
            sanitize::line(&fleet.host),
            sanitize::line(problem)
        );
        let _ = write!(text, "\n{}", look.paint(&said, Tone::Bad));
    }
    text.push_str("\n\n");
    if fleet.hosts.is_empty() {
        text.push_str("no host has joined yet\n");
    }
    text
}

/// A watch of many hosts.
#[derive(Default)]
struct Tally<'a> {
    hosts: usize,
    current: usize,
    failed: usize,
    lagging: Vec<&'a str>,
}

/// The watches of a fleet, and how many hosts have handled what their znodes are now.
pub(crate) fn fleet(fleet: &Fleet, look: &Theme) -> String {
    let mut text = head(fleet, look);
    let mut watches: BTreeMap<(&str, &str), Tally<'_>> = BTreeMap::new();
    for host in &fleet.hosts {
        for result in &host.watches {
            let tally = watches.entry((&result.watch, &result.znode)).or_default();
            tally.hosts += 1;
            tally.failed += usize::from(result.lags && (result.state == "failed" || held_failure(result).is_some()));
            match result.lags {
                true => tally.lagging.push(&host.name),
                false => tally.current += 1,
            }
        }
    }
    let mut table = Table::new(&[
        cut("WATCH", 12),
        cut("ZNODE", 12),
        figures("HOSTS"),
        figures("CURRENT"),
        figures("LAGGING"),
        figures("FAILED"),
        cut("WHO LAGS", 16),
    ]);
    for ((watch, znode), tally) in &watches {
        let Tally { lagging, .. } = tally;
        let mut who = lagging.iter().take(MOST_NAMED).copied().collect::<Vec<_>>().join(", ");
        if lagging.len() > MOST_NAMED {
            let _ = write!(who, " and {} more", lagging.len() - MOST_NAMED);
        }
        let bad = |count: usize| (count.to_string(), (count > 0).then_some(Tone::Bad));
        table.row([
            (sanitize::line(watch), None),
            (sanitize::line(znode), None),
            (tally.hosts.to_string(), None),
            (tally.current.to_string(), None),
            bad(lagging.len()),
            bad(tally.failed),
            (sanitize::line(&who), None),
        ]);
    }
    if !watches.is_empty() {
        text.push_str(&table.render(look));
    }
    text
}

/// The hosts of a fleet.
pub(crate) fn hosts(fleet: &Fleet, look: &Theme) -> String {
    let mut text = head(fleet, look);
    let mut table = Table::new(&[
        cut("HOST", 12),
        whole("STATE"),
        whole("JOINED"),
        figures("WATCHES"),
        figures("LAGGING"),
        whole("VERSION"),
        cut("LABELS", 12),
        cut("WHY", 16),
    ]);
    for host in &fleet.hosts {
        let (state, tone) = match (host.live, host.lagging) {
            _ if host.problem.is_some() => ("unknown", Tone::Bad),
            (None, _) => ("absent", Tone::Odd),
            (Some(_), 0) => ("current", Tone::Good),
            (Some(_), _) => ("lagging", Tone::Bad),
        };
        let labels = host.labels.iter().map(|(key, value)| format!("{key}={value}"));
        let labels = sanitize::line(&labels.collect::<Vec<_>>().join(","));
        let lagging = host.watches.iter().find(|result| result.lags);
        let why = match (&host.problem, lagging) {
            (Some(problem), _) => sanitize::line(problem),
            (None, Some(result)) => format!("{}: {}", sanitize::line(&result.watch), why(result)),
            (None, None) => String::new(),
        };
        table.row([
            (sanitize::line(&host.name), None),
            (state.to_owned(), Some(tone)),
            (host.live.map_or_else(String::new, |since| look.ago(since)), None),
            (host.watches.len().to_string(), None),
            (host.lagging.to_string(), (host.lagging > 0).then_some(Tone::Bad)),
            (sanitize::line(&host.version), None),
            (labels, None),
            (why, None),
        ]);
    }
    if !fleet.hosts.is_empty() {
        text.push_str(&table.render(look));
    }
    text
}

/// A host that was forgotten.
pub(crate) fn forgotten(forgotten: &Forgotten) -> String {
    let host = sanitize::line(&forgotten.host);
    let znodes = number(forgotten.znodes, "znode", "znodes");
    format!("{host}: forgotten, with {znodes} that it had left\n")
}

/// Who lags, with what, and why.
pub(crate) fn laggards(found: &Laggards, look: &Theme) -> String {
    let hosts = number(found.hosts, "host", "hosts");
    let mut lagging: Vec<&str> = found.laggards.iter().map(|laggard| laggard.host.as_str()).collect();
    lagging.dedup();
    let mut text = match (lagging.len(), found.unknown.len()) {
        (0, 0) => return format!("{hosts}: nobody lags\n"),
        (count, 0) => format!("{hosts}: {count} lagging\n\n"),
        (count, unknown) => format!("{hosts}: {count} lagging, {unknown} not to be read\n\n"),
    };
    let mut table = Table::new(&[
        cut("HOST", 12),
        cut("WATCH", 12),
        whole("STATE"),
        whole("HANDLED"),
        whole("NEWEST"),
        cut("WHY", 16),
    ]);
    let wide = is_at_least(look, WIDE);
    let shown = |state: &Option<String>| match state {
        Some(state) if wide => sanitize::line(state),
        None if wide => "-".to_owned(),
        _ => String::new(),
    };
    for Laggard { host, live, result } in &found.laggards {
        let (state, tone) = match (live, result.state.as_str()) {
            (None, _) => ("absent".to_owned(), Tone::Odd),
            // It does not know yet that it is not.
            (Some(_), "current") => ("behind".to_owned(), Tone::Odd),
            (Some(_), state @ ("failed" | "unreadable")) => (state.to_owned(), Tone::Bad),
            (Some(_), state) => (sanitize::line(state), Tone::Odd),
        };
        table.row([
            (sanitize::line(host), None),
            (sanitize::line(&result.watch), None),
            (state, Some(tone)),
            (shown(&result.good), None),
            (shown(&result.newest), None),
            (why(result), None),
        ]);
    }
    for unknown in &found.unknown {
        table.row([
            (sanitize::line(&unknown.host), None),
            (String::new(), None),
            ("unknown".to_owned(), Some(Tone::Bad)),
            (String::new(), None),
            (String::new(), None),
            (sanitize::line(&unknown.problem), None),
        ]);
    }
    text.push_str(&table.render(look));
    text
}

/// The failed run that a watch stands still after: it is parked, or was paused in the face of it.
fn held_failure(result: &FleetResult) -> Option<&FleetRun> {
    let failed = result.last_run.as_ref().filter(|last| last.outcome != "success");
    failed.filter(|_| result.state == "held")
}

/// What is known of why a host lags with a watch.
fn why(result: &FleetResult) -> String {
    let last = result.last_run.as_ref();
    let resume = || format!("on the host, twitcher resume {}", quoted(&result.watch));
    if let Some(last) = held_failure(result) {
        return format!(
            "held after {}, attempt {}: see twitcher logs {}, then {}",
            sanitize::line(&last.outcome),
            last.attempt,
            sanitize::line(&last.run),
            resume()
        );
    }
    match (result.state.as_str(), last) {
        ("failed", Some(last)) => format!(
            "{}, attempt {}: on the host, twitcher logs {}",
            sanitize::line(&last.outcome),
            last.attempt,
            sanitize::line(&last.run)
        ),
        ("behind", Some(last)) if last.outcome != "success" => {
            format!(
                "under way; last {}, attempt {}",
                sanitize::line(&last.outcome),
                last.attempt
            )
        }
        ("behind", _) => "under way".to_owned(),
        ("held", _) => format!("held: {}", resume()),
        ("unreadable", _) => "the host cannot read the znode".to_owned(),
        ("current", _) => "has not handled the newest state".to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use twitcher_control::api::UnknownHost;
    use twitcher_model::WatchType;

    fn look() -> Theme {
        Theme {
            width: Some(120),
            colour: false,
            now: Timestamp::UNIX_EPOCH,
            zone: None,
        }
    }

    fn result(state: &str, lags: bool) -> FleetResult {
        FleetResult {
            watch: "repo".to_owned(),
            znode: "/git/head".to_owned(),
            watch_type: WatchType::Data,
            state: state.to_owned(),
            lags,
            at: Some("0x7".to_owned()),
            good: Some("0x6".to_owned()),
            newest: Some("0x7".to_owned()),
            last_run: Some(FleetRun {
                run: "1m83w1vm50002".to_owned(),
                outcome: "exit code 1\u{1b}[31m".to_owned(),
                attempt: 3,
                started: Timestamp::UNIX_EPOCH,
                duration: 1.0,
                ungoverned: false,
            }),
        }
    }

    fn host(name: &str, live: bool, results: Vec<FleetResult>) -> FleetHost {
        FleetHost {
            name: name.to_owned(),
            id: None,
            live: live.then_some(Timestamp::UNIX_EPOCH),
            labels: [("rack".to_owned(), "r7".to_owned())].into(),
            version: "2.0.0".to_owned(),
            problem: None,
            lagging: results.iter().filter(|result| result.lags).count() as u64,
            watches: results,
        }
    }

    fn of(hosts: Vec<FleetHost>) -> Fleet {
        Fleet {
            root: "/twitcher".to_owned(),
            host: "web-1".to_owned(),
            problem: None,
            at: Timestamp::UNIX_EPOCH,
            hosts,
        }
    }

    #[test]
    fn a_fleet_is_a_table_of_watches() {
        let mut hosts: Vec<FleetHost> = (1..=7)
            .map(|number| host(&format!("web-{number}"), true, vec![result("failed", number > 1)]))
            .collect();
        hosts[1].watches.push(FleetResult {
            watch: "port\u{1b}[31m".to_owned(),
            ..result("current", false)
        });
        let text = fleet(&of(hosts), &look());
        assert!(text.starts_with("/twitcher 7 hosts: 6 lagging\n\nWATCH "), "{text}");
        let row = |name: &str| {
            let row = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            row.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            row("repo"),
            "repo /git/head 7 1 6 6 web-2, web-3, web-4, web-5, web-6 and 1 more"
        );
        assert!(row("port").ends_with("/git/head 1 1 0 0"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text:?}");
        assert_eq!(
            fleet(&of(Vec::new()), &look()),
            "/twitcher 0 hosts\n\nno host has joined yet\n"
        );
    }

    #[test]
    fn a_fleet_is_a_table_of_hosts() {
        let text = super::hosts(
            &of(vec![
                host("web-1", true, vec![result("current", false)]),
                host("web-2", false, vec![result("current", false)]),
                host("web-3", true, vec![result("failed", true)]),
            ]),
            &look(),
        );
        assert!(
            text.starts_with("/twitcher 3 hosts: 1 absent, 1 lagging\n\nHOST "),
            "{text}"
        );
        let row = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        for (host, part) in [
            ("web-1", "current"),
            ("web-2", "absent"),
            ("web-3", "lagging"),
            ("web-3", "rack=r7"),
            ("web-3", "repo: exit code 1"),
        ] {
            assert!(row(host).contains(part), "{host} {part}: {text}");
        }
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }

    #[test]
    fn who_lags_is_told_with_what_and_why() {
        let laggard = |host: &str, live: bool, state| Laggard {
            host: host.to_owned(),
            live: live.then_some(Timestamp::UNIX_EPOCH),
            result: result(state, true),
        };
        let mut found = Laggards {
            at: Timestamp::UNIX_EPOCH,
            hosts: 3,
            laggards: vec![
                laggard("web-2", false, "current"),
                laggard("web-3", true, "failed"),
                laggard("web-3", true, "held"),
            ],
            unknown: vec![UnknownHost {
                host: "web-4".to_owned(),
                problem: "it makes no sense".to_owned(),
            }],
        };
        let text = laggards(&found, &look());
        assert!(text.starts_with("3 hosts: 2 lagging, 1 not to be read\n\n"), "{text}");
        for part in ["absent", "exit code 1", "it makes no sense"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let held = text.lines().find(|line| line.contains(" held ")).unwrap_or_default();
        assert!(held.contains("held after exit code 1"), "{text}");
        let why_held = why(&result("held", true));
        assert!(
            why_held.contains("attempt 3: see twitcher logs 1m83w1vm50002"),
            "{why_held}"
        );
        assert!(why_held.contains("twitcher resume repo"), "{why_held}");
        let paused = FleetResult {
            watch: "pull the repo".to_owned(),
            last_run: None,
            ..result("held", true)
        };
        assert_eq!(why(&paused), "held: on the host, twitcher resume 'pull the repo'");
        let fleet = fleet(&of(vec![host("web-3", true, vec![result("held", true)])]), &look());
        let row = fleet.lines().find(|line| line.starts_with("repo")).unwrap_or_default();
        let figures: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(figures[2..], ["1", "0", "1", "1", "web-3"], "{fleet}");
        assert!(!text.contains('\u{1b}'), "{text:?}");
        (found.laggards, found.unknown) = (Vec::new(), Vec::new());
        assert_eq!(laggards(&found, &look()), "3 hosts: nobody lags\n");
    }
}
