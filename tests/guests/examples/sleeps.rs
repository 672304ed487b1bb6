//! Sits in a host call that returns in an hour.

guests::action!(|_| {
    std::thread::sleep(std::time::Duration::from_secs(3600));
    Ok(())
});
