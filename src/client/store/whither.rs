//! Which Redis is the one to use: named by the document, or by sentinels, or one of a cluster for each key.

use std::borrow::Cow;
use std::fmt;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, RedisConnectionInfo};
use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, de};

use super::line::{self, Driver};
use super::tls::Tls;
use crate::units::Address;

/// Where a Redis is: an address, a list of which the first is used that can be written to, or several that know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Redis {
    At(Vec<Address>),
    Sentinels { sentinel: Vec<Address>, master: String },
    Cluster { cluster: Vec<Address> },
}

/// Several that know where a key belongs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RedisBy")]
struct Several {
    /// The addresses of sentinels, which know the master.
    #[serde(default)]
    sentinel: Vec<Address>,
    /// The name of the master among those that the sentinels watch.
    #[serde(default)]
    master: Option<String>,
    /// Addresses of some nodes of a cluster.
    #[serde(default)]
    cluster: Vec<Address>,
}

impl Redis {
    /// The addresses of the document.
    pub fn named(&self) -> &[Address] {
        match self {
            Self::At(list) => list,
            Self::Sentinels { sentinel, .. } => sentinel,
            Self::Cluster { cluster } => cluster,
        }
    }

    pub fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster { .. })
    }
}

/// What a sentinel says is the address of the master.
pub(super) async fn master(sentinel: &Address, name: &str, tls: Option<&Tls>) -> Result<Address, String> {
    let who = RedisConnectionInfo::default().set_skip_set_lib_name();
    let (line, mut driver) = line::open(sentinel, tls, &who).await?;
    let mut command = Cmd::new();
    command.arg("SENTINEL").arg("get-master-addr-by-name").arg(name);
    let answer: Option<(String, u16)> = ask(&line, &mut driver, sentinel, &command).await?;
    let (host, port) = answer.ok_or_else(|| format!("{sentinel} knows no master `{name}`"))?;
    address(&host, port)
}

/// Slots from and to, and the address of their master.
pub(super) type Ranges = Vec<(u16, u16, Address)>;

/// Which node of a cluster has which slots, as one of them says.
pub(super) async fn slots(node: &Address, line: &MultiplexedConnection, driver: &mut Driver) -> Result<Ranges, String> {
    type Node = (String, u16);
    let mut command = Cmd::new();
    command.arg("CLUSTER").arg("SLOTS");
    let rows: Vec<redis::Value> = ask(line, driver, node, &command).await?;
    let mut ranges = Ranges::new();
    for row in rows {
        let wrong = || format!("{node} says of its slots what we do not understand");
        let redis::Value::Array(mut row) = row else { return Err(wrong()) };
        row.truncate(3);
        let mut row = row.into_iter();
        let (Some(from), Some(to), Some(redis::Value::Array(mut master))) = (row.next(), row.next(), row.next()) else {
            return Err(wrong());
        };
        master.truncate(2);
        let range = || -> redis::RedisResult<(u16, u16, Node)> {
            let master = Node::from_redis_value(redis::Value::Array(master))?;
            Ok((u16::from_redis_value(from)?, u16::from_redis_value(to)?, master))
        };
        let (from, to, (host, port)) = range().map_err(|_| wrong())?;
        ranges.push((from, to, address(&host, port)?));
    }
    ranges.sort();
    let whole = ranges.iter().try_fold(0, |next, (from, to, _)| (u32::from(*from) == next).then(|| u32::from(*to) + 1));
    if whole != Some(SLOTS.into()) {
        return Err(format!("{node} knows no node for some slots of its cluster"));
    }
    Ok(ranges)
}

async fn ask<T: FromRedisValue>(
    line: &MultiplexedConnection,
    driver: &mut Driver,
    at: &Address,
    command: &Cmd,
) -> Result<T, String> {
    let mut line = line.clone();
    tokio::select! {
        () = driver => Err(format!("{at} has hung up")),
        answer = command.query_async(&mut line) => answer.map_err(|why| format!("{at}: {why}")),
    }
}

fn address(host: &str, port: u16) -> Result<Address, String> {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }.parse()
}

/// The slots of a cluster.
const SLOTS: u16 = 16_384;

/// The slot of a key: CRC-16 (XMODEM) of it, as the cluster specification has it. Our keys have no braces.
pub(super) fn slot(key: &str) -> u16 {
    let step = |crc: u16, byte: u8| {
        (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 })
    };
    key.bytes().fold(0, step) % SLOTS
}

impl<'de> Deserialize<'de> for Redis {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Redis;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "an address, e.g. 10.0.0.5:6379, a list, { sentinel: [..], master: name } or { cluster: [..] }",
                )
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Redis, E> {
                Ok(Redis::At(vec![text.parse().map_err(E::custom)?]))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<Redis, A::Error> {
                let list = Vec::deserialize(SeqAccessDeserializer::new(list))?;
                if list.is_empty() { Err(de::Error::custom("an empty list is nowhere")) } else { Ok(Redis::At(list)) }
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Redis, A::Error> {
                let Several { sentinel, master, cluster } = Several::deserialize(MapAccessDeserializer::new(map))?;
                match (sentinel.is_empty(), master, cluster.is_empty()) {
                    (false, Some(master), true) => Ok(Redis::Sentinels { sentinel, master }),
                    (true, None, false) => Ok(Redis::Cluster { cluster }),
                    _ => Err(de::Error::custom("takes either `sentinel` and `master`, or `cluster`")),
                }
            }
        }
        from.deserialize_any(Visitor)
    }
}

impl JsonSchema for Redis {
    fn schema_name() -> Cow<'static, str> {
        "Redis".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let (one, several) = (generator.subschema_for::<Address>(), generator.subschema_for::<Several>());
        schemars::json_schema!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }, several] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!([slot("123456789"), slot("foo"), slot("")], [0x31c3, 12_182, 0]);
    }

    #[test]
    fn each_way_is_read_and_printed_back() {
        for text in ["['10.0.0.5:6379', a:1]", "{ sentinel: ['a:1'], master: main }", "{ cluster: ['a:1', 'b:1'] }"] {
            let redis: Redis = serde_yaml::from_str(text).unwrap();
            let printed = serde_yaml::to_string(&redis).unwrap();
            assert_eq!(serde_yaml::from_str::<Redis>(&printed).unwrap(), redis, "{printed}");
        }
        for wrong in ["{ sentinel: ['a:1'] }", "{ master: a }", "{ cluster: [] }", "{ cluster: ['a:1'], master: a }"] {
            assert!(serde_yaml::from_str::<Redis>(wrong).is_err(), "{wrong}");
        }
    }
}
