//! Parts of answers that the gateway has as a whole (RFC 9110 section 14): where Pingora's (0.9.1) own filter takes a field
//! for more than it says, it does not get to see it.

use std::borrow::Cow;

use http::{HeaderValue, Method, header};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{RangeType, range_header_filter};

/// Ranges of one request, at most; who asks for more gets all of it.
const MOST: usize = 200;

/// What of the answer is meant; its head says so from then on.
pub(super) fn of(request: &RequestHeader, head: &mut ResponseHeader) -> RangeType {
    range_header_filter(&meant(request), head, Some(MOST))
}

/// The request without ranges that count for nothing.
fn meant(request: &RequestHeader) -> Cow<'_, RequestHeader> {
    let Some(range) = request.headers.get(header::RANGE) else { return Cow::Borrowed(request) };
    // Section 13.1.5: a weak tag is the same as nothing.
    let weak = request.headers.get(header::IF_RANGE).is_some_and(|tag| tag.as_bytes().starts_with(b"W/"));
    // Section 14.2: for other methods there are no ranges.
    let range = if weak || request.method != Method::GET { None } else { Some(satisfiable(range)) };
    match range {
        Some(Cow::Borrowed(_)) => Cow::Borrowed(request),
        Some(Cow::Owned(range)) => {
            let mut request = request.clone();
            // Nothing but what the value had.
            let _ = HeaderValue::from_bytes(&range).map(|range| request.insert_header(header::RANGE, range));
            Cow::Owned(request)
        }
        None => {
            let mut request = request.clone();
            request.remove_header(&header::RANGE);
            Cow::Owned(request)
        }
    }
}

/// Without ranges of the last 0 bytes, which nothing satisfies (section 14.1.2).
fn satisfiable(range: &HeaderValue) -> Cow<'_, [u8]> {
    let said = range.as_bytes();
    let empty = |one: &[u8]| {
        let last = one.trim_ascii().strip_prefix(b"-");
        last.is_some_and(|digits| !digits.is_empty() && digits.iter().all(|digit| *digit == b'0'))
    };
    let Some(at) = said.iter().position(|sign| *sign == b'=') else { return Cow::Borrowed(said) };
    let (unit, ranges) = said.split_at_checked(at + 1).unwrap_or((said, &[]));
    if !ranges.split(|sign| *sign == b',').any(empty) {
        return Cow::Borrowed(said);
    }
    let rest: Vec<_> = ranges.split(|sign| *sign == b',').filter(|one| !empty(one)).collect();
    Cow::Owned([unit, &rest.join(&b',')].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &Method, fields: &[(&'static str, &str)]) -> (u16, Option<String>) {
        let mut request = RequestHeader::build(method.clone(), b"/", None).unwrap();
        for (name, value) in fields {
            request.insert_header(*name, *value).unwrap();
        }
        let mut head = ResponseHeader::build(200, None).unwrap();
        head.insert_header("content-length", "100").unwrap();
        head.insert_header("etag", "W/\"a\"").unwrap();
        of(&request, &mut head);
        let range = head.headers.get("content-range").map(|range| range.to_str().unwrap().to_owned());
        (head.status.as_u16(), range)
    }

    #[test]
    fn a_range_counts_for_what_it_says() {
        let get = |range: &str| asked(&Method::GET, &[("range", range)]);
        let part = |said: &str| (206, Some(said.to_owned()));
        assert_eq!(get("bytes=0-9"), part("bytes 0-9/100"));
        assert_eq!(get("bytes=-10"), part("bytes 90-99/100"));
        for none in ["bytes=-0", "bytes=-00", "bytes= -0 , 200-"] {
            assert_eq!(get(none), (416, Some("bytes */100".to_owned())), "{none}");
        }
        assert_eq!(get("bytes=0-9,-0"), part("bytes 0-9/100"));
        assert_eq!(get("bytes=-0x"), (200, None));
        assert_eq!(asked(&Method::HEAD, &[("range", "bytes=0-9")]), (200, None));
        assert_eq!(asked(&Method::GET, &[("range", "bytes=0-9"), ("if-range", "W/\"a\"")]), (200, None));
    }
}
