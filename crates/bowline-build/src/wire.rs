//! The protobuf wire format, as far as reading options from their bytes needs it.

/// The value of one field occurrence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// A varint: integers, booleans, enums.
    Varint(u64),
    /// A length-delimited value: strings, bytes, messages.
    Bytes(&'a [u8]),
    /// A fixed-width value; no option read here has one.
    Fixed,
}

/// Splits an encoded message into its fields, in wire order. `None` when the bytes are no message.
pub(crate) fn fields(mut buf: &[u8]) -> Option<Vec<(u32, Value<'_>)>> {
    let mut out = Vec::new();
    while !buf.is_empty() {
        let tag = varint(&mut buf)?;
        let number = u32::try_from(tag >> 3).ok()?;
        let value = match tag & 7 {
            0 => Value::Varint(varint(&mut buf)?),
            1 => fixed(&mut buf, 8)?,
            2 => {
                let len = usize::try_from(varint(&mut buf)?).ok()?;
                Value::Bytes(take(&mut buf, len)?)
            }
            5 => fixed(&mut buf, 4)?,
            _ => return None,
        };
        out.push((number, value));
    }
    Some(out)
}

/// The text of a length-delimited value.
pub(crate) fn text(value: Value<'_>) -> String {
    match value {
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Varint(_) | Value::Fixed => String::new(),
    }
}

fn varint(buf: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = buf.split_first()?;
        *buf = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(buf: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, rest) = buf.split_at_checked(len)?;
    *buf = rest;
    Some(head)
}

fn fixed<'a>(buf: &mut &'a [u8], len: usize) -> Option<Value<'a>> {
    take(buf, len).map(|_| Value::Fixed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_in_wire_order() {
        let bytes = [0x08, 0x96, 0x01, 0x12, 0x02, b'o', b'k', 0x1d, 0, 0, 0, 0];
        let fields = fields(&bytes).expect("well formed");
        assert_eq!(fields, [(1, Value::Varint(150)), (2, Value::Bytes(b"ok")), (3, Value::Fixed)]);
    }

    #[test]
    fn cut_off_bytes_are_no_message() {
        assert!(fields(&[0x12, 0x05, b'x']).is_none());
        assert!(fields(&[0x08, 0x80]).is_none());
    }
}
