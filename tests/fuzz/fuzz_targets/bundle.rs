//! The reader of bundles, over any bytes: it may refuse them, and that is all.

#![no_main]

use libfuzzer_sys::fuzz_target;
use twitcher::bundle::{Reader, sign_again};

fuzz_target!(|bytes: &[u8]| {
    let Ok(reader) = Reader::open(bytes) else {
        return;
    };
    let signature = reader.signature().cloned();
    // Of what is accepted there is one form.
    if let Ok(packed) = sign_again(reader, signature.as_ref(), Vec::new()) {
        assert_eq!(packed, bytes);
    }
});
