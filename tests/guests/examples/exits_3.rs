//! A program that exits with code 3. The standard library would make 1 of it: of its `exit`, WASI 0.2 learns only whether
//! all went well.

fn main() {
    wasip2::cli::exit::exit_with_code(3);
}
