//! A watcher that costs next to nothing: one gRPC stream on a TCP connection of its own, with as much of HTTP/2 as that takes
//! (RFC 9113, and RFC 7541 for the head of the request). What is measured shares its processors with ten thousand of these.

use std::net::SocketAddr;

use bowline_registry_bowline::api::bowline::registry::v1::{WatchRequest, WatchResponse};
use bowline_rpc::codegen::buffa::Message as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// The setting for the window of a stream, and the largest that there is.
const INITIAL_WINDOW_SIZE: u16 = 4;
const LARGEST_WINDOW: u32 = (1 << 31) - 1;
/// What a connection has without asking.
const DEFAULT_WINDOW: u32 = (1 << 16) - 1;
const FRAME_HEAD: usize = 9;
const MESSAGE_HEAD: usize = 5;

pub(crate) struct Watcher {
    socket: TcpStream,
    /// What was read and is no whole frame yet.
    read: Vec<u8>,
    /// What frames brought and is no whole message yet.
    messages: Vec<u8>,
}

impl Watcher {
    /// Opens a stream. The windows are so large that no message ever waits for one.
    pub(crate) async fn open(at: SocketAddr, request: &WatchRequest) -> Self {
        let mut socket = TcpStream::connect(at).await.expect("a connection");
        socket.set_nodelay(true).expect("a socket");
        let mut head = Vec::new();
        for (name, value) in [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/bowline.registry.v1.Registry/Watch"),
            (":authority", &at.to_string()),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ] {
            // A literal that is not kept, with its name.
            head.push(0);
            for text in [name, value] {
                head.push(
                    u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("a short text"),
                );
                head.extend(text.as_bytes());
            }
        }
        let request = request.encode_to_vec();
        let mut message = vec![0];
        message.extend(length(request.len()).to_be_bytes());
        message.extend(&request);
        let window = [&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &LARGEST_WINDOW.to_be_bytes()].concat();
        let more = (LARGEST_WINDOW - DEFAULT_WINDOW).to_be_bytes();
        let mut bytes = PREFACE.to_vec();
        for frame in [
            frame(SETTINGS, 0, 0, &window),
            frame(WINDOW_UPDATE, 0, 0, &more),
            frame(HEADERS, END_HEADERS, 1, &head),
            frame(DATA, END_STREAM, 1, &message),
        ] {
            bytes.extend(frame);
        }
        socket.write_all(&bytes).await.expect("written");
        Self { socket, read: Vec::new(), messages: Vec::new() }
    }

    pub(crate) async fn message(&mut self) -> WatchResponse {
        loop {
            if let Some(head) = self.messages.first_chunk::<MESSAGE_HEAD>() {
                let end = MESSAGE_HEAD + u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
                if self.messages.len() >= end {
                    let message: Vec<u8> = self.messages.drain(..end).collect();
                    return WatchResponse::decode_from_slice(&message[MESSAGE_HEAD..]).expect("a message");
                }
            }
            let mut chunk = [0; 4096];
            let count = self.socket.read(&mut chunk).await.expect("read");
            assert!(count > 0, "the registry has closed the connection");
            self.read.extend(&chunk[..count]);
            self.take_frames().await;
        }
    }

    async fn take_frames(&mut self) {
        while let Some(head) = self.read.first_chunk::<FRAME_HEAD>() {
            let (kind, flags) = (head[3], head[4]);
            let end = FRAME_HEAD + u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            if self.read.len() < end {
                return;
            }
            let whole: Vec<u8> = self.read.drain(..end).collect();
            let payload = &whole[FRAME_HEAD..];
            match kind {
                DATA => self.messages.extend(payload),
                SETTINGS if flags & ACK == 0 => self.say(frame(SETTINGS, ACK, 0, &[])).await,
                PING if flags & ACK == 0 => self.say(frame(PING, ACK, 0, payload)).await,
                HEADERS => assert!(flags & END_STREAM == 0, "the registry has ended the stream"),
                GOAWAY => panic!("the registry goes away: {}", String::from_utf8_lossy(payload)),
                _ => {}
            }
        }
    }

    async fn say(&mut self, frame: Vec<u8>) {
        self.socket.write_all(&frame).await.expect("written");
    }
}

fn length(of: usize) -> u32 {
    u32::try_from(of).expect("a short message")
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = length(payload.len()).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}
