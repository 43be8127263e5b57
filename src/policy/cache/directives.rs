//! `Cache-Control`, read strictly (RFC 9111 section 5.2): what cannot be read counts as the shortest time.

use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue};

/// The longest time that is told apart from forever.
const FOREVER: u32 = i32::MAX as u32;

/// What `Cache-Control` says, in a request or in an answer.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Directives {
    pub max_age: Option<u32>,
    pub s_maxage: Option<u32>,
    pub stale_while_revalidate: Option<u32>,
    pub stale_if_error: Option<u32>,
    pub min_fresh: Option<u32>,
    /// Nothing behind the word means any age.
    pub max_stale: Option<u32>,
    pub no_cache: bool,
    pub no_store: bool,
    pub private: bool,
    pub public: bool,
    pub must_revalidate: bool,
    pub proxy_revalidate: bool,
    pub must_understand: bool,
    pub only_if_cached: bool,
}

impl Directives {
    pub fn of(headers: &HeaderMap) -> Self {
        let mut said = Self::default();
        for line in headers.get_all(CACHE_CONTROL) {
            pieces(line.as_bytes(), |name, value| said.hear(name, value));
        }
        said
    }

    fn hear(&mut self, name: &[u8], value: Option<&[u8]>) {
        let name = name.to_ascii_lowercase();
        match name.as_slice() {
            b"max-age" => shortest(&mut self.max_age, value),
            b"s-maxage" => shortest(&mut self.s_maxage, value),
            b"stale-while-revalidate" => shortest(&mut self.stale_while_revalidate, value),
            b"stale-if-error" => shortest(&mut self.stale_if_error, value),
            b"min-fresh" => self.min_fresh = value.map(seconds),
            b"max-stale" => self.max_stale = Some(value.map_or(FOREVER, seconds)),
            b"no-cache" => self.no_cache = true,
            b"no-store" => self.no_store = true,
            b"private" => self.private = true,
            b"public" => self.public = true,
            b"must-revalidate" => self.must_revalidate = true,
            b"proxy-revalidate" => self.proxy_revalidate = true,
            b"must-understand" => self.must_understand = true,
            b"only-if-cached" => self.only_if_cached = true,
            _ => {}
        }
    }
}

/// Of a time that is said twice, the shorter one holds.
fn shortest(kept: &mut Option<u32>, value: Option<&[u8]>) {
    let said = value.map_or(0, seconds);
    *kept = Some(kept.map_or(said, |kept| kept.min(said)));
}

/// Digits alone, in quotes or not; anything else is no time at all.
fn seconds(text: &[u8]) -> u32 {
    let text = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text);
    digits(text).unwrap_or(0).min(FOREVER)
}

/// A number of nothing but digits; one that is too large is the largest.
fn digits(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let next = |number: u32, digit: &u8| number.saturating_mul(10).saturating_add(u32::from(digit - b'0'));
    Some(text.iter().fold(0, next))
}

/// The directives of one line; commas within quotes part nothing.
fn pieces<'l>(line: &'l [u8], mut each: impl FnMut(&'l [u8], Option<&'l [u8]>)) {
    let (mut quoted, mut escaped) = (false, false);
    let parts = line.split(|byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' => return !quoted,
            _ => {}
        }
        false
    });
    for part in parts.map(<[u8]>::trim_ascii).filter(|part| !part.is_empty()) {
        let mut halves = part.splitn(2, |byte| *byte == b'=');
        if let Some(name) = halves.next() {
            each(name, halves.next());
        }
    }
}

/// How old the answer was when it came, as it says itself: once, in digits. Whatever else it says is old.
pub fn age(headers: &HeaderMap) -> u32 {
    let mut lines = headers.get_all(http::header::AGE).iter();
    match (lines.next(), lines.next()) {
        (None, _) => 0,
        (Some(one), None) => digits(one.as_bytes().trim_ascii()).unwrap_or(FOREVER).min(FOREVER),
        _ => FOREVER,
    }
}

/// The elements of a list field, each without the space around it.
pub fn elements<'h>(lines: impl IntoIterator<Item = &'h HeaderValue>) -> impl Iterator<Item = &'h [u8]> {
    let parts = lines.into_iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    parts.map(<[u8]>::trim_ascii).filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> Directives {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CACHE_CONTROL, line.parse().unwrap());
        }
        Directives::of(&headers)
    }

    #[test]
    fn times_are_read_strictly_and_the_shorter_one_holds() {
        let table: [(&[&str], Option<u32>); 12] = [
            (&["max-age=60"], Some(60)),
            (&["MaX-aGe=60, x, y=1"], Some(60)),
            (&["max-age=003600"], Some(3600)),
            (&["max-age=\"60\""], Some(60)),
            (&["max-age=99999999999"], Some(FOREVER)),
            (&["max-age='60'"], Some(0)),
            (&["max-age=-60"], Some(0)),
            (&["max-age=60.5"], Some(0)),
            (&["max-age"], Some(0)),
            (&["max-age=60", "max-age=10"], Some(10)),
            (&["x=\"a, max-age=60\""], None),
            (&["x=\"a\\\", max-age=60\", max-age=5"], Some(5)),
        ];
        for (lines, seconds) in table {
            assert_eq!(of(lines).max_age, seconds, "{lines:?}");
        }
    }

    #[test]
    fn words_are_words_in_any_case() {
        let said = of(&["No-StOrE, pRIVATE=\"set-cookie\"", "must-revalidate,only-if-cached, max-stale"]);
        assert!(said.no_store && said.private && said.must_revalidate && said.only_if_cached && !said.public);
        assert_eq!((said.max_stale, said.min_fresh), (Some(FOREVER), None));
    }

    #[test]
    fn an_age_that_cannot_be_read_is_old() {
        let of = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("age", line.parse().unwrap());
            }
            age(&headers)
        };
        assert_eq!((of(&[]), of(&["7"])), (0, 7));
        for old in [&["0, 0"][..], &["0", "0"], &["-1"], &["1.5"], &["x"], &["7;a=1"], &[""]] {
            assert_eq!(of(old), FOREVER, "{old:?}");
        }
    }
}
