//! From what can go wrong on the way to a server to the codes of `wasi:http`.

use std::io::{self, ErrorKind};

use tokio_rustls::rustls;
use wasmtime_wasi_http::Error;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;

/// A connection that was not made.
pub fn connect(error: &io::Error) -> Error {
    match error.kind() {
        ErrorKind::TimedOut => Error::ConnectionTimeout,
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable | ErrorKind::NetworkDown => {
            Error::DestinationUnavailable
        }
        // By a firewall of this machine.
        ErrorKind::PermissionDenied => Error::DestinationIpProhibited,
        _ => Error::ConnectionRefused,
    }
}

/// A handshake that failed.
pub fn tls(error: &io::Error) -> Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
            Error::TlsCertificateError
        }
        Some(rustls::Error::AlertReceived(alert)) => Error::TlsAlertReceived {
            alert_id: Some(u8::from(*alert)),
            alert_message: Some(format!("{alert:?}")),
        },
        Some(_) => Error::TlsProtocolError,
        None => Error::ConnectionTerminated,
    }
}

/// An exchange that broke off. `head_max` is how long the head of a response may be.
pub fn exchange(error: &hyper::Error, head_max: usize) -> ErrorCode {
    if error.is_parse_too_large() {
        ErrorCode::HttpResponseHeaderSectionSize(u32::try_from(head_max).ok())
    } else if error.is_incomplete_message() {
        ErrorCode::HttpResponseIncomplete
    } else if error.is_timeout() {
        ErrorCode::HttpResponseTimeout
    } else if error.is_closed() || error.is_canceled() {
        ErrorCode::ConnectionTerminated
    } else {
        ErrorCode::HttpProtocolError
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_is_not_trusted_is_told_from_a_broken_handshake() {
        let of = |error: rustls::Error| tls(&io::Error::new(ErrorKind::InvalidData, error));
        let unknown = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        assert!(matches!(of(unknown), Error::TlsCertificateError));
        assert!(matches!(of(rustls::Error::DecryptError), Error::TlsProtocolError));
        assert!(matches!(
            of(rustls::Error::AlertReceived(rustls::AlertDescription::HandshakeFailure)),
            Error::TlsAlertReceived { alert_id: Some(40), .. }
        ));
        assert!(matches!(
            tls(&ErrorKind::ConnectionReset.into()),
            Error::ConnectionTerminated
        ));
    }
}
