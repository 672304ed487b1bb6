//! Never returns, and never calls the host.

guests::action!(|_| loop {
    std::hint::spin_loop();
});
