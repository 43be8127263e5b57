//! Active health: each target is asked at intervals whether it can serve.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use pingora::connectors::http::Connector;
use pingora::connectors::{ConnectorOptions, TransportConnector};
use pingora::upstreams::peer::HttpPeer;
use pingora_error::ErrorType;
use pingora_load_balancing::health_check::TcpHealthCheck;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Protocol, chance};
use crate::problem::{Path, Problems};
use crate::units::{self, Duration};

mod grpc;
mod http;
mod record;
mod tcp;

pub(super) use record::{Record, State, Verdict};

/// How targets are asked whether they can serve: by HTTP, by gRPC or by opening a connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "PoolHealth")]
pub struct Config {
    /// Ask by `GET` of this path, over the pool's own protocol and TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// Ask for this service by `grpc.health.v1`, over the pool's own HTTP/2; an empty name asks for the server as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<String>,
    /// Ask by opening a connection (with TLS if the pool has it).
    pub tcp: bool,
    /// How often each target is asked; 10% earlier or later by chance.
    pub every: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// After so many bad answers in a row a target is down.
    #[schemars(range(min = 1))]
    pub down_after: u32,
    /// After so many good answers in a row a target is up again.
    #[schemars(range(min = 1))]
    pub up_after: u32,
    /// Statuses that count as good: numbers or ranges, e.g. `[200, 204, "300..399"]`.
    pub status: Vec<Status>,
    /// Text that the body must contain within its first 64 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The host that is asked for; the target's own when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            http: None,
            grpc: None,
            tcp: false,
            every: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            down_after: 3,
            up_after: 2,
            status: vec![Status { first: 200, last: 399 }],
            body: None,
            host: None,
        }
    }
}

/// One status, or a range of them with both ends: `200..399`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    first: u16,
    last: u16,
}

impl Status {
    pub fn contains(self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }
}

impl FromStr for Status {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once("..").unwrap_or((text, text));
        let status = |text: &str| text.parse().ok().filter(|status| (100..=599).contains(status));
        match (status(first), status(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self { first, last }),
            _ => Err(format!("`{text}` is not a status or a range of them, e.g. 204 or 200..399")),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.first, self.last) {
            (first, last) if first == last => first.fmt(f),
            (first, last) => write!(f, "{first}..{last}"),
        }
    }
}

units::scalar!(Status, "a status or a range of them", example "200..399",
    bare number |n| n.to_string().parse(),
    "An HTTP status, or a range with both ends: `200..399`.");

/// Health as the pool has it: what is asked, how often, and when the answers change something.
pub(super) struct Check {
    kind: Kind,
    every: std::time::Duration,
    timeout: std::time::Duration,
    down_after: u32,
    up_after: u32,
    settings: u64,
}

enum Kind {
    Http(http::Ask),
    Grpc(grpc::Ask),
    Tcp,
}

impl Check {
    /// `group` tells connections of these settings from others.
    pub(super) fn compile(config: &Config, group: u64, at: &Path, problems: &mut Problems) -> Self {
        complain(config, at, problems);
        let kind = match (&config.http, &config.grpc) {
            (Some(path), _) => Kind::Http(http::Ask {
                path: path.clone(),
                status: config.status.clone(),
                body: config.body.clone(),
                host: config.host.clone(),
            }),
            (None, Some(service)) => Kind::Grpc(grpc::Ask { service: service.clone(), host: config.host.clone() }),
            (None, None) => Kind::Tcp,
        };
        let mut settings = DefaultHasher::new();
        (format!("{config:?}"), group).hash(&mut settings);
        Self {
            kind,
            every: config.every.get(),
            timeout: config.timeout.get(),
            down_after: config.down_after,
            up_after: config.up_after,
            settings: settings.finish(),
        }
    }

    /// How long until a target that was asked at `asked` is asked again; `share` is chance.
    pub(super) fn wait(&self, asked: Option<Instant>, now: Instant, share: f64) -> std::time::Duration {
        asked.map_or(std::time::Duration::ZERO, |asked| {
            chance::about(self.every, share).saturating_sub(now.saturating_duration_since(asked))
        })
    }

    /// Asks once.
    pub(super) async fn ask(self: Arc<Self>, prober: Arc<Prober>, mut peer: HttpPeer, authority: String) -> Verdict {
        peer.options.connection_timeout = Some(self.timeout);
        peer.options.total_connection_timeout = Some(self.timeout);
        peer.options.custom_l4 = None;
        // With one stream only, Pingora does not keep the connection for others.
        peer.options.max_h2_streams = 1;
        let answer = async {
            match &self.kind {
                Kind::Http(ask) => ask.ask(prober.http(), &peer, &authority).await,
                Kind::Grpc(ask) => ask.ask(prober.http(), &peer, &authority).await,
                Kind::Tcp => tcp::ask(prober.plain(), prober.tcp(), &peer).await,
            }
        };
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {:?}", self.timeout)),
        }
    }

    pub(super) fn timeout(&self) -> std::time::Duration {
        self.timeout
    }
    pub(super) fn settings(&self) -> u64 {
        self.settings
    }
}

fn complain(config: &Config, at: &Path, problems: &mut Problems) {
    let ways = [("http", config.http.is_some()), ("grpc", config.grpc.is_some()), ("tcp", config.tcp)];
    let mut said = ways.into_iter().filter(|(_, said)| *said).map(|(way, _)| way);
    match (said.next(), said.next()) {
        (None, _) => problems.error(at.clone(), "needs `http: /path`, `grpc: service` or `tcp: true`"),
        (Some(first), Some(second)) => {
            let sentence = format!("stands beside `{first}`; a target is asked in one way only");
            problems.error(at.key(second), sentence);
        }
        (Some(_), None) => {}
    }
    if let Some(path) = &config.http
        && (!path.starts_with('/') || path.parse::<::http::uri::PathAndQuery>().is_err())
    {
        problems.error(at.key("http"), format!("`{path}` is not a path, e.g. /healthz"));
    }
    if config.body.is_some() && config.http.is_none() {
        problems.error(at.key("body"), "is only asked for with `http: /path`");
    }
    if config.host.is_some() && config.http.is_none() && config.grpc.is_none() {
        problems.error(at.key("host"), "is only asked for with `http: /path` or `grpc: service`");
    }
    if config.status.is_empty() {
        problems.error(at.key("status"), "needs at least one status, e.g. [200]");
    }
    if config.body.as_ref().is_some_and(String::is_empty) {
        problems.error(at.key("body"), "is empty, and every body contains that");
    }
    if config.host.as_ref().is_some_and(|host| host.parse::<::http::uri::Authority>().is_err()) {
        problems.error(at.key("host"), "is not a host name, e.g. app.internal or app.internal:8080");
    }
    if config.every < Duration::from_millis(100) {
        problems.error(at.key("every"), format!("`{}` is too often; at least 100ms", config.every));
    }
    for (key, zero) in [("timeout", config.timeout.get().is_zero()), ("down_after", config.down_after == 0)] {
        if zero {
            problems.error(at.key(key), "must be more than zero");
        }
    }
    if config.up_after == 0 {
        problems.error(at.key("up_after"), "must be more than zero");
    }
}

/// What is wrong with the way in which targets are asked, by the protocol that the pool speaks.
pub(super) fn complain_of_protocol(config: &super::Config, at: &Path, problems: &mut Problems) {
    let speaks = match config.protocol {
        Protocol::H2 | Protocol::H2c => true,
        Protocol::Auto => config.tls.is_some(),
        Protocol::H1 => false,
    };
    if config.health.as_ref().is_some_and(|health| health.grpc.is_some()) && !speaks {
        let sentence = "is asked over HTTP/2; say `protocol: h2c`, or `h2` with `tls`";
        problems.error(at.key("health").key("grpc"), sentence);
    }
}

/// What opens the connections of probes, made when the first one is needed; none is used twice, because a new
/// connection is part of the question.
#[derive(Default)]
pub(super) struct Prober {
    http: OnceLock<Connector>,
    tcp: OnceLock<TransportConnector>,
    plain: OnceLock<TcpHealthCheck>,
}

impl Prober {
    fn http(&self) -> &Connector {
        self.http.get_or_init(|| Connector::new(Some(ConnectorOptions::new(1))))
    }
    fn plain(&self) -> &TcpHealthCheck {
        self.plain.get_or_init(|| {
            let mut check = TcpHealthCheck::default();
            check.peer_template.options.connection_timeout = None;
            check
        })
    }

    fn tcp(&self) -> &TransportConnector {
        self.tcp.get_or_init(|| TransportConnector::new(Some(ConnectorOptions::new(1))))
    }
}

/// A connection's error in a few words.
fn why(error: &pingora_error::Error) -> String {
    match error.etype() {
        ErrorType::ConnectRefused => "connection refused".into(),
        ErrorType::ConnectTimedout => "no connection in time".into(),
        ErrorType::ConnectNoRoute => "no route".into(),
        ErrorType::ConnectionClosed => "closed without an answer".into(),
        _ => {
            // Pingora puts its own words around the cause.
            let all = error.to_string();
            let cause = all.split("cause: ").nth(1).unwrap_or(&all);
            cause.trim().chars().take(200).collect()
        }
    }
}
