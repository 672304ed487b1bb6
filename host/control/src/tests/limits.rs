//! What clients may not do, and how much of what they may.

use std::time::Instant;

use super::*;

fn short() -> ServerLimits {
    ServerLimits {
        connections: 4,
        head: Duration::from_millis(300),
        body_time: Duration::from_millis(300),
        ..ServerLimits::default()
    }
}

#[test]
fn nonsense_is_answered_as_such() {
    let stage = Stage::new();
    for nonsense in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"nonsense\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /v1/status HTTP/9.9\r\n\r\n",
        b"GET /v1/status HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /v1/status HTTP/1.1\r\nx: \x00\r\n\r\n",
        b"GET /v1/sta tus HTTP/1.1\r\n\r\n",
        b"POST /v1/reload HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/reload HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let answer = exchange(stage.operator(), nonsense);
        let shown = String::from_utf8_lossy(nonsense);
        assert!(answer.status == 400 || answer.head.is_empty(), "{shown:?}: {answer:?}");
    }
    assert_eq!(stage.operate("GET", "/healthz").status, 200);
}

#[test]
fn bodies_are_bounded_however_they_come() {
    let stage = Stage::new();
    let post = |headers: &str, body: &[u8]| {
        let head = format!("POST /v1/watches/b/pause HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n\r\n");
        exchange(stage.operator(), &[head.as_bytes(), body].concat())
    };
    assert_eq!(post("content-length: 2", b"{}").status, 200);
    assert_eq!(post("content-length: 65537", b"").status, 413);
    assert_eq!(post("content-length: 99999999999", b"").status, 413);
    let chunk = [b"8000\r\n".to_vec(), vec![b'x'; 0x8000], b"\r\n".to_vec()].concat();
    let body = |chunks: usize| [chunk.repeat(chunks), b"0\r\n\r\n".to_vec()].concat();
    assert_eq!(post("transfer-encoding: chunked", &body(2)).status, 200);
    assert_eq!(post("transfer-encoding: chunked", &body(3)).status, 413);
    assert_eq!(stage.orders.lock().unwrap().len(), 2, "what is refused is not done");
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let stage = Stage::with(short());
    let head = b"POST /v1/reload HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 10\r\n\r\nx";
    assert_eq!(exchange(stage.operator(), head).status, 408);
}

#[test]
fn heads_are_bounded() {
    let stage = Stage::new();
    let long = format!("/v1/watches/{}", "x".repeat(9000));
    assert_eq!(stage.operate("GET", &long).status, 414);
    let huge = format!("/v1/watches/{}", "x".repeat(100_000));
    assert!([0, 414, 431].contains(&stage.operate("GET", &huge).status));
    let many = "x: y\r\n".repeat(100);
    assert_eq!(
        stage
            .browse("GET", "/healthz", &format!("host: localhost\r\n{many}"))
            .status,
        431
    );
    let large = format!("host: localhost\r\nx: {}\r\n", "y".repeat(100_000));
    assert!([0, 431].contains(&stage.browse("GET", "/healthz", &large).status));
    assert_eq!(stage.operate("GET", "/healthz").status, 200);
}

/// Slow loris: a byte now and then, so that something always happens but nothing is ever asked.
#[test]
fn a_head_that_takes_too_long_is_given_up() {
    let stage = Stage::with(short());
    let start = Instant::now();
    let mut stream = stage.browser();
    let mut reader = stream.try_clone().unwrap();
    let dripping = std::thread::spawn(move || {
        for byte in b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-header: "
            .iter()
            .cycle()
            .take(2000)
        {
            if stream.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    let mut rest = Vec::new();
    let _ = reader.read_to_end(&mut rest);
    let took = start.elapsed();
    assert!(
        took >= Duration::from_millis(290) && took < Duration::from_secs(10),
        "{took:?}"
    );
    dripping.join().unwrap();
    // An idle connection ends the same way.
    let mut idle = stage.operator();
    assert_eq!(idle.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn connections_are_bounded_and_places_come_back() {
    let stage = Stage::with(ServerLimits {
        head: Duration::from_secs(60),
        ..short()
    });
    // Each follows what happens.
    let follow = || {
        let mut following = stage.browser();
        following
            .write_all(b"GET /v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .unwrap();
        let mut first = [0; 15];
        following.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 200 OK");
        following
    };
    let held: Vec<_> = (0..4).map(|_| follow()).collect();
    let deadline = Instant::now() + DEADLINE;
    loop {
        let answer = stage.browse("GET", "/healthz", "host: localhost\r\n");
        if answer.status == 503 {
            assert_eq!(answer.problem(), "too many connections");
            break;
        }
        assert!(Instant::now() < deadline, "{answer:?}");
    }
    assert_eq!(
        stage.operate("GET", "/healthz").status,
        200,
        "the other way in has places of its own"
    );
    drop(held);
    while stage.browse("GET", "/healthz", "host: localhost\r\n").status != 200 {
        assert!(Instant::now() < deadline);
    }
}

#[test]
fn connections_that_ask_nothing_keep_nobody_out() {
    let stage = Stage::with(ServerLimits {
        head: Duration::from_secs(60),
        ..short()
    });
    let ask = |mut stream: TcpStream| {
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .unwrap();
        let mut first = [0; 15];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 200 OK");
        stream
    };
    // Half of them begin to ask, the others have asked once.
    let mut idle = Vec::new();
    for _ in 0..20 {
        let mut stream = stage.browser();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: ").unwrap();
        idle.push(stream);
        idle.push(ask(stage.browser()));
        assert_eq!(stage.browse("GET", "/healthz", "host: localhost\r\n").status, 200);
    }
    // Whose place it was is told by the end of the connection.
    assert_eq!(idle[0].read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn the_end_ends_everything() {
    let mut stage = Stage::new();
    let mut following = stage.operator();
    following
        .write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    let mut first = [0; 15];
    following.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    let idle = stage.browser();
    let start = Instant::now();
    stage.server.take().unwrap().stop();
    assert!(start.elapsed() < Duration::from_secs(5));
    let mut rest = Vec::new();
    following.read_to_end(&mut rest).unwrap();
    drop(idle);
    assert!(!stage.socket().exists());
    assert!(TcpStream::connect(stage.http).is_err());
}
