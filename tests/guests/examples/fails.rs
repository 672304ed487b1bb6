//! Says which attempt it is, then fails as its configuration says: `failure` is `retry`, `permanent` or `superseded`, `after` a
//! retry's milliseconds. The attempt number `until` succeeds.

guests::action!(|_| {
    let attempt = context::attempt();
    log::log(
        log::Level::Info,
        &format!("attempt {attempt}, {:?}", context::event()),
        &[],
    );
    if setting("until").parse() == Ok(attempt) {
        return Ok(());
    }
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
