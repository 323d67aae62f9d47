//! A message that is encoded once, for many.

use std::fmt;
use std::marker::PhantomData;

use bowline_core::{Error, Result};
use bytes::Bytes;

use crate::handler::Message;
use crate::streaming::Sent;

/// A message in its protobuf form. A clone shares the bytes; so what many are told is encoded once
/// ([`Streaming::encoded`](crate::Streaming::encoded)).
///
/// Who is answered in JSON costs more: the message is read again for each.
pub struct Encoded<T> {
    bytes: Bytes,
    of: PhantomData<fn() -> T>,
}

impl<T: Message> Encoded<T> {
    /// Encodes a message.
    pub fn new(message: &T) -> Self {
        Self { bytes: message.encode_to_bytes(), of: PhantomData }
    }

    /// The message.
    ///
    /// # Errors
    /// `INTERNAL` if it cannot be read; what was encoded by [`Encoded::new`] can.
    pub fn message(&self) -> Result<T> {
        read(&self.bytes)
    }

    pub(crate) fn sent(self) -> Sent<T> {
        Sent::Encoded(self.bytes, read)
    }
}

fn read<T: Message>(bytes: &[u8]) -> Result<T> {
    T::decode_from_slice(bytes).map_err(|e| Error::internal("what was encoded cannot be read").with_source(e))
}

impl<T> Clone for Encoded<T> {
    fn clone(&self) -> Self {
        Self { bytes: self.bytes.clone(), of: PhantomData }
    }
}

impl<T> fmt::Debug for Encoded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Encoded<{}>({} bytes)", std::any::type_name::<T>(), self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Streaming;
    use crate::proto::grpc::health::v1::HealthCheckRequest;

    #[tokio::test]
    async fn what_was_encoded_for_many_is_read_as_the_message_it_was() {
        let message = HealthCheckRequest { service: "shop.Cart".into(), ..Default::default() };
        let encoded = Encoded::new(&message);
        let items = [Ok(encoded.clone()), Ok(encoded.clone())];
        let mut stream = Streaming::encoded(futures_util::stream::iter(items));
        for _ in 0..2 {
            assert_eq!(stream.message().await.unwrap().unwrap(), message);
        }
        assert_eq!(stream.message().await.unwrap(), None);
        assert_eq!(encoded.message().unwrap(), message);
    }
}
