//! Tries to use what a check must not: commands, znodes, files.

guests::checked!(|_| Ok(()), || {
    Err(vec![
        format!("{:?}", commands::run(&setting("name"), &[], &[]).map(drop)),
        format!("{:?}", znodes::get(&context::path()).map(drop)),
        format!("{:?}", std::fs::write("/out/file", "written in a check")),
    ])
});
