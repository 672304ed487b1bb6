//! A program that has 200 files in `/out` open at the same time, and then all that it can have.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};

fn main() {
    let mut open: Vec<File> = (0..200).map(|number| create(number).expect("200 files")).collect();
    for (number, file) in open.iter_mut().enumerate() {
        write!(file, "{number}").expect("it can be written");
    }
    for (number, file) in open.iter_mut().enumerate() {
        let mut text = String::new();
        file.rewind().expect("it can be gone back in");
        file.read_to_string(&mut text).expect("it can be read");
        assert_eq!(text, number.to_string());
    }
    let listed = fs::read_dir("/out").expect("it can be listed").count();
    println!("{} files at once, {listed} listed", open.len());
    let mut more = vec![];
    let error = loop {
        match create(more.len()) {
            Ok(file) => more.push(file),
            Err(error) => break error,
        }
    };
    println!("no more than {}: {error}", open.len() + more.len());
}

fn create(number: usize) -> std::io::Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(format!("/out/{number}"))
}
