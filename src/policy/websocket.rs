//! How WebSockets of a route are kept: how long they may be silent, how large their messages may be, how many there are.
//!
//! ```yaml
//! websocket: { idle: 5m, ping: 20s, max_message: 64KiB, per_consumer: 10 }
//! ```
//!
//! With this key what both sides send has to be WebSocket, frame by frame (RFC 6455); who breaks it is closed with 1002.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::guard::{Mode, Tools};
use super::key::{Key, Part};
use super::limit::{self, Limit, Limits};
use crate::exchange::{Exchange, Refusal};
use crate::problem::{Path, Problems};
use crate::units::{Duration, Size};

/// How WebSockets are kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Websocket")]
pub struct Config {
    /// The longest silence of both sides, answers to our pings left aside; then both are closed with 1001. `timeout.idle`
    /// when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<Duration>,
    /// The silence of a client after which it is pinged; one that is silent for as long again is gone. None when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ping: Option<Duration>,
    /// The largest message, all its frames together, as it travels: compressed where the two sides have agreed on that. A
    /// larger one closes with 1009. No limit when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_message: Option<Size>,
    /// How many WebSockets a consumer may have open on this route at once; of clients that nobody knows, an address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_consumer: Option<NonZeroU32>,
    /// Whether a WebSocket outlives the token that opened it.
    #[serde(skip_serializing_if = "Recheck::is_default")]
    pub recheck: Recheck,
    /// Whether both sides may agree to compress what they say.
    #[serde(skip_serializing_if = "Compression::is_default")]
    pub compression: Compression,
    /// `shadow` only counts and logs who would be refused by `per_consumer`.
    #[serde(skip_serializing_if = "Mode::is_default")]
    pub mode: Mode,
}

/// Whether a WebSocket outlives the token that opened it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "WebsocketRecheck")]
pub enum Recheck {
    /// It is closed with 1008 when the token expires.
    #[default]
    Expiry,
    /// It stays.
    Off,
}

impl Recheck {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether both sides may agree to compress what they say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "WebsocketCompression")]
pub enum Compression {
    /// What the client offers is passed on.
    #[default]
    Pass,
    /// The target is told of no extension, so that `max_message` bounds what is meant and not what travels.
    Off,
}

impl Compression {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How the WebSockets of one route are kept.
#[derive(Debug)]
pub struct Websocket {
    pub idle: Option<std::time::Duration>,
    pub ping: Option<std::time::Duration>,
    pub max_message: Option<u64>,
    pub recheck: Recheck,
    pub compression: Compression,
    per_consumer: Option<Limits>,
}

impl Websocket {
    /// `at` is `routes.NAME.websocket`.
    pub fn compile(config: &Config, at: &Path, tools: &Tools<'_>, problems: &mut Problems) -> Option<Box<Self>> {
        let before = problems.errors();
        for (key, time) in [("idle", config.idle), ("ping", config.ping)] {
            if time.is_some_and(|time| time.get().is_zero()) {
                problems.error(at.key(key), "must be more than zero");
            }
        }
        if config.max_message.is_some_and(Size::is_empty) {
            problems.error(at.key("max_message"), "nobody could say anything");
        }
        let per_consumer = config.per_consumer.and_then(|most| per_consumer(most, config.mode, at, tools, problems));
        if config.mode == Mode::Shadow && config.per_consumer.is_none() {
            problems.error(at.key("mode"), "is that of `per_consumer`, and there is none");
        }
        (problems.errors() == before).then(|| {
            Box::new(Self {
                idle: config.idle.map(Duration::get),
                ping: config.ping.map(Duration::get),
                max_message: config.max_message.map(Size::bytes),
                recheck: config.recheck,
                compression: config.compression,
                per_consumer,
            })
        })
    }

    /// Counts one more WebSocket of the client, until the request has ended.
    pub fn admit(&self, exchange: &mut Exchange<'_>) -> Result<(), Refusal> {
        match &self.per_consumer {
            Some(limit) => limit.admit(exchange, Instant::now()).map(drop),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Websocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |time: Option<std::time::Duration>| time.map(Duration::from);
        match time(self.idle) {
            Some(idle) => write!(f, "closed after a silence of {idle}")?,
            None => f.write_str("closed after a silence of timeout.idle")?,
        }
        if let Some(ping) = time(self.ping) {
            write!(f, ", clients pinged after {ping}")?;
        }
        if let Some(most) = self.max_message {
            write!(f, ", messages of at most {}", Size::from_bytes(most))?;
        }
        Ok(())
    }
}

fn per_consumer(most: NonZeroU32, mode: Mode, at: &Path, tools: &Tools<'_>, problems: &mut Problems) -> Option<Limits> {
    let at = at.key("per_consumer");
    let config = limit::Config {
        in_flight: Some(most),
        mode,
        otherwise: Some(Key(vec![Part::Client])),
        headers: limit::config::Headers::None,
        ..limit::Config::by(Key(vec![Part::Consumer]))
    };
    let limit = Limit::compile(&at.to_string(), &config, &at, tools.limits?, tools, problems)?;
    Some(Limits::of(Arc::clone(&limit), &at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::auth::Schemes;

    #[test]
    fn what_would_close_everything_is_a_problem() {
        let config: Config = serde_yaml::from_str("{ idle: 0s, ping: 0s, max_message: 0B }").unwrap();
        let (mut problems, at) = (Problems::default(), Path::of(["routes", "live", "websocket"]));
        let place = |_: &Path| String::new();
        let made = Websocket::compile(&config, &at, &Tools::alone(&place, &Schemes::new()), &mut problems);
        assert!(made.is_none());
        let said: Vec<_> = problems.iter().map(|problem| format!("{}: {}", problem.at, problem.sentence)).collect();
        let wanted = [
            "routes.live.websocket.idle: must be more than zero",
            "routes.live.websocket.ping: must be more than zero",
            "routes.live.websocket.max_message: nobody could say anything",
        ];
        assert_eq!(said, wanted);
    }

    #[test]
    fn what_is_the_default_is_not_printed() {
        assert_eq!(serde_yaml::to_string(&Config::default()).unwrap(), "{}\n");
        let off: Config = serde_yaml::from_str("{ recheck: off, compression: off }").unwrap();
        assert_eq!((off.recheck, off.compression), (Recheck::Off, Compression::Off));
    }
}
