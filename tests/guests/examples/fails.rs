//! Fails as its configuration says: `failure` is `retry`, `permanent` or `superseded`, `after` a retry's milliseconds.

guests::action!(|_| {
    let message = "as configured".to_owned();
    Err(match setting("failure").as_str() {
        "retry" => Failure::Retry(RetryHint {
            message,
            after_ms: setting("after").parse().ok(),
        }),
        "superseded" => Failure::Superseded,
        _ => Failure::Permanent(message),
    })
});
