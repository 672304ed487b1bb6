//! Programs for WASI's first preview: core modules, linked as they are.
//!
//! An adapter could make components of them, but it keeps data of its own in their memory, which programs that bring their own idea of
//! memory, as those in Go and C do, take for theirs. It must not know what is granted: that is in the [`Host`], as for components.

use std::time::Duration;

use wasmtime::{AsContextMut, Caller, Engine, Extern, ExternType, Instance, Linker, Memory, Module, Store};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p1;
use wasmtime_wasi::p1::wasi_snapshot_preview1::{WasiSnapshotPreview1, poll_oneoff};
use wiggle::GuestMemory;

use super::directories;
use super::host::Host;

/// The name under which the interface is imported.
pub const PREVIEW1: &str = "wasi_snapshot_preview1";
/// The function that is the program.
const START: &str = "_start";
/// The memory that all of the interface's functions work on.
const MEMORY: &str = "memory";

/// A linker with everything that core modules may import.
pub fn linker(engine: &Engine) -> wasmtime::Result<Linker<Host>> {
    let mut linker = Linker::new(engine);
    p1::add_to_linker_async(&mut linker, |host: &mut Host| &mut host.wasi)?;
    linker.allow_shadowing(true);
    // The library's takes codes from 126 on for mistakes.
    linker.func_wrap(PREVIEW1, "proc_exit", |code: i32| -> wasmtime::Result<()> {
        Err(I32Exit(code).into())
    })?;
    linker.func_wrap_async(
        PREVIEW1,
        "poll_oneoff",
        |caller: Caller<'_, Host>, (subscriptions, events, count, ready): (i32, i32, i32, i32)| {
            Box::new(poll(caller, subscriptions, events, count, ready))
        },
    )?;
    directories::add_to_preview1_linker(&mut linker)?;
    linker.allow_shadowing(false);
    Ok(linker)
}

/// Why a module is no program, in words; `None` if it is one.
pub fn why_no_program(module: &Module) -> Option<&'static str> {
    let Some(ExternType::Func(start)) = module.get_export(START) else {
        return Some("exports no function _start: it is a library");
    };
    if start.params().len() + start.results().len() != 0 {
        return Some("exports a function _start with parameters or results");
    }
    match module.get_export(MEMORY) {
        Some(ExternType::Memory(memory)) if memory.is_64() => {
            Some("has a memory of 64 bits, and the functions of WASI work on one of 32")
        }
        Some(ExternType::Memory(_)) => None,
        _ if module.imports().all(|import| import.module() != PREVIEW1) => None,
        _ => Some("exports no memory named \"memory\", which the functions of WASI work on"),
    }
}

/// Runs the program. That it returns means that all went well.
pub async fn start(store: &mut Store<Host>, instance: &Instance) -> wasmtime::Result<()> {
    let start = instance.get_typed_func::<(), ()>(&mut *store, START)?;
    start.call_async(store, ()).await
}

/// `poll_oneoff`, by which programs also sleep. The library would have the thread sleep, where nothing reaches it.
async fn poll(
    mut caller: Caller<'_, Host>,
    subscriptions: i32,
    events: i32,
    count: i32,
    ready: i32,
) -> wasmtime::Result<i32> {
    let memory = memory(&mut caller)?;
    if count == 1
        && let Some(sleep) = Sleep::read(&memory, &caller, subscriptions)
    {
        tokio::time::sleep(sleep.duration).await;
        return sleep.over(&memory, &mut caller, events, ready);
    }
    let (mut memory, host) = parts(&mut caller)?;
    poll_oneoff(&mut host.wasi, &mut memory, subscriptions, events, count, ready).await
}

fn memory(caller: &mut Caller<'_, Host>) -> wasmtime::Result<Memory> {
    match caller.get_export(MEMORY) {
        Some(Extern::Memory(memory)) => Ok(memory),
        _ => Err(wasmtime::format_err!("it exports no memory")),
    }
}

/// What the library's functions work on: the program's memory, and the host.
pub(super) fn parts<'a>(caller: &'a mut Caller<'_, Host>) -> wasmtime::Result<(GuestMemory<'a>, &'a mut Host)> {
    let memory = memory(caller)?;
    let fuel = caller.as_context_mut().hostcall_fuel();
    let (bytes, host) = memory.data_and_store_mut(caller);
    host.wasi.set_hostcall_fuel(fuel);
    Ok((GuestMemory::Unshared(bytes), host))
}

/// A subscription to nothing but time, counted from now.
#[derive(Debug, PartialEq, Eq)]
struct Sleep {
    userdata: u64,
    duration: Duration,
}

/// Where what is in a `subscription`, and in the `event` that answers it, in bytes.
mod layout {
    pub const TAG: usize = 8;
    pub const CLOCK: usize = 16;
    pub const TIMEOUT: usize = 24;
    pub const FLAGS: usize = 40;
    pub const SUBSCRIPTION: usize = 48;
    pub const EVENT: usize = 32;
}

impl Sleep {
    /// Reads a subscription; none if it is to something else, or is not where it is said to be.
    fn read(memory: &Memory, caller: &Caller<'_, Host>, at: i32) -> Option<Self> {
        let mut bytes = [0; layout::SUBSCRIPTION];
        memory.read(caller, at as u32 as usize, &mut bytes).ok()?;
        Self::parse(&bytes)
    }

    fn parse(subscription: &[u8; layout::SUBSCRIPTION]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_le_bytes(subscription.get(at..at + 8)?.try_into().ok()?));
        let [realtime, monotonic] = [0, 1];
        let clock = u32::from_le_bytes(subscription.get(layout::CLOCK..layout::CLOCK + 4)?.try_into().ok()?);
        let relative = subscription[layout::FLAGS..layout::FLAGS + 2] == [0, 0];
        let is_clock = subscription[layout::TAG] == 0 && [realtime, monotonic].contains(&clock);
        (is_clock && relative).then_some(Self {
            userdata: number(0)?,
            duration: Duration::from_nanos(number(layout::TIMEOUT)?),
        })
    }

    /// Tells the program that its time is up: one event, without an error.
    fn over(&self, memory: &Memory, caller: &mut Caller<'_, Host>, events: i32, ready: i32) -> wasmtime::Result<i32> {
        let mut event = [0; layout::EVENT];
        event[..8].copy_from_slice(&self.userdata.to_le_bytes());
        memory.write(&mut *caller, events as u32 as usize, &event)?;
        memory.write(&mut *caller, ready as u32 as usize, &1_u32.to_le_bytes())?;
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(tag: u8, clock: u8, flags: u8) -> [u8; layout::SUBSCRIPTION] {
        let mut bytes = [0; layout::SUBSCRIPTION];
        bytes[0] = 7;
        bytes[layout::TAG] = tag;
        bytes[layout::CLOCK] = clock;
        bytes[layout::TIMEOUT] = 42;
        bytes[layout::FLAGS] = flags;
        bytes
    }

    #[test]
    fn a_sleep_is_told_from_other_subscriptions() {
        let slept = Sleep {
            userdata: 7,
            duration: Duration::from_nanos(42),
        };
        for clock in [0, 1] {
            assert_eq!(Sleep::parse(&subscription(0, clock, 0)).as_ref(), Some(&slept));
        }
        // A time of day, the clock of a processor, the readiness of a descriptor.
        for other in [subscription(0, 1, 1), subscription(0, 2, 0), subscription(1, 0, 0)] {
            assert_eq!(Sleep::parse(&other), None);
        }
    }
}
