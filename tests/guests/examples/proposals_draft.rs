//! A program that imports WASI's proposals in their older versions: `wasi:keyvalue` 0.2.0-draft, and `wasi:logging` without one. Counts in
//! the bucket of its argument.

mod bindings {
    #![allow(warnings)]
    wit_bindgen::generate!({
        path: ["../../host/sandbox/wit/keyvalue-draft"],
        inline: r#"
            package guests:proposals;

            world program {
                import wasi:logging/logging;
                import wasi:keyvalue/store@0.2.0-draft;
                import wasi:keyvalue/atomics@0.2.0-draft;
            }

            package wasi:logging {
                interface logging {
                    enum level { trace, debug, info, warn, error, critical }
                    log: func(level: level, context: string, message: string);
                }
            }
        "#,
        generate_all,
    });
}

use bindings::wasi::keyvalue::{atomics, store};
use bindings::wasi::logging::logging::{Level, log};

fn main() {
    let bucket = store::open(&std::env::args().nth(1).unwrap()).unwrap();
    let counted = atomics::increment(&bucket, "n", 3).unwrap();
    let keys = bucket.list_keys(None).unwrap();
    log(
        Level::Warn,
        "counter",
        &format!("counted {counted}, keys {:?}", keys.keys),
    );
}
