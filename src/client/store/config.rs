//! What the document says of a store: where it is, who we are to it, and how long we wait.

use std::path::PathBuf;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tls;
use super::whither::Redis;
use crate::problem::{Path, Problems};
use crate::units::{Duration, Size, Text, or_short, short_form};

/// A store: a Redis that several hosts share, or one that speaks as it does, or a part of this process' memory for the
/// answers of `cache`. A bare address is short for `redis`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
#[schemars(rename = "Store", transform = or_short)]
pub struct Config {
    /// Where it is: an address, a list of which the first that can be written to is used, or sentinels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<Redis>,
    /// So much of the memory of this process, in place of a Redis: for the answers of `cache` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// The name of the user, where it is not the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The password, as `file:/path` or `env:NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Text>,
    /// The number of the database.
    #[serde(default, skip_serializing_if = "is_first")]
    pub database: u16,
    /// How long a request waits for it at most.
    #[serde(default = "usual")]
    pub timeout: Duration,
    /// TLS towards it; plain text when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<tls::Config>,
}

short_form!(Config, "an address, e.g. 10.0.0.5:6379, or { redis: 10.0.0.5:6379, password: file:/path, .. }");

/// Less keeps next to nothing.
const LEAST: u64 = 1 << 20;

fn usual() -> Duration {
    Duration::from_millis(20)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde wants it")]
fn is_first(database: &u16) -> bool {
    *database == 0
}

impl Config {
    /// How many bytes of memory it is, where it is no Redis; says where it is both or neither.
    pub fn in_memory(&self, at: &Path, problems: &mut Problems) -> Option<u64> {
        let Some(memory) = self.memory else {
            if self.redis.is_none() {
                problems.error(at.clone(), "needs `redis` or `memory`");
            }
            return None;
        };
        let others = [
            ("redis", self.redis.is_some()),
            ("user", self.user.is_some()),
            ("password", self.password.is_some()),
            ("database", !is_first(&self.database)),
            ("tls", self.tls.is_some()),
        ];
        for (key, _) in others.into_iter().filter(|(_, said)| *said) {
            problems.error(at.key(key), "is for a Redis, and this store is in memory");
        }
        if memory.bytes() < LEAST {
            problems.error(at.key("memory"), format!("`{memory}` is too little; at least {}", Size::from_bytes(LEAST)));
        }
        Some(memory.bytes())
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
        let redis = Some(Redis::At(vec![text.parse()?]));
        Ok(Self { redis, memory: None, user: None, password: None, database: 0, timeout: usual(), tls: None })
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
        assert_eq!(short.timeout, Duration::from_millis(20));
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
