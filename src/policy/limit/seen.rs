//! What an operator is told of limits: their numbers, how many keys they know, and who has used how much.
//!
//! Keys are known by a hash alone, so nobody can list them. What an operator writes is hashed like the key of a request,
//! and so finds its count.

use std::hash::Hasher;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde::Serialize;

use super::calendar;
use super::config::Algorithm;
use super::gauge::Gauge;
use super::shared::Names;
use super::store::number;
use super::wide::Wide;
use super::{Limit, Mode};
use crate::policy::key::Key;
use crate::telemetry::clock::Moment;

/// Keys of a quota that are told unasked: those that have used most.
const TOP: usize = 10;

/// A limit as it is now.
#[derive(Debug, Serialize)]
pub struct Seen {
    /// What the document calls it, with its place.
    pub rule: Arc<str>,
    /// The algorithm of a rate, `quota` or `in_flight`.
    pub kind: &'static str,
    /// As it stands in the document, e.g. `100/min`.
    pub number: String,
    pub key: Key,
    #[serde(rename = "else", skip_serializing_if = "Option::is_none")]
    pub otherwise: Option<Key>,
    /// How many keys this host knows, and how many it may.
    pub keys: usize,
    pub most_keys: u32,
    /// The store in which hosts count together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<String>,
    pub mode: Mode,
    /// When the period of a quota ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends: Option<String>,
    /// The keys that have used most of a quota, as far as this host knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top: Option<Vec<Use>>,
    /// The key that was asked for, as the limit would count it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<Vec<Use>>,
}

/// How much one key has used.
#[derive(Debug, Serialize)]
pub struct Use {
    /// By what it is counted; told only of a key that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Key>,
    /// Its number on this host.
    pub number: String,
    /// Nothing where the store does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
    pub of: u64,
}

impl Limit {
    /// What clients and metrics know it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As it is now; `asked` are the parts of one key, or none.
    pub async fn seen(&self, asked: &[String]) -> Seen {
        let config = &self.config;
        let ends = match &self.gauge {
            Gauge::Quota(quota) => {
                let moment = Moment::of(UNIX_EPOCH + quota.ends(calendar::now()));
                Some(String::from_utf8_lossy(&moment.rfc3339()).into_owned())
            }
            _ => None,
        };
        Seen {
            rule: Arc::clone(&self.rule.name),
            kind: self.kind(),
            number: self.said(),
            key: config.key.clone(),
            otherwise: config.otherwise.clone(),
            keys: self.gauge.len(),
            most_keys: config.keys.get(),
            share: config.share.as_ref().map(|share| share.store.to_string()),
            mode: self.rule.mode,
            ends,
            top: self.top(calendar::now()),
            asked: if asked.is_empty() { None } else { Some(self.uses(asked).await) },
        }
    }

    fn kind(&self) -> &'static str {
        match (&self.gauge, self.config.algorithm) {
            (Gauge::Quota(_), _) => "quota",
            (Gauge::InFlight(_), _) => "in_flight",
            (_, Algorithm::TokenBucket) => "token_bucket",
            (_, Algorithm::SlidingWindow) => "sliding_window",
            (_, Algorithm::FixedWindow) => "fixed_window",
            (_, Algorithm::LeakyBucket) => "leaky_bucket",
        }
    }

    fn said(&self) -> String {
        let config = &self.config;
        let rate = config.rate.map(|rate| rate.to_string()).or(config.quota.map(|quota| quota.to_string()));
        rate.unwrap_or_else(|| self.gauge.quota(config).to_string())
    }

    /// How many there are when nobody has come.
    fn most(&self) -> u64 {
        let burst = self.config.burst.map(|burst| u64::from(burst.get()));
        burst.or(self.config.queue.map(|queue| u64::from(queue.get()) + 1)).unwrap_or(self.gauge.quota(&self.config))
    }

    fn top(&self, now: Duration) -> Option<Vec<Use>> {
        let Gauge::Quota(quota) = &self.gauge else { return None };
        let most = self.most();
        // Where hosts share, each keeps its part of what the store has said.
        let part = (most / self.shared.as_ref().map_or(1, |shared| shared.hosts())).max(1);
        let all = |count: u64| u64::try_from(u128::from(count) * u128::from(most) / u128::from(part)).unwrap_or(most);
        let row = |(number, count)| Use { by: None, number: hex(number), used: Some(all(count)), of: most };
        Some(quota.top(TOP, now).into_iter().map(row).collect())
    }

    /// The key of these parts, and the key by which those without it are counted, where they can be it.
    async fn uses(&self, asked: &[String]) -> Vec<Use> {
        let mut found = Vec::new();
        for key in std::iter::once(&self.config.key).chain(&self.config.otherwise) {
            let (mut hasher, mut wide) = (self.gauge.hasher(), Wide::new());
            if key.spell(asked, &mut hasher).and_then(|()| key.spell(asked, &mut wide)).is_none() {
                continue;
            }
            let here = number(&hasher);
            let used = match &self.shared {
                Some(shared) => shared.look(&Names { number: here, key: shared.name(wide) }).await.ok(),
                None => Some(self.gauge.used(here, Instant::now())),
            };
            found.push(Use { by: Some(key.clone()), number: hex(here), used, of: self.most() });
        }
        found
    }
}

impl Key {
    /// Writes what the key is for a request that says this, one text for each of its parts. Nothing where it cannot be.
    fn spell(&self, texts: &[String], to: &mut impl Hasher) -> Option<()> {
        if texts.len() != self.0.len() {
            return None;
        }
        self.0.iter().zip(texts).try_for_each(|(part, text)| part.spell(text, to))
    }
}

fn hex(number: u64) -> String {
    format!("{number:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::asked::Asked;
    use crate::exchange::{Exchange, Found};
    use std::collections::hash_map::DefaultHasher;

    #[test]
    fn what_an_operator_writes_is_the_key_of_the_request_that_says_it() {
        let mut found = Found::default();
        found.identity.consumer = Some("acme".into());
        let request = Asked::from_client("2001:db8::7").with("x-id", "a b");
        for (key, texts) in [
            ("client.ip", vec!["2001:db8::9"]),
            ("consumer", vec!["acme"]),
            ("header.x-id", vec!["a b"]),
            ("route", vec!["orders"]),
            ("[consumer, header.x-id, client.ip]", vec!["acme", "a b", "2001:db8::7"]),
        ] {
            let key: Key = serde_yaml::from_str(key).unwrap();
            let texts: Vec<String> = texts.into_iter().map(str::to_owned).collect();
            let (mut said, mut spelled) = (DefaultHasher::new(), DefaultHasher::new());
            key.write(&Exchange { request: &request, found: &mut found }, "routes.orders", &mut said).unwrap();
            key.spell(&texts, &mut spelled).unwrap();
            assert_eq!(said.finish(), spelled.finish(), "{key:?}");
            assert!(key.spell(&[texts.clone(), texts].concat(), &mut spelled).is_none());
        }
        let address: Key = serde_yaml::from_str("client.ip").unwrap();
        assert!(address.spell(&["acme".to_owned()], &mut DefaultHasher::new()).is_none());
    }
}
