//! One connection: requests are answered in the order they were sent, pings keep the session, events go to who watches.

use std::collections::VecDeque;
use std::time::Duration;

use bowline_core::{Error, Instant, Result, WrapErr};
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use crate::Credentials;
use crate::jute::{Writer, malformed};
use crate::link::{Call, Link};
use crate::wire::{self, Event, Reply, Ticket, code, op, xid};

/// The largest message that is taken: a list of some ten thousand names. The server's own bound for data is 1 MiB.
const MESSAGE: usize = 16 << 20;
/// No further requests are taken while this much is not sent yet, or this many are not answered.
const UNSENT: usize = 1 << 20;
/// How much is read at a time, where there is so much.
const READ: usize = 16 << 10;
const UNANSWERED: usize = 4096;

/// A connection that has a session.
pub(crate) struct Connection {
    stream: TcpStream,
    received: BytesMut,
    unsent: BytesMut,
    /// After how long without a sign of life the server ends the session.
    pub(crate) timeout: Duration,
}

/// What a greeting came to.
pub(crate) enum Greeted {
    Session(Connection, Ticket),
    /// The server does not know the session any more.
    Expired,
}

/// Connects and takes up the session, or begins one. The caller bounds the time.
pub(crate) async fn open(
    member: &(String, u16),
    last_zxid: i64,
    timeout: Duration,
    ticket: &Ticket,
    credentials: Option<&Credentials>,
) -> Result<Greeted> {
    let (host, port) = member;
    let stream = TcpStream::connect((&**host, *port)).await;
    let stream = stream.with_context(|| format!("connecting to ZooKeeper at {host}:{port}"))?;
    // Small frames must not wait for more; a socket that cannot say so works all the same.
    let _ = stream.set_nodelay(true);
    let (received, unsent) = (BytesMut::new(), BytesMut::new());
    let mut connection = Connection { stream, received, unsent, timeout };
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    connection.queue(&wire::connect(last_zxid, millis, ticket));
    connection.stream.write_all_buf(&mut connection.unsent).await.context("greeting ZooKeeper")?;
    let answer = loop {
        if let Some(message) = connection.message()? {
            break message;
        }
        connection.read().await?;
    };
    let Some((ticket, granted)) = wire::connected(answer)? else { return Ok(Greeted::Expired) };
    connection.timeout = Duration::from_millis(u64::from(granted));
    if let Some(Credentials { user, password }) = credentials {
        let who = format!("{user}:{password}");
        let auth = Writer::default().int(xid::AUTH).int(op::AUTH).int(0).text("digest").text(&who);
        connection.queue(&auth.end());
    }
    Ok(Greeted::Session(connection, ticket))
}

impl Connection {
    fn queue(&mut self, message: &[u8]) {
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
        self.unsent.extend_from_slice(&length.to_be_bytes());
        self.unsent.extend_from_slice(message);
    }

    async fn read(&mut self) -> Result<()> {
        self.received.reserve(READ);
        match self.stream.read_buf(&mut self.received).await.context("reading from ZooKeeper")? {
            0 => Err(closed()),
            _ => Ok(()),
        }
    }

    /// The next whole message, if it is there.
    fn message(&mut self) -> Result<Option<Bytes>> {
        let Some(length) = self.received.first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length > MESSAGE {
            return Err(malformed("it is longer than 16 MiB"));
        }
        if self.received.len() < 4 + length {
            return Ok(None);
        }
        self.received.advance(4);
        Ok(Some(self.received.split_to(length).freeze()))
    }

    /// Serves until it breaks. The last change heard of goes to `last_zxid`, the time of the last sign of life to `heard`.
    pub(crate) async fn serve(
        mut self,
        link: &Link,
        calls: &mut mpsc::Receiver<Call>,
        last_zxid: &mut i64,
        heard: &mut Instant,
    ) -> Result<std::convert::Infallible> {
        let mut waiting: VecDeque<(i32, oneshot::Sender<Reply>)> = VecDeque::new();
        let mut last_xid: i32 = 0;
        let mut said = Instant::now();
        loop {
            while let Some(message) = self.message()? {
                let reply = Reply::read(message)?;
                *last_zxid = (*last_zxid).max(reply.zxid);
                match reply.xid {
                    xid::EVENT => link.happened(&Event::read(reply.body)?),
                    xid::PING => {}
                    xid::AUTH if reply.code == code::OK => {}
                    xid::AUTH => return Err(wire::refused(code::AUTH_FAILED, "the user")),
                    number => match waiting.pop_front() {
                        Some((expected, answer)) if expected == number => {
                            // Whoever asked may have given up.
                            let _ = answer.send(reply);
                        }
                        _ => return Err(malformed("an answer comes out of turn")),
                    },
                }
            }
            // A third of the session's time, as in ZooKeeper's own client: what the server sends does not keep the session.
            let ping_at = said + self.timeout / 3;
            let dead_at = *heard + self.timeout * 2 / 3;
            let takes_more = self.unsent.len() < UNSENT && waiting.len() < UNANSWERED;
            self.received.reserve(READ);
            let (mut reader, mut writer) = self.stream.split();
            tokio::select! {
                read = reader.read_buf(&mut self.received) => {
                    if read.context("reading from ZooKeeper")? == 0 {
                        return Err(closed());
                    }
                    *heard = Instant::now();
                }
                written = writer.write_buf(&mut self.unsent), if !self.unsent.is_empty() => {
                    if written.context("writing to ZooKeeper")? == 0 {
                        return Err(closed());
                    }
                }
                call = calls.recv(), if takes_more => {
                    let Some(call) = call else { return Err(Error::unavailable("the registry client has ended")) };
                    last_xid = last_xid.checked_add(1).unwrap_or(1);
                    self.queue(&Writer::default().int(last_xid).int(call.op).raw(&call.body).end());
                    waiting.push_back((last_xid, call.answer));
                    said = Instant::now();
                }
                () = tokio::time::sleep_until(ping_at.min(dead_at)) => {
                    let now = Instant::now();
                    if now >= dead_at {
                        return Err(Error::deadline_exceeded(format!("ZooKeeper was silent for {:?}", now - *heard)));
                    }
                    self.queue(&Writer::default().int(xid::PING).int(op::PING).end());
                    said = now;
                }
            }
        }
    }
}

fn closed() -> Error {
    Error::unavailable("ZooKeeper closed the connection")
}
