//! Publishes the body of a request as a message of MQTT, and answers once the broker has it.
//!
//! ```yaml
//! match: POST /devices/:id/commands
//! publish: { store: plant, topic: devices/:id/commands, qos: 1, retain: false, max: 256KiB }
//! ```

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::guard::Tools;
use super::template::Offer;
use super::topic::{self, For, Made};
use crate::client::mqtt::{Broker, Topic};
use crate::problem::{Path, Problems};
use crate::units::{Name, Size};

/// What is published where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RoutePublish")]
pub struct Config {
    /// The broker: a name of the section `stores`.
    pub store: Name,
    /// The topic, e.g. `devices/:id/commands` with `:id` of the match, or `users/$jwt.sub/inbox`.
    pub topic: Topic,
    /// 0: sent; 1: the broker has it at least once; 2: exactly once.
    #[serde(default = "at_least_once")]
    pub qos: u8,
    /// Whether the broker keeps the message for those who subscribe later.
    #[serde(default)]
    pub retain: bool,
    /// The longest body.
    #[serde(default = "usual")]
    pub max: Size,
}

fn at_least_once() -> u8 {
    1
}

fn usual() -> Size {
    Size::from_bytes(256 << 10)
}

/// Brokers take no more: a message has a length of four bytes of seven bits.
const MOST: u64 = 64 << 20;

/// The same, decided once.
#[derive(Debug, Clone)]
pub struct Publish {
    pub broker: Arc<Broker>,
    pub topic: Made,
    pub qos: u8,
    pub retain: bool,
    pub max: usize,
    /// As the document says it, for people.
    pub said: Box<str>,
}

impl Publish {
    /// `at` is `routes.NAME.publish`.
    pub fn compile(
        config: &Config,
        offers: &[Offer],
        at: &Path,
        tools: &Tools<'_>,
        problems: &mut Problems,
    ) -> Option<Self> {
        let before = problems.errors();
        topic::complain_of_service(config.qos, at, problems);
        let made = Made::compile(&config.topic, For::Publishing, offers);
        let made = made.map_err(|why| problems.error(at.key("topic"), why)).ok();
        if !(1..=MOST).contains(&config.max.bytes()) {
            problems.error(at.key("max"), "is from 1B to 64MiB");
        }
        let broker = topic::broker(&config.store, tools);
        let said = format!("{} of {}", config.topic, config.store).into();
        let made =
            Self { broker: broker?, topic: made?, qos: config.qos, retain: config.retain, max: config.max.len(), said };
        (problems.errors() == before).then_some(made)
    }
}
