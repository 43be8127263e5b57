//! A token in its compact form (RFC 7515), read strictly: three parts of base64url, each object of JSON says a word once.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::Denial;
use super::key::Algorithm;
use crate::fault::Fault;

/// The longest token that is looked at.
pub const LONGEST: usize = 16 * 1024;
/// Objects and lists within each other.
const DEEPEST: usize = 16;

/// A token that could be read; nothing in it is believed yet.
#[derive(Debug)]
pub struct Token<'a> {
    pub algorithm: Algorithm,
    pub kid: Option<Box<str>>,
    /// What is signed.
    pub message: &'a str,
    /// base64url
    pub signature: &'a str,
    pub payload: Vec<u8>,
}

fn malformed(why: impl Into<Cow<'static, str>>) -> Denial {
    Denial::new(Fault::AuthMalformed, why)
}

impl<'a> Token<'a> {
    pub fn read(text: &'a str) -> Result<Self, Denial> {
        if text.len() > LONGEST {
            return Err(malformed(format!("a token of {} bytes, at most {LONGEST}", text.len())));
        }
        let (message, signature) = text.rsplit_once('.').ok_or_else(|| malformed("a token without dots"))?;
        let (header, payload) = message.split_once('.').ok_or_else(|| malformed("a token of two parts"))?;
        if signature.is_empty() {
            return Err(Denial::new(Fault::AuthSignature, "a token without signature"));
        }
        let bytes = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed("a part that is not base64url"));
        let (header, payload) = (bytes(header)?, bytes(payload)?);
        bytes(signature)?;
        let header = object(&header).map_err(malformed)?;
        // Extensions that change what a signature means (RFC 7797) are understood by nobody here.
        if header.contains_key("crit") || header.contains_key("b64") {
            return Err(malformed("a header with `crit` or `b64`"));
        }
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.as_str().into()),
            Some(_) => return Err(malformed("a `kid` that is no text")),
        };
        let algorithm = match header.get("alg") {
            Some(Value::String(word)) => Algorithm::named(word),
            _ => return Err(malformed("a header without `alg`")),
        };
        let algorithm = algorithm.ok_or_else(|| Denial::new(Fault::AuthAlgorithm, "an algorithm that is not known"))?;
        Ok(Self { algorithm, kid, message, signature, payload })
    }
}

/// The object that is the whole of `bytes`; a word said twice, and what is nested too deep, is an error.
pub fn object(bytes: &[u8]) -> Result<Map<String, Value>, &'static str> {
    if !is_flat(bytes) {
        return Err("JSON that is nested too deep");
    }
    serde_json::from_slice::<Once>(bytes).map(|once| once.0).map_err(|_| "something else than one object of JSON")
}

/// Looks at brackets outside of texts.
fn is_flat(bytes: &[u8]) -> bool {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => depth += 1,
            b'}' | b']' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST {
            return false;
        }
    }
    true
}

/// An object of JSON in which no member of the first level stands twice.
struct Once(Map<String, Value>);

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Once;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Once, A::Error> {
                let mut members = Map::new();
                while let Some((name, value)) = access.next_entry::<String, Value>()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a member twice"));
                    }
                }
                Ok(Once(members))
            }
        }
        from.deserialize_map(Members)
    }
}
