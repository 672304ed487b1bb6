//! A program for hosts of WASI's proposals, which has nothing of Twitcher: logs what it is configured with, opens the bucket of its first
//! argument, and does in it what the others say, one line of output each.

mod bindings {
    #![allow(warnings)]
    wit_bindgen::generate!({
        path: ["../../host/sandbox/wit/keyvalue-draft2", "../../host/sandbox/wit/logging"],
        inline: r#"
            package guests:proposals;

            world program {
                import wasi:config/store@0.2.0-rc.1;
                import wasi:logging/logging@0.1.0-draft;
                import wasi:keyvalue/store@0.2.0-draft2;
                import wasi:keyvalue/atomics@0.2.0-draft2;
                import wasi:keyvalue/batch@0.2.0-draft2;
            }

            package wasi:config@0.2.0-rc.1 {
                interface store {
                    variant error {
                        upstream(string),
                        io(string),
                    }
                    get: func(key: string) -> result<option<string>, error>;
                    get-all: func() -> result<list<tuple<string, string>>, error>;
                }
            }
        "#,
        generate_all,
    });
}

use bindings::wasi::config::store as config;
use bindings::wasi::keyvalue::atomics::{Cas, CasError, increment, swap};
use bindings::wasi::keyvalue::batch;
use bindings::wasi::keyvalue::store::{Bucket, Error, open};
use bindings::wasi::logging::logging::{Level, log};

fn main() {
    let greeting = config::get("greeting").unwrap();
    let mut all = config::get_all().unwrap();
    all.sort();
    let missing = config::get("no such key").unwrap();
    log(
        Level::Info,
        "setup",
        &format!("greeting {greeting:?}, missing {missing:?}, all {all:?}"),
    );
    log(Level::Critical, "", "a critical message");
    let mut arguments = std::env::args().skip(1);
    let Some(identifier) = arguments.next() else { return };
    let bucket = match open(&identifier) {
        Ok(bucket) => bucket,
        Err(error) => {
            println!("open: {error:?}");
            std::process::exit(1);
        }
    };
    for step in arguments {
        println!("{step}: {}", take(&step, &bucket));
    }
}

fn take(step: &str, bucket: &Bucket) -> String {
    let words: Vec<&str> = step.split(' ').collect();
    match words[..] {
        ["get", key] => format!("{:?}", bucket.get(key).map(text)),
        ["set", key, value] => format!("{:?}", bucket.set(key, value.as_bytes())),
        ["delete", key] => format!("{:?}", bucket.delete(key)),
        ["exists", key] => format!("{:?}", bucket.exists(key)),
        ["keys"] => format!("{:?}", bucket.list_keys(None).map(|page| (page.keys, page.cursor))),
        ["add", key, delta] => format!("{:?}", increment(bucket, key, delta.parse().unwrap())),
        ["many", key, value] => {
            let set = batch::set_many(bucket, &[(key.to_owned(), value.as_bytes().to_vec())]);
            let keys = [key.to_owned(), "absent".to_owned()];
            let got = batch::get_many(bucket, &keys)
                .map(|found| found.into_iter().map(|pair| pair.is_some()).collect::<Vec<_>>());
            format!("{set:?} {got:?} {:?}", batch::delete_many(bucket, &keys))
        }
        // What somebody else would do between the beginning and the swap is done in the same bucket.
        ["race", key, value] => match race(bucket, key, value) {
            Ok(said) => said,
            Err(error) => format!("{error:?}"),
        },
        _ => panic!("no such step"),
    }
}

fn race(bucket: &Bucket, key: &str, value: &str) -> Result<String, Error> {
    let begun = Cas::new(bucket, key)?;
    let before = text(begun.current()?);
    bucket.set(key, b"others")?;
    let again = match swap(begun, value.as_bytes()) {
        Err(CasError::CasFailed(again)) => again,
        Err(CasError::StoreError(error)) => return Err(error),
        Ok(()) => return Ok("lost what others wrote".to_owned()),
    };
    let meanwhile = text(again.current()?);
    let swapped = swap(again, value.as_bytes()).is_ok();
    let after = text(bucket.get(key)?);
    Ok(format!("{before:?} {meanwhile:?} {swapped} {after:?}"))
}

fn text(value: Option<Vec<u8>>) -> Option<String> {
    value.map(|value| String::from_utf8(value).unwrap())
}
