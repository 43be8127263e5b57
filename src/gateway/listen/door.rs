//! What listening asks of the rest of the gateway: answers for what is refused early, and ears for what is counted.

use std::sync::Arc;
use std::time::Duration;

use crate::fault::Fault;
use crate::listener::Connection;
use crate::units::Name;

/// Answers and counts what happens before Pingora sees a request.
pub trait Door: Send + Sync {
    /// Counts, logs and renders a refusal; the bytes are written, then the connection closes.
    fn refuse(&self, fault: Fault, seen: &Seen<'_>) -> Vec<u8>;

    /// How long a connection at rest may still ask for something once its socket has closed.
    fn goodbye(&self) -> Duration {
        Duration::ZERO
    }
    /// A connection of this listener was let in.
    fn opened(&self, _listener: &Name) {}
    /// A connection that was let in has ended.
    fn closed(&self, _listener: &Name) {}
    /// A connection was closed as it came: `connections` or `per_address` is full, or `proxy_protocol` was broken.
    fn turned_away(&self, _listener: &Name, _why: &'static str) {}
    /// A connection could not be accepted: no descriptors, no memory.
    fn not_accepted(&self, _listener: &Name) {}
    /// A TLS handshake ended: `version` is `TLSv1.3`, `TLSv1.2` or `none`; `result` is `ok`, `failed` or `timeout`.
    fn handshake(&self, _listener: &Name, _version: &'static str, _result: &'static str) {}
}

/// What is known of a request that was refused before it was whole.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    pub connection: &'a Arc<Connection>,
    /// As the log names it.
    pub protocol: &'static str,
    /// The bytes of its head, as far as they were read; anything may be in them.
    pub head: &'a [u8],
}

impl<'a> Seen<'a> {
    /// The method, if there is something like one.
    pub fn method(&self) -> Option<&'a str> {
        let word = self.word(0)?;
        (word.len() <= 20 && word.bytes().all(|byte| byte.is_ascii_alphabetic())).then_some(word)
    }

    /// The target as it was sent, if it is visible ASCII.
    pub fn target(&self) -> Option<&'a str> {
        self.word(1)
    }

    /// The first value of a header field, if it is visible ASCII.
    pub fn field(&self, name: &str) -> Option<&'a str> {
        let mut lines = self.head.split(|byte| *byte == b'\n').skip(1);
        lines.find_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let (found, value) = line.split_at(colon);
            let value = value.get(1..)?.trim_ascii();
            let visible = value.iter().all(|byte| matches!(byte, b' '..=b'~'));
            let fits = found.eq_ignore_ascii_case(name.as_bytes()) && visible;
            if fits { std::str::from_utf8(value).ok() } else { None }
        })
    }

    fn word(&self, index: usize) -> Option<&'a str> {
        let line = self.head.trim_ascii_start().split(|byte| matches!(byte, b'\r' | b'\n')).next()?;
        let word = line.split(|byte| *byte == b' ').nth(index)?;
        let visible = !word.is_empty() && word.iter().all(u8::is_ascii_graphic);
        if visible { std::str::from_utf8(word).ok() } else { None }
    }
}
