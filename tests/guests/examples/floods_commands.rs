//! Runs the command that `name` is ten thousand times.

guests::action!(|_| {
    let failed = (0..10_000)
        .filter(|_| commands::run(&setting("name"), &[], &[]).is_err())
        .count();
    println!("{failed} of 10000 failed");
    Ok(())
});
