//! What the document says of messages that go on to a pool.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::topic::Topic;
use crate::units::{Name, Size};

/// Messages of a topic that go on to a pool, each as a request of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "StoreForward")]
pub struct Forward {
    /// Which messages, e.g. `devices/:id/data`; `+` and `#` as in MQTT.
    pub topic: Topic,
    /// How sure they have to come: 0, 1 or 2.
    #[serde(default = "once_or_more")]
    pub qos: u8,
    /// The pool that gets them.
    pub to: Name,
    /// `POST`, `PUT` or `PATCH`.
    #[serde(default)]
    pub method: Method,
    /// The path at the pool, with names of the topic, e.g. `/devices/:id/data`.
    #[serde(default = "root")]
    pub path: Box<str>,
    /// Header fields of the requests; the topic is in `x-mqtt-topic`, the id of the message in `idempotency-key`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<Box<str>, Box<str>>,
    /// How much may wait on disk for the pool; the broker keeps the rest.
    #[serde(default = "much")]
    pub queue: Size,
    /// Requests at the same time; those of one topic follow each other.
    #[serde(default = "some")]
    pub at_once: u16,
}

/// How a message is sent on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    #[default]
    Post,
    Put,
    Patch,
}

fn once_or_more() -> u8 {
    1
}

fn root() -> Box<str> {
    "/".into()
}

fn much() -> Size {
    Size::from_bytes(64 << 20)
}

fn some() -> u16 {
    16
}
