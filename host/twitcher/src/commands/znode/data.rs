//! What is to be written to a znode: from the command line, a file or standard input. It must not know which znode.

use std::fs::File;
use std::io::{self, Read};

use bytes::Bytes;

use super::Done;
use super::error::ZnodeCommandError;
use crate::args::{DataArguments, SourceArguments};

/// The data as it is given; empty if none is.
pub(super) fn read(given: &DataArguments, source: &SourceArguments) -> Done<Bytes> {
    let most = source.max_znode_size;
    match (&given.file, given.data.as_deref()) {
        (Some(path), _) => {
            let from = path.display().to_string();
            match File::open(path) {
                Ok(file) => whole(file, from, most),
                Err(error) => Err(ZnodeCommandError::Input { from, error }),
            }
        }
        (None, Some("-")) => whole(io::stdin().lock(), "standard input".to_owned(), most),
        (None, data) => Ok(Bytes::copy_from_slice(data.unwrap_or_default().as_bytes())),
    }
}

fn whole(from: impl Read, name: String, most: u64) -> Done<Bytes> {
    let mut data = Vec::new();
    match from.take(most + 1).read_to_end(&mut data) {
        Err(error) => Err(ZnodeCommandError::Input { from: name, error }),
        Ok(length) if length as u64 > most => Err(ZnodeCommandError::InputTooLarge { from: name, most }),
        Ok(_) => Ok(data.into()),
    }
}
