//! What one process hands to the next: parts by name, so that each side may know parts that the other does not.
//!
//! A mark, and then for each part the length of its name, its name, its length and itself. Moments travel as nanoseconds
//! before or after the one at which the parcel was packed, which both processes know by a clock that nobody sets.

use std::time::{Duration, Instant};

use serde_json::Value;

const MARK: &[u8] = b"yumen carries 1\n";

/// A parcel that is being packed.
pub struct Parcel {
    bytes: Vec<u8>,
    /// The moment that all others are told by.
    pub now: Instant,
}

impl Parcel {
    /// With room for so many bytes.
    pub fn new(now: Instant, room: usize) -> Self {
        let mut bytes = Vec::with_capacity(room + MARK.len());
        bytes.extend_from_slice(MARK);
        Self { bytes, now }
    }

    /// Adds a part.
    pub fn put(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
        let Ok(length) = u16::try_from(name.len()) else { return };
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 8]);
        let start = self.bytes.len();
        write(&mut self.bytes);
        let length = (self.bytes.len() - start) as u64;
        if let Some(place) = self.bytes.get_mut(at..start) {
            place.copy_from_slice(&length.to_le_bytes());
        }
    }

    /// Adds a part of another parcel.
    pub fn add(&mut self, part: Part<'_>) {
        self.put(part.name, |bytes| bytes.extend_from_slice(part.bytes));
    }

    pub fn put_json(&mut self, name: &str, value: &Value) {
        self.put(name, |bytes| bytes.extend_from_slice(value.to_string().as_bytes()));
    }

    pub fn bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// A part as it lies in a parcel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part<'b> {
    pub name: &'b str,
    pub bytes: &'b [u8],
}

impl Part<'_> {
    /// The error is the end of a sentence.
    pub fn json(&self) -> Result<Value, String> {
        serde_json::from_slice(self.bytes).map_err(|why| format!("cannot be read: {why}"))
    }
}

/// The parts of a parcel, and whether that is all there should be.
pub fn parts(parcel: &[u8]) -> (Vec<Part<'_>>, bool) {
    let (mut parts, Some(mut rest)) = (Vec::new(), parcel.strip_prefix(MARK)) else { return (Vec::new(), false) };
    while !rest.is_empty() {
        let Some((part, behind)) = part(rest) else { return (parts, false) };
        parts.push(part);
        rest = behind;
    }
    (parts, true)
}

fn part(bytes: &[u8]) -> Option<(Part<'_>, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let (name, rest) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
    let (length, rest) = rest.split_first_chunk::<8>()?;
    let (bytes, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    Some((Part { name: std::str::from_utf8(name).ok()?, bytes }, rest))
}

/// No moment that is handed over is further away.
const FURTHEST: u64 = 400 * 24 * 3600 * 1_000_000_000;

/// How long before `now` that was.
pub fn ago(now: Instant, then: Instant) -> u64 {
    nanos(now.saturating_duration_since(then))
}

/// How long after `now` that will be.
pub fn ahead(now: Instant, then: Instant) -> u64 {
    nanos(then.saturating_duration_since(now))
}

/// A length of time as it travels.
pub fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).min(FURTHEST)
}

/// What one part says, and the moment from which its moments are told.
#[derive(Debug, Clone, Copy)]
pub struct Said<'v> {
    pub value: &'v Value,
    pub now: Instant,
}

impl<'v> Said<'v> {
    pub fn get(&self, key: &str) -> Option<Self> {
        Some(Self { value: self.value.get(key)?, ..*self })
    }
    pub fn number<T: TryFrom<u64>>(&self, key: &str) -> Option<T> {
        self.value.get(key)?.as_u64()?.try_into().ok()
    }
    pub fn text(&self, key: &str) -> Option<&'v str> {
        self.value.get(key)?.as_str()
    }
    pub fn flag(&self, key: &str) -> Option<bool> {
        self.value.get(key)?.as_bool()
    }
    pub fn time(&self, key: &str) -> Option<Duration> {
        self.number(key).filter(|nanos| *nanos <= FURTHEST).map(Duration::from_nanos)
    }
    pub fn ago(&self, key: &str) -> Option<Instant> {
        self.now.checked_sub(self.time(key)?)
    }
    pub fn ahead(&self, key: &str) -> Option<Instant> {
        self.now.checked_add(self.time(key)?)
    }
    /// A list of exactly so many numbers.
    pub fn numbers<const N: usize>(&self, key: &str) -> Option<[u64; N]> {
        let numbers: Option<Vec<u64>> = self.value.get(key)?.as_array()?.iter().map(Value::as_u64).collect();
        numbers?.try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn parts_come_out_as_they_went_in() {
        let mut parcel = Parcel::new(Instant::now(), 0);
        parcel.put_json("a", &json!({ "n": 7 }));
        parcel.put("", |bytes| bytes.extend_from_slice(&[1, 2]));
        let bytes = parcel.bytes();
        let (all, whole) = parts(&bytes);
        assert_eq!((all.len(), whole), (2, true));
        assert_eq!((all[0].name, all[0].json().unwrap()), ("a", json!({ "n": 7 })));
        assert_eq!(all[1], Part { name: "", bytes: &[1, 2] });
        let cut = parts(&bytes[..bytes.len() - 1]);
        assert_eq!((cut.0.len(), cut.1), (1, false), "what is whole is kept");
    }

    #[test]
    fn moments_are_told_by_the_one_at_which_it_was_packed() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let value = json!({ "a": ago(now + second, now), "b": ahead(now, now + second), "c": u64::MAX, "d": [1, 2] });
        let later = now + Duration::from_mins(1);
        let said = Said { value: &value, now: later };
        assert_eq!((said.ago("a"), said.ahead("b")), (later.checked_sub(second), Some(later + second)));
        assert_eq!((said.ahead("c"), said.ago("c"), said.ago("x")), (None, None, None));
        assert_eq!((said.numbers::<2>("d"), said.numbers::<3>("d")), (Some([1, 2]), None));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let parcel = [MARK, &bytes].concat();
            prop_assert!(parts(&parcel).0.iter().map(|part| part.bytes.len()).sum::<usize>() <= bytes.len());
            parts(&bytes);
        }
    }
}
