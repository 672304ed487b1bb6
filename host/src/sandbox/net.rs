//! The network, as far as it is granted: nothing of it yet.

use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi_http::WasiHttpHooks;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use super::channel::{Denied, FromAction, Speaker};
use crate::model::Grants;

/// Decides what of the network a component reaches.
pub struct Net {
    speaker: Speaker,
}

impl Net {
    pub fn new(_grants: &Grants, speaker: Speaker) -> Self {
        Self { speaker }
    }

    pub fn configure(&self, wasi: &mut WasiCtxBuilder) {
        wasi.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
    }
}

type Sent = (
    http::Response<WasiBody>,
    Box<dyn Future<Output = Result<(), Error>> + Send>,
);

impl WasiHttpHooks for Net {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        _options: Option<RequestOptions>,
        _fut: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        let origin = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let _ = self.speaker.say(&FromAction::Denied(Denied::Http(origin)));
        Box::new(async { Err(Error::HttpRequestDenied) })
    }
}
