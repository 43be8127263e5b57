//! Streams the messages of a topic of MQTT to the client, as events that browsers understand.
//!
//! ```yaml
//! match: GET /devices/:id/events
//! subscribe: { store: plant, topic: devices/:id/events, qos: 1, heartbeat: 15s }
//! ```

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::guard::Tools;
use super::template::Offer;
use super::topic::{self, For, Made};
use crate::client::mqtt::{Broker, Topic};
use crate::problem::{Path, Problems};
use crate::telemetry::metrics::StreamMetrics;
use crate::units::{Duration, Name};

/// What is streamed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RouteSubscribe")]
pub struct Config {
    /// The broker: a name of the section `stores`.
    pub store: Name,
    /// The topic, e.g. `devices/:id/events` with `:id` of the match; `+` and `#` as in MQTT.
    pub topic: Topic,
    /// How sure messages have to come from the broker: 0, 1 or 2.
    #[serde(default)]
    pub qos: u8,
    /// How long a stream is silent at most: a comment shows then that it lives.
    #[serde(default = "usual")]
    pub heartbeat: Duration,
}

fn usual() -> Duration {
    Duration::from_secs(15)
}

/// The same, decided once.
#[derive(Clone)]
pub struct Subscribe {
    pub broker: Arc<Broker>,
    pub topic: Made,
    pub qos: u8,
    pub heartbeat: std::time::Duration,
    pub counted: Option<Arc<StreamMetrics>>,
    /// As the document says it, for people.
    pub said: Box<str>,
}

impl Subscribe {
    /// `at` is `routes.NAME.subscribe`.
    pub fn compile(
        config: &Config,
        offers: &[Offer],
        at: &Path,
        route: &Name,
        tools: &Tools<'_>,
        problems: &mut Problems,
    ) -> Option<Self> {
        let before = problems.errors();
        topic::complain_of_service(config.qos, at, problems);
        let made = Made::compile(&config.topic, For::Listening, offers);
        let made = made.map_err(|why| problems.error(at.key("topic"), why)).ok();
        if config.heartbeat.get() < std::time::Duration::from_millis(100) {
            problems.error(at.key("heartbeat"), "is at least 100ms, e.g. 15s");
        }
        let broker = topic::broker(&config.store, tools);
        let made = Self {
            broker: broker?,
            topic: made?,
            qos: config.qos,
            heartbeat: config.heartbeat.get(),
            counted: tools.metrics.map(|metrics| metrics.streams(route.as_str())),
            said: format!("{} of {}", config.topic, config.store).into(),
        };
        (problems.errors() == before).then_some(made)
    }
}

impl std::fmt::Debug for Subscribe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscribe").field("said", &self.said).finish_non_exhaustive()
    }
}
