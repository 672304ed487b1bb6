//! Sees that it is to end, says so, and goes on.

guests::action!(|_| {
    let mut said = None;
    loop {
        let reason = cancel::requested();
        if reason != said {
            println!("told to end: {reason:?}");
            said = reason;
        }
    }
});
