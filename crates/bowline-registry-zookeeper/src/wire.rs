//! Requests and answers, as `zookeeper.jute` has them.

use bowline_core::{Code, Error, Result};
use bytes::Bytes;

use crate::jute::{Reader, Writer, malformed};

/// The numbers that say what a message is.
pub(crate) mod op {
    pub(crate) const DELETE: i32 = 2;
    pub(crate) const EXISTS: i32 = 3;
    pub(crate) const GET_DATA: i32 = 4;
    pub(crate) const SET_DATA: i32 = 5;
    pub(crate) const PING: i32 = 11;
    pub(crate) const GET_CHILDREN2: i32 = 12;
    pub(crate) const MULTI: i32 = 14;
    pub(crate) const CREATE2: i32 = 15;
    pub(crate) const REMOVE_WATCHES: i32 = 18;
    pub(crate) const AUTH: i32 = 100;
    pub(crate) const ADD_WATCH: i32 = 106;
}

/// The numbers of messages that are no request with an answer of its own.
pub(crate) mod xid {
    pub(crate) const EVENT: i32 = -1;
    pub(crate) const PING: i32 = -2;
    pub(crate) const AUTH: i32 = -4;
}

/// Why a request was refused.
pub(crate) mod code {
    pub(crate) const OK: i32 = 0;
    pub(crate) const UNIMPLEMENTED: i32 = -6;
    pub(crate) const BAD_ARGUMENTS: i32 = -8;
    pub(crate) const NO_NODE: i32 = -101;
    pub(crate) const NO_AUTH: i32 = -102;
    pub(crate) const BAD_VERSION: i32 = -103;
    pub(crate) const NODE_EXISTS: i32 = -110;
    pub(crate) const AUTH_FAILED: i32 = -115;
    pub(crate) const QUOTA_EXCEEDED: i32 = -125;
}

/// What is known of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stat {
    /// The change that created it.
    pub(crate) czxid: i64,
    /// The change that last set its data.
    pub(crate) mzxid: i64,
    /// When it was created, by the leader's clock, in milliseconds.
    pub(crate) ctime: i64,
    /// How often its data was set.
    pub(crate) version: i32,
    /// The session it goes with; 0 for none.
    pub(crate) owner: i64,
    /// The change that last added or removed a child.
    pub(crate) pzxid: i64,
}

impl Stat {
    pub(crate) fn read(reader: &mut Reader) -> Result<Self> {
        let (czxid, mzxid, ctime, _mtime) = (reader.long()?, reader.long()?, reader.long()?, reader.long()?);
        let (version, _cversion, _aversion) = (reader.int()?, reader.int()?, reader.int()?);
        let (owner, _length, _children) = (reader.long()?, reader.int()?, reader.int()?);
        Ok(Self { czxid, mzxid, ctime, version, owner, pzxid: reader.long()? })
    }
}

/// The answer to a request.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) xid: i32,
    /// The last change that the server had made then.
    pub(crate) zxid: i64,
    pub(crate) code: i32,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn read(message: Bytes) -> Result<Self> {
        let mut reader = Reader::new(message);
        let (xid, zxid, code) = (reader.int()?, reader.long()?, reader.int()?);
        Ok(Self { xid, zxid, code, body: reader.rest() })
    }

    /// The body, unless the request was refused.
    pub(crate) fn ok(self, what: &str) -> Result<Reader> {
        match self.code {
            code::OK => Ok(Reader::new(self.body)),
            other => Err(refused(other, what)),
        }
    }
}

/// What a refusal means.
pub(crate) fn refused(refusal: i32, what: &str) -> Error {
    let (code, why) = match refusal {
        code::UNIMPLEMENTED => {
            (Code::FailedPrecondition, "it does not know the request; it takes ZooKeeper 3.6 or later")
        }
        code::BAD_ARGUMENTS => (Code::InvalidArgument, "a name holds what ZooKeeper has no place for"),
        code::NO_AUTH => {
            (Code::PermissionDenied, "the node's access list does not allow it; name a user that it allows")
        }
        code::AUTH_FAILED => (Code::Unauthenticated, "the user was not taken"),
        code::QUOTA_EXCEEDED => (Code::ResourceExhausted, "a quota is reached"),
        code::NO_NODE => (Code::NotFound, "there is no such node"),
        code::NODE_EXISTS => (Code::AlreadyExists, "there is such a node"),
        code::BAD_VERSION => (Code::Aborted, "the node was changed meanwhile"),
        _ => (Code::Unavailable, "it failed there"),
    };
    Error::new(code, format!("ZooKeeper refused {what} ({refusal}): {why}"))
}

/// Something happened to a node that is watched.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) path: String,
}

impl Event {
    pub(crate) fn read(body: Bytes) -> Result<Self> {
        let mut reader = Reader::new(body);
        let (_kind, _state) = (reader.int()?, reader.int()?);
        Ok(Self { path: reader.text()? })
    }
}

/// A session, as both ends know it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ticket {
    /// 0 asks for a new one.
    pub(crate) id: i64,
    pub(crate) password: Bytes,
}

/// The first message of a connection.
pub(crate) fn connect(last_zxid: i64, timeout_ms: i32, ticket: &Ticket) -> Bytes {
    let password = if ticket.password.is_empty() { &[0; 16][..] } else { &ticket.password };
    let greeting = Writer::default().int(0).long(last_zxid).int(timeout_ms).long(ticket.id);
    greeting.bytes(password).bool(false).end()
}

/// The answer to it: the session, and after how many milliseconds without a sign of life it ends. `None` if it has ended.
pub(crate) fn connected(message: Bytes) -> Result<Option<(Ticket, u32)>> {
    let mut reader = Reader::new(message);
    let (_protocol, timeout, id) = (reader.int()?, reader.int()?, reader.long()?);
    let password = reader.bytes()?;
    match u32::try_from(timeout) {
        Ok(timeout) if timeout > 0 => Ok(Some((Ticket { id, password }, timeout))),
        _ => Ok(None),
    }
}

/// Who may do what with a new node.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Access {
    /// Everybody everything.
    Open,
    /// Whoever creates it.
    Creator,
}

pub(crate) fn create(path: &str, data: &[u8], access: Access, ephemeral: bool) -> Writer {
    const ALL: i32 = 31;
    let (scheme, id) = match access {
        Access::Open => ("world", "anyone"),
        Access::Creator => ("auth", ""),
    };
    let node = Writer::default().text(path).bytes(data);
    node.int(1).int(ALL).text(scheme).text(id).int(i32::from(ephemeral))
}

pub(crate) fn delete(path: &str, version: i32) -> Writer {
    Writer::default().text(path).int(version)
}

pub(crate) fn set_data(path: &str, data: &[u8]) -> Writer {
    Writer::default().text(path).bytes(data).int(-1)
}

/// A question about a node, without a watch.
pub(crate) fn question(path: &str) -> Writer {
    Writer::default().text(path).bool(false)
}

/// Watches a node and all below it until the connection ends.
pub(crate) fn add_watch(path: &str) -> Writer {
    Writer::default().text(path).int(1)
}

/// Ends that.
pub(crate) fn remove_watches(path: &str) -> Writer {
    Writer::default().text(path).int(3)
}

/// Several requests that are done together or not at all.
pub(crate) fn multi(requests: impl IntoIterator<Item = (i32, Writer)>) -> Writer {
    let mut all = Writer::default();
    for (op, request) in requests {
        all = all.int(op).bool(false).int(-1).raw(&request.end());
    }
    all.int(-1).bool(true).int(-1)
}

/// What came of [`multi`]: the node that was created last, if one was; or the first refusal.
pub(crate) fn multi_answer(mut reader: Reader) -> Result<Result<Option<Stat>, i32>> {
    let (mut created, mut refusal) = (None, None);
    loop {
        let (op, done, _) = (reader.int()?, reader.bool()?, reader.int()?);
        if done {
            return Ok(refusal.map_or(Ok(created), Err));
        }
        match op {
            -1 => {
                let code = reader.int()?;
                // Those that were well but for another one have 0, those after the refused one have -2.
                refusal = refusal.or(Some(code).filter(|code| ![code::OK, -2].contains(code)));
            }
            op::CREATE2 => {
                reader.text()?;
                created = Some(Stat::read(&mut reader)?);
            }
            op::SET_DATA => {
                Stat::read(&mut reader)?;
            }
            op::DELETE => {}
            _ => return Err(malformed("an answer of several has an unknown part")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_answer_is_read_or_refused(data in proptest::collection::vec(any::<u8>(), 0..96)) {
            let bytes = Bytes::from(data);
            let _ = Reply::read(bytes.clone());
            let _ = Event::read(bytes.clone());
            let _ = connected(bytes.clone());
            let _ = multi_answer(Reader::new(bytes));
        }
    }

    #[test]
    fn of_several_requests_the_one_that_was_refused_is_told() {
        let part = |answer: Writer, code: i32| answer.int(-1).bool(false).int(code).int(code);
        let mut answer = Writer::default();
        for code in [code::OK, code::BAD_VERSION, -2] {
            answer = part(answer, code);
        }
        let answer = answer.int(-1).bool(true).int(-1).end();
        assert_eq!(multi_answer(Reader::new(answer)).unwrap(), Err(code::BAD_VERSION));
    }
}
