//! Tries to use what a check must not: commands, znodes, files.

guests::checked!(|_| Ok(()), || {
    Err(vec![
        format!("command: {:?}", commands::run(&setting("name"), &[], &[]).map(drop)),
        format!("znode: {:?}", znodes::get(&context::path()).map(drop)),
        format!("file: {:?}", std::fs::write("/out/file", "written in a check")),
    ])
});
