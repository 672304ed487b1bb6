//! Never answers when it is asked about its configuration.

guests::checked!(|_| Ok(()), || loop {
    std::hint::spin_loop();
});
