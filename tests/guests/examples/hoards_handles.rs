//! Takes host memory instead of its own: resources that it never drops.

guests::action!(|_| {
    let mut taken = 0_u64;
    loop {
        std::mem::forget(wasip2::clocks::monotonic_clock::subscribe_duration(u64::MAX));
        taken += 1;
        if taken % 1_000_000 == 0 {
            println!("took {taken} handles");
        }
    }
});
