//! A hundred hosts in one process, with all that may happen to a rollout, judged from the server's own transaction log.

use std::time::Duration;

use serde_json::Value;
use twitcher_fleet::rollout::Verb;
use twitcher_model::RolloutName;
use zookeeper_client::Client;

use crate::support::ensemble::Ensemble;
use crate::support::members::{self, GATE, Members, ROLLOUT, ROOT, Setting};
use crate::support::proxy::Proxy;
use crate::support::rollout_oracle::{Oracle, Rule};
use crate::support::txnlog::{self, Op, Transaction};
use crate::support::zookeeper::ZooKeeperServer;

const HOSTS: usize = 100;
const AT_ONCE: usize = 5;
const MAX_FAILURES: u32 = 2;
/// How the hosts reach the server: those whose number has the same last digit by the same proxy.
const WAYS: usize = 10;

fn setting(servers: Vec<String>) -> Setting {
    Setting {
        hosts: HOSTS,
        at_once: AT_ONCE,
        max_failures: MAX_FAILURES,
        takes: Duration::from_millis(20),
        session_timeout: Duration::from_secs(4),
        servers,
    }
}

/// Whose number the steward has, if there is one.
async fn steward(client: &Client) -> Option<usize> {
    let (data, _) = client.get_data(&format!("{GATE}/steward")).await.ok()?;
    let record: Value = serde_json::from_slice(&data).unwrap();
    record["host"].as_str()?.strip_prefix("host-")?.parse().ok()
}

/// Waits until there is another steward than this one.
async fn until_another_steward(client: &Client, than: usize) {
    let other = async {
        while steward(client).await.is_none_or(|steward| steward == than) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), other).await.unwrap();
}

/// How many slots were granted so far.
async fn granted(client: &Client) -> u64 {
    let (data, _) = client.get_data(&format!("{GATE}/grants")).await.unwrap();
    serde_json::from_slice::<Value>(&data).unwrap()["granted"]
        .as_u64()
        .unwrap()
}

/// Waits until so many more slots were granted.
async fn until_granted(client: &Client, more: u64) {
    let wanted = granted(client).await + more;
    let all = async {
        while granted(client).await < wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_hosts_keep_what_is_promised_by_the_servers_own_log() {
    let server = ZooKeeperServer::start();
    let ways: Vec<Proxy> = (0..WAYS).map(|_| Proxy::to(server.port())).collect();
    let client = members::connect(&server.address()).await;
    let members = Members::start(setting(ways.iter().map(Proxy::address).collect()), client.clone()).await;
    let operator = members.operator();
    let rollout = || ROLLOUT.parse::<RolloutName>().unwrap();
    let order = async |verb| operator.fleet.order(rollout(), verb, "ann".to_owned()).await.unwrap();

    let first = members.change().await;
    members.until_done(first).await;
    // Too many hosts fail, and some of what waits is let go on to fail as well.
    let bad = members.change_badly().await;
    let is = |state: &'static str| move |gate: &Value, _: usize, _: usize| gate["state"] == state;
    members.until("halted", bad, is("halted")).await;
    order(Verb::Retry).await;
    members.until("halted again", bad, is("halted")).await;
    // It goes forward, is held in the middle, and what is held is overtaken by something newer.
    let paused = members.change().await;
    until_granted(&client, 20).await;
    order(Verb::Pause).await;
    members.until("paused", paused, is("paused")).await;
    let newer = members.change().await;
    members.until("paused with the newer", newer, is("paused")).await;
    order(Verb::Resume).await;
    until_granted(&client, 10).await;
    // The steward is cut off in the middle, with nine others. Hosts with a slot among them keep it.
    let former = steward(&client).await.unwrap();
    ways[former % WAYS].rules(|rules| rules.blackhole = true);
    until_another_steward(&client, former).await;
    ways[former % WAYS].rules(|rules| rules.blackhole = false);
    ways[former % WAYS].sever();
    members.until_done(newer).await;
    // An action that never ends, and then its host does.
    let last = members.change_and_hang(7).await;
    let held = members::name(7);
    let others = format!("{ROOT}/hosts/{held}/r.{ROLLOUT}");
    members.until("it hangs", last, |_, _, _| true).await;
    let begun = tokio::time::Instant::now();
    loop {
        let (data, _) = client.get_data(&others).await.unwrap();
        let result: Value = serde_json::from_slice(&data).unwrap();
        if result["part"]["state"] == "acting" {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{result}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    members.kill(7);
    let by = "ann".to_owned();
    operator.fleet.release(rollout(), held, by).await.unwrap();
    members.until("done", last, is("done")).await;

    let log = until_log_is_read(&client, &server).await;
    let oracle = Oracle::judge(ROOT, &log);
    assert_eq!(oracle.violations(), []);
    let figures = oracle.figures();
    assert_eq!(oracle.lacking(ROLLOUT), Vec::<&str>::new());
    assert_eq!(figures.most_held, AT_ONCE, "{figures:?}");
    assert_eq!((figures.serials, figures.taken_back), (5, 1), "{figures:?}");
    assert!(
        figures.stewards.len() >= 2 && figures.ended_sessions >= 2,
        "{figures:?}"
    );
    assert!(
        figures.started >= HOSTS * 3 && figures.failed > 2 * MAX_FAILURES as usize,
        "{figures:?}"
    );
    for state in ["rolling", "halted", "paused", "done"] {
        assert!(figures.states.contains(state), "{figures:?}");
    }
    doctor(&log);
}

/// Reads the log once the server has all that is replayed from it: then the log was understood.
async fn until_log_is_read(client: &Client, server: &ZooKeeperServer) -> Vec<Transaction> {
    for _ in 0..20 {
        let log = txnlog::read(&server.data()).unwrap();
        let oracle = Oracle::judge(ROOT, &log);
        let mut differs = oracle.znodes().count() < 3 * HOSTS;
        for (path, data) in oracle.znodes() {
            differs |= client.get_data(path).await.ok().is_none_or(|(now, _)| now != data);
        }
        if !differs {
            return log;
        }
        // Something was written meanwhile.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("what is replayed from the log is not what the server has");
}

fn data(op: &Op) -> Option<(&str, Value)> {
    match op {
        Op::Create { path, data, .. } | Op::Set { path, data, .. } => {
            Some((path, serde_json::from_slice(data).unwrap_or_default()))
        }
        _ => None,
    }
}

/// Whether a step of the transaction writes something like that.
fn writes(transaction: &Transaction, what: impl Fn(&str, &Value) -> bool) -> bool {
    let mut written = transaction.ops.iter().filter_map(data);
    written.any(|(path, value)| what(path, &value))
}

fn grants(transaction: &Transaction) -> bool {
    writes(transaction, |path, _| path.starts_with(&format!("{GATE}/grants/")))
}

fn starts(transaction: &Transaction) -> bool {
    writes(transaction, |_, value| value["part"]["state"] == "acting")
}

/// The same log with something in it that must not be is found out.
fn doctor(log: &[Transaction]) {
    let found = |rule: Rule, what: &str, change: &dyn Fn(&mut Vec<Transaction>)| {
        let mut log = log.to_vec();
        change(&mut log);
        let oracle = Oracle::judge(ROOT, &log);
        let rules: Vec<Rule> = oracle.violations().iter().map(|violation| violation.rule).collect();
        assert!(rules.contains(&rule), "{what}: {rules:?}");
    };
    let position = |log: &[Transaction], from: usize, is: &dyn Fn(&Transaction) -> bool| {
        from + log[from..].iter().position(is).unwrap()
    };
    found(Rule::Fence, "a grant does not check the gate", &|log| {
        let at = position(log, 0, &grants);
        log[at].ops.retain(|op| !matches!(op, Op::Check { .. }));
    });
    found(Rule::Fence, "a start does not check its slot", &|log| {
        let at = position(log, 0, &starts);
        log[at]
            .ops
            .retain(|op| !matches!(op, Op::Check { path } if path.contains("/grants/")));
    });
    for state in ["halted", "paused"] {
        let is_held =
            |transaction: &Transaction| writes(transaction, |path, value| path == GATE && value["state"] == state);
        for (what, is) in [("grant", &grants as &dyn Fn(&Transaction) -> bool), ("start", &starts)] {
            found(Rule::Held, &format!("a {what} comes after it is {state}"), &|log| {
                let held = position(log, 0, &is_held);
                let last = log[..held].iter().rposition(is).unwrap();
                let moved = log.remove(held);
                log.insert(last, moved);
            });
        }
    }
    found(Rule::Bound, "results that gave slots back are lost", &|log| {
        log.retain(|transaction| !writes(transaction, |_, value| value["part"]["state"] == "succeeded"));
    });
    found(Rule::Own, "one host writes another one's result", &|log| {
        let at = position(log, 0, &starts);
        let other = log
            .iter()
            .rev()
            .find(|other| starts(other) && other.session != log[at].session);
        log[at].session = other.unwrap().session;
    });
    found(Rule::Older, "what goes out last is what went out first", &|log| {
        let written = log.iter().flat_map(|transaction| &transaction.ops).filter_map(data);
        let goals = written.filter(|(path, _)| *path == GATE);
        let goals: Vec<String> = goals.map(|(_, gate)| gate["goal"]["state"].to_string()).collect();
        let first = goals.iter().find(|goal| *goal != "null").unwrap().clone();
        let last = goals.last().unwrap();
        for transaction in log {
            for op in &mut transaction.ops {
                if let Op::Create { data, .. } | Op::Set { data, .. } = op {
                    let text = String::from_utf8(data.clone()).unwrap();
                    *data = text.replace(last.as_str(), &first).into_bytes();
                }
            }
        }
    });
    found(Rule::Failures, "nothing halts", &|log| {
        log.retain(|transaction| !writes(transaction, |path, value| path == GATE && value["state"] == "halted"));
        for transaction in log {
            for op in &mut transaction.ops {
                if let Op::Set { path, data, .. } = op
                    && path.contains("/r.")
                {
                    let text = String::from_utf8(data.clone()).unwrap();
                    *data = text
                        .replace(r#""state":"succeeded""#, r#""state":"failed""#)
                        .into_bytes();
                }
            }
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_logs_of_an_ensemble_are_one() {
    let mut ensemble = Ensemble::start();
    let client = members::connect(&ensemble.addresses()).await;
    let setting = Setting {
        hosts: 20,
        ..setting(vec![ensemble.addresses()])
    };
    let members = Members::start(setting, client).await;
    let first = members.change().await;
    members.until_done(first).await;
    // With the leader a new epoch begins, and with what is restarted another file.
    let leads = |answer: &String| answer.contains("Mode: leader");
    let leader = ensemble.four_letters("srvr").iter().position(leads).unwrap();
    let second = members.change().await;
    until_granted(&members.client, 3).await;
    ensemble.server_mut(leader).kill();
    members.until_done(second).await;
    ensemble.heal();
    let third = members.change().await;
    members.until_done(third).await;

    let log = txnlog::read_ensemble(&ensemble.data()).unwrap();
    let epochs: std::collections::BTreeSet<i64> = log.iter().map(|transaction| transaction.zxid >> 32).collect();
    assert!(epochs.len() >= 2, "{epochs:?}");
    let oracle = Oracle::judge(ROOT, &log);
    assert_eq!(oracle.violations(), []);
    assert_eq!(oracle.lacking(ROLLOUT), Vec::<&str>::new());
    assert_eq!((oracle.figures().serials, oracle.figures().most_held), (3, AT_ONCE));
}
