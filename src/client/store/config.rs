//! What the document says of a store: where it is, who we are to it, and how long we wait.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tls;
use super::whither::Redis;
use crate::client::mqtt::config::Forward;
use crate::problem::{Path, Problems};
use crate::units::{Address, Duration, Name, Size, Text, or_short, short_form};

/// A store: a Redis that several hosts share, or one that speaks as it does; a part of this process' memory for the answers of
/// `cache`; or a broker of MQTT. A bare address is short for `redis`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
#[schemars(rename = "Store", transform = or_short)]
pub struct Config {
    /// Where a Redis is: an address, a list of which the first that can be written to is used, or sentinels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<Redis>,
    /// So much of the memory of this process, in place of a Redis: for the answers of `cache` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// Where a broker of MQTT 3.1.1 is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mqtt: Option<Address>,
    /// The name of the user, where it is not the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The password, as `file:/path` or `env:NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Text>,
    /// The number of the database of a Redis.
    #[serde(default, skip_serializing_if = "is_first")]
    pub database: u16,
    /// The name under which a broker knows this gateway; one of its own is made and kept in `runtime.state` where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<Box<str>>,
    /// How long a broker and we may be silent: 30s where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<Duration>,
    /// How long a request waits for it at most: 20ms for a Redis, 5s for a broker where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// TLS towards it; plain text when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<tls::Config>,
    /// Messages of a broker that go on to pools, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub forward: BTreeMap<Name, Forward>,
}

short_form!(Config, "an address, e.g. 10.0.0.5:6379, or { redis: 10.0.0.5:6379, password: file:/path, .. }");

/// Less keeps next to nothing.
const LEAST: u64 = 1 << 20;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde wants it")]
fn is_first(database: &u16) -> bool {
    *database == 0
}

impl Config {
    /// What kind of store it is has to be said, once, and then only what belongs to that. `at` is `stores.NAME`.
    pub fn complain(&self, at: &Path, problems: &mut Problems) {
        let kinds = [self.redis.is_some(), self.memory.is_some(), self.mqtt.is_some()];
        if kinds.into_iter().filter(|said| *said).count() != 1 {
            problems.error(at.clone(), "is one of `redis`, `memory` and `mqtt`, e.g. { redis: 10.0.0.5:6379 }");
            return;
        }
        if let Some(memory) = self.memory {
            self.is_memory(memory, at, problems);
        }
        if self.mqtt.is_some() {
            return;
        }
        let of_brokers = [
            ("client_id", self.client_id.is_some()),
            ("keep_alive", self.keep_alive.is_some()),
            ("forward", !self.forward.is_empty()),
        ];
        for (key, _) in of_brokers.into_iter().filter(|(_, said)| *said) {
            problems.error(at.key(key), "is of a broker (`mqtt`), and this store is none");
        }
    }

    fn is_memory(&self, memory: Size, at: &Path, problems: &mut Problems) {
        let others = [
            ("user", self.user.is_some()),
            ("password", self.password.is_some()),
            ("database", !is_first(&self.database)),
            ("timeout", self.timeout.is_some()),
            ("tls", self.tls.is_some()),
        ];
        for (key, _) in others.into_iter().filter(|(_, said)| *said) {
            problems.error(at.key(key), "has no meaning for a store in memory");
        }
        if memory.bytes() < LEAST {
            problems.error(at.key("memory"), format!("`{memory}` is too little; at least {}", Size::from_bytes(LEAST)));
        }
    }

    /// How many bytes of memory it is, where it is that.
    pub fn in_memory(&self) -> Option<u64> {
        self.memory.map(Size::bytes)
    }

    /// The password.
    pub fn secret(&self, at: &Path, problems: &mut Problems) -> Option<String> {
        let password = self.password.as_ref()?;
        if password.is_literal() {
            problems.warn(at.key("password"), "stands in the document for all to read; write file:/path or env:NAME");
        }
        Some(password.resolve().map_err(|why| problems.error(at.key("password"), why)).unwrap_or_default())
    }

    /// What is in its files: others under the same names are other settings.
    pub fn contents(&self) -> Vec<Vec<u8>> {
        self.files().iter().map(|file| std::fs::read(file).unwrap_or_default()).collect()
    }

    /// All but what happens to messages, which may change without a new connection for requests.
    #[must_use]
    pub fn access(&self) -> Self {
        Self { forward: BTreeMap::new(), ..self.clone() }
    }

    /// Files whose change is a reason to read the document again.
    pub fn files(&self) -> Vec<PathBuf> {
        let password = self.password.iter().filter_map(|password| match password {
            Text::File(path) => Some(PathBuf::from(&**path)),
            Text::Literal(_) | Text::Env(_) => None,
        });
        password.chain(self.tls.iter().flat_map(tls::Config::files)).collect()
    }
}

impl FromStr for Config {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self { redis: Some(Redis::At(vec![text.parse()?])), ..Self::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_alone_is_the_short_form() {
        let read = |text: &str| serde_yaml::from_str::<Config>(text);
        let short = read("10.0.0.5:6379").unwrap();
        assert_eq!(short, read("{ redis: '10.0.0.5:6379' }").unwrap());
        assert_eq!(short, read("{ redis: ['10.0.0.5:6379'] }").unwrap());
        let printed = serde_yaml::to_string(&short).unwrap();
        assert_eq!(read(&printed).unwrap(), short, "{printed}");
        assert!(read("{ memory: 64MiB }").unwrap().redis.is_none());
        for wrong in
            ["{ redis: [] }", "{ memory: 64 }", "{ redis: x }", "10.0.0.5", "{ redis: '10.0.0.5:6379', pasword: x }"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
