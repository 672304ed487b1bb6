//! A server, or whoever answers in its place, that wants the daemon's memory or its time: it gets little of either, the daemon answers
//! its operators meanwhile, and says what is wrong.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use crate::support::daemon::{Daemon, Site};
use crate::support::{http, until};

/// Most memory that the daemon may have needed, in KiB: what it needs anyway in a debug build, and room.
const MEMORY: u64 = 450 << 10;
/// What a flood has, should nobody stop it.
const FLOOD: usize = 256 << 20;

/// What the server does once a session is there.
#[derive(Clone, Copy)]
enum Deed {
    /// Announces two gigabytes, and begins to send them.
    Announce,
    /// Answers each request with what is no answer.
    Garble,
    /// Sends events, of paths that never were.
    Flood,
    /// Sends events whose paths are as long as a packet may be.
    LongEvents,
    /// Answers that data was read, and sends less than a stat.
    ShortData,
    /// Answers with nine million names.
    Names,
}

/// What was counted.
#[derive(Default)]
struct Counted {
    connections: AtomicUsize,
    /// Most bytes that one connection took.
    taken: AtomicUsize,
}

fn serve(deed: Deed) -> (String, Arc<Counted>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let counted = Arc::new(Counted::default());
    let count = Arc::clone(&counted);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            count.connections.fetch_add(1, Ordering::Relaxed);
            let count = Arc::clone(&count);
            std::thread::spawn(move || {
                let taken = session(stream, deed);
                count.taken.fetch_max(taken, Ordering::Relaxed);
            });
        }
    });
    (address, counted)
}

fn frame(body: &[u8]) -> Vec<u8> {
    [&i32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
}

fn request(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut body = vec![0; usize::try_from(i32::from_be_bytes(length)).ok()?];
    stream.read_exact(&mut body).ok()?;
    Some(body)
}

/// How many bytes of the deed the client took.
fn session(mut stream: TcpStream, deed: Deed) -> usize {
    if request(&mut stream).is_none() {
        return 0;
    }
    // Protocol version, session timeout, session, password, not read-only.
    let mut welcome = [0_i32.to_be_bytes(), 10_000_i32.to_be_bytes()].concat();
    welcome.extend(0x1234_i64.to_be_bytes());
    welcome.extend(frame(&[7; 16]));
    welcome.push(0);
    if stream.write_all(&frame(&welcome)).is_err() {
        return 0;
    }
    match deed {
        Deed::Announce => {
            let _ = stream.write_all(&i32::MAX.to_be_bytes());
            pour(&mut stream, &[0; 1 << 16])
        }
        Deed::Garble => {
            while request(&mut stream).is_some() {
                let nobody_asked = [77_i32.to_be_bytes(), [0; 4], [0; 4], [0; 4]].concat();
                if stream.write_all(&frame(&nobody_asked)).is_err() {
                    break;
                }
            }
            0
        }
        Deed::ShortData | Deed::Names => {
            let names = [&9_000_000_i32.to_be_bytes()[..], &[0, 0, 0, 1, b'x'].repeat(9_000_000)].concat();
            while let Some(body) = request(&mut stream) {
                let (xid, code) = (&body[..4], i32::from_be_bytes(body[4..8].try_into().unwrap()));
                let mut stat = [0; 68];
                // Created and set by the first transaction; five bytes long.
                (stat[7], stat[15], stat[55]) = (1, 1, 5);
                let (error, answer): (i32, &[u8]) = match code {
                    3 => (0, &stat),
                    // As servers that cannot read several at once.
                    22 => (-6, &[]),
                    4 => (0, &[0, 0, 0, 9, b'x']),
                    8 | 12 if matches!(deed, Deed::Names) => (0, &names),
                    9 => (0, &[0, 0, 0, 1, b'/']),
                    11 | 106 => (0, &[]),
                    _ => (-101, &[]),
                };
                let reply = [xid, &1_i64.to_be_bytes(), &error.to_be_bytes(), answer].concat();
                if stream.write_all(&frame(&reply)).is_err() {
                    break;
                }
            }
            0
        }
        Deed::Flood | Deed::LongEvents => {
            let mut answers = stream.try_clone().unwrap();
            let mut requests = stream.try_clone().unwrap();
            // As one that has nothing: all is well, and no node is there.
            std::thread::spawn(move || {
                while let Some(body) = request(&mut requests) {
                    let (xid, code) = (&body[..4], i32::from_be_bytes(body[4..8].try_into().unwrap()));
                    let error: i32 = if matches!(code, 9 | 11 | 106) { 0 } else { -101 };
                    let path = if code == 9 { frame(b"/") } else { Vec::new() };
                    let reply = [xid, &1_i64.to_be_bytes(), &error.to_be_bytes(), &path].concat();
                    if answers.write_all(&frame(&reply)).is_err() {
                        break;
                    }
                }
            });
            let event = |number: usize| {
                let long = if matches!(deed, Deed::LongEvents) {
                    20 << 20
                } else {
                    200
                };
                let path = format!("/x/{}{number:0>9}", "x".repeat(long));
                // A notification: its header, that data changed, in a connected session, at the path.
                let header = [&(-1_i32).to_be_bytes()[..], &1_i64.to_be_bytes(), &[0; 4]].concat();
                let event = [&3_i32.to_be_bytes()[..], &3_i32.to_be_bytes(), &frame(path.as_bytes())].concat();
                frame(&[header, event].concat())
            };
            let mut taken = 0;
            for chunk in 0.. {
                let together = if matches!(deed, Deed::LongEvents) { 1 } else { 1000 };
                let events: Vec<u8> = (0..together)
                    .flat_map(|number| event(chunk * together + number))
                    .collect();
                if taken > FLOOD || stream.write_all(&events).is_err() {
                    break;
                }
                taken += events.len();
            }
            let _ = stream.shutdown(Shutdown::Both);
            taken
        }
    }
}

/// Sends the same for as long as it is taken.
fn pour(stream: &mut TcpStream, bytes: &[u8]) -> usize {
    let mut taken = 0;
    while taken < FLOOD && stream.write_all(bytes).is_ok() {
        taken += bytes.len();
    }
    taken
}

/// Most memory that the process has had resident so far, in KiB.
fn peak(pid: Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A daemon with that server, after so many connections.
fn endure(deed: Deed, connections: usize, more: impl Fn(&Site, &Daemon)) -> (Arc<Counted>, u64) {
    let (address, counted) = serve(deed);
    let site = Site::new();
    let (count, watch_type) = match deed {
        Deed::Names => (1, "WATCH_CHILDREN"),
        _ => (70, "WATCH_DATA"),
    };
    let watches: String = (0..count)
        .map(|number| {
            format!("RegisterWatch('/x/{number}', Exec('true'), watch_type={watch_type}, name='w{number}')\n")
        })
        .collect();
    site.config("a.twc", &watches);
    let control = site.path("control.sock").to_string_lossy().into_owned();
    let daemon = site.start_with(&["--zk", &address, "--control", &control]);
    until("it has come back often enough", || {
        let status = http::operate(&site.path("control.sock"), "GET", "/v1/status");
        assert_eq!(status.status, 200, "operators are answered: {status:?}");
        counted.connections.load(Ordering::Relaxed) >= connections
    });
    more(&site, &daemon);
    (counted, peak(daemon.pid()))
}

#[test]
fn a_packet_that_is_too_large_is_not_received() {
    let (counted, peak) = endure(Deed::Announce, 3, |_, _| {});
    let taken = counted.taken.load(Ordering::Relaxed);
    // What fits into the kernel's buffers is taken by those.
    assert!(taken < 64 << 20, "{taken} bytes were taken");
    assert!(peak < MEMORY, "{peak} KiB");
}

#[test]
fn nonsense_after_a_good_handshake_is_asked_for_ever_more_seldom() {
    let began = Instant::now();
    endure(Deed::Garble, 15, |_, daemon| {
        // Without a pause there are more than a thousand connections a second.
        let took = began.elapsed();
        assert!(took > Duration::from_secs(2), "15 connections within {took:?}");
        daemon.wait("the operator is told", |line| {
            let message = line["message"].as_str().unwrap_or_default();
            message.contains("no ZooKeeper session") || message.contains("sessions end soon after they begin")
        });
    });
}

#[test]
fn an_answer_that_is_too_short_is_an_error_and_watching_goes_on() {
    endure(Deed::ShortData, 1, |_, daemon| {
        daemon.wait("the operator is told", |line| line.to_string().contains("too short"));
        assert_eq!(daemon.count(|line| line.to_string().contains("panicked")), 0);
    });
}

#[test]
fn an_answer_with_millions_of_names_is_an_error_and_little_memory() {
    let (_, peak) = endure(Deed::Names, 1, |_, daemon| {
        daemon.wait("the operator is told", |line| {
            line.to_string().contains("more than a million names")
        });
    });
    assert!(peak < MEMORY, "{peak} KiB");
}

#[test]
fn events_with_paths_of_megabytes_are_not_kept() {
    let (_, peak) = endure(Deed::LongEvents, 4, |_, _| {});
    assert!(peak < MEMORY, "{peak} KiB");
}

#[test]
fn a_flood_of_events_is_survived_and_operators_are_answered_meanwhile() {
    let (_, peak) = endure(Deed::Flood, 2, |_, _| {});
    assert!(peak < MEMORY, "{peak} KiB");
}
