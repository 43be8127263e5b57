//! What names a request: its id (UUID version 7) and its place in a trace (W3C Trace Context).

use std::time::{SystemTime, UNIX_EPOCH};

use super::random;
use crate::units::Share;

/// A new name for a request, as text: UUIDs of version 7 sort by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId([u8; 36]);

impl RequestId {
    pub fn new(now: SystemTime) -> Self {
        let millis = now.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0));
        let noise = (u128::from(random::next()) << 64 | u128::from(random::next())).to_le_bytes();
        let noise = noise.first_chunk::<10>().copied().unwrap_or_default();
        let mut text = [0; 36];
        uuid::Builder::from_unix_timestamp_millis(millis, &noise).into_uuid().hyphenated().encode_lower(&mut text);
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Where a request stands in its trace: `traceparent`, continued or started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// 32 hexadecimal digits in lower case, as all ids here.
    id: [u8; 32],
    /// The span of the caller; none when the trace starts here.
    parent: Option<[u8; 16]>,
    /// Our own span, which is the caller of the upstream's.
    span: [u8; 16],
    sampled: bool,
    /// Its spans are sent to a receiver, if they are kept.
    told: bool,
}

/// Which traces are kept: those whose last fourteen digits are not below these. Everyone who decides so decides alike
/// (OpenTelemetry, "Consistent Probability Sampling").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate([u8; 14]);

impl Rate {
    pub fn of(share: Share) -> Self {
        let left_out = 100 - u64::from(share.percent().min(100));
        if left_out == 100 {
            // No digit is as high.
            return Self([b'g'; 14]);
        }
        let digits = hex((left_out << 56) / 100);
        Self(digits.last_chunk().copied().unwrap_or([b'g'; 14]))
    }

    fn keeps(&self, id: &[u8; 32]) -> bool {
        id.last_chunk::<14>().is_some_and(|digits| *digits >= self.0)
    }
}

impl Trace {
    /// Before anything is known: no trace at all.
    pub const NONE: Self = Self { id: [b'0'; 32], parent: None, span: [b'0'; 16], sampled: false, told: false };

    /// Continues the trace of a valid `traceparent`, else starts one. Who starts one must not forward `tracestate`.
    pub fn of(traceparent: Option<&[u8]>) -> Self {
        traceparent.and_then(Self::continued).unwrap_or_else(Self::started)
    }

    /// A new trace; sampled, because who decides not to keep it stands further on.
    pub fn started() -> Self {
        let mut id = [0; 32];
        put(&mut id, 0, &hex(random_id()));
        put(&mut id, 16, &hex(random_id()));
        let span = hex(random_id());
        Self { id, parent: None, span, sampled: true, told: false }
    }

    /// The next step of the trace that a `traceparent` names, if it is valid (section 3.2.2).
    pub fn continued(traceparent: &[u8]) -> Option<Self> {
        let (version, rest) = traceparent.split_at_checked(3)?;
        let (id, rest) = rest.split_first_chunk::<32>()?;
        let (parent, rest) = rest.strip_prefix(b"-")?.split_first_chunk::<16>()?;
        let (flags, rest) = rest.strip_prefix(b"-")?.split_first_chunk::<2>()?;
        let version_is_known = version == b"00-";
        let [high, low, b'-'] = version else { return None };
        // A version yet unknown may say more, behind another dash.
        let ends = rest.is_empty() || (!version_is_known && rest.starts_with(b"-"));
        let digits = digit(*high).is_some() && digit(*low).is_some() && version != b"ff-";
        let valid = |text: &[u8]| text.iter().all(|byte| digit(*byte).is_some());
        let names = |text: &[u8]| valid(text) && text.iter().any(|byte| *byte != b'0');
        let sampled = digit(*flags.last()?)? & 1 == 1;
        (digits && ends && names(id) && names(parent) && valid(flags)).then(|| Self {
            id: *id,
            parent: Some(*parent),
            span: hex(random_id()),
            sampled,
            told: false,
        })
    }

    /// Its spans are told of; which traces are kept is decided here, unless the caller has decided and is believed.
    pub fn tell(&mut self, rate: Rate, caller_is_believed: bool) {
        self.told = true;
        if self.parent.is_none() || !caller_is_believed {
            self.sampled = rate.keeps(&self.id);
        }
    }

    /// Whether its spans are told of, if they are kept.
    pub fn is_told(&self) -> bool {
        self.told
    }

    pub fn id(&self) -> &str {
        std::str::from_utf8(&self.id).unwrap_or_default()
    }
    pub fn id_bytes(&self) -> [u8; 16] {
        let half = |digits: Option<&[u8; 16]>| u128::from(digits.map_or(0, number));
        (half(self.id.first_chunk()) << 64 | half(self.id.last_chunk())).to_be_bytes()
    }
    pub fn span(&self) -> &str {
        std::str::from_utf8(&self.span).unwrap_or_default()
    }
    /// The span of the caller.
    pub fn parent(&self) -> Option<&str> {
        self.parent.as_ref().and_then(|span| std::str::from_utf8(span).ok())
    }
    /// Whether the trace came with the request.
    pub fn is_continued(&self) -> bool {
        self.parent.is_some()
    }
    pub fn is_sampled(&self) -> bool {
        self.sampled
    }

    /// The span of a try, or of whatever else is asked on the way, each with a number of its own: the same whenever it is
    /// asked for, so that nobody has to keep it.
    pub fn span_of(&self, part: u32) -> [u8; 16] {
        let mut mixed = number(&self.span).wrapping_add(u64::from(part).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hex((mixed ^ (mixed >> 31)).max(1))
    }

    /// `traceparent` for the upstream: where its spans are told of, the parent is the span of this try.
    pub fn traceparent(&self, part: u32) -> [u8; 55] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        put(&mut text, 3, &self.id);
        put(&mut text, 36, &if self.told { self.span_of(part) } else { self.span });
        put(&mut text, 54, if self.sampled { b"1" } else { b"0" });
        text
    }
}

/// All zero means "none" in a trace.
fn random_id() -> u64 {
    random::next().max(1)
}

fn hex(number: u64) -> [u8; 16] {
    let mut text = [0; 16];
    put(&mut text, 0, &digits(number >> 32));
    put(&mut text, 8, &digits(number & 0xffff_ffff));
    text
}

/// Eight hexadecimal digits, made side by side in one register: every request needs forty-eight.
fn digits(half: u64) -> [u8; 8] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let pairs = (half << 16 | half) & 0x0000_ffff_0000_ffff;
    let bytes = (pairs << 8 | pairs) & 0x00ff_00ff_00ff_00ff;
    let nibbles = (bytes << 4 | bytes) & (ONES * 0x0f);
    let letters = (nibbles + ONES * 6) >> 4 & ONES;
    (nibbles + ONES * u64::from(b'0') + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

fn put(text: &mut [u8], at: usize, part: &[u8]) {
    if let Some(place) = text.get_mut(at..at + part.len()) {
        place.copy_from_slice(part);
    }
}

/// What sixteen hexadecimal digits say.
pub fn number(digits: &[u8; 16]) -> u64 {
    let half = |digits: Option<&[u8; 8]>| digits.map_or(0, |digits| value(u64::from_be_bytes(*digits)));
    half(digits.first_chunk()) << 32 | half(digits.last_chunk())
}

/// What eight of them say, read side by side as they are written by `digits`.
fn value(text: u64) -> u64 {
    let letters = text >> 6 & 0x0101_0101_0101_0101;
    let nibbles = (text & 0x0f0f_0f0f_0f0f_0f0f) + letters * 9;
    let bytes = (nibbles | nibbles >> 4) & 0x00ff_00ff_00ff_00ff;
    let pairs = (bytes | bytes >> 8) & 0x0000_ffff_0000_ffff;
    (pairs | pairs >> 16) & 0xffff_ffff
}

/// The value of a hexadecimal digit; capitals are not valid in a `traceparent`.
fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0af7651916cd43dd8448eb211c80319c";

    #[test]
    fn continues_valid_traces() {
        for (text, sampled) in [
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", false),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff", true),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-the-future-holds", true),
            ("fe-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-02-", false),
        ] {
            let trace = Trace::continued(text.as_bytes()).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((trace.id(), trace.is_sampled()), (ID, sampled), "{text}");
            let forwarded = String::from_utf8(trace.traceparent(1).to_vec()).unwrap();
            assert_eq!(forwarded, format!("00-{ID}-{}-0{}", trace.span(), u8::from(sampled)));
            assert_eq!(trace.parent(), Some("b7ad6b7169203331"));
            assert_ne!(trace.parent(), Some(trace.span()));
            assert!(Trace::continued(forwarded.as_bytes()).is_some());
        }
    }

    #[test]
    fn digits_are_those_of_the_standard_library() {
        for number in [0, 1, 0xf, 0x0123_4567_89ab_cdef, u64::MAX, 0xfedc_ba98_7654_3210] {
            assert_eq!(hex(number), *format!("{number:016x}").as_bytes());
            assert_eq!(super::number(&hex(number)), number);
        }
    }

    #[test]
    fn which_traces_are_kept_depends_on_their_id_alone() {
        let kept = |percent, id: &str| {
            let text = format!("00-{id}-b7ad6b7169203331-00");
            let mut trace = Trace::continued(text.as_bytes()).unwrap();
            trace.tell(Rate::of(Share::from_percent(percent)), false);
            trace.is_sampled()
        };
        // Of seven bytes of randomness, those from 3/4 on are a quarter.
        for (percent, id, expected) in [
            (25, "000000000000000000c0000000000000", true),
            (25, "ffffffffffffffffffbfffffffffffff", false),
            (50, "ffffffffffffffffff80000000000000", true),
            (50, "ffffffffffffffffff7fffffffffffff", false),
            (0, "ffffffffffffffffffffffffffffffff", false),
            (100, "00000000000000000100000000000000", true),
        ] {
            assert_eq!(kept(percent, id), expected, "{percent} {id}");
        }
        let mut of_ours = (0..10_000).map(|_| Trace::started());
        let ten = of_ours.by_ref().filter_map(|mut trace| {
            trace.tell(Rate::of(Share::from_percent(10)), true);
            trace.is_sampled().then_some(())
        });
        let ten = ten.count();
        assert!((800..1200).contains(&ten), "{ten} of 10,000");
    }

    #[test]
    fn who_is_believed_decides_and_each_try_has_a_span_of_its_own() {
        let mut trace = Trace::continued(format!("00-{ID}-b7ad6b7169203331-01").as_bytes()).unwrap();
        let before = trace;
        trace.tell(Rate::of(Share::from_percent(0)), true);
        assert!(trace.is_sampled() && trace.is_told());
        let parents = [before.traceparent(1), trace.traceparent(1), trace.traceparent(2)];
        let parents = parents.map(|text| String::from_utf8(text.to_vec()).unwrap());
        assert_eq!(parents[0], format!("00-{ID}-{}-01", trace.span()));
        let span = |part| String::from_utf8(trace.span_of(part).to_vec()).unwrap();
        assert_eq!(parents[1], format!("00-{ID}-{}-01", span(1)));
        assert_eq!(parents[2], format!("00-{ID}-{}-01", span(2)));
        assert!(span(1) != span(2) && span(1) != trace.span() && span(1) == span(1));
        trace.tell(Rate::of(Share::from_percent(0)), false);
        assert!(!trace.is_sampled());
    }

    /// From the test suite of the W3C (trace-context/test/test.py).
    #[test]
    fn starts_anew_on_invalid_ones() {
        for text in [
            "",
            "00",
            "garbage",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-.1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0.",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-.af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-.7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c8031-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b71692033-01",
            "0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "000-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            ".0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.what-the-future-will-be-like",
            " 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(Trace::continued(text.as_bytes()), None, "{text}");
            let trace = Trace::of(Some(text.as_bytes()));
            assert!(!trace.is_continued() && trace.id() != ID);
            assert!(Trace::continued(&trace.traceparent(1)).is_some(), "what we start is valid");
        }
    }

    #[test]
    fn request_ids_are_uuids_of_version_seven_and_of_their_time() {
        let now = UNIX_EPOCH + std::time::Duration::from_millis(1_795_255_200_123);
        let id = RequestId::new(now);
        let uuid = uuid::Uuid::parse_str(id.as_str()).unwrap();
        assert_eq!(uuid.get_version_num(), 7);
        assert_eq!(uuid.get_timestamp().unwrap().to_unix().0, 1_795_255_200);
        assert_ne!(RequestId::new(now), id);
    }
}
