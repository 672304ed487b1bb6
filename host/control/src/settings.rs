//! A watch's settings as they are written in a configuration, where they are not the default.

use std::time::Duration;

use super::api::Setting;
use twitcher_model::{OnFailure, Payload, Policy, ProcessSettings, Retry, RunOnLoad, Watch, WatchType};

/// What is set of a watch. Of variables of the environment only the names: their values are often secrets.
pub fn settings(watch: &Watch) -> Vec<Setting> {
    let mut list = List::default();
    match watch.watch_type {
        WatchType::Data => {}
        WatchType::Children => list.add("watch_type", "WATCH_CHILDREN"),
        WatchType::Tree => list.add("watch_type", "WATCH_TREE"),
    }
    if watch.payload == Payload::Json {
        list.add("payload", "JSON");
    }
    if watch.description != watch.name {
        list.add("description", &*watch.description);
    }
    list.policy(&watch.policy);
    list.process(&watch.process);
    list.differs("publish", &watch.publish, &true, truth);
    list.0
}

#[derive(Debug, Default)]
struct List(Vec<Setting>);

impl List {
    fn add(&mut self, key: &str, value: impl Into<String>) {
        self.0.push(Setting {
            key: key.to_owned(),
            value: value.into(),
        });
    }

    fn differs<T: PartialEq>(&mut self, key: &str, value: &T, default: &T, show: impl FnOnce(&T) -> String) {
        if value != default {
            self.add(key, show(value));
        }
    }

    fn policy(&mut self, policy: &Policy) {
        let default = Policy::default();
        self.differs("run_mode", &policy.run_mode, &default.run_mode, ToString::to_string);
        self.differs(
            "max_parallel",
            &policy.max_parallel,
            &default.max_parallel,
            ToString::to_string,
        );
        match policy.run_on_load {
            RunOnLoad::Always => {}
            RunOnLoad::Never => self.add("run_on_load", "False"),
            RunOnLoad::IfChanged => self.add("run_on_load", "IF_CHANGED"),
        }
        self.differs("on_delete", &policy.on_delete, &default.on_delete, truth);
        match (&policy.retry, policy.on_failure) {
            (Some(retry), then) => self.add("on_failure", retries(retry, then)),
            (None, OnFailure::Stop) => self.add("on_failure", "STOP"),
            (None, OnFailure::Keep) => {}
        }
        if let Some(group) = &policy.group {
            self.add("group", &**group);
        }
        self.differs("refuse_empty", &policy.refuse_empty, &default.refuse_empty, truth);
        if let Some(ready_after) = &policy.service {
            self.add("service", "True");
            self.differs("ready_after", ready_after, &Duration::from_secs(1), seconds);
        }
        if let Some(share) = policy.refuse_shrink {
            self.add("refuse_shrink", share.to_string());
        }
        if let Some(signal) = policy.notify_signal {
            let name =
                nix::sys::signal::Signal::try_from(signal).map_or_else(|_| signal.to_string(), |name| name.to_string());
            self.add("notify_signal", name);
        }
        self.differs("settle", &policy.settle, &default.settle, seconds);
        self.differs("settle_max", &policy.settle_max, &default.settle_max, seconds);
        if !policy.delay.is_zero() {
            self.add("splay", format!("this host's share is {} s", seconds(&policy.delay)));
        }
        self.differs("min_interval", &policy.min_interval, &default.min_interval, seconds);
    }

    fn process(&mut self, process: &ProcessSettings) {
        let default = ProcessSettings::default();
        let identity = &process.identity;
        if let Some(uid) = identity.uid {
            self.add("uid", format!("{} ({uid})", identity.user));
        }
        if let Some(gid) = identity.gid {
            self.add("gid", gid.to_string());
        }
        if let Some(timeout) = &process.timeout {
            self.add("timeout", seconds(timeout));
        }
        self.differs("kill_after", &process.kill_after, &default.kill_after, seconds);
        self.differs("pipe_stdin", &process.pipe_stdin, &default.pipe_stdin, truth);
        if let Some(file) = &process.data_file {
            self.add("data_file", file.display().to_string());
        }
        self.differs("cwd", &process.cwd, &default.cwd, |cwd| cwd.display().to_string());
        self.differs("umask", &process.umask, &default.umask, |umask| format!("{umask:04o}"));
        self.differs("inherit_env", &process.inherit_env, &default.inherit_env, truth);
        let plain = process.env.iter().map(|(name, _)| name.clone());
        let secrets = process.secrets.iter();
        let secrets = secrets.map(|secret| format!("{} from {}", secret.name, secret.file.display()));
        let names: Vec<String> = plain.chain(secrets).collect();
        if !names.is_empty() {
            self.add("env", names.join(", "));
        }
        let hardening = &process.hardening;
        self.differs("no_new_privs", &hardening.no_new_privs, &false, truth);
        self.differs("private_tmp", &hardening.private_tmp, &false, truth);
        if !hardening.read_only.is_empty() {
            let dirs: Vec<_> = hardening.read_only.iter().map(|dir| dir.to_string_lossy()).collect();
            self.add("read_only", dirs.join(", "));
        }
        if let Some(capabilities) = hardening.capabilities {
            let names: Vec<_> = capabilities.names().collect();
            let names = if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(", ")
            };
            self.add("capabilities", names);
        }
        for limit in &process.limits {
            let name = format!("limits.{}", format!("{:?}", limit.resource).to_lowercase());
            let amount = |value: u64| match value {
                u64::MAX => "unlimited".to_owned(),
                value => value.to_string(),
            };
            let value = match limit.soft == limit.hard {
                true => amount(limit.soft),
                false => format!("{}:{}", amount(limit.soft), amount(limit.hard)),
            };
            self.add(&name, value);
        }
    }
}

fn truth(value: &bool) -> String {
    (if *value { "True" } else { "False" }).to_owned()
}

fn seconds(duration: &Duration) -> String {
    duration.as_secs_f64().to_string()
}

fn retries(retry: &Retry, then: OnFailure) -> String {
    let default = Retry::default();
    let mut fields = vec![format!("times = {}", retry.times)];
    let mut differs = |name: &str, is_default: bool, value: String| {
        if !is_default {
            fields.push(format!("{name} = {value}"));
        }
    };
    let thousandths = |share: u32| (f64::from(share) / 1000.0).to_string();
    differs("initial", retry.initial == default.initial, seconds(&retry.initial));
    differs("factor", retry.factor == default.factor, thousandths(retry.factor));
    differs(
        "max_delay",
        retry.max_delay == default.max_delay,
        seconds(&retry.max_delay),
    );
    differs("jitter", retry.jitter == default.jitter, thousandths(retry.jitter));
    differs("codes", retry.codes.is_empty(), format!("{:?}", retry.codes));
    differs("then", then == OnFailure::Keep, "STOP".to_owned());
    format!("Retry({})", fields.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn only_what_is_not_the_default_and_no_secrets() {
        assert_eq!(settings(&testing::watch("plain")), []);
        let mut watch = testing::watch("w");
        watch.policy = Policy {
            retry: Some(Retry {
                times: 5,
                codes: vec![1, 2],
                ..Retry::default()
            }),
            on_failure: OnFailure::Stop,
            settle: Duration::from_millis(1500),
            ..Policy::default()
        }
        .into();
        watch.process = ProcessSettings {
            env: vec![("TOKEN".to_owned(), "s3cret".to_owned())],
            umask: 0o077,
            ..ProcessSettings::default()
        }
        .into();
        let shown: Vec<String> = settings(&watch)
            .iter()
            .map(|s| format!("{} = {}", s.key, s.value))
            .collect();
        assert_eq!(
            shown,
            [
                "on_failure = Retry(times = 5, codes = [1, 2], then = STOP)",
                "settle = 1.5",
                "umask = 0077",
                "env = TOKEN",
            ]
        );
    }
}
