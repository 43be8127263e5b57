//! Speaks gRPC-Web to browsers and gRPC to the target: trailers come in the body, which may be text.
//!
//! ```yaml
//! grpc_web: true
//! ```
//!
//! `application/grpc-web` and `application/grpc-web-text`, each with its `+proto`, are changed into `application/grpc`;
//! what is neither passes as it is. The last frame of an answer has the flag 0x80 and holds its trailers, or an answer of
//! trailers only says them in its head. A text is base64 both ways, in pieces that may be padded each.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::pool::timeout::is_grpc_kind;

/// What every content type of gRPC begins with.
const GRPC: &str = "application/grpc";
/// What is added for the web.
const WEB: &str = "-web";
/// What is added where the body is text.
const TEXT: &str = "-text";
/// The flag of a frame that holds trailers.
const TRAILERS: u8 = 0x80;

/// What a page has to be allowed to send, and to read.
pub const SENT: [&str; 4] = ["content-type", "x-grpc-web", "x-user-agent", "grpc-timeout"];
pub const READ: [&str; 3] = ["grpc-status", "grpc-message", "grpc-status-details-bin"];

/// One call of a client that speaks gRPC-Web.
#[derive(Debug)]
pub struct Web {
    text: bool,
    /// `+proto`, or nothing.
    format: Box<str>,
    request: Decoder,
    /// What the answer of the present try has shown.
    answer: Answer,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Answer {
    #[default]
    Awaited,
    /// It is gRPC, and its trailers are still to come.
    Open,
    /// It is none, or all of it was said.
    Done,
}

/// Whether a client with this content type speaks gRPC-Web.
pub fn is_web(content_type: &[u8]) -> bool {
    let rest = content_type.get(GRPC.len()..).filter(|_| is_grpc_kind(content_type));
    rest.and_then(|rest| rest.get(..WEB.len())).is_some_and(|web| web.eq_ignore_ascii_case(WEB.as_bytes()))
}

/// A content type of gRPC: what is behind the common beginning, in lower case as far as its parameters.
fn format(fields: &HeaderMap) -> Option<String> {
    let kind = fields.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let (kind, parameters) = kind.find(';').map_or((kind, ""), |at| kind.split_at(at));
    Some(kind.to_ascii_lowercase().strip_prefix(GRPC)?.to_owned() + parameters)
}

impl Web {
    /// Nothing where the client speaks something else.
    pub fn of(fields: &HeaderMap) -> Option<Self> {
        let rest = format(fields)?;
        let rest = rest.strip_prefix(WEB)?;
        let (text, format) = rest.strip_prefix(TEXT).map_or((false, rest), |format| (true, format));
        if !(format.is_empty() || format.starts_with(['+', ';'])) {
            return None;
        }
        Some(Self { text, format: format.into(), request: Decoder::default(), answer: Answer::default() })
    }

    /// Changes the request on its way to the target of a try, which may be a further one.
    pub fn ask(&mut self, fields: &mut HeaderMap) {
        (self.request, self.answer) = (Decoder::default(), Answer::default());
        say(fields, header::CONTENT_TYPE, &format!("{GRPC}{}", self.format));
        fields.insert(header::TE, HeaderValue::from_static("trailers"));
        fields.remove("x-grpc-web");
        if self.text {
            fields.remove(header::CONTENT_LENGTH);
        }
    }

    /// A piece of the request as the target gets it; nothing where it is no base64.
    pub fn sent(&mut self, piece: &Bytes, end: bool) -> Option<Bytes> {
        if self.text { self.request.push(piece, end) } else { Some(piece.clone()) }
    }

    /// Changes the head of the target's answer; another than of gRPC stays as it is.
    pub fn answered(&mut self, fields: &mut HeaderMap) {
        let Some(format) = format(fields) else {
            self.answer = Answer::Done;
            return;
        };
        // A target may leave out what it speaks by default.
        let kind = self.kind(if format.is_empty() { &self.format } else { &format });
        self.answer = if fields.contains_key("grpc-status") { Answer::Done } else { Answer::Open };
        say(fields, header::CONTENT_TYPE, &kind);
        fields.remove(header::CONTENT_LENGTH);
        fields.remove(header::TRAILER);
    }

    /// The content type of what is answered here.
    pub fn own_kind(&self) -> String {
        self.kind(&self.format)
    }

    fn kind(&self, format: &str) -> String {
        format!("{GRPC}{WEB}{}{format}", if self.text { TEXT } else { "" })
    }

    /// A piece of the answer as the client gets it. Each text is whole, so that no message waits for the next one.
    pub fn received(&self, piece: &Bytes) -> Bytes {
        if self.text && self.answer == Answer::Open { STANDARD.encode(piece).into() } else { piece.clone() }
    }

    /// The last frame of an answer: its trailers. Nothing where they were said already.
    pub fn trailers(&mut self, trailers: &HeaderMap) -> Option<Bytes> {
        if self.answer != Answer::Open {
            return None;
        }
        self.answer = Answer::Done;
        let mut lines = BytesMut::new();
        for (name, value) in trailers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                lines.put_slice(part);
            }
        }
        let mut frame = BytesMut::with_capacity(lines.len() + 5);
        frame.put_u8(TRAILERS);
        frame.put_u32(u32::try_from(lines.len()).unwrap_or(u32::MAX));
        frame.put_slice(&lines);
        Some(if self.text { STANDARD.encode(&frame).into() } else { frame.freeze() })
    }

    /// The same where the target has ended without any, or has gone.
    pub fn cut(&mut self, status: u8, message: &str) -> Option<Bytes> {
        let mut trailers = HeaderMap::with_capacity(2);
        trailers.insert("grpc-status", HeaderValue::from(u16::from(status)));
        say(&mut trailers, HeaderName::from_static("grpc-message"), message);
        self.trailers(&trailers)
    }
}

/// Sets the field in place of what was there.
fn say(fields: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        fields.insert(name, value);
    }
}

/// Base64 in pieces of any length, of which each may be padded.
#[derive(Debug, Default)]
struct Decoder {
    /// Less than four letters.
    held: Vec<u8>,
}

impl Decoder {
    fn push(&mut self, piece: &[u8], end: bool) -> Option<Bytes> {
        self.held.extend(piece.iter().filter(|letter| !letter.is_ascii_whitespace()));
        let whole = self.held.len() - self.held.len() % 4;
        let mut bytes = Vec::with_capacity(whole / 4 * 3);
        // Up to a padding all letters are one text; behind it another begins.
        let mut rest = self.held.get(..whole)?;
        while !rest.is_empty() {
            let padded = rest.iter().position(|letter| *letter == b'=').map_or(whole, |at| at / 4 * 4 + 4);
            let (text, after) = rest.split_at_checked(padded.min(rest.len()))?;
            bytes.extend(STANDARD.decode(text).ok()?);
            rest = after;
        }
        self.held.drain(..whole);
        (!end || self.held.is_empty()).then(|| bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(kind: &str) -> HeaderMap {
        [(header::CONTENT_TYPE, kind.parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn who_speaks_it_is_known_by_the_content_type() {
        for (kind, asked, own) in [
            ("application/grpc-web", "application/grpc", "application/grpc-web"),
            ("application/grpc-web+proto", "application/grpc+proto", "application/grpc-web+proto"),
            ("application/grpc-web-text", "application/grpc", "application/grpc-web-text"),
            ("Application/grpc-Web+Proto", "application/grpc+proto", "application/grpc-web+proto"),
            ("application/GRPC-WEB;v=A", "application/grpc;v=A", "application/grpc-web;v=A"),
            ("application/grpc-web-text+proto", "application/grpc+proto", "application/grpc-web-text+proto"),
        ] {
            let mut web = Web::of(&fields(kind)).unwrap();
            let mut sent = fields(kind);
            web.ask(&mut sent);
            assert_eq!(
                (sent[header::CONTENT_TYPE].to_str().unwrap(), &sent[header::TE]),
                (asked, &HeaderValue::from_static("trailers"))
            );
            assert_eq!(web.own_kind(), own);
            assert!(is_web(kind.as_bytes()) && is_grpc_kind(kind.as_bytes()), "{kind}");
        }
        for kind in ["application/grpc", "application/grpc+proto", "application/json", "application/grpc-webby"] {
            assert!(Web::of(&fields(kind)).is_none(), "{kind}");
            assert!(kind.contains("web") || !is_web(kind.as_bytes()), "{kind}");
        }
    }

    #[test]
    fn text_is_decoded_however_it_is_cut_and_padded() {
        let text = [&b"a"[..], b"bc", b"def", b"\0\0\0\0\x05hello"].map(|part| STANDARD.encode(part)).concat();
        for size in 1..text.len() {
            let mut web = Web::of(&fields("application/grpc-web-text")).unwrap();
            let mut bytes = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                bytes.extend(web.sent(&Bytes::copy_from_slice(piece), false).unwrap());
            }
            bytes.extend(web.sent(&Bytes::new(), true).unwrap());
            assert_eq!(bytes, b"abcdef\0\0\0\0\x05hello", "in pieces of {size}");
        }
        let wrong = |piece: &'static str, end| {
            Web::of(&fields("application/grpc-web-text")).unwrap().sent(&Bytes::from_static(piece.as_bytes()), end)
        };
        assert_eq!(wrong("YQ=", true), None);
        assert_eq!(wrong("Y=Q=", false), None);
        assert_eq!(wrong("*AAA", false), None);
        assert_eq!(wrong("YWI", false), Some(Bytes::new()));
    }

    #[test]
    fn trailers_are_the_last_frame_once() {
        let trailers: HeaderMap = [("grpc-status", "0"), ("x-end", "yes")]
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .into_iter()
            .collect();
        let frame = b"\x80\0\0\0\x1cgrpc-status: 0\r\nx-end: yes\r\n";
        let mut web = Web::of(&fields("application/grpc-web+proto")).unwrap();
        let mut head = fields("Application/gRPC+proto");
        web.answered(&mut head);
        assert_eq!(head[header::CONTENT_TYPE], "application/grpc-web+proto");
        assert_eq!(web.received(&Bytes::from_static(b"x")), "x");
        assert_eq!(web.trailers(&trailers).as_deref(), Some(&frame[..]));
        assert_eq!(web.trailers(&trailers), None);
        let mut web = Web::of(&fields("application/grpc-web-text")).unwrap();
        web.answered(&mut fields("application/grpc"));
        assert_eq!(web.received(&Bytes::from_static(b"x")), "eA==");
        assert_eq!(STANDARD.decode(web.trailers(&trailers).unwrap()).unwrap(), frame);
    }

    #[test]
    fn an_answer_that_is_no_grpc_or_says_all_in_its_head_gets_no_frame() {
        let mut web = Web::of(&fields("application/grpc-web-text")).unwrap();
        let mut page = fields("text/html");
        web.answered(&mut page);
        assert_eq!(
            (page, web.received(&Bytes::from_static(b"x")), web.cut(14, "")),
            (fields("text/html"), Bytes::from_static(b"x"), None)
        );
        let mut only = fields("application/grpc");
        only.insert("grpc-status", HeaderValue::from_static("5"));
        web.answered(&mut only);
        assert_eq!(
            (only[header::CONTENT_TYPE].to_str().unwrap(), web.cut(14, "")),
            ("application/grpc-web-text", None)
        );
    }
}
