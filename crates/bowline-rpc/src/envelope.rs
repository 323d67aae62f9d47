//! gRPC's envelope: one byte of flags, four of length, the message.

use bowline_core::{Error, Result};
use bytes::{Buf, Bytes, BytesMut};

/// The flags and the length.
const PREFIX: usize = 5;

/// A message in its envelope.
///
/// # Errors
/// `RESOURCE_EXHAUSTED` if it is larger than protobuf allows.
pub(crate) fn encode<M: buffa::Message>(message: &M) -> Result<Bytes> {
    let mut sizes = buffa::SizeCache::new();
    // Computing the size fills the cache that writing reads. Beyond 2 GiB it saturates.
    let size = message.compute_size(&mut sizes);
    if i32::try_from(size).is_err() {
        return Err(Error::resource_exhausted("the message is larger than the 2 GiB that protobuf allows"));
    }
    let mut envelope = Vec::with_capacity(PREFIX + size as usize);
    envelope.push(0);
    envelope.extend_from_slice(&size.to_be_bytes());
    message.write_to(&mut sizes, &mut envelope);
    Ok(envelope.into())
}

/// A message that is encoded already, in its envelope.
///
/// # Errors
/// `RESOURCE_EXHAUSTED` if its length does not fit.
pub(crate) fn wrap(message: &[u8]) -> Result<Bytes> {
    let size = u32::try_from(message.len())
        .map_err(|_| Error::resource_exhausted("the message is larger than the 4 GiB that gRPC allows"))?;
    let mut envelope = Vec::with_capacity(PREFIX + message.len());
    envelope.push(0);
    envelope.extend_from_slice(&size.to_be_bytes());
    envelope.extend_from_slice(message);
    Ok(envelope.into())
}

/// Cuts what arrives into messages. A message that arrives in one piece is not copied.
#[derive(Debug)]
pub(crate) struct Messages {
    /// Begins with an envelope; nothing is in `part` then.
    whole: Bytes,
    /// The beginning of an envelope.
    part: BytesMut,
    limit: usize,
}

impl Messages {
    /// Messages of at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { whole: Bytes::new(), part: BytesMut::new(), limit }
    }

    /// Adds what arrived.
    pub(crate) fn push(&mut self, data: Bytes) {
        if self.part.is_empty() && self.whole.is_empty() {
            self.whole = data;
        } else {
            self.part.extend_from_slice(&std::mem::take(&mut self.whole));
            self.part.extend_from_slice(&data);
        }
    }

    /// Whether nothing is left over.
    pub(crate) fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.part.is_empty()
    }

    /// The next message, if all of it is there.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if it is over the limit; `UNIMPLEMENTED` if it is compressed.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>> {
        if !self.part.is_empty() {
            match self.end_of_first(&self.part)? {
                Some(end) if end <= self.part.len() => self.whole = self.part.split().freeze(),
                Some(end) => {
                    self.part.reserve(end - self.part.len());
                    return Ok(None);
                }
                None => return Ok(None),
            }
        }
        match self.end_of_first(&self.whole)? {
            Some(end) if end <= self.whole.len() => {
                let mut message = self.whole.split_to(end);
                message.advance(PREFIX);
                Ok(Some(message))
            }
            _ => {
                self.part.extend_from_slice(&std::mem::take(&mut self.whole));
                Ok(None)
            }
        }
    }

    /// Where the envelope that `data` begins with ends, if that is known.
    fn end_of_first(&self, data: &[u8]) -> Result<Option<usize>> {
        let Some((prefix, _)) = data.split_first_chunk::<PREFIX>() else { return Ok(None) };
        let [flags, length @ ..] = *prefix;
        let length = u32::from_be_bytes(length) as usize;
        if flags != 0 {
            return Err(Error::unimplemented("the message is compressed, which was not agreed"));
        }
        if length > self.limit {
            let limit = self.limit;
            return Err(Error::resource_exhausted(format!(
                "a message of {length} bytes is over the limit of {limit}"
            ))
            .with_reason("MESSAGE_TOO_LARGE"));
        }
        Ok(Some(PREFIX + length))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn messages_survive_being_cut_anywhere(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
            cuts in prop::collection::vec(1_usize..30, 1..200),
        ) {
            let stream: Vec<u8> = messages.iter().flat_map(|message| wrap(message).unwrap()).collect();
            let (mut rest, mut reader, mut read) = (Bytes::from(stream), Messages::new(40), Vec::new());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                reader.push(rest.split_to((*cut).min(rest.len())));
                while let Some(message) = reader.next().unwrap() {
                    read.push(message.to_vec());
                }
            }
            prop_assert!(reader.is_empty());
            prop_assert_eq!(read, messages);
        }
    }

    #[test]
    fn a_message_over_the_limit_is_refused_before_it_has_arrived() {
        let mut reader = Messages::new(4);
        reader.push(wrap(b"1234").unwrap());
        assert_eq!(reader.next().unwrap().unwrap(), "1234");
        reader.push(Bytes::from_static(&[0, 0, 0, 0, 5]));
        assert_eq!(reader.next().unwrap_err().reason(), "MESSAGE_TOO_LARGE");
        let mut compressed = Messages::new(4);
        compressed.push(Bytes::from_static(&[1, 0, 0, 0, 0]));
        assert_eq!(compressed.next().unwrap_err().code(), bowline_core::Code::Unimplemented);
    }
}
