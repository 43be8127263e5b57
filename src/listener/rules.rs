//! What a request may look like, whichever version of HTTP brings it: method, target, host, names of fields.

use std::net::Ipv6Addr;

use memchr::memchr;
use pingora_http::RequestHeader;

use super::Limits;
use crate::fault::Fault;

/// What an HTTP/1 head was held to before Pingora saw it, for a request that came by HTTP/2.
pub fn check_h2(header: &RequestHeader, limits: &Limits) -> Result<(), Fault> {
    let target = header.raw_path();
    if target.len() > limits.uri.len() {
        return Err(Fault::RequestUriTooLong);
    }
    if header.headers.len() > limits.fields {
        return Err(Fault::RequestHeaderTooLarge);
    }
    check_method(header.method.as_str().as_bytes())?;
    check_target(target, header.method.as_str().as_bytes())?;
    if header.headers.keys().any(|name| name.as_str().contains('_')) {
        return Err(Fault::RequestMalformed);
    }
    if header.headers.values().any(|value| has_edges(value.as_bytes())) {
        return Err(Fault::RequestMalformed);
    }
    if header.headers.get_all(http::header::CONTENT_LENGTH).iter().nth(1).is_some() {
        return Err(Fault::RequestFraming);
    }
    if header.uri.scheme_str().is_some_and(|scheme| scheme != "http" && scheme != "https") {
        return Err(Fault::RequestTarget);
    }
    let expect = header.headers.get_all(http::header::EXPECT);
    if expect.iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(Fault::RequestExpect);
    }
    let host = header.headers.get(http::header::HOST).map(http::HeaderValue::as_bytes);
    let host = header.uri.authority().map(|authority| authority.as_str().as_bytes()).or(host);
    if host.is_some_and(is_authority) { Ok(()) } else { Err(Fault::RequestHost) }
}

/// Space around a value is no part of it, and the target would take it off: to the policies it would be another value
/// (RFC 9113 section 8.2.1).
fn has_edges(value: &[u8]) -> bool {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    is_space(value.first()) || is_space(value.last())
}

/// Methods that may be forwarded; asking for a tunnel or an echo is refused by its name.
pub(crate) fn check_method(method: &[u8]) -> Result<(), Fault> {
    match method {
        b"GET" | b"HEAD" | b"POST" | b"PUT" | b"PATCH" | b"DELETE" | b"OPTIONS" => Ok(()),
        b"CONNECT" | b"TRACE" => Err(Fault::RouteMethod),
        _ => Err(Fault::RequestMethodUnknown),
    }
}

/// Origin form, absolute form, or `*` for OPTIONS; visible ASCII without a fragment (RFC 9112 section 3.2).
pub(crate) fn check_target(target: &[u8], method: &[u8]) -> Result<(), Fault> {
    // No URI holds these (RFC 3986), and Pingora would refuse them without telling us.
    let strange = target.iter().any(|b| !b.is_ascii_graphic() || matches!(b, b'"' | b'#' | b'<' | b'>' | b'`'));
    let shaped = target.starts_with(b"/") || authority(target).is_some() || (target == b"*" && method == b"OPTIONS");
    if strange || !shaped { Err(Fault::RequestTarget) } else { Ok(()) }
}

/// The authority of a target in absolute form.
pub(crate) fn authority(target: &[u8]) -> Option<&[u8]> {
    let scheme = target.get(..8).filter(|start| start.eq_ignore_ascii_case(b"https://")).map(|_| 8);
    let scheme = scheme.or_else(|| target.get(..7).filter(|start| start.eq_ignore_ascii_case(b"http://")).map(|_| 7));
    let rest = target.get(scheme?..)?;
    rest.split(|byte| matches!(byte, b'/' | b'?')).next()
}

/// Any control character but the tab.
#[expect(clippy::needless_bitwise_bool, reason = "without branches the compiler checks sixteen bytes at once")]
pub(crate) fn has_control(value: &[u8]) -> bool {
    value.iter().fold(false, |bad, &byte| bad | ((byte < b' ') & (byte != b'\t')) | (byte == 0x7f))
}

/// Characters of a token (RFC 9110 section 5.6.2).
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128_u8 {
        #[expect(clippy::indexing_slicing, reason = "a table of 256 entries, filled at compile time")]
        {
            table[byte as usize] = byte.is_ascii_alphanumeric()
                || matches!(
                    byte,
                    b'!' | b'#'
                        | b'$'
                        | b'%'
                        | b'&'
                        | b'\''
                        | b'*'
                        | b'+'
                        | b'-'
                        | b'.'
                        | b'^'
                        | b'_'
                        | b'`'
                        | b'|'
                        | b'~'
                );
        }
        byte += 1;
    }
    table
};

/// A character of a token.
pub(crate) fn is_token(byte: u8) -> bool {
    TOKEN.get(usize::from(byte)).copied().unwrap_or(false)
}

/// A host name or address, without user information, and an optional port.
pub(crate) fn is_authority(text: &[u8]) -> bool {
    if let Some(rest) = text.strip_prefix(b"[") {
        let Some(end) = memchr(b']', rest) else { return false };
        let (address, rest) = rest.split_at(end);
        let address = std::str::from_utf8(address).ok().and_then(|text| text.parse::<Ipv6Addr>().ok());
        return address.is_some() && is_port(rest.get(1..).unwrap_or_default());
    }
    let (name, port) = text.split_at(memchr(b':', text).unwrap_or(text.len()));
    // Neither begins with a dot nor has two in a row.
    let mut dot = true;
    let mut fits = |b: u8| {
        let fits = b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_') || (b == b'.' && !dot);
        dot = b == b'.';
        fits
    };
    (1..=255).contains(&name.len()) && name.iter().all(|b| fits(*b)) && is_port(port)
}

/// Nothing, or `:` and a number that is a port.
fn is_port(text: &[u8]) -> bool {
    let Some(digits) = text.strip_prefix(b":") else { return text.is_empty() };
    let number = digits.iter().try_fold(0_u16, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        number.checked_mul(10)?.checked_add(digit.into())
    });
    number.is_some_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http2_requests_are_held_to_the_same_rules() {
        let limits = Limits { uri: crate::units::Size::from_bytes(16), fields: 2, ..Limits::default() };
        let check = |method: &str, path: &str, fields: &[(&'static str, &str)]| {
            let mut header = RequestHeader::build(method, path.as_bytes(), None).unwrap();
            for (name, value) in fields {
                header.append_header(*name, *value).unwrap();
            }
            check_h2(&header, &limits).err().map(Fault::code)
        };
        assert_eq!(check("GET", "/", &[("host", "a")]), None);
        assert_eq!(check("GET", "/", &[]), Some("request.host"));
        assert_eq!(check("GET", "/", &[("host", "u@a")]), Some("request.host"));
        assert_eq!(check("BREW", "/", &[("host", "a")]), Some("request.method_unknown"));
        assert_eq!(check("GET", "/aaaaaaaaaaaaaaaaaaa", &[("host", "a")]), Some("request.uri_too_long"));
        assert_eq!(check("GET", "/", &[("host", "a"), ("x_y", "b")]), Some("request.malformed"));
        assert_eq!(check("GET", "/", &[("host", "a"), ("expect", "b")]), Some("request.expect"));
        assert_eq!(check("GET", "/", &[("host", "a"), ("b", "c"), ("d", "e")]), Some("request.header_too_large"));
    }
}
