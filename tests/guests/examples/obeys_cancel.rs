//! Ends as soon as it is told to, and says why.

guests::action!(|_| loop {
    if let Some(reason) = cancel::requested() {
        println!("told to end: {reason:?}");
        return Err(Failure::Superseded);
    }
    std::thread::sleep(std::time::Duration::from_millis(1));
});
