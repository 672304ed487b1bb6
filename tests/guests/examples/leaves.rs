//! An action that leaves by `wasi:cli/exit` instead of returning.

guests::action!(|_| std::process::exit(3));
