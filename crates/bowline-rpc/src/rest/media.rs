//! Media types: what a body is, and what the caller wants to read.

use http::HeaderMap;
use http::header::ACCEPT;

use super::Encoding;

const JSON: &[&str] = &["application/json"];
const PROTO: &[&str] = &["application/protobuf", "application/x-protobuf"];
const LINES: &[&str] = &["application/x-ndjson", "application/jsonl"];
const EVENTS: &[&str] = &["text/event-stream"];

/// `application/json; charset=utf-8` without its parameters.
pub(super) fn essence(value: &[u8]) -> &[u8] {
    value.split(|b| *b == b';').next().unwrap_or_default().trim_ascii()
}

/// Whether a media type is one of these. Letter case does not count.
pub(crate) fn is(media: &[u8], names: &[&str]) -> bool {
    let media = essence(media);
    names.iter().any(|name| media.eq_ignore_ascii_case(name.as_bytes()))
}

pub(super) fn is_json(media: &[u8]) -> bool {
    is(media, JSON)
}

pub(super) fn is_proto(media: &[u8]) -> bool {
    is(media, PROTO)
}

pub(super) fn is_lines(media: &[u8]) -> bool {
    is(media, LINES)
}

/// How the caller wants to read one message.
pub(super) fn encoding(headers: &HeaderMap) -> Encoding {
    if prefers(headers, PROTO, JSON) { Encoding::Proto } else { Encoding::Json }
}

/// Whether the caller wants to read a stream as events.
pub(super) fn events(headers: &HeaderMap) -> bool {
    prefers(headers, EVENTS, LINES)
}

/// How much a media type is wanted: in thousandths, and how early it was named.
type Wish = (u16, std::cmp::Reverse<usize>);

/// Whether `accept` wants one of `these` more than one of `usual`. The greater weight wins, then the one named first. A
/// wildcard stands for the usual ones, where they are not named, and yields to what is named.
fn prefers(headers: &HeaderMap, these: &[&str], usual: &[&str]) -> bool {
    let values = headers.get_all(ACCEPT).iter();
    let ranges = values.flat_map(|value| value.as_bytes().split(|b| *b == b','));
    let (mut wanted, mut other, mut any): (Option<Wish>, Option<Wish>, Option<Wish>) = (None, None, None);
    for (at, range) in ranges.enumerate() {
        let wish = Some((weight(range), std::cmp::Reverse(at)));
        let media = essence(range);
        if is(media, these) {
            wanted = wanted.max(wish);
        } else if is(media, usual) {
            other = other.max(wish);
        } else if media.ends_with(b"/*") {
            any = any.max(wish);
        }
    }
    match (wanted, other, any) {
        (None | Some((0, _)), ..) => false,
        (wanted, Some(other), _) => wanted > Some(other),
        (Some((weight, _)), None, any) => any.is_none_or(|(any, _)| weight >= any),
    }
}

/// `q` in thousandths; 1000 where it is left out or malformed.
fn weight(range: &[u8]) -> u16 {
    let mut parameters = range.split(|b| *b == b';').skip(1).map(<[u8]>::trim_ascii);
    let q = parameters.find_map(|p| p.strip_prefix(b"q=").or_else(|| p.strip_prefix(b"Q=")));
    let q = q.and_then(|q| std::str::from_utf8(q).ok()?.parse::<f32>().ok());
    q.filter(|q| (0.0..=1.0).contains(q)).map_or(1000, |q| (q * 1000.0) as u16)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn accept(values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (ACCEPT, HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn the_greater_weight_wins_and_then_the_first() {
        for (accept_values, expected) in [
            (&[][..], Encoding::Json),
            (&["*/*"], Encoding::Json),
            (&["application/json"], Encoding::Json),
            (&["Application/X-Protobuf"], Encoding::Proto),
            (&["application/json, application/protobuf;q=0.1"], Encoding::Json),
            (&["application/json;q=0.1, application/protobuf;q=0.2"], Encoding::Proto),
            (&["application/json, application/protobuf"], Encoding::Json),
            (&["application/protobuf, application/json"], Encoding::Proto),
            (&["application/protobuf", "application/json"], Encoding::Proto),
            (&["application/protobuf;q=0"], Encoding::Json),
            (&["application/json; q=0, application/protobuf ; Q=0.001"], Encoding::Proto),
            (&["*/*, application/protobuf"], Encoding::Proto),
            (&["*/*, application/protobuf;q=0.9"], Encoding::Json),
            (&["application/protobuf;q=x"], Encoding::Proto),
        ] {
            assert_eq!(encoding(&accept(accept_values)), expected, "{accept_values:?}");
        }
    }

    #[test]
    fn events_are_weighed_against_lines() {
        assert!(events(&accept(&["text/event-stream"])));
        assert!(events(&accept(&["application/json, Text/Event-Stream"])));
        assert!(!events(&accept(&["text/event-stream;q=0"])));
        assert!(!events(&accept(&["text/event-stream;q=0.5, application/x-ndjson"])));
        assert!(!events(&accept(&["text/html"])));
    }
}
