//! Bad input over raw sockets: each gets a clear answer or a closed connection, and the server goes on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::time::Duration;

use bowline_server::{Limits, ServerOptions};
use bowline_tests_protocols::Running;
use bowline_tests_support::Http;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn limits() -> Limits {
    Limits { header_timeout: Duration::from_millis(300), max_connections: 200, ..Limits::default() }
}

fn start() -> Running {
    let mut options = ServerOptions::at("127.0.0.1:0").unwrap();
    options.limits = limits();
    Running::start_with(options).unwrap()
}

/// Sends bytes and reads what comes until the server closes, but no longer than a few seconds.
async fn raw(running: &Running, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(running.endpoint.authority()).await.unwrap();
    // The server may close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer));
    // A reset after the answer is as good as an end.
    let _ = read.await.expect("the server neither answered nor closed");
    answer
}

async fn still_works(running: &Running) {
    let mut http = Http::connect(&running.endpoint).await;
    let answer = http.call("GET", "/v1/echo/alive", &[], "").await;
    assert_eq!(answer.text(), r#"{"name":"alive"}"#);
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// HEADERS of `POST path` with a content type, in literal HPACK.
fn headers(path: &str, content_type: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    for (name, value) in
        [(":path", path), (":authority", "x"), ("content-type", content_type), ("te", "trailers")]
    {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// Reads frames until `stop` says so or the connection ends; returns the kinds seen.
async fn frames(stream: &mut TcpStream, mut stop: impl FnMut(u8, &[u8]) -> bool) -> Vec<u8> {
    let mut kinds = Vec::new();
    let read = async {
        loop {
            let mut head = [0; 9];
            if stream.read_exact(&mut head).await.is_err() {
                return;
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            if stream.read_exact(&mut payload).await.is_err() {
                return;
            }
            kinds.push(head[3]);
            if stop(head[3], &payload) {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(5), read).await;
    kinds
}

async fn http2(running: &Running) -> TcpStream {
    let mut stream = TcpStream::connect(running.endpoint.authority()).await.unwrap();
    stream.write_all(&[PREFACE, &frame(4, 0, 0, &[])].concat()).await.unwrap();
    stream
}

#[tokio::test]
async fn what_is_no_http_is_refused() {
    let running = start();
    for nonsense in [
        &b"hello\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\0\0\0\0\0\0\0\0\0\0",
    ] {
        let answer = raw(&running, nonsense).await;
        let text = String::from_utf8_lossy(&answer);
        assert!(
            text.is_empty() || text.starts_with("HTTP/1.1 400") || text.starts_with("HTTP/1.1 505"),
            "{text}"
        );
    }
    still_works(&running).await;
}

#[tokio::test]
async fn who_says_nothing_or_dribbles_is_cut() {
    let running = start();
    assert!(raw(&running, b"").await.is_empty(), "a silent connection is closed");
    let slow = raw(&running, b"GET /v1/echo/a HTTP/1.1\r\nhost: x\r\nx-slow: ").await;
    assert!(slow.is_empty() || slow.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&slow));
    assert!(raw(&running, &PREFACE[..10]).await.is_empty(), "half a preface is closed");
    still_works(&running).await;
}

#[tokio::test]
async fn heads_have_bounds() {
    let running = start();
    let big = format!("GET /v1/echo/a HTTP/1.1\r\nhost: x\r\nx-big: {}\r\n\r\n", "a".repeat(100_000));
    let answer = raw(&running, big.as_bytes()).await;
    assert!(answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
    let many: String = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect();
    let answer = raw(&running, format!("GET / HTTP/1.1\r\nhost: x\r\n{many}\r\n").as_bytes()).await;
    assert!(answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
    still_works(&running).await;
}

#[tokio::test]
async fn headers_are_counted_in_http2_too() {
    let running = start();
    let mut http = Http::connect_h2(&running.endpoint).await;
    let names: Vec<String> = (0..300).map(|n| format!("x-{n}")).collect();
    let with = |own: &[(&'static str, &'static str)], count: usize| {
        let many = names[..count].iter().map(|name| (name.as_str(), "1"));
        own.iter().copied().chain(many).collect::<Vec<_>>()
    };
    let rest = http.call("GET", "/v1/echo/a", &with(&[], 300), "").await;
    let error = rest.json();
    assert_eq!((rest.status, &error["reason"]), (431, &"TOO_MANY_HEADERS".into()), "{error}");
    assert_eq!(error["code"], 431);
    assert_eq!(error["message"], "the request has more than 100 headers");
    let path = "/testing.v1.Testing/Echo";
    let body = b"\0\0\0\0\x02{}".to_vec();
    let grpc = [("content-type", "application/grpc+json"), ("te", "trailers")];
    let answer = http.call("POST", path, &with(&grpc, 300), body.clone()).await;
    assert_eq!((answer.status, answer.header("grpc-status")), (200, "8"), "RESOURCE_EXHAUSTED");
    let connect = [("content-type", "application/json"), ("connect-protocol-version", "1")];
    let answer = http.call("POST", path, &with(&connect, 300), "{}").await;
    assert_eq!((answer.status, &answer.json()["code"]), (429, &"resource_exhausted".into()));
    assert_eq!(http.call("POST", path, &with(&grpc, 90), body).await.header("grpc-status"), "0");
    assert_eq!(running.service.begun.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test]
async fn bodies_have_bounds() {
    let running = start();
    let mut http = Http::connect(&running.endpoint).await;
    let big = format!(r#"{{"name":"{}"}}"#, "a".repeat(5 * 1024 * 1024));
    let answer = http.call("POST", "/v1/echo", &[("content-type", "application/json")], big.clone()).await;
    assert_eq!((answer.status, answer.json()["reason"].as_str()), (413, Some("BODY_TOO_LARGE")));

    let mut http = Http::connect_h2(&running.endpoint).await;
    let envelope = [&[0][..], &u32::try_from(big.len()).unwrap().to_be_bytes(), big.as_bytes()].concat();
    let grpc = [("content-type", "application/grpc+json"), ("te", "trailers")];
    let answer = http.call("POST", "/testing.v1.Testing/Echo", &grpc, envelope).await;
    assert_eq!(answer.header("grpc-status"), "8", "{:?}", answer.headers);
    still_works(&running).await;
}

#[tokio::test]
async fn broken_messages_are_told_in_each_protocol() {
    let running = start();
    let mut http = Http::connect_h2(&running.endpoint).await;
    let path = "/testing.v1.Testing/Echo";
    let grpc = [("content-type", "application/grpc"), ("te", "trailers")];
    // Not UTF-8; a length that lies; an envelope cut short; a field that is cut short.
    for (what, body) in [
        ("invalid UTF-8", vec![0, 0, 0, 0, 4, 0x0a, 2, 0xff, 0xfe]),
        ("an envelope cut short", vec![0, 0, 0, 0, 200, 1, 2]),
        ("half a prefix", vec![0, 0, 0]),
        ("a field cut short", vec![0, 0, 0, 0, 2, 0x0a, 100]),
        ("a compressed message nobody announced", vec![1, 0, 0, 0, 1, 0]),
    ] {
        let answer = http.call("POST", path, &grpc, body).await;
        let status: u32 = answer.header("grpc-status").parse().unwrap_or(0);
        assert!(status != 0, "{what}: {:?}", answer.headers);
        assert!(!answer.header("grpc-message").is_empty(), "{what}: {:?}", answer.headers);
    }
    let connect = [("content-type", "application/proto"), ("connect-protocol-version", "1")];
    let answer = http.call("POST", path, &connect, vec![0x0a, 2, 0xff, 0xfe]).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (400, Some("invalid_argument")));
    let odd = [("content-type", "application/grpc+thrift"), ("te", "trailers")];
    let answer = http.call("POST", path, &odd, vec![0; 5]).await;
    assert_eq!(answer.header("grpc-status"), "12");
    still_works(&running).await;
}

#[tokio::test]
async fn rapid_resets_end_the_connection_and_not_the_server() {
    let running = start();
    let mut stream = http2(&running).await;
    let block = headers("/testing.v1.Testing/Sleep", "application/grpc");
    let mut flood = Vec::new();
    for stream in (1..20_000).step_by(2) {
        flood.extend(frame(1, 4, stream, &block));
        flood.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
    }
    // The server ends the connection somewhere on the way.
    let _ = stream.write_all(&flood).await;
    let mut goaway = None;
    frames(&mut stream, |kind, payload| {
        goaway = (kind == 7).then(|| payload[7]);
        kind == 7
    })
    .await;
    assert!(matches!(goaway, None | Some(11)), "closed, or GOAWAY with ENHANCE_YOUR_CALM: {goaway:?}");
    still_works(&running).await;
}

#[tokio::test]
async fn a_flood_of_continuations_ends_the_connection() {
    let running = start();
    let mut stream = http2(&running).await;
    let mut flood = frame(1, 0, 1, &headers("/x", "application/grpc"));
    for _ in 0..10_000 {
        flood.extend(frame(9, 0, 1, &[0, 1, b'a', 1, b'b']));
    }
    let _ = stream.write_all(&flood).await;
    let mut closed = false;
    let read = async {
        let mut sink = vec![0; 65536];
        while !matches!(stream.read(&mut sink).await, Ok(0) | Err(_)) {}
        closed = true;
    };
    let _ = tokio::time::timeout(Duration::from_secs(5), read).await;
    assert!(closed, "the connection goes on");
    still_works(&running).await;
}

#[tokio::test]
async fn more_streams_than_allowed_are_refused() {
    let mut options = ServerOptions::at("127.0.0.1:0").unwrap();
    options.limits = Limits { concurrent_streams: 2, ..limits() };
    let running = Running::start_with(options).unwrap();
    let mut stream = http2(&running).await;
    let block = headers("/testing.v1.Testing/Sleep", "application/grpc");
    for id in [1, 3, 5, 7] {
        stream.write_all(&frame(1, 4, id, &block)).await.unwrap();
    }
    let mut refused = 0;
    frames(&mut stream, |kind, payload| {
        refused += usize::from(kind == 3 && payload == 7_u32.to_be_bytes());
        refused == 2
    })
    .await;
    assert_eq!(refused, 2, "the third and the fourth stream are refused (REFUSED_STREAM)");
    still_works(&running).await;
}

#[tokio::test]
async fn memory_stays_bounded_under_many_bad_connections() {
    let running = start();
    still_works(&running).await;
    let before = resident_kib();
    for _ in 0..20 {
        let mut held = Vec::new();
        for _ in 0..100 {
            let mut stream = TcpStream::connect(running.endpoint.authority()).await.unwrap();
            let head = format!(
                "POST /v1/echo HTTP/1.1\r\nhost: x\r\ncontent-length: 4000000\r\n\r\n{}",
                "x".repeat(10_000)
            );
            let _ = stream.write_all(head.as_bytes()).await;
            held.push(stream);
        }
    }
    still_works(&running).await;
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 100 * 1024, "2000 broken requests left {grown} KiB behind");
}

#[tokio::test]
async fn unfinished_messages_have_a_bound_together() {
    let mut options = ServerOptions::at("127.0.0.1:0").unwrap();
    options.limits = Limits { unfinished_bytes: 33_000, ..limits() };
    let running = Running::start_with(options).unwrap();
    for path in ["Echo", "Sum", "Double"] {
        let mut stream = http2(&running).await;
        let block = headers(&format!("/testing.v1.Testing/{path}"), "application/grpc");
        // Each begins a message of a megabyte and sends 8 KB of it; together they stay within the connection's window.
        let begun = [&[0, 0, 16, 0, 0][..], &[b'x'; 8_000]].concat();
        for id in (1..16).step_by(2) {
            stream.write_all(&frame(1, 4, id, &block)).await.unwrap();
            stream.write_all(&frame(0, 0, id, &begun)).await.unwrap();
        }
        let mut refused = 0;
        let mut text = Vec::new();
        frames(&mut stream, |kind, payload| {
            text.extend_from_slice(payload);
            refused += usize::from(kind == 1);
            refused == 4
        })
        .await;
        assert_eq!(refused, 4, "{path}: four of eight fit: {}", String::from_utf8_lossy(&text));
        still_works(&running).await;
    }
}

#[tokio::test]
async fn who_is_idle_is_told_before_the_connection_ends() {
    let mut options = ServerOptions::at("127.0.0.1:0").unwrap();
    options.limits = Limits { idle_timeout: Duration::from_millis(200), ..limits() };
    let running = Running::start_with(options).unwrap();
    for asks in [false, true] {
        let mut stream = http2(&running).await;
        if asks {
            let block = headers("/testing.v1.Testing/Echo", "application/grpc");
            stream.write_all(&frame(1, 5, 1, &block)).await.unwrap();
        }
        let mut goaway = false;
        let told = frames(&mut stream, |kind, _| {
            goaway |= kind == 7;
            goaway
        });
        let _ = tokio::time::timeout(Duration::from_secs(30), told).await;
        assert!(goaway, "asks: {asks}");
    }
}

/// The head of a request that is kept alive for the next, and the whole of it.
const HEAD: &[u8] = b"GET /v1/echo/a HTTP/1.1\r\nhost: x\r\n";

/// Reads until the body of an echo has come.
async fn echoed(stream: &mut TcpStream) {
    let mut answer = Vec::new();
    while !answer.ends_with(br#"{"name":"a"}"#) {
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read_buf(&mut answer)).await;
        assert_ne!(read.unwrap().unwrap(), 0, "closed after {}", String::from_utf8_lossy(&answer));
    }
}

#[tokio::test]
async fn who_keeps_a_connection_for_later_may_wait_and_has_time_for_each_head_from_its_first_byte() {
    let running = start();
    let mut stream = TcpStream::connect(running.endpoint.authority()).await.unwrap();
    let whole = [HEAD, b"\r\n"].concat();
    for _ in 0..2 {
        stream.write_all(&whole).await.unwrap();
        echoed(&mut stream).await;
        // Longer than a head may take.
        let quiet = tokio::time::timeout(Duration::from_millis(900), stream.read_u8()).await;
        assert!(quiet.is_err(), "it ended while it waited: {quiet:?}");
    }
    stream.write_all(HEAD).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(5), stream.read_u8()).await;
    assert!(ended.expect("a later head may take for ever").is_err());
    still_works(&running).await;
}

#[tokio::test]
async fn a_stream_of_whose_answer_nothing_is_taken_is_reset_and_the_others_go_on() {
    let mut options = ServerOptions::at("127.0.0.1:0").unwrap();
    options.limits = Limits { write_timeout: Duration::from_millis(300), ..limits() };
    let running = Running::start_with(options).unwrap();
    let mut stream = TcpStream::connect(running.endpoint.authority()).await.unwrap();
    // SETTINGS_INITIAL_WINDOW_SIZE: nothing may be sent before it is allowed.
    let nothing = frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]);
    stream.write_all(&[PREFACE, &nothing].concat()).await.unwrap();
    let block = headers("/testing.v1.Testing/Echo", "application/grpc");
    let message = [0, 0, 0, 0, 3, 10, 1, b'a'];
    let call = |id: u32| [frame(1, 4, id, &block), frame(0, 1, id, &message)].concat();
    stream.write_all(&call(1)).await.unwrap();
    let mut reset = Vec::new();
    frames(&mut stream, |kind, payload| {
        if kind == 3 {
            reset = payload.to_vec();
        }
        kind == 3
    })
    .await;
    assert_eq!(reset, 8_u32.to_be_bytes(), "CANCEL");
    let all = frame(4, 0, 0, &[0, 4, 0, 0, 255, 255]);
    stream.write_all(&[all, call(3)].concat()).await.unwrap();
    let mut told = Vec::new();
    frames(&mut stream, |kind, payload| {
        told = payload.to_vec();
        kind == 0 && !payload.is_empty()
    })
    .await;
    assert_eq!(told, message, "its own answer");
}

#[tokio::test]
async fn who_asks_over_http1_and_reads_nothing_is_cut() {
    let mut options = ServerOptions::at("127.0.0.1:0").unwrap();
    options.limits = Limits { write_timeout: Duration::from_millis(300), ..limits() };
    let running = Running::start_with(options).unwrap();
    let mut stream = TcpStream::connect(running.endpoint.authority()).await.unwrap();
    let asked = format!("GET /v1/echo/{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(8_000)).repeat(64);
    let asking = async {
        // The server reads no more once its answers are not taken, and at some time what is asked is not taken either.
        while stream.write_all(asked.as_bytes()).await.is_ok() {}
    };
    tokio::time::timeout(Duration::from_secs(30), asking).await.expect("it asks for ever");
    still_works(&running).await;
}

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
