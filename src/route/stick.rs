//! `stick`: the same user stays with the same pool of a route.
//!
//! ```yaml
//! pools: { orders: [10.0.0.11:8080], orders-canary: [10.0.0.21:8080] }
//! routes:
//!   orders:
//!     match: /orders/*
//!     to: { orders: 90, orders-canary: 10 }
//!     stick: { key: header.x-user, else: client.ip }
//! ```
//!
//! Rendezvous hashing with weights (Schindelhauer and Schomaker, 2005): each pool draws a number for the key, and the
//! lowest one for its weight wins. A pool whose share grows draws users from the others and gives none away, so that a
//! changed weight moves only those it must. All hosts and all releases draw the same numbers.

use std::fmt;
use std::hash::Hasher;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use crate::exchange::Exchange;
use crate::policy::key::{Key, Part};
use crate::problem::{Path, Problems};
use crate::units::{or_short, short_form};

/// By what a user is known; those without it are spread by weight alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
#[schemars(rename = "RouteStick", transform = or_short)]
pub struct Config {
    /// `client.ip` (IPv6 by /64), `consumer`, `jwt.CLAIM`, `header.NAME`, `cookie.NAME`, `path.NAME`, or a list of them
    /// together.
    pub key: Key,
    /// By what those are known that have no such key.
    #[serde(default, rename = "else", skip_serializing_if = "Option::is_none")]
    pub otherwise: Option<Key>,
}

impl FromStr for Config {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self { key: Key(vec![text.parse()?]), otherwise: None })
    }
}

short_form!(Config, "by what a user is known, e.g. jwt.sub, or { key, else }");

impl Config {
    fn keys(&self) -> impl Iterator<Item = &Key> {
        [Some(&self.key), self.otherwise.as_ref()].into_iter().flatten()
    }

    /// Whether only `auth` can tell it.
    pub fn asks_who(&self) -> bool {
        self.keys().any(Key::asks_who)
    }

    /// The names of its path parameters.
    pub fn params(&self) -> impl Iterator<Item = &str> {
        self.keys().flat_map(Key::params)
    }
}

/// Which pool a key belongs to, decided once for all keys.
pub struct Stick {
    keys: Box<[Key]>,
    sides: Box<[Side]>,
}

/// A pool as keys see it.
struct Side {
    /// Its place among the pools of the route.
    at: usize,
    /// What its numbers are drawn from: its name, so that they stay when others come and go.
    seed: u64,
    weight: f64,
}

impl Stick {
    /// `pools` are names and weights.
    pub fn compile<'a>(
        config: &Config,
        pools: impl Iterator<Item = (&'a str, u32)>,
        at: &Path,
        problems: &mut Problems,
    ) -> Self {
        let side = |(at, (name, weight)): (usize, (&str, u32))| Side {
            at,
            seed: number(name.as_bytes()),
            weight: f64::from(weight),
        };
        let sides: Box<[Side]> = pools.enumerate().filter(|(_, (_, weight))| *weight > 0).map(side).collect();
        if sides.len() < 2 {
            problems.error(at.clone(), "decides between pools, and `to` gives weight to one only");
        }
        if config.keys().all(|key| key.0.iter().all(|part| *part == Part::Route)) {
            problems.error(at.clone(), "tells no users apart: all of them would be with one pool");
        }
        Self { keys: config.keys().cloned().collect(), sides }
    }

    /// The place of the pool; none for who has no key. `route` is the name of the route.
    pub fn side(&self, exchange: &Exchange<'_>, route: &str) -> Option<usize> {
        let key = self.keys.iter().find_map(|key| {
            let mut to = SipHasher13::new();
            key.write(exchange, route, &mut to).map(|()| to.finish())
        })?;
        let nearest = self.sides.iter().min_by(|one, other| one.draw(key).total_cmp(&other.draw(key)));
        nearest.map(|side| side.at)
    }
}

impl fmt::Display for Stick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, key) in self.keys.iter().enumerate() {
            write!(f, "{}{key}", if at > 0 { ", else by " } else { "" })?;
        }
        Ok(())
    }
}

impl Side {
    /// The lower the weight, the higher the numbers; the share of a pool's draws that are the lowest is that of its weight.
    fn draw(&self, key: u64) -> f64 {
        let drawn = number(&(u128::from(self.seed) << 64 | u128::from(key)).to_be_bytes());
        let drawn = u32::try_from(drawn >> 32).unwrap_or_default();
        let between_0_and_1 = (f64::from(drawn) + 0.5) / (f64::from(u32::MAX) + 1.0);
        -between_0_and_1.ln() / self.weight
    }
}

/// The same number for the same bytes on every host and in every release.
fn number(bytes: &[u8]) -> u64 {
    let mut to = SipHasher13::new();
    to.write(bytes);
    to.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::Found;
    use crate::exchange::asked::Asked;
    use proptest::prelude::*;

    fn stick(pools: &[(&str, u32)]) -> Stick {
        let mut problems = Problems::default();
        let config = "header.x-user".parse().unwrap();
        let stick = Stick::compile(&config, pools.iter().copied(), &Path::default(), &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        stick
    }

    fn side(stick: &Stick, user: u32) -> usize {
        let (request, mut found) = (Asked::new().with("x-user", &format!("u{user}")), Found::default());
        stick.side(&Exchange { request: &request, found: &mut found }, "orders").unwrap()
    }

    #[test]
    fn the_sides_are_the_same_in_every_release() {
        let stick = stick(&[("orders", 50), ("orders-canary", 50)]);
        let sides: Vec<usize> = (0..16).map(|user| side(&stick, user)).collect();
        assert_eq!(sides, [0, 1, 0, 0, 1, 1, 1, 0, 0, 1, 0, 1, 1, 0, 1, 0]);
    }

    #[test]
    fn users_are_spread_by_weight() {
        let stick = stick(&[("orders", 90), ("off", 0), ("orders-canary", 10)]);
        let there = (0..10_000).filter(|user| side(&stick, *user) == 2).count();
        assert!((910..1090).contains(&there), "{there} of 10000, a tenth is due");
        assert!((0..10_000).all(|user| side(&stick, user) != 1), "0 means never");
    }

    #[test]
    fn who_has_no_key_has_no_side() {
        let (request, mut found) = (Asked::new(), Found::default());
        let stick = stick(&[("orders", 90), ("orders-canary", 10)]);
        assert_eq!(stick.side(&Exchange { request: &request, found: &mut found }, "orders"), None);
    }

    proptest! {
        #[test]
        fn a_changed_weight_moves_only_those_it_must(before in 1_u32..100, after in 1_u32..100, other in 1_u32..100) {
            let was = stick(&[("a", 100), ("b", before), ("c", other)]);
            let is = stick(&[("a", 100), ("b", after), ("c", other)]);
            for user in 0..300 {
                let (old, new) = (side(&was, user), side(&is, user));
                if old != new {
                    // Who moves goes to the pool that grew, or comes from the one that shrank.
                    prop_assert_eq!(if after > before { new } else { old }, 1);
                }
            }
        }
    }

    #[test]
    fn what_decides_nothing_is_refused() {
        let table = [
            ("header.a", 1, "decides between pools, and `to` gives weight to one only"),
            ("route", 2, "tells no users apart: all of them would be with one pool"),
        ];
        for (key, pools, sentence) in table {
            let mut problems = Problems::default();
            let pools = [("a", 1), ("b", 1)].into_iter().take(pools);
            Stick::compile(&key.parse().unwrap(), pools, &Path::default(), &mut problems);
            let said: Vec<&str> = problems.iter().map(|problem| &*problem.sentence).collect();
            assert_eq!(said, [sentence]);
        }
    }
}
