//! The head of an HTTP/1 request, checked byte by byte before anything else reads it (RFC 9112 sections 2 to 6).

use std::sync::LazyLock;

use memchr::{memchr, memmem};

use crate::fault::Fault;
use crate::listener::Limits;
use crate::listener::rules::{authority, check_method, check_target, has_control, is_authority, is_token};

/// How the body of a request is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    None,
    Length(u64),
    Chunked,
}

/// A head that is whole and means one thing only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// An empty line before the request line, to be left out.
    pub(super) skip: usize,
    /// Bytes from the request line to the empty line, both included.
    pub(super) len: usize,
    pub(super) framing: Framing,
    /// Whether the client asked for another protocol.
    pub(super) upgrade: bool,
}

/// The sizes that a head must keep to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    head: usize,
    uri: usize,
    fields: usize,
}

impl From<&Limits> for Bounds {
    fn from(limits: &Limits) -> Self {
        Self { head: limits.head.len(), uri: limits.uri.len(), fields: limits.fields }
    }
}

/// What an HTTP/2 client with prior knowledge says first (RFC 9113 section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Looks for the empty line behind a head.
static END: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(b"\r\n\r\n"));

/// The head at the start of `bytes`; `None` while it is not whole. The first `seen` bytes were offered before.
pub(super) fn read(bytes: &[u8], seen: usize, bounds: Bounds) -> Result<Option<Head>, Fault> {
    let skip = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    let from = seen.saturating_sub(3).max(skip);
    let Some(end) = END.find(bytes.get(from..).unwrap_or_default()) else {
        return unfinished(bytes, seen, skip, bounds).map(|()| None);
    };
    let len = from - skip + end + 4;
    if len > bounds.head {
        return Err(too_large(bytes, skip, bounds));
    }
    // The last line keeps its line end; the empty line is left away.
    let lines = bytes.get(skip..skip + len - 2).unwrap_or_default();
    let (line, fields) = cut(lines)?;
    let version = request_line(line, bounds)?;
    let found = read_fields(fields, bounds)?;
    let framing = found.framing(version)?;
    let host = found.host.ok_or(Fault::RequestHost)?;
    check_host(host, target_of(line))?;
    Ok(Some(Head { skip, len, framing, upgrade: found.upgrade && version == Version::V11 }))
}

/// Whether these bytes are a head that is whole and keeps to the limits.
pub fn check(bytes: &[u8], limits: &Limits) -> Result<(), Fault> {
    read(bytes, 0, limits.into())?.map(|_| ()).ok_or(Fault::RequestMalformed)
}

/// What can be said of a head that has not ended: too large already, or broken already.
fn unfinished(bytes: &[u8], seen: usize, skip: usize, bounds: Bounds) -> Result<(), Fault> {
    if bytes.len() > bounds.head + skip {
        return Err(too_large(bytes, skip, bounds));
    }
    let mut before = seen.checked_sub(1).and_then(|last| bytes.get(last)).copied();
    for &byte in bytes.get(seen..).unwrap_or_default() {
        // A line end is CR LF and nothing else; other control characters have no place in a head.
        let wrong = match byte {
            b'\n' => before != Some(b'\r'),
            b'\t' => false,
            other => before == Some(b'\r') || (other < b' ' && other != b'\r'),
        };
        if wrong {
            return Err(Fault::RequestMalformed);
        }
        before = Some(byte);
    }
    let more_empty_lines = skip > 0 && bytes.get(2) == Some(&b'\r');
    if more_empty_lines { Err(Fault::RequestMalformed) } else { Ok(()) }
}

/// Which limit a head broke that is too large as a whole: often it is the target alone.
fn too_large(bytes: &[u8], skip: usize, bounds: Bounds) -> Fault {
    let line = bytes.get(skip..).unwrap_or_default();
    let line = memchr(b'\r', line).map_or(line, |end| line.get(..end).unwrap_or_default());
    if target_of(line).len() > bounds.uri { Fault::RequestUriTooLong } else { Fault::RequestHeaderTooLarge }
}

/// The first line of `lines` and the rest; a line ends in CR LF.
fn cut(lines: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let end = memchr(b'\n', lines).ok_or(Fault::RequestMalformed)?;
    let (line, rest) = lines.split_at(end);
    let line = line.strip_suffix(b"\r").ok_or(Fault::RequestMalformed)?;
    Ok((line, rest.get(1..).unwrap_or_default()))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    V10,
    V11,
}

/// The target between the first two spaces, as far as there is one.
fn target_of(line: &[u8]) -> &[u8] {
    line.split(|byte| *byte == b' ').nth(1).unwrap_or_default()
}

fn request_line(line: &[u8], bounds: Bounds) -> Result<Version, Fault> {
    let space = memchr(b' ', line).ok_or(Fault::RequestMalformed)?;
    let (method, rest) = line.split_at(space);
    let rest = rest.get(1..).unwrap_or_default();
    let space = memchr(b' ', rest).ok_or(Fault::RequestMalformed)?;
    let (target, version) = rest.split_at(space);
    if target.len() > bounds.uri {
        return Err(Fault::RequestUriTooLong);
    }
    let version = match version {
        b" HTTP/1.1" => Version::V11,
        b" HTTP/1.0" => Version::V10,
        _ => return Err(Fault::RequestMalformed),
    };
    if target.is_empty() || method.is_empty() || !method.iter().copied().all(is_token) {
        return Err(Fault::RequestMalformed);
    }
    check_method(method)?;
    check_target(target, method)?;
    Ok(version)
}

/// What the fields say about framing and routing.
#[derive(Default)]
struct Found<'a> {
    host: Option<&'a [u8]>,
    length: Option<&'a [u8]>,
    coding: Option<&'a [u8]>,
    upgrade: bool,
}

impl Found<'_> {
    fn framing(&self, version: Version) -> Result<Framing, Fault> {
        match (self.length, self.coding) {
            (None, None) => Ok(Framing::None),
            (Some(length), None) => {
                // 15 digits are a thousand terabytes; more is an attempt to overflow someone.
                let digits = (1..=15).contains(&length.len()) && length.iter().all(u8::is_ascii_digit);
                let length = if digits { std::str::from_utf8(length).ok().and_then(|n| n.parse().ok()) } else { None };
                length.map(|n| if n == 0 { Framing::None } else { Framing::Length(n) }).ok_or(Fault::RequestFraming)
            }
            (None, Some(coding)) if version == Version::V11 && coding.eq_ignore_ascii_case(b"chunked") => {
                Ok(Framing::Chunked)
            }
            _ => Err(Fault::RequestFraming),
        }
    }
}

fn read_fields(mut rest: &[u8], bounds: Bounds) -> Result<Found<'_>, Fault> {
    let mut found = Found::default();
    let mut count = 0;
    while !rest.is_empty() {
        let line;
        (line, rest) = cut(rest)?;
        count += 1;
        if count > bounds.fields {
            return Err(Fault::RequestHeaderTooLarge);
        }
        let colon = memchr(b':', line).ok_or(Fault::RequestMalformed)?;
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default();
        // An underscore is a token character, but CGI-like servers read `x_real_ip` as `X-Real-IP`.
        if name.is_empty() || !name.iter().copied().all(|byte| is_token(byte) && byte != b'_') {
            return Err(Fault::RequestMalformed);
        }
        if has_control(value) {
            return Err(Fault::RequestMalformed);
        }
        note(&mut found, name, value.trim_ascii())?;
    }
    Ok(found)
}

/// Remembers the fields that decide about framing and host; each may stand once.
fn note<'a>(found: &mut Found<'a>, name: &[u8], value: &'a [u8]) -> Result<(), Fault> {
    match name.len() {
        4 if name.eq_ignore_ascii_case(b"host") => once(&mut found.host, value, Fault::RequestHost),
        14 if name.eq_ignore_ascii_case(b"content-length") => once(&mut found.length, value, Fault::RequestFraming),
        17 if name.eq_ignore_ascii_case(b"transfer-encoding") => once(&mut found.coding, value, Fault::RequestFraming),
        6 if name.eq_ignore_ascii_case(b"expect") && !value.eq_ignore_ascii_case(b"100-continue") => {
            Err(Fault::RequestExpect)
        }
        7 if name.eq_ignore_ascii_case(b"upgrade") => {
            found.upgrade = true;
            Ok(())
        }
        _ => Ok(()),
    }
}

fn once<'a>(slot: &mut Option<&'a [u8]>, value: &'a [u8], fault: Fault) -> Result<(), Fault> {
    if slot.replace(value).is_some() { Err(fault) } else { Ok(()) }
}

/// A host name or address with an optional port, and the same authority in an absolute target.
fn check_host(host: &[u8], target: &[u8]) -> Result<(), Fault> {
    let same = |authority: &[u8]| authority.eq_ignore_ascii_case(host);
    let agree = target.starts_with(b"/") || authority(target).is_none_or(same);
    if agree && is_authority(host) { Ok(()) } else { Err(Fault::RequestHost) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { head: 1024, uri: 64, fields: 8 };

    fn fault(bytes: &[u8]) -> Option<&'static str> {
        read(bytes, 0, BOUNDS).err().map(Fault::code)
    }

    #[test]
    fn a_plain_head_passes_with_its_framing() {
        let get = b"GET /a?b=c HTTP/1.1\r\nHost: a.example:8080\r\nX: \xff\t1\r\n\r\nrest";
        let head = read(get, 0, BOUNDS).unwrap().unwrap();
        assert_eq!((head.skip, head.len, head.framing), (0, get.len() - 4, Framing::None));
        let framed = |more: &str| {
            let text = format!("\r\nPOST / HTTP/1.1\r\nHost: [::1]:80\r\n{more}\r\n\r\n");
            read(text.as_bytes(), 0, BOUNDS).unwrap().unwrap()
        };
        assert_eq!(framed("Content-Length: 12").framing, Framing::Length(12));
        assert_eq!(framed("Content-Length: 0").framing, Framing::None);
        assert_eq!(framed("Transfer-Encoding: Chunked ").framing, Framing::Chunked);
        assert_eq!(framed("Expect: 100-Continue").skip, 2);
        assert!(framed("Upgrade: websocket\r\nConnection: Upgrade").upgrade);
        assert!(read(b"OPTIONS * HTTP/1.0\r\nHost: a\r\n\r\n", 0, BOUNDS).is_ok());
        assert!(read(b"GET http://A.example/x HTTP/1.1\r\nHost: a.example\r\n\r\n", 0, BOUNDS).is_ok());
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn a_head_that_means_two_things_is_refused() {
        const MALFORMED: &str = "request.malformed";
        const FRAMING: &str = "request.framing";
        const HOST: &str = "request.host";
        let with = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n").into_bytes();
        let line = |line: &str| format!("{line}\r\nHost: a\r\n\r\n").into_bytes();
        let host = |host: &str| format!("GET / HTTP/1.1\r\n{host}\r\n\r\n").into_bytes();
        let rows: Vec<(Vec<u8>, &str)> = vec![
            (with("Content-Length: 1\r\nTransfer-Encoding: chunked"), FRAMING),
            (with("Content-Length: 1\r\nContent-Length: 1"), FRAMING),
            (with("Content-Length: 1, 1"), FRAMING),
            (with("Content-Length: +1"), FRAMING),
            (with("Content-Length: -1"), FRAMING),
            (with("Content-Length: 0x1"), FRAMING),
            (with("Content-Length: 1 1"), FRAMING),
            (with("Content-Length:"), FRAMING),
            (with("Content-Length: 99999999999999999999"), FRAMING),
            (with("Transfer-Encoding: gzip, chunked"), FRAMING),
            (with("Transfer-Encoding: identity"), FRAMING),
            (with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), FRAMING),
            (with("Transfer-Encoding: \"chunked\""), FRAMING),
            (with("Transfer-Encoding: xchunked"), FRAMING),
            (with("Transfer-Encoding:"), FRAMING),
            (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(), FRAMING),
            (with("X: a\r\n b"), MALFORMED),
            (with(" X: a"), MALFORMED),
            (with("X : a"), MALFORMED),
            (with("X\t: a"), MALFORMED),
            (with(": a"), MALFORMED),
            (with("X"), MALFORMED),
            (with("X: a\nY: b"), MALFORMED),
            (with("X: a\rY: b"), MALFORMED),
            (with("X: a\0"), MALFORMED),
            (with("X: \x7f"), MALFORMED),
            (with("X\u{e9}: a"), MALFORMED),
            (with("X(y): a"), MALFORMED),
            (with("X_Real_IP: a"), MALFORMED),
            (with("Expect: 200-ok"), "request.expect"),
            (host("X: a"), HOST),
            (host("Host:"), HOST),
            (host("Host: a\r\nHost: a"), HOST),
            (host("Host: a, b"), HOST),
            (host("Host: u@a"), HOST),
            (host("Host: a:"), HOST),
            (host("Host: a:0"), HOST),
            (host("Host: a:99999"), HOST),
            (host("Host: a:+80"), HOST),
            (host("Host: a/b"), HOST),
            (host("Host: a b"), HOST),
            (host("Host: [::1"), HOST),
            (host("Host: [::g]"), HOST),
            (host("Host: .a"), HOST),
            (host("Host: a..b"), HOST),
            (b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), HOST),
            (b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), HOST),
            (b"GET / HTTP/1.0\r\n\r\n".to_vec(), HOST),
            (line("GET  / HTTP/1.1"), MALFORMED),
            (line("GET / HTTP/1.1 "), MALFORMED),
            (line(" GET / HTTP/1.1"), MALFORMED),
            (line("GET /"), MALFORMED),
            (line("GET / HTTP/0.9"), MALFORMED),
            (line("GET / HTTP/1.2"), MALFORMED),
            (line("GET / HTTP/2.0"), MALFORMED),
            (line("GET / http/1.1"), MALFORMED),
            (line("GET\t/ HTTP/1.1"), MALFORMED),
            (line("G(T / HTTP/1.1"), MALFORMED),
            (line("GET / x HTTP/1.1"), MALFORMED),
            (line("GET /\x01 HTTP/1.1"), "request.target"),
            (line("GET /\u{e9} HTTP/1.1"), "request.target"),
            (line("GET /a#b HTTP/1.1"), "request.target"),
            (line("GET a HTTP/1.1"), "request.target"),
            (line("GET * HTTP/1.1"), "request.target"),
            (line("GET a:80 HTTP/1.1"), "request.target"),
            (line("GET ftp://a/ HTTP/1.1"), "request.target"),
            (line("CONNECT a:80 HTTP/1.1"), "route.method"),
            (line("TRACE / HTTP/1.1"), "route.method"),
            (line("BREW / HTTP/1.1"), "request.method_unknown"),
            (line("get / HTTP/1.1"), "request.method_unknown"),
            (line(&format!("GET /{} HTTP/1.1", "a".repeat(64))), "request.uri_too_long"),
            (line(&format!("GET /{} HTTP/1.1", "a".repeat(4096))), "request.uri_too_long"),
            (with(&format!("X: {}", "a".repeat(1024))), "request.header_too_large"),
            (with(&"X: a\r\n".repeat(8)[..46]), "request.header_too_large"),
            (b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), MALFORMED),
            (b"GET / HTTP/1.1\nHost: a\n\n".to_vec(), MALFORMED),
            (b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), MALFORMED),
            (vec![b'A'; 2000], "request.header_too_large"),
            (b"\x16\x03\x01\x02\x00\x01".to_vec(), MALFORMED),
        ];
        for (bytes, code) in rows {
            assert_eq!(fault(&bytes), Some(code), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_head_may_come_in_any_pieces() {
        let whole: &[u8] = b"\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
        for seen in 0..whole.len() {
            let first = read(&whole[..seen], 0, BOUNDS).unwrap();
            assert_eq!(first.is_some(), seen >= whole.len() - 3, "{seen}");
            if first.is_none() {
                let head = read(whole, seen, BOUNDS).unwrap().unwrap();
                assert_eq!((head.skip, head.len), (2, whole.len() - 5));
            }
        }
    }

    #[test]
    fn a_bare_line_feed_is_noticed_before_the_head_ends() {
        assert_eq!(fault(b"GET / HTTP/1.1\nHost: a"), Some("request.malformed"));
        assert_eq!(fault(b"GET / HTTP/1.1\r\nHost: a\rX"), Some("request.malformed"));
        assert_eq!(read(b"GET / HTTP/1.1\r\nHost: a\r\n", 23, BOUNDS), Ok(None));
    }
}
