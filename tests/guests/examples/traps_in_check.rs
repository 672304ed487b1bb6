//! Traps when it is asked about its configuration.

guests::checked!(|_| Ok(()), || panic!("in the check"));
