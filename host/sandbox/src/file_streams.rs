//! Streams of files that work in the thread that asks.
//!
//! wasmtime-wasi reads and writes in place where it is allowed to block, but for the calls of `wasi:io/streams` that do not wait:
//! those it hands to a thread, for a host that has other things to do meanwhile. This process has not, a thread costs more than
//! most runs, and the sandbox lets none be made. So these streams do at once what the library's would leave to a thread: files
//! are always ready.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::filesystem::types::{ErrorCode, HostDescriptor};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, FsResult, InputStream, OutputStream, Pollable, StreamError, StreamResult,
};
use wasmtime_wasi::{WasiView, async_trait};

use super::host::Host;

/// The interface as the library names it; components that import an older 0.2 get the same.
const INTERFACE: &str = "wasi:filesystem/types@0.2.12";

/// Replaces the functions that make streams of files. The linker must have WASI already.
pub fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut types = linker.instance(INTERFACE)?;
    types.func_wrap(
        "[method]descriptor.read-via-stream",
        |mut store: StoreContextMut<'_, Host>, (file, offset): (Resource<Descriptor>, u64)| {
            let host = store.data_mut();
            let stream = host.filesystem().read_via_stream(file, offset);
            returned(stream.and_then(|stream| replace(host, stream, |reader| Box::new(AtOnce(reader)))))
        },
    )?;
    types.func_wrap(
        "[method]descriptor.write-via-stream",
        |mut store: StoreContextMut<'_, Host>, (file, offset): (Resource<Descriptor>, u64)| {
            let host = store.data_mut();
            let stream = host.filesystem().write_via_stream(file, offset);
            returned(stream.and_then(|stream| replace(host, stream, |writer| Box::new(AtOnce(writer)))))
        },
    )?;
    types.func_wrap(
        "[method]descriptor.append-via-stream",
        |mut store: StoreContextMut<'_, Host>, (file,): (Resource<Descriptor>,)| {
            let host = store.data_mut();
            let stream = host.filesystem().append_via_stream(file);
            returned(stream.and_then(|stream| replace(host, stream, |writer| Box::new(AtOnce(writer)))))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

/// An error of the file system is a value for the component; any other ends its call.
fn returned<T>(result: FsResult<T>) -> wasmtime::Result<(Result<T, ErrorCode>,)> {
    match result {
        Ok(value) => Ok((Ok(value),)),
        Err(error) => Ok((Err(error.downcast()?),)),
    }
}

/// Puts another stream in the place of one that was just made.
fn replace<S: Send + 'static>(host: &mut Host, stream: Resource<S>, with: fn(S) -> S) -> FsResult<Resource<S>> {
    let table = host.ctx().table;
    let stream = table.delete(stream)?;
    Ok(table.push(with(stream))?)
}

/// A stream of a file whose operations are over when they return.
struct AtOnce<S>(S);

/// The result of an operation of the library that works in place: it has it at the first look.
fn now<T>(operation: impl Future<Output = StreamResult<T>>) -> StreamResult<T> {
    match pin!(operation).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(StreamError::trap("a file made its stream wait")),
    }
}

#[async_trait]
impl InputStream for AtOnce<DynInputStream> {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        // The library takes a read of nothing for the end of the file.
        if size == 0 {
            return Ok(Bytes::new());
        }
        now(self.0.blocking_read(size))
    }
}

#[async_trait]
impl OutputStream for AtOnce<DynOutputStream> {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        now(self.0.blocking_write_and_flush(bytes))
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.0.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.0.check_write()
    }
}

#[async_trait]
impl<S: Send + 'static> Pollable for AtOnce<S> {
    async fn ready(&mut self) {}
}
