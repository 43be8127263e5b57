//! Where targets come from when the document does not name their addresses, and which of them are believed.
//!
//! ```yaml
//! pools:
//!   app: { targets: [app.internal:8080], discover: { dns: [10.0.0.53] } }
//!   billing: { discover: { srv: _http._tcp.billing.internal } }
//!   events: { discover: { consul: events, tag: prod, at: http://127.0.0.1:8500 } }
//!   sidecar: { targets: [sidecar.internal:9000], discover: { allow: [loopback] } }
//! ```
//!
//! What was found is asked for again as its source tells: by the time to live of DNS, at each change in Consul. While a
//! source says nothing, or names nobody, the last known targets are used, for `keep_if_down`.

pub mod allow;
mod complain;
mod consul;
mod dns;
pub mod file;
mod lookup;
mod srv;
mod status;
mod terms;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration as Time;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) use complain::complain;
pub(super) use dns::Resolver;
pub use dns::Server;
pub use lookup::Refused;
pub(super) use lookup::{Change, Lookup};
pub use status::SourceStatus;
pub(super) use terms::Terms;

use crate::client::url::Url;
use crate::units::{Duration, Text};

/// Where targets come from, and which of them are believed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "PoolDiscover")]
pub struct Config {
    /// A name whose SRV records name the targets, e.g. `_http._tcp.app.internal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub srv: Option<String>,
    /// A service in Consul; its instances that pass their checks are the targets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consul: Option<String>,
    /// Only instances that Consul knows under this tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Where Consul answers; `http://127.0.0.1:8500` when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Url>,
    /// The token that Consul's access lists ask for, as `file:/path` or `env:NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Text>,
    /// The datacenter of Consul that is asked; that of the agent when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datacenter: Option<String>,
    /// A PEM file of the authorities to believe instead of the system's, where Consul answers by `https:`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Name servers to ask instead of those of `/etc/resolv.conf`, each with its port unless that is 53.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<Server>,
    /// Which addresses that lead back to this machine may be found; none, when left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<allow::Allow>,
    /// How long the last known targets are used while their source does not answer, or names nobody.
    pub keep_if_down: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            srv: None,
            consul: None,
            tag: None,
            at: None,
            token: None,
            datacenter: None,
            ca: None,
            dns: Vec::new(),
            allow: Vec::new(),
            keep_if_down: Duration::from_secs(24 * 60 * 60),
        }
    }
}

impl Config {
    /// Whether it names targets.
    pub fn is_source(&self) -> bool {
        self.srv.is_some() || self.consul.is_some()
    }

    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The files that it names.
    pub(super) fn files(&self) -> impl Iterator<Item = PathBuf> {
        let token = self.token.as_ref().and_then(|token| match token {
            Text::File(path) => Some(PathBuf::from(&**path)),
            _ => None,
        });
        self.ca.iter().cloned().chain(token)
    }
}

/// One instance that a source names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Instance {
    /// Its group: those with the lowest number are used first.
    pub(super) priority: u16,
    /// What it is asked for.
    pub(super) host: Box<str>,
    pub(super) address: SocketAddr,
    pub(super) weight: u16,
}

/// What a source has said, and how long that holds.
#[derive(Debug)]
struct Fresh {
    instances: Vec<Instance>,
    holds: Time,
    /// Where the next question goes on, for sources that tell of changes.
    index: u64,
}

type Answer = Result<Fresh, String>;

/// Whom to ask for targets.
pub(super) enum Source {
    /// `written` in the document, or found in a file.
    Host {
        name: Box<str>,
        port: u16,
        written: bool,
    },
    Srv {
        name: Box<str>,
    },
    Consul(Box<consul::Service>),
}

impl Source {
    /// What the settings name, beside host names among the targets; the complaints are made already.
    pub(super) fn of(config: &Config) -> Option<Self> {
        match (&config.srv, &config.consul) {
            (Some(name), _) => Some(Self::Srv { name: name.to_ascii_lowercase().into() }),
            (None, Some(name)) => Some(Self::Consul(Box::new(consul::Service::new(name, config)))),
            (None, None) => None,
        }
    }

    /// As logs, metrics and `/pools` call it.
    pub(super) fn label(&self) -> String {
        match self {
            Self::Host { name, port, .. } => format!("{name}:{port}"),
            Self::Srv { name } => format!("srv:{name}"),
            Self::Consul(service) => format!("consul:{}", service.name),
        }
    }

    /// The host name that the document itself says.
    pub(super) fn written(&self) -> &str {
        match self {
            Self::Host { name, written: true, .. } => name,
            _ => "",
        }
    }

    /// What its instances are called in front of their addresses, where that is not what they are asked for.
    pub(super) fn family(&self) -> Option<&str> {
        if let Self::Consul(service) = self { Some(&service.name) } else { None }
    }

    /// When a question is given up; `asked` is what the answer before has said.
    fn patience(&self, asked: &lookup::Asked) -> Time {
        match self {
            Self::Host { .. } | Self::Srv { .. } => dns::PATIENCE,
            Self::Consul(_) => consul::patience(asked),
        }
    }

    async fn ask(self: Arc<Self>, resolver: Arc<Resolver>, asked: lookup::Asked) -> Answer {
        match &*self {
            Self::Host { name, port, .. } => {
                let (addresses, holds) = resolver.lookup(name).await?;
                let one =
                    |ip| Instance { priority: 0, host: name.clone(), address: SocketAddr::new(ip, *port), weight: 1 };
                Ok(Fresh { instances: addresses.into_iter().map(one).collect(), holds, index: 0 })
            }
            Self::Srv { name } => srv::ask(name, &resolver).await,
            Self::Consul(service) => service.ask(&resolver, &asked).await,
        }
    }
}
