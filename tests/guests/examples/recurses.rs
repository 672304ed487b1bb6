//! Calls itself until the stack ends.

guests::action!(|data| {
    println!("{}", deeper(data.len() as u64));
    Ok(())
});

#[inline(never)]
#[allow(unconditional_recursion)]
fn deeper(depth: u64) -> u64 {
    // Something is left to do after the call, so it is one.
    std::hint::black_box(deeper(std::hint::black_box(depth + 1))) + 1
}
