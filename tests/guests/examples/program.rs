//! An ordinary program: prints its arguments, its environment and its input.

fn main() {
    println!("args: {:?}", std::env::args().skip(1).collect::<Vec<_>>());
    println!("env: {:?}", std::env::vars().collect::<Vec<_>>());
    println!(
        "stdin: {}",
        std::io::read_to_string(std::io::stdin()).expect("stdin is text")
    );
}
