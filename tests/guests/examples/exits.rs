//! A program that exits with the code that is its first argument.

fn main() {
    let code = std::env::args().nth(1).expect("a code");
    std::process::exit(code.parse().expect("a number"));
}
