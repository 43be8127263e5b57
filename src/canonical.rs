//! One path and one host for everything: what routes see is what is forwarded.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::fault::Fault;
use crate::units::is_host_name;

/// The canonical form of a request's path (without query); borrowed when it has it already.
///
/// * Escapes of unreserved characters are decoded, other escapes are kept in upper case, and what may not stand in
///   a path unescaped is escaped (RFC 3986 sections 2.4 and 6.2.2).
/// * Dot segments are resolved, however they are spelled, and `//` becomes `/`.
/// * Refused, because two readers could disagree: a way above the root; `//` before `..`; an escaped `/` or `\` and a
///   plain `\`; an escape of an escape; escapes that are not UTF-8 or are control characters; parameters (`;`) on
///   an empty or dot segment; bad escapes, spaces, control characters, high bytes, `#` and `?`.
pub fn path(raw: &[u8]) -> Result<Cow<'_, str>, Fault> {
    if is_plain(raw) {
        return std::str::from_utf8(raw).map(Cow::Borrowed).map_err(|_| Fault::RequestTarget);
    }
    let built = rebuild(raw)?;
    match std::str::from_utf8(raw) {
        Ok(same) if same == built => Ok(Cow::Borrowed(same)),
        _ => Ok(Cow::Owned(built)),
    }
}

/// Whether one look says that the path is canonical: most are.
fn is_plain(raw: &[u8]) -> bool {
    let mut before = 0;
    let fits = |b: &u8| {
        let dubious = before == b'/' && matches!(b, b'/' | b'.');
        before = *b;
        (*b == b'/' || *b != b';' && may_stand(*b)) && !dubious
    };
    raw.first() == Some(&b'/') && raw.iter().all(fits)
}

const fn is_unreserved(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~')
}

/// `pchar` of RFC 3986 without escapes.
const fn may_stand(b: u8) -> bool {
    is_unreserved(b)
        || matches!(b, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@')
}

fn rebuild(raw: &[u8]) -> Result<String, Fault> {
    let rest = raw.strip_prefix(b"/").ok_or(Fault::RequestTarget)?;
    let mut out = String::with_capacity(raw.len() + 8);
    let mut merged = false;
    let mut segments = rest.split(|b| *b == b'/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        let segment = spell(segment)?;
        match segment.as_str() {
            "." | ".." => {
                if segment == ".." {
                    // With `//` before it, resolving first and merging first give different paths.
                    let parent = if merged { None } else { out.rfind('/') };
                    out.truncate(parent.ok_or(Fault::RequestTarget)?);
                }
                if last {
                    out.push('/');
                }
            }
            "" if !last => merged = true,
            name => {
                out.push('/');
                out.push_str(name);
            }
        }
    }
    Ok(out)
}

/// One segment in its one spelling.
fn spell(segment: &[u8]) -> Result<String, Fault> {
    let mut out = String::with_capacity(segment.len() + 8);
    let mut bytes = segment.iter().copied();
    let mut high = false;
    while let Some(b) = bytes.next() {
        match b {
            b'%' => match escaped(bytes.next(), bytes.next()).ok_or(Fault::RequestTarget)? {
                b'/' | b'\\' | 0..0x20 | 0x7F => return Err(Fault::RequestTarget),
                plain if is_unreserved(plain) => out.push(char::from(plain)),
                other => {
                    high |= !other.is_ascii();
                    escape(other, &mut out);
                }
            },
            b if may_stand(b) => out.push(char::from(b)),
            b'"' | b'<' | b'>' | b'[' | b']' | b'^' | b'`' | b'{' | b'|' | b'}' => escape(b, &mut out),
            _ => return Err(Fault::RequestTarget),
        }
    }
    let unsafe_text = high && unescape(&out).is_none_or(|text| text.contains(char::is_control));
    if unsafe_text || is_escaped_twice(&out) || has_hollow_parameters(&out) {
        return Err(Fault::RequestTarget);
    }
    Ok(out)
}

fn escaped(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let digit = |b: Option<u8>| char::from(b?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

fn escape(b: u8, out: &mut String) {
    let digit = |digit: u8| char::from_digit(digit.into(), 16).unwrap_or('0').to_ascii_uppercase();
    out.extend(['%', digit(b >> 4), digit(b & 15)]);
}

/// `%25` and two hexadecimal digits: whoever decodes twice reads something else.
fn is_escaped_twice(segment: &str) -> bool {
    segment.match_indices("%25").any(|(at, found)| {
        let mut after = segment.bytes().skip(at + found.len());
        escaped(after.next(), after.next()).is_some()
    })
}

/// `;x`, `.;x` and `..;x`: whoever takes parameters away reads a dot segment.
fn has_hollow_parameters(segment: &str) -> bool {
    let name = name_of(segment);
    name.len() < segment.len() && matches!(name, "" | "." | "..")
}

/// What routes compare of a canonical path: decoded, and without parameters (`/admin;x` is `/admin` to many origins).
/// It has as many segments as the path.
pub fn key(path: &str) -> Cow<'_, str> {
    if !path.bytes().any(|b| matches!(b, b'%' | b';')) {
        return Cow::Borrowed(path);
    }
    let mut out = String::with_capacity(path.len());
    for (at, segment) in path.split('/').enumerate() {
        if at > 0 {
            out.push('/');
        }
        let name = name_of(segment);
        match unescape(name) {
            Some(decoded) => out.push_str(&decoded),
            None => out.push_str(name),
        }
    }
    Cow::Owned(out)
}

/// A segment without its parameters, however their `;` is spelled.
fn name_of(segment: &str) -> &str {
    let cut = [segment.find(';'), segment.find("%3B")].into_iter().flatten().min();
    cut.and_then(|at| segment.get(..at)).unwrap_or(segment)
}

/// The text with every escape decoded, if that is UTF-8.
pub fn unescape(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        out.push(if b == b'%' { escaped(bytes.next(), bytes.next())? } else { b });
    }
    String::from_utf8(out).ok()
}

/// Host and port of a `Host` field or `:authority`: lower case, no trailing dot, IP literals in their one spelling.
pub fn host(raw: &str) -> Result<(Cow<'_, str>, Option<u16>), Fault> {
    split_host(raw).ok_or(Fault::RequestHost)
}

fn split_host(raw: &str) -> Option<(Cow<'_, str>, Option<u16>)> {
    let place = |wanted: u8| raw.bytes().position(|b| b == wanted);
    let end = if raw.starts_with('[') { place(b']')? + 1 } else { place(b':').unwrap_or(raw.len()) };
    let (name, port) = raw.split_at_checked(end)?;
    let port = match port.strip_prefix(':') {
        Some(digits) => Some(read_port(digits)?),
        None if port.is_empty() => None,
        None => return None,
    };
    if let Some(inner) = name.strip_prefix('[') {
        let address: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
        let spelled = format!("[{address}]");
        return Some((if spelled == name { Cow::Borrowed(name) } else { Cow::Owned(spelled) }, port));
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let numeric = name.bytes().rev().take_while(|b| *b != b'.').all(|b| b.is_ascii_digit());
    if !is_host_name(name) || numeric && name.parse::<Ipv4Addr>().is_err() {
        return None;
    }
    let upper = name.bytes().any(|b| b.is_ascii_uppercase());
    Some((if upper { Cow::Owned(name.to_ascii_lowercase()) } else { Cow::Borrowed(name) }, port))
}

fn read_port(digits: &str) -> Option<u16> {
    let plain = digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|port| plain && *port > 0)
}

/// Text of the document as it stands in a canonical path.
pub fn spell_out(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii() { out.push(char::from(b)) } else { escape(b, &mut out) }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(raw: &str) -> Option<String> {
        path(raw.as_bytes()).ok().map(Cow::into_owned)
    }

    #[test]
    fn a_path_has_one_spelling() {
        let table = [
            ("/", "/"),
            ("/orders/7", "/orders/7"),
            ("/orders/", "/orders/"),
            ("/%6frders/%7e%2D", "/orders/~-"),
            ("/a%2cb%c3%a9", "/a%2Cb%C3%A9"),
            ("/a|b[c]", "/a%7Cb%5Bc%5D"),
            ("/a/./b/../c", "/a/c"),
            ("/a/%2e/b/%2E%2e/c", "/a/c"),
            ("/a/.%2e", "/"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("//a///b//", "/a/b/"),
            ("/a/..//b", "/b"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a/...", "/a/..."),
            ("/a;v=1/b", "/a;v=1/b"),
            ("/100%25", "/100%25"),
            ("/a:b@c!$&'()*+,=", "/a:b@c!$&'()*+,="),
        ];
        for (raw, one) in table {
            assert_eq!(canonical(raw).as_deref(), Some(one), "{raw}");
        }
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        let table = [
            "",
            "a",
            "*",
            "http://x/",
            "/..",
            "/../a",
            "/a/../..",
            "/a/%2e%2e/%2e%2e/b",
            "/a//../b",
            "/a//./../b",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a\\b",
            "/..\\a",
            "/%252e%252e/a",
            "/a%252fb",
            "/%25%32%65",
            "/%%32%65",
            "/%c0%ae%c0%ae/",
            "/%e0%80%af",
            "/%ff",
            "/%c3",
            "/%ed%a0%80",
            "/%c2%85",
            "/a%00",
            "/a%0d%0a",
            "/%7f",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a b",
            "/a\tb",
            "/é",
            "/a#b",
            "/a?b",
            "/;x",
            "/a/.;x/b",
            "/a/..;x/b",
            "/a/%2e%2e;/b",
            "/a/..%3b/b",
            "/a/;/b",
        ];
        for raw in table {
            assert_eq!(canonical(raw), None, "{raw}");
        }
    }

    #[test]
    fn a_canonical_path_is_not_copied() {
        for raw in ["/", "/orders/7", "/.well-known/a%2Cb", "/a;b"] {
            assert!(matches!(path(raw.as_bytes()), Ok(Cow::Borrowed(_))), "{raw}");
        }
    }

    #[test]
    fn routes_see_through_escapes_and_parameters() {
        let table =
            [("/a", "/a"), ("/a;x=1/b", "/a/b"), ("/a%3Bx/b", "/a/b"), ("/a%2Bb", "/a+b"), ("/caf%C3%A9/", "/café/")];
        for (path, seen) in table {
            assert_eq!(key(path), seen);
        }
    }

    #[test]
    fn a_host_has_one_spelling() {
        let table = [
            ("Example.COM", "example.com", None),
            ("example.com.", "example.com", None),
            ("example.com.:8443", "example.com", Some(8443)),
            ("10.0.0.1:80", "10.0.0.1", Some(80)),
            ("[::1]", "[::1]", None),
            ("[0:0::0:1]:443", "[::1]", Some(443)),
            ("[2001:DB8::A]", "[2001:db8::a]", None),
            ("a_b.internal", "a_b.internal", None),
        ];
        for (raw, one, port) in table {
            let (found, at) = host(raw).unwrap_or_else(|_| panic!("{raw}"));
            assert_eq!((&*found, at), (one, port), "{raw}");
        }
    }

    #[test]
    fn what_is_not_one_host_is_refused() {
        let table = [
            "",
            ".",
            "..",
            ":80",
            "a:",
            "a:0",
            "a:65536",
            "a:+80",
            "a:8 0",
            "a:80:80",
            "a b",
            "a@b",
            "u:p@b",
            "a/b",
            "a,b",
            "a..b",
            "-a",
            "a-",
            "[::1",
            "::1",
            "[::1]x",
            "[::1%25eth0]",
            "[1.2.3.4]",
            "1.2.3",
            "1.2.3.4.5",
            "256.1.1.1",
            "é.com",
            "a%2eb",
            "a\tb",
            "*.a",
        ];
        for raw in table {
            assert!(host(raw).is_err(), "{raw}");
        }
    }

    /// Text made of what hurts: separators, dots, escapes whole and broken.
    fn hostile() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("/"),
            Just("."),
            Just(".."),
            Just("%2e"),
            Just("%2F"),
            Just("%25"),
            Just("%"),
            Just(";"),
            Just("%3b"),
            Just("a"),
            Just("2"),
            Just("e"),
            Just("%c3%a9"),
            Just("%c0%ae"),
            Just("\\"),
            Just("%41"),
            Just("|"),
            Just(" "),
        ];
        prop::collection::vec(piece, 0..24).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    proptest! {
        #[test]
        fn canonical_twice_is_canonical_once(raw in hostile()) {
            if let Some(once) = canonical(&raw) {
                prop_assert!(matches!(path(once.as_bytes()), Ok(Cow::Borrowed(same)) if same == once), "{raw} -> {once}");
            }
        }

        #[test]
        fn any_bytes_are_canonical_or_refused(raw in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(once) = path(&raw) {
                prop_assert!(once.starts_with('/') && once.bytes().all(|b| b == b'/' || b == b'%' || may_stand(b)));
                prop_assert!(!once.contains("//"));
                prop_assert!(!once.split('/').any(|segment| matches!(segment, "." | "..")));
            }
        }

        #[test]
        fn whoever_decodes_reads_no_other_segments(raw in hostile()) {
            if let Some(once) = canonical(&raw) {
                let decoded = unescape(&once).unwrap();
                prop_assert_eq!(decoded.split('/').count(), once.split('/').count());
                prop_assert!(!decoded.split(['/', '\\']).any(|segment| matches!(name_of(segment), "." | "..")));
            }
        }

        #[test]
        fn escaping_what_needs_no_escape_changes_nothing(name in "[a-zA-Z0-9._~-]{1,12}", upper: bool) {
            let spelled: String = name.bytes().map(|b| if upper { format!("%{b:02X}") } else { format!("%{b:02x}") }).collect();
            prop_assert_eq!(canonical(&format!("/x/{spelled}")), canonical(&format!("/x/{name}")));
        }

        #[test]
        fn a_canonical_host_stays_as_it_is(raw in "[a-zA-Z0-9.:@\\[\\]-]{0,24}") {
            if let Ok((once, _)) = host(&raw) {
                let again = host(&once).unwrap();
                prop_assert_eq!(again, (Cow::Borrowed(&*once), None));
            }
        }
    }
}
