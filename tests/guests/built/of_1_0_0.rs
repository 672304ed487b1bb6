//! Logs everything it is told; accepts the configuration `ok = "yes"` and refuses every other. Built once against version 1.0.0 of
//! `twitcher:action`, and kept as `of_1_0_0.wasm`: what was built against an older version runs on every later host.

guests::checked!(
    |data| {
        let say = |name: &str, value: String| log::log(log::Level::Info, name, &[("value".to_owned(), value)]);
        say("data", String::from_utf8_lossy(&data).into_owned());
        say("path", context::path());
        say("event", format!("{:?}", context::event()));
        say("stat", format!("{:?}", context::node_stat().map(|stat| stat.version)));
        say("children", format!("{:?}", context::children()));
        say("changed", format!("{:?}", context::changed_paths()));
        say("attempt", context::attempt().to_string());
        say("watch", context::watch_name());
        say("deadline", format!("{:?}", context::deadline_ms().is_some()));
        say("cancel", format!("{:?}", cancel::requested()));
        say("config", format!("{:?}", config::all()));
        say("command", match commands::run("greet", &[], b"") {
            Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
            Err(error) => format!("{error:?}"),
        });
        say("znode", match znodes::get("/other") {
            Ok(node) => String::from_utf8_lossy(&node.data).into_owned(),
            Err(error) => format!("{error:?}"),
        });
        match setting("fails").as_str() {
            "" => Ok(()),
            why => Err(Failure::Permanent(why.to_owned())),
        }
    },
    || match setting("ok").as_str() {
        "yes" => Ok(()),
        other => Err(vec![format!("ok is {other:?}")]),
    }
);
