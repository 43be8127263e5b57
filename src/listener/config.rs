//! What the document says of a listener.

use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::units::{Address, ByteRate, Duration, Name, Network, Size};

/// Where requests come in, under which protocols and limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen: an address or a list of them; a bare port means all addresses, `unix:/path` a socket file.
    pub bind: Binds,
    /// What is left out here is taken from this listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub like: Option<Name>,
    /// Which HTTP versions are spoken: by ALPN under TLS, by prior knowledge without it.
    #[serde(default = "both")]
    pub protocols: Vec<Protocol>,
    /// Answer every request with a redirect to the same place under this scheme.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
    /// Networks whose connections start with a PROXY protocol header (version 1 or 2); nobody else's is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Certificates and what is asked of clients; plain text when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// How long a client may take.
    #[serde(default)]
    pub timeout: Timeout,
    /// How much a client may take.
    #[serde(default)]
    pub limits: Limits,
}

impl Config {
    /// A plain listener with everything else as it is built in.
    pub fn plain(bind: Address) -> Self {
        Self {
            bind: Binds(vec![bind]),
            like: None,
            protocols: both(),
            redirect: None,
            proxy_protocol: None,
            tls: None,
            timeout: Timeout::default(),
            limits: Limits::default(),
        }
    }
}

/// A version of HTTP that a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1 and HTTP/1.0.
    H1,
    /// HTTP/2.
    H2,
}

fn both() -> Vec<Protocol> {
    vec![Protocol::H1, Protocol::H2]
}

/// Where a listener sends all of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Redirect {
    /// To `https://`, same host and path.
    Https,
}

/// The addresses of one listener: one, or a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Binds(pub Vec<Address>);

/// Who speaks the PROXY protocol to us; a bare list of networks is short for `{ trust: [...] }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProxyProtocol {
    /// Networks of the load balancers in front.
    pub trust: Vec<Network>,
}

/// Certificates of a listener and what it asks of clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The oldest version of TLS that is spoken: "1.2" or "1.3".
    #[serde(default)]
    pub min: TlsVersion,
    /// Certificates, chosen by the name that the client asks for; the first one where none fits.
    pub certs: Vec<Cert>,
    /// Ask clients for a certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<ClientCa>,
    /// Let clients resume their sessions with tickets.
    #[serde(default = "yes")]
    pub tickets: bool,
}

const fn yes() -> bool {
    true
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub enum TlsVersion {
    /// TLS 1.2, with forward secrecy and authenticated encryption only.
    #[default]
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V13,
}

/// A certificate chain and its key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cert {
    /// PEM file with the certificate and the ones between it and the root, in this order.
    pub cert: PathBuf,
    /// PEM file with the private key (PKCS#8, SEC1 or PKCS#1).
    pub key: PathBuf,
}

/// Which client certificates are accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientCa {
    /// PEM file with the roots that sign client certificates.
    pub file: PathBuf,
    /// Whether clients without a certificate are served.
    #[serde(default)]
    pub mode: ClientCaMode,
}

/// Whether clients without a certificate are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientCaMode {
    /// No certificate, no handshake.
    #[default]
    Required,
    /// Served; a certificate that is shown must still be good.
    Optional,
}

/// How long a client may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Timeout {
    /// From the accepted connection to the end of its PROXY header, TLS handshake and HTTP/2 preface.
    pub handshake: Duration,
    /// From the first byte of a request head to its last; single bytes do not extend it.
    pub head: Duration,
    /// How long a connection may rest between requests.
    pub idle: Duration,
    /// How long a client may take nothing of an answer that is being sent.
    pub write: Duration,
}

impl Default for Timeout {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            write: Duration::from_secs(60),
        }
    }
}

/// How much a client may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections of this listener at once; further ones are closed as they come.
    #[schemars(range(min = 1))]
    pub connections: usize,
    /// Connections of one client address at once; a /64 counts as one address.
    #[schemars(range(min = 1))]
    pub per_address: usize,
    /// Requests of one connection; the last answer closes it.
    #[schemars(range(min = 1))]
    pub requests: u32,
    /// HTTP/2 streams of one connection at once.
    #[schemars(range(min = 1))]
    pub streams: u32,
    /// Header fields of one request.
    #[schemars(range(min = 1, max = 250))]
    pub fields: usize,
    /// Bytes of one request head.
    pub head: Size,
    /// Bytes of one request target (path and query).
    pub uri: Size,
    /// The slowest average at which a request body may arrive, after ten seconds.
    pub body_rate: ByteRate,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 100_000,
            per_address: 16_384,
            requests: 10_000,
            streams: 100,
            fields: 100,
            head: Size::from_bytes(32 << 10),
            uri: Size::from_bytes(8 << 10),
            body_rate: ByteRate::per_second(1024),
        }
    }
}

impl<'de> Deserialize<'de> for Binds {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Short;
        impl<'de> Visitor<'de> for Short {
            type Value = Binds;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address or a list of addresses, e.g. 0.0.0.0:443")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Binds, E> {
                text.parse().map(|one| Binds(vec![one])).map_err(E::custom)
            }
            fn visit_u64<E: Error>(self, port: u64) -> Result<Binds, E> {
                Address::deserialize(serde::de::value::U64Deserializer::new(port)).map(|one| Binds(vec![one]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Binds, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Binds)
            }
        }
        from.deserialize_any(Short)
    }
}

impl JsonSchema for Binds {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Binds".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<Address>();
        json_schema!({ "description": "Where to listen: an address or a list of them.",
            "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
    }
}

/// The long form of [`ProxyProtocol`].
#[derive(Deserialize, JsonSchema)]
#[serde(rename = "ProxyProtocol", deny_unknown_fields)]
struct LongProxyProtocol {
    /// Networks of the load balancers in front.
    trust: Vec<Network>,
}

impl<'de> Deserialize<'de> for ProxyProtocol {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Short;
        impl<'de> Visitor<'de> for Short {
            type Value = ProxyProtocol;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of networks, e.g. [10.0.0.0/8]")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<ProxyProtocol, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(|trust| ProxyProtocol { trust })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ProxyProtocol, A::Error> {
                let LongProxyProtocol { trust } = Deserialize::deserialize(MapAccessDeserializer::new(map))?;
                Ok(ProxyProtocol { trust })
            }
        }
        from.deserialize_any(Short)
    }
}

impl JsonSchema for ProxyProtocol {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ProxyProtocolForms".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (short, long) = (generator.subschema_for::<Vec<Network>>(), generator.subschema_for::<LongProxyProtocol>());
        json_schema!({ "description": "Networks that speak the PROXY protocol to us.", "anyOf": [short, long] })
    }
}

impl<'de> Deserialize<'de> for TlsVersion {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Word;
        impl Visitor<'_> for Word {
            type Value = TlsVersion;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a version of TLS in quotes, \"1.2\" or \"1.3\"")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<TlsVersion, E> {
                match text {
                    "1.2" => Ok(TlsVersion::V12),
                    "1.3" => Ok(TlsVersion::V13),
                    other => Err(E::unknown_variant(other, &["1.2", "1.3"])),
                }
            }
            fn visit_f64<E: Error>(self, number: f64) -> Result<TlsVersion, E> {
                Err(E::custom(format!("`{number}` is a number; write the version in quotes, \"1.2\" or \"1.3\"")))
            }
        }
        from.deserialize_any(Word)
    }
}

impl JsonSchema for TlsVersion {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TlsVersion".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "A version of TLS.", "type": "string", "enum": ["1.2", "1.3"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: serde_json::Value) -> Result<Config, String> {
        serde_json::from_value(json).map_err(|why| why.to_string())
    }

    #[test]
    fn short_forms_are_the_long_ones() {
        let short = read(serde_json::json!({ "bind": 443, "proxy_protocol": ["10.0.0.0/8"] })).unwrap();
        let long = read(serde_json::json!({ "bind": ["[::]:443"], "proxy_protocol": { "trust": ["10.0.0.0/8"] } }));
        assert_eq!(short, long.unwrap());
        assert_eq!(short.protocols, both());
        assert_eq!(short.limits, Limits::default());
        let again = read(serde_json::to_value(&short).unwrap()).unwrap();
        assert_eq!(again, short);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for (wrong, word) in [
            (serde_json::json!({}), "bind"),
            (serde_json::json!({ "bind": 80, "colour": 1 }), "colour"),
            (serde_json::json!({ "bind": 80, "limits": { "heads": 1 } }), "heads"),
            (serde_json::json!({ "bind": 80, "protocols": ["h3"] }), "h3"),
            (serde_json::json!({ "bind": 80, "tls": { "certs": [], "min": 1.2 } }), "in quotes"),
            (serde_json::json!({ "bind": "nowhere" }), "needs a port"),
        ] {
            let why = read(wrong).unwrap_err();
            assert!(why.contains(word), "{why}");
        }
    }
}
