//! Jute, the encoding of ZooKeeper's messages: numbers big-endian, texts and lists with their length as a signed 32-bit number
//! before them, -1 for none.

use bowline_core::{Error, Result};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Writes a message.
#[derive(Default)]
pub(crate) struct Writer(BytesMut);

impl Writer {
    pub(crate) fn int(mut self, value: i32) -> Self {
        self.0.put_i32(value);
        self
    }

    pub(crate) fn long(mut self, value: i64) -> Self {
        self.0.put_i64(value);
        self
    }

    pub(crate) fn bool(mut self, value: bool) -> Self {
        self.0.put_u8(u8::from(value));
        self
    }

    pub(crate) fn bytes(mut self, value: &[u8]) -> Self {
        // What is longer than any message may be is refused by the server.
        self.0.put_i32(i32::try_from(value.len()).unwrap_or(i32::MAX));
        self.0.extend_from_slice(value);
        self
    }

    pub(crate) fn text(self, value: &str) -> Self {
        self.bytes(value.as_bytes())
    }

    pub(crate) fn raw(mut self, value: &[u8]) -> Self {
        self.0.extend_from_slice(value);
        self
    }

    pub(crate) fn end(self) -> Bytes {
        self.0.freeze()
    }
}

/// Reads a message. Nothing that a server sends makes it panic or take memory that was not sent.
pub(crate) struct Reader(Bytes);

impl Reader {
    pub(crate) fn new(message: Bytes) -> Self {
        Self(message)
    }

    fn need(&self, count: usize) -> Result<()> {
        if self.0.remaining() < count {
            return Err(malformed("it ends too early"));
        }
        Ok(())
    }

    pub(crate) fn int(&mut self) -> Result<i32> {
        self.need(4)?;
        Ok(self.0.get_i32())
    }

    pub(crate) fn long(&mut self) -> Result<i64> {
        self.need(8)?;
        Ok(self.0.get_i64())
    }

    pub(crate) fn bool(&mut self) -> Result<bool> {
        self.need(1)?;
        Ok(self.0.get_u8() != 0)
    }

    /// A length; none counts as 0.
    fn len(&mut self) -> Result<usize> {
        let len = self.int()?;
        if len == -1 {
            return Ok(0);
        }
        usize::try_from(len).map_err(|_| malformed("a length is negative"))
    }

    pub(crate) fn bytes(&mut self) -> Result<Bytes> {
        let len = self.len()?;
        self.need(len)?;
        Ok(self.0.split_to(len))
    }

    pub(crate) fn text(&mut self) -> Result<String> {
        String::from_utf8(self.bytes()?.into()).map_err(|_| malformed("a text is not UTF-8"))
    }

    pub(crate) fn texts(&mut self) -> Result<Vec<String>> {
        let len = self.len()?;
        // Each has four bytes of length at least.
        self.need(len.saturating_mul(4))?;
        (0..len).map(|_| self.text()).collect()
    }

    /// What is left.
    pub(crate) fn rest(self) -> Bytes {
        self.0
    }
}

pub(crate) fn malformed(why: &'static str) -> Error {
    Error::unavailable(format!("what the server sent is no message of ZooKeeper's: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(number: i32, long: i64, flag: bool, text in "\\PC{0,9}", data: Vec<u8>) {
            let message = Writer::default().int(number).long(long).bool(flag).text(&text).bytes(&data).end();
            let mut reader = Reader::new(message);
            prop_assert_eq!(reader.int().unwrap(), number);
            prop_assert_eq!(reader.long().unwrap(), long);
            prop_assert_eq!(reader.bool().unwrap(), flag);
            prop_assert_eq!(reader.text().unwrap(), text);
            prop_assert_eq!(reader.bytes().unwrap(), data);
            prop_assert!(reader.int().is_err() && reader.rest().is_empty());
        }

        #[test]
        fn any_bytes_are_read_or_refused(data in proptest::collection::vec(any::<u8>(), 0..64)) {
            let bytes = Bytes::from(data);
            let _ = Reader::new(bytes.clone()).texts();
            let _ = Reader::new(bytes.clone()).text();
            let _ = Reader::new(bytes).bytes();
        }
    }
}
