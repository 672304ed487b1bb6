//! A program that exits with code 3.

fn main() {
    std::process::exit(3);
}
