//! An object as bytes, for a store outside of this process: whatever cannot be read is no object.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use pingora_http::ResponseHeader;

use super::{Kept, Object};

/// Another format gets another number: what an older or newer version has written is not read.
const FORMAT: u8 = 2;

/// All of it, its body last.
pub(super) fn write(object: &Object) -> Vec<u8> {
    let mut to = Vec::with_capacity(256 + object.body.len() + 64 * object.head.headers.len());
    to.push(FORMAT);
    to.extend_from_slice(&object.head.status.as_u16().to_le_bytes());
    for time in [object.times.fresh_until, object.times.born, object.first] {
        to.extend_from_slice(&millis(time).to_le_bytes());
    }
    to.extend_from_slice(&object.times.while_fetched.to_le_bytes());
    to.extend_from_slice(&object.times.if_error.to_le_bytes());
    to.extend_from_slice(&object.since.to_le_bytes());
    text(&mut to, object.variance.as_ref().map_or(&[][..], |id| id));
    length(&mut to, object.labels.len());
    object.labels.iter().for_each(|label| to.extend_from_slice(&label.to_le_bytes()));
    length(&mut to, object.head.headers.len());
    for (name, value) in &object.head.headers {
        text(&mut to, name.as_str().as_bytes());
        text(&mut to, value.as_bytes());
    }
    to.extend_from_slice(&object.body);
    to
}

fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}

fn length(to: &mut Vec<u8>, length: usize) {
    to.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

fn text(to: &mut Vec<u8>, text: &[u8]) {
    length(to, text.len());
    to.extend_from_slice(text);
}

/// The same again.
pub(super) fn read(from: Vec<u8>) -> Option<Object> {
    let mut from = Bytes::from(from);
    if number::<1>(&mut from)? != [FORMAT] {
        return None;
    }
    let status = StatusCode::from_u16(u16::from_le_bytes(number(&mut from)?)).ok()?;
    let mut time = || Some(UNIX_EPOCH + Duration::from_millis(u64::from_le_bytes(number(&mut from)?)));
    let (fresh_until, born, first) = (time()?, time()?, time()?);
    let (while_fetched, if_error) = (count(&mut from)?, count(&mut from)?);
    let since = u64::from_le_bytes(number(&mut from)?);
    let variance = piece(&mut from)?;
    let variance = if variance.is_empty() { None } else { Some(variance.as_ref().try_into().ok()?) };
    let labels = (0..count(&mut from)?).map(|_| count(&mut from)).collect::<Option<Vec<_>>>()?.into();
    let fields = count(&mut from)?;
    let mut head = ResponseHeader::build_no_case(status, None).ok()?;
    for _ in 0..fields {
        let (name, value) = (piece(&mut from)?, piece(&mut from)?);
        let value = HeaderValue::from_maybe_shared(value).ok()?;
        head.append_header(HeaderName::from_bytes(&name).ok()?, value).ok()?;
    }
    let times = Kept { fresh_until, born, while_fetched, if_error };
    Some(Object { head, body: from, times, first, variance, labels, since })
}

fn number<const N: usize>(from: &mut Bytes) -> Option<[u8; N]> {
    (from.len() >= N).then(|| from.split_to(N)).and_then(|bytes| bytes.as_ref().try_into().ok())
}

fn count(from: &mut Bytes) -> Option<u32> {
    number(from).map(u32::from_le_bytes)
}

fn piece(from: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(count(from)?).ok()?;
    (from.len() >= length).then(|| from.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::super::tests::object;
    use super::*;

    #[test]
    fn an_object_comes_back_as_it_was_and_a_part_of_it_never_does() {
        let mut whole = object(100, 60);
        whole.head.append_header("x", HeaderValue::from_bytes(b"\xff two").unwrap()).unwrap();
        whole.head.append_header("x", "three").unwrap();
        (whole.variance, whole.labels, whole.since) = (Some([7; 16]), [1, 2].into(), 42);
        let bytes = write(&whole);
        let again = read(bytes.clone()).unwrap();
        assert_eq!((again.head.status, &again.head.headers), (whole.head.status, &whole.head.headers));
        assert_eq!((&again.body, again.variance, &again.labels), (&whole.body, whole.variance, &whole.labels));
        assert_eq!((again.since, millis(again.first)), (42, millis(whole.first)));
        assert_eq!(millis(again.times.fresh_until), millis(whole.times.fresh_until));
        let head = bytes.len() - whole.body.len();
        for cut in 0..head {
            assert!(read(bytes.get(..cut).unwrap().to_vec()).is_none(), "{cut}");
        }
        for cut in head..bytes.len() {
            assert!(read(bytes.get(..cut).unwrap().to_vec()).is_none_or(|part| !part.is_whole()), "{cut}");
        }
        let mut other = bytes;
        other[0] = FORMAT - 1;
        assert!(read(other).is_none());
    }
}
