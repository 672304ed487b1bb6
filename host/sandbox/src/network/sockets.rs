//! What of `wasi:sockets` is not wasmtime's own: making sockets and looking up names, both only as far as granted.
//!
//! Sockets themselves are wasmtime's; each address they are used with is checked by [`super::Net::configure`].

use std::net::IpAddr;
use std::pin::Pin;
use std::vec;

use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddress, IpAddressFamily, Network};
use wasmtime_wasi::p2::bindings::sockets::{ip_name_lookup, network, tcp_create_socket, udp_create_socket};
use wasmtime_wasi::p2::{DynPollable, Pollable, SocketError, SocketResult, TcpSocket, UdpSocket, subscribe};
use wasmtime_wasi::sockets::WasiSocketsView;

use super::SAID_MAX;
use super::rules::canonical;
use crate::channel::{Denied, cut};
use crate::host::Host;

/// Puts what is here in the place of wasmtime's own.
pub fn replace_in(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    tcp_create_socket::add_to_linker::<_, HasSelf<Host>>(linker, |host| host)?;
    udp_create_socket::add_to_linker::<_, HasSelf<Host>>(linker, |host| host)?;
    ip_name_lookup::add_to_linker::<_, HasSelf<Host>>(linker, |host| host)?;
    linker.allow_shadowing(false);
    Ok(())
}

// Where nothing is granted, the process cannot make sockets: that is said here, for the kernel would only say EPERM.
impl tcp_create_socket::Host for Host {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        if !self.net.rules.may_make_sockets() {
            self.net.denied(Denied::Socket);
            return Err(ErrorCode::AccessDenied.into());
        }
        self.sockets().create_tcp_socket(family)
    }
}

impl udp_create_socket::Host for Host {
    async fn create_udp_socket(&mut self, _: IpAddressFamily) -> SocketResult<Resource<UdpSocket>> {
        // Landlock cannot limit whom datagrams are sent to, and so the process cannot make such sockets at all.
        self.net.denied(Denied::Datagrams);
        Err(ErrorCode::AccessDenied.into())
    }
}

// The bindings want it implemented beside the others; it is wasmtime's.
impl network::Host for Host {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        self.sockets().convert_error_code(error)
    }

    fn network_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        self.sockets().network_error_code(error)
    }
}

impl network::HostNetwork for Host {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        network::HostNetwork::drop(&mut self.sockets(), network)
    }
}

/// The addresses of a name that are not given out yet.
struct Addresses(vec::IntoIter<IpAddr>);

impl Pollable for Addresses {
    // They were found before the component was called.
    fn ready<'a, 'b>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(std::future::ready(()))
    }
}

/// The bindings know the resource by a type of wasmtime's that nobody else can make; in the table it is ours under its number.
fn ours(stream: &Resource<ip_name_lookup::ResolveAddressStream>) -> Resource<Addresses> {
    match stream.owned() {
        true => Resource::new_own(stream.rep()),
        false => Resource::new_borrow(stream.rep()),
    }
}

impl ip_name_lookup::Host for Host {
    fn resolve_addresses(
        &mut self,
        network: Resource<Network>,
        name: String,
    ) -> SocketResult<Resource<ip_name_lookup::ResolveAddressStream>> {
        self.ctx().table.get(&network)?;
        match self.net.rules.resolve(&name) {
            None => {
                self.net.denied(Denied::Name(cut(canonical(&name), SAID_MAX)));
                Err(ErrorCode::AccessDenied.into())
            }
            Some(addresses) if addresses.is_empty() => Err(ErrorCode::NameUnresolvable.into()),
            Some(addresses) => {
                let stream = self.ctx().table.push(Addresses(addresses.into_iter()))?;
                Ok(Resource::new_own(stream.rep()))
            }
        }
    }
}

impl ip_name_lookup::HostResolveAddressStream for Host {
    fn resolve_next_address(
        &mut self,
        stream: Resource<ip_name_lookup::ResolveAddressStream>,
    ) -> SocketResult<Option<IpAddress>> {
        Ok(self.ctx().table.get_mut(&ours(&stream))?.0.next().map(IpAddress::from))
    }

    fn subscribe(
        &mut self,
        stream: Resource<ip_name_lookup::ResolveAddressStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.ctx().table, ours(&stream))
    }

    fn drop(&mut self, stream: Resource<ip_name_lookup::ResolveAddressStream>) -> wasmtime::Result<()> {
        self.ctx().table.delete(ours(&stream))?;
        Ok(())
    }
}
