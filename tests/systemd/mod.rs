//! The service on a real systemd: in a machine of its own, with the package installed, and a ZooKeeper outside.

mod exhaustion;
mod faults;
mod life;
mod machine;

use machine::Machine;

use crate::package::package;
use crate::support::proxy::Proxy;
use crate::support::writer::Writer;
use crate::support::zookeeper::{ZooKeeperServer, unique_path};

const CONFIG: &str = "/etc/twitcher/site.twc";
/// What actions write to.
const LOG: &str = "/srv/log";
/// Actions whose data begins with "slow" end once it is there.
const GO: &str = "/srv/go";

/// Writes what it begins and ends to the log. Runs once for each state, whatever becomes of the daemon.
const APP: &str = r#"
RegisterWatch("/app", Exec("""
    data=$(cat)
    echo "$data begins" >> /srv/log
    case $data in slow*) while [ ! -e /srv/go ]; do sleep 0.05; done ;; esac
    echo "$data ends" >> /srv/log
    echo "ran for $data"
"""), name="app", run_on_load=IF_CHANGED)
"#;

/// A machine with the package, and servers that it reaches by way of a proxy, all znodes below one of its own.
struct Stage {
    machine: Machine,
    proxy: Proxy,
    writer: Writer,
    root: String,
}

impl Stage {
    /// The service is installed and configured, and does not run.
    fn set(config: &str) -> Option<Self> {
        let machine = Machine::boot()?;
        let server = ZooKeeperServer::shared();
        let (writer, root) = (Writer::new(server), unique_path("systemd"));
        writer.create(&root, "");
        let proxy = Proxy::to(server.port());
        machine.install(package()).done();
        let defaults = format!("TWITCHER_ZK=\"{}{root}\"\nTWITCHER_OPTIONS=\"\"\n", proxy.address());
        machine.write("/etc/default/twitcher", &defaults);
        machine.write(CONFIG, config);
        Some(Self {
            machine,
            proxy,
            writer,
            root,
        })
    }

    fn create(&self, znode: &str, data: &str) {
        self.writer.create(&format!("{}{znode}", self.root), data);
    }

    /// Sets `/app`.
    fn change(&self, data: &str) {
        self.change_of("/app", data);
    }

    fn change_of(&self, znode: &str, data: &str) {
        self.writer.set(&format!("{}{znode}", self.root), data);
    }

    /// Sets `/app`, and waits until its action has run for that.
    fn runs_for(&self, data: &str) {
        self.change(data);
        self.machine.until_last(LOG, &format!("{data} ends"));
    }

    /// Has the action run until [`GO`] is there.
    fn runs_on_for(&self, data: &str) {
        self.change(data);
        self.machine.until_last(LOG, &format!("{data} begins"));
    }

    /// Settings of the service that an administrator adds.
    fn drop_in(&self, settings: &str) {
        let text = format!("[Service]\n{settings}");
        self.machine
            .write("/etc/systemd/system/twitcher.service.d/site.conf", &text);
        self.machine.said("systemctl daemon-reload");
    }
}
