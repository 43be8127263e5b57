//! Sets of keys as RFC 7517 writes them: what is weak or says two things is left out, and it is said why.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::key::{Algorithm, Key, Public};
use super::token;

/// Keys in one set at most.
const MOST: usize = 100;

/// What a set has come to.
#[derive(Debug, Default)]
pub struct Set {
    pub keys: Vec<Key>,
    /// A sentence for each key that is left out and should not have been there.
    pub left_out: Vec<String>,
}

/// Reads a set. `said` is the algorithm of RSA keys that do not tell theirs. The error is why it is no set.
pub fn read(json: &str, said: Option<Algorithm>) -> Result<Set, String> {
    let document: Map<String, Value> =
        token::object(json.as_bytes()).map_err(|why| format!("is no set of keys: {why}"))?;
    let Some(Value::Array(list)) = document.get("keys") else {
        return Err("is no set of keys: it has no list `keys`".to_owned());
    };
    if list.len() > MOST {
        return Err(format!("has {} keys, at most {MOST} are read", list.len()));
    }
    let kind = |value: &Value| value.get("kty").and_then(Value::as_str).map(str::to_owned);
    let secrets = list.iter().filter(|value| kind(value).as_deref() == Some("oct")).count();
    let mixed = secrets > 0 && secrets < list.len();
    let mut set = Set::default();
    for (at, value) in list.iter().enumerate() {
        let made = match kind(value).as_deref() {
            Some("oct") if mixed => Err("is a secret beside public keys".to_owned()),
            _ => one(value, said),
        };
        match made {
            Ok(Some(key)) => set.keys.push(key),
            Ok(None) => {}
            Err(why) => set.left_out.push(format!("key {}{} {why}", at + 1, named(value))),
        }
    }
    set.without_twins(list);
    Ok(set)
}

/// The name of a key as it may be logged.
fn named(value: &Value) -> String {
    let id = value.get("kid").and_then(Value::as_str).map(|id| id.escape_debug().take(64).collect::<String>());
    id.map_or_else(String::new, |id| format!(" (`{id}`)"))
}

impl Set {
    /// Of two keys of one name nobody can tell which was meant: neither is, whatever is wrong with the other.
    fn without_twins(&mut self, list: &[Value]) {
        let (mut seen, mut twins) = (HashSet::new(), HashSet::new());
        for id in list.iter().filter_map(|value| value.get("kid")?.as_str()) {
            if !seen.insert(id) && twins.insert(id) {
                self.left_out.push(format!("two keys are called `{}`", id.escape_debug()));
            }
        }
        self.keys.retain(|key| key.id.as_ref().is_none_or(|id| !twins.contains(&**id)));
    }
}

/// One key; nothing where it is not meant for signatures.
fn one(value: &Value, said: Option<Algorithm>) -> Result<Option<Key>, String> {
    let Value::Object(members) = value else { return Err("is no object".to_owned()) };
    let text = |name: &str| match members.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(format!("has a `{name}` that is no text")),
    };
    if text("use")?.is_some_and(|purpose| purpose != "sig") {
        return Ok(None);
    }
    if let Some(deeds) = members.get("key_ops") {
        let deeds = deeds.as_array().ok_or("has `key_ops` that are no list")?;
        if !deeds.iter().any(|deed| deed == "verify") {
            return Ok(None);
        }
    }
    let written = text("alg")?;
    let algorithm = match written {
        Some(word) => Some(Algorithm::named(word).ok_or_else(|| format!("is for `{}`", word.escape_debug()))?),
        None => None,
    };
    if members.contains_key("d") {
        return Err("is a private key; publish its public half only".to_owned());
    }
    let bytes = |name: &str| -> Result<Vec<u8>, String> {
        let text = text(name)?.ok_or_else(|| format!("has no `{name}`"))?;
        URL_SAFE_NO_PAD.decode(text).map_err(|_| format!("has a `{name}` that is not base64url"))
    };
    let kind = text("kty")?.ok_or("has no `kty`")?;
    let mut key = match (kind, text("crv")?) {
        ("oct", _) => {
            let algorithm = algorithm.or(said).ok_or("is a secret that does not say its `alg`")?;
            Key::secret(&bytes("k")?, algorithm)?
        }
        ("RSA", _) => {
            let public = Public::Rsa { modulus: bytes("n")?, exponent: bytes("e")? };
            Key::public(&public, algorithm.or(said))?
        }
        ("EC", Some("P-256")) => Key::public(&Public::P256(point(&bytes("x")?, &bytes("y")?, 32)?), algorithm)?,
        ("EC", Some("P-384")) => Key::public(&Public::P384(point(&bytes("x")?, &bytes("y")?, 48)?), algorithm)?,
        ("OKP", Some("Ed25519")) => Key::public(&Public::Ed25519(bytes("x")?), algorithm)?,
        (kind, curve) => {
            let curve = curve.map(|curve| format!(" on `{}`", curve.escape_debug())).unwrap_or_default();
            return Err(format!("is of the kind `{}`{curve}, which is not known here", kind.escape_debug()));
        }
    };
    key.id = text("kid")?.map(Into::into);
    Ok(Some(key))
}

fn point(x: &[u8], y: &[u8], length: usize) -> Result<Vec<u8>, String> {
    if x.len() != length || y.len() != length {
        return Err(format!("has coordinates of {} and {} bytes instead of {length}", x.len(), y.len()));
    }
    Ok([&[4], x, y].concat())
}
