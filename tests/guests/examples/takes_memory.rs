//! Takes as many MiB as `mib` says, and writes to each page.

guests::action!(|_| {
    let mib: usize = setting("mib").parse().unwrap_or(usize::MAX);
    let taken: Vec<Vec<u8>> = (0..mib).map(|_| vec![1; 1 << 20]).collect();
    println!("took {} MiB", taken.len());
    std::hint::black_box(taken);
    Ok(())
});
