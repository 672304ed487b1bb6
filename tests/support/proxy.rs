//! A proxy between a client and a ZooKeeper server that breaks things on purpose and counts what passes.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// Operation codes of the protocol, for [`Proxy::requests`] and [`Rules::unimplemented`].
pub mod op {
    /// Set watches again after a reconnect.
    pub const SET_WATCHES: i32 = 101;
    /// Create a node.
    pub const CREATE: i32 = 15;
    /// Set a node's data.
    pub const SET_DATA: i32 = 5;
    /// Read a node's data.
    pub const GET_DATA: i32 = 4;
    /// Read the names of a node's children, and its stat.
    pub const GET_CHILDREN: i32 = 12;
    /// Several reads in one.
    pub const MULTI_READ: i32 = 22;
    /// Set a persistent watch.
    pub const ADD_WATCH: i32 = 106;
    /// Begin a session; not a real code, the first frame has none.
    pub const CONNECT: i32 = i32::MIN;
}

/// What goes wrong.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// New connections are closed at once.
    pub refuse: bool,
    /// Nothing passes, in either direction, until this is lifted.
    pub blackhole: bool,
    /// A request that has this in it does not pass, nor does what its connection sends after it, until this is lifted.
    pub hold_back: Option<Vec<u8>>,
    /// Every frame is late by so much.
    pub delay: Duration,
    /// Watch events do not reach the client.
    pub drop_events: bool,
    /// These operations are answered as by a server that does not know them.
    pub unimplemented: Vec<i32>,
    /// The next request with this code is carried out, but its connection ends instead of the reply. Once.
    pub cut_reply_to: Option<i32>,
    /// A reply of more bytes ends the connection instead.
    pub cut_replies_over: Option<usize>,
    /// What replies have of the first reaches the client as the second, which is as long.
    pub replace: Option<(Vec<u8>, Vec<u8>)>,
}

#[derive(Debug, Default)]
struct State {
    rules: Rules,
    streams: Vec<TcpStream>,
    connections: usize,
    requests: HashMap<i32, usize>,
    cut: usize,
    closed: bool,
}

#[derive(Debug, Default)]
struct Common {
    state: Mutex<State>,
    changed: Condvar,
}

/// Listens on a port, of loopback mostly, until dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    common: Arc<Common>,
}

impl Proxy {
    /// A proxy to a port of this machine.
    pub fn to(port: u16) -> Self {
        Self::on(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
    }

    /// The same, on an address that others reach.
    pub fn on(address: IpAddr, port: u16) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let proxy = Self {
            address: listener.local_addr().unwrap(),
            common: Arc::default(),
        };
        let common = proxy.common.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let mut state = common.state.lock().unwrap();
                if state.closed {
                    return;
                }
                state.connections += 1;
                if state.rules.refuse {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else {
                    continue;
                };
                for stream in [&client, &server] {
                    stream.set_nodelay(true).unwrap();
                    state.streams.push(stream.try_clone().unwrap());
                }
                drop(state);
                let reply_to = Arc::new(Mutex::new(client.try_clone().unwrap()));
                let doomed: Arc<Mutex<Option<i32>>> = Arc::default();
                let up = Pump {
                    common: common.clone(),
                    client: reply_to.clone(),
                    doomed: doomed.clone(),
                    up: true,
                };
                let down = Pump {
                    common: common.clone(),
                    client: reply_to,
                    doomed,
                    up: false,
                };
                let (client_in, server_out) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || up.run(client_in, Some(server_out)));
                std::thread::spawn(move || down.run(server, None));
            }
        });
        proxy
    }

    /// `host:port` for clients.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Changes what goes wrong.
    pub fn rules(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.common.state.lock().unwrap().rules);
        self.common.changed.notify_all();
    }

    /// Ends every connection.
    pub fn sever(&self) {
        for stream in self.common.state.lock().unwrap().streams.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.common.changed.notify_all();
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.common.state.lock().unwrap().connections
    }

    /// Requests with this operation code so far.
    pub fn requests(&self, op: i32) -> usize {
        self.common
            .state
            .lock()
            .unwrap()
            .requests
            .get(&op)
            .copied()
            .unwrap_or(0)
    }

    /// Connections ended by [`Rules::cut_replies_over`] and [`Rules::cut_reply_to`] so far.
    pub fn cut(&self) -> usize {
        self.common.state.lock().unwrap().cut
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.common.state.lock().unwrap().closed = true;
        self.sever();
        let _ = TcpStream::connect(self.address);
    }
}

struct Pump {
    common: Arc<Common>,
    client: Arc<Mutex<TcpStream>>,
    /// The request whose reply ends the connection.
    doomed: Arc<Mutex<Option<i32>>>,
    up: bool,
}

impl Pump {
    fn run(self, mut from: TcpStream, mut server: Option<TcpStream>) {
        let mut first = true;
        while let Some(mut frame) = read_frame(&mut from) {
            let Some(rules) = self.admit(&from, &frame) else { break };
            if let Some((old, new)) = rules.replace.as_ref().filter(|_| !self.up) {
                replace(&mut frame, old, new);
            }
            let word = |at: usize| {
                frame
                    .get(at..at + 4)
                    .map(|bytes| i32::from_be_bytes(bytes.try_into().unwrap()))
            };
            let passed = match &mut server {
                Some(server) => {
                    let op = if first { op::CONNECT } else { word(8).unwrap_or(0) };
                    let mut state = self.common.state.lock().unwrap();
                    *state.requests.entry(op).or_default() += 1;
                    if !first && state.rules.cut_reply_to == Some(op) {
                        state.rules.cut_reply_to = None;
                        *self.doomed.lock().unwrap() = word(4);
                    }
                    drop(state);
                    if rules.unimplemented.contains(&op) {
                        self.answer_unimplemented(word(4).unwrap_or(0))
                    } else {
                        server.write_all(&frame)
                    }
                }
                None if !first && rules.drop_events && word(4) == Some(-1) => Ok(()),
                None if !first && word(4).is_some() && word(4) == *self.doomed.lock().unwrap() => {
                    self.common.state.lock().unwrap().cut += 1;
                    break;
                }
                None if rules.cut_replies_over.is_some_and(|limit| frame.len() > limit) => {
                    self.common.state.lock().unwrap().cut += 1;
                    break;
                }
                None => self.client.lock().unwrap().write_all(&frame),
            };
            if passed.is_err() {
                break;
            }
            first = false;
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = self.client.lock().unwrap().shutdown(Shutdown::Both);
        if let Some(server) = server {
            let _ = server.shutdown(Shutdown::Both);
        }
    }

    /// Waits until a frame may pass; none when the proxy is gone.
    fn admit(&self, from: &TcpStream, frame: &[u8]) -> Option<Rules> {
        let mut state = self.common.state.lock().unwrap();
        let is_held_back = |rules: &Rules| {
            let part = rules.hold_back.as_deref().filter(|part| self.up && !part.is_empty());
            part.is_some_and(|part| frame.windows(part.len()).any(|window| window == part))
        };
        while (state.rules.blackhole || is_held_back(&state.rules)) && !state.closed && from.peer_addr().is_ok() {
            state = self.common.changed.wait(state).unwrap();
        }
        let rules = state.rules.clone();
        let closed = state.closed;
        drop(state);
        if !rules.delay.is_zero() {
            std::thread::sleep(rules.delay);
        }
        (!closed).then_some(rules)
    }

    fn answer_unimplemented(&self, xid: i32) -> std::io::Result<()> {
        assert!(self.up);
        let mut frame = 16i32.to_be_bytes().to_vec();
        frame.extend(xid.to_be_bytes());
        frame.extend(0i64.to_be_bytes());
        frame.extend((-6i32).to_be_bytes());
        self.client.lock().unwrap().write_all(&frame)
    }
}

fn replace(frame: &mut [u8], old: &[u8], new: &[u8]) {
    let mut at = 0;
    while let Some(found) = frame[at..].windows(old.len()).position(|part| part == old) {
        frame[at + found..][..old.len()].copy_from_slice(new);
        at += found + old.len();
    }
}

fn read_frame(from: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length).ok()?;
    let mut frame = length.to_vec();
    let length = usize::try_from(i32::from_be_bytes(length)).ok()?;
    frame.resize(4 + length, 0);
    from.read_exact(&mut frame[4..]).ok()?;
    Some(frame)
}
