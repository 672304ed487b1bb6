//! Sends an HTTP request to the origin that `scheme` and `authority` are, and prints the status.

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{ErrorCode, Fields, OutgoingRequest, Scheme};

guests::action!(|_| {
    let (scheme, authority) = (setting("scheme"), setting("authority"));
    refused(status(&scheme, &authority).map(|status| println!("status {status}")))
});

fn status(scheme: &str, authority: &str) -> Result<u16, ErrorCode> {
    let request = OutgoingRequest::new(Fields::new());
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    let malformed = |()| ErrorCode::HttpRequestUriInvalid;
    request.set_scheme(Some(&scheme)).map_err(malformed)?;
    request.set_authority(Some(authority)).map_err(malformed)?;
    request.set_path_with_query(Some("/from-a-guest")).map_err(malformed)?;
    let response = handle(request, None)?;
    loop {
        response.subscribe().block();
        if let Some(response) = response.get() {
            return response.expect("taken once").map(|response| response.status());
        }
    }
}
