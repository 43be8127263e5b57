//! The opening handshake of a WebSocket (RFC 6455 section 4): what a client must ask, and what a target must answer.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request};

use super::frame::COMPRESSED;
use crate::fault::Fault;

/// What the key is hashed with (RFC 6455 section 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a client wants to hear, if its handshake is one.
pub(in crate::proxy) fn asked(request: &request::Parts) -> Result<String, Fault> {
    let headers = &request.headers;
    let framed = headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    if request.method != Method::GET || framed {
        return Err(Fault::RequestMalformed);
    }
    match only(headers, &header::SEC_WEBSOCKET_VERSION) {
        Some(version) if version == "13" => {}
        _ => return Err(Fault::RequestUpgrade),
    }
    let key = only(headers, &header::SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok());
    let key = key.filter(|key| STANDARD.decode(key).is_ok_and(|key| key.len() == 16));
    key.map(accept).ok_or(Fault::RequestMalformed)
}

/// Whether the target has agreed; `wanted` is what [`asked`] said.
pub(super) fn agreed(status: StatusCode, headers: &HeaderMap, wanted: &str) -> Result<(), Fault> {
    let says = |name: &HeaderName, word: &str| {
        let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
        lines.flat_map(|line| line.split(',')).any(|said| said.trim().eq_ignore_ascii_case(word))
    };
    let agreed = status == StatusCode::SWITCHING_PROTOCOLS
        && says(&header::CONNECTION, "upgrade")
        && only(headers, &header::UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && only(headers, &header::SEC_WEBSOCKET_ACCEPT).is_some_and(|said| said == wanted);
    if agreed { Ok(()) } else { Err(Fault::UpstreamUpgrade) }
}

/// Which reserved bits of frames the agreed extensions may use.
pub(super) fn reserved(headers: &HeaderMap) -> u8 {
    let lines = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS).into_iter();
    let all = lines.map(|line| line.to_str().unwrap_or("-")).flat_map(|line| line.split(','));
    let names = all.filter_map(|one| one.split(';').next()).map(str::trim).filter(|name| !name.is_empty());
    names.fold(0, |bits, name| bits | if name.eq_ignore_ascii_case("permessage-deflate") { COMPRESSED } else { 0x70 })
}

fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    lines.next().filter(|_| lines.next().is_none())
}

fn accept(key: &str) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, [key, GUID].concat().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Fields<'a> = &'a [(&'a str, &'a str)];

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    fn said(method: &str, fields: Fields<'_>) -> Result<String, Fault> {
        let request = http::Request::builder().method(method).uri("/");
        let all = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        asked(&all.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn the_key_of_the_standard_has_its_answer() {
        let good = [("sec-websocket-key", KEY), ("sec-websocket-version", "13")];
        assert_eq!(said("GET", &good).unwrap(), ACCEPT);
    }

    #[test]
    fn a_handshake_that_is_none_is_refused() {
        let (key, version) = (("sec-websocket-key", KEY), ("sec-websocket-version", "13"));
        let story: [(&str, Fields<'_>, Fault); 10] = [
            ("POST", &[key, version], Fault::RequestMalformed),
            ("GET", &[key, version, ("content-length", "5")], Fault::RequestMalformed),
            ("GET", &[key, version, ("transfer-encoding", "chunked")], Fault::RequestMalformed),
            ("GET", &[key], Fault::RequestUpgrade),
            ("GET", &[key, ("sec-websocket-version", "8")], Fault::RequestUpgrade),
            ("GET", &[key, version, version], Fault::RequestUpgrade),
            ("GET", &[version], Fault::RequestMalformed),
            ("GET", &[version, key, key], Fault::RequestMalformed),
            ("GET", &[version, ("sec-websocket-key", "c2hvcnQ=")], Fault::RequestMalformed),
            ("GET", &[version, ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ")], Fault::RequestMalformed),
        ];
        for (method, fields, fault) in story {
            assert_eq!(said(method, fields), Err(fault), "{method} {fields:?}");
        }
    }

    #[test]
    fn a_target_has_to_agree_in_every_point() {
        let head = |fields: Fields<'_>| {
            let names = fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            names.collect::<HeaderMap>()
        };
        let all = [("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket"), ("sec-websocket-accept", ACCEPT)];
        assert_eq!(agreed(StatusCode::SWITCHING_PROTOCOLS, &head(&all), ACCEPT), Ok(()));
        assert!(agreed(StatusCode::OK, &head(&all), ACCEPT).is_err());
        assert!(agreed(StatusCode::SWITCHING_PROTOCOLS, &head(&all), "other").is_err());
        for at in 0..all.len() {
            let less: Vec<_> =
                all.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, field)| *field).collect();
            assert!(agreed(StatusCode::SWITCHING_PROTOCOLS, &head(&less), ACCEPT).is_err(), "{less:?}");
        }
    }

    #[test]
    fn extensions_say_which_bits_they_use() {
        let bits = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, text.parse().unwrap());
            reserved(&headers)
        };
        assert_eq!(reserved(&HeaderMap::new()), 0);
        assert_eq!(bits("permessage-deflate; server_no_context_takeover"), 0x40);
        assert_eq!(bits("permessage-deflate, x-other"), 0x70);
    }
}
