//! Bundles that go out to a fleet as any change does.

use super::Stage;
use crate::bundles::deploying::{Scene, current, ok};
use crate::support::daemon::Site;
use crate::support::zookeeper::ZooKeeperServer;
use crate::support::{http, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_a_host_refuses_halts_the_rollout_and_rollback_brings_the_former_one_back() {
    let stage = Stage::new(&ZooKeeperServer::shared().address(), "rollout-deploy").await;
    stage.change("1.0.0").await;
    let bundles = Scene::new();
    bundles.signed("1.0.0");
    bundles.build("render", "1.1.0", "--key other");
    let source = bundles.site.path("dist/render-{version}.twb").display().to_string();
    let key = |name: &str| bundles.site.path(name).display().to_string();
    let mut hosts = Vec::new();
    // One trusts both keys and comes first, the other one of them.
    for (name, labels, keys) in [
        ("web-1", "canary=yes", &["ours.pub", "other.pub"][..]),
        ("web-2", "canary=no", &["ours.pub"]),
    ] {
        let site = Site::new();
        for file in keys {
            ok(&site, &format!("key trust {} --keys keys", key(file)));
        }
        let config = format!(
            "RegisterWatch('{}', Deploy('{source}'), name='repo', timeout=60, rollout=Rollout('repo', at_once=1, waves=[\
             Wave(labels={{'canary': 'yes'}}), Wave(percent=100)]))\n",
            stage.znode
        );
        site.config("a.twc", &config);
        let path = |name: &str| site.path(name).display().to_string();
        let more = ["--label", labels, "--bundles", &path("store"), "--keys", &path("keys")].map(str::to_owned);
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        hosts.push(stage.start(name, site, &more));
    }
    let versions = || {
        hosts
            .iter()
            .map(|host| current(&host.site).unwrap_or_default())
            .collect::<Vec<_>>()
    };
    let waits = |state: &str| {
        until(&format!("the rollout is {state}"), || {
            let status = http::operate(&hosts[0].socket, "GET", "/v1/fleet/rollouts/repo").json();
            status["state"] == state && status["goal"] == status["newest"]
        });
    };
    // Who comes late has it as a joiner.
    until("both have it", || versions() == ["1.0.0", "1.0.0"]);
    waits("done");
    assert_eq!(versions(), ["1.0.0", "1.0.0"]);
    stage.change("1.1.0").await;
    waits("halted");
    assert_eq!(versions(), ["1.1.0", "1.0.0"]);
    let (code, said) = hosts[0].operate(&["fleet", "status", "repo"]);
    assert!(
        code == 0 && said.contains("web-2") && said.contains("exit code 1"),
        "{said}"
    );
    let (code, said) = hosts[0].operate(&["fleet", "rollback", "repo"]);
    assert_eq!(code, 0, "{said}");
    waits("done");
    assert_eq!(versions(), ["1.0.0", "1.0.0"]);
}
