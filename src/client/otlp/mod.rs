//! Sends the spans of requests to a receiver that speaks OTLP: in batches, again where that may help, beside all requests.

mod config;
mod grpc;
mod http;
mod resource;
mod verdict;

use std::path::Path as File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ::http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
use prost::Message;

pub use config::{Config, Follow, Protocol};

use self::verdict::{Again, Refused};
use super::authorities::authorities;
use super::service::Service;
use crate::chore::Chore;
use crate::problem::{Path, Problems};
use crate::telemetry::random;
use crate::telemetry::spans::{Desk, Span, Spans};
use crate::telemetry::trace::{Rate, Trace};

/// Spans that go at once, and how long the first of them waits for others.
const BATCH: usize = 512;
const GATHERED: Duration = Duration::from_secs(1);
/// The first pause after a failure, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a batch is tried: what is older tells nobody of the present.
const TRIED: Duration = Duration::from_mins(1);
const MOST_TIMEOUT: Duration = Duration::from_mins(1);
const MOST_QUEUE: u32 = 1_000_000;

/// A receiver, and which requests it is told of.
pub struct Otlp {
    service: Service,
    protocol: Protocol,
    fields: HeaderMap,
    resource: Resource,
    rate: Rate,
    follow: Follow,
    deadline: Duration,
    most: usize,
    spans: Arc<Spans>,
    /// The receiver took nothing when it was last asked.
    down: AtomicBool,
}

impl Otlp {
    /// Nobody is asked here. `at` is `observe.traces`.
    pub fn compile(config: &Config, at: &Path, spans: &Arc<Spans>, problems: &mut Problems) -> Option<Arc<Self>> {
        let before = problems.errors();
        if config.timeout.get().is_zero() || config.timeout.get() > MOST_TIMEOUT {
            problems.error(at.key("timeout"), "has to lie between 1ms and 1m");
        }
        if config.queue == 0 || config.queue > MOST_QUEUE {
            problems.error(at.key("queue"), format!("has to lie between 1 and {MOST_QUEUE}"));
        }
        let mut url = config.otlp.clone();
        match config.protocol {
            Protocol::Http if &*url.target == "/" => url.target = "/v1/traces".into(),
            Protocol::Grpc if &*url.target != "/" => {
                problems.error(at.key("otlp"), "gRPC has a path of its own: leave this one out");
            }
            _ => {}
        }
        let ca = config.ca.as_deref().and_then(|file: &File| authorities(file, &at.key("ca"), problems));
        if config.ca.is_some() && !url.tls {
            problems.warn(at.key("ca"), "authorities are for https:, and this receiver is reached without TLS");
        }
        let fields = fields(config, at, problems);
        (problems.errors() == before).then(|| {
            Arc::new(Self {
                service: Service::new(url, ca, config.ca.as_deref()),
                protocol: config.protocol,
                fields,
                resource: resource::of(&config.attributes),
                rate: Rate::of(config.sample),
                follow: config.follow,
                deadline: config.timeout.get(),
                most: usize::try_from(config.queue).unwrap_or(usize::MAX),
                spans: Arc::clone(spans),
                down: AtomicBool::new(false),
            })
        })
    }

    /// A request begins: whether its trace is kept. `rate` is that of its route.
    pub fn begin(&self, trace: &mut Trace, rate: Option<Rate>, trusted: bool) {
        let believed = match self.follow {
            Follow::Trusted => trusted,
            Follow::Anyone => true,
            Follow::Nobody => false,
        };
        trace.tell(rate.unwrap_or(self.rate), believed);
    }

    /// Whether so many spans find room; those that do not are counted as dropped, and need not be made.
    pub fn has_room(&self, number: usize) -> bool {
        self.spans.has_room(number, self.most)
    }

    /// A request has ended: leaves its spans.
    pub fn leave(&self, spans: Vec<Span>) {
        self.spans.leave(spans, self.most);
    }

    /// Sends what is left, for as long as these settings hold.
    pub fn chore(self: Arc<Self>) -> Chore {
        Chore::new("traces", async move {
            let mut desk = self.spans.desk().await;
            loop {
                self.spans.gather(&mut desk, BATCH, GATHERED).await;
                if !desk.batch.is_empty() {
                    self.deliver(&mut desk).await;
                }
            }
        })
    }

    /// Sends what waits and leaves: nobody is to be told of anything any more.
    pub fn last_chore(self: Arc<Self>) -> Chore {
        Chore::new("last traces", async move {
            let mut desk = self.spans.desk().await;
            while self.spans.waiting() > 0 {
                self.spans.gather(&mut desk, BATCH, GATHERED).await;
                self.deliver(&mut desk).await;
            }
        })
    }

    /// The batch of the desk, again and again until it is taken, refused, or old.
    async fn deliver(&self, desk: &mut Desk) {
        let (message, number, began) = (self.message(desk), desk.batch.len(), Instant::now());
        let mut pause = FIRST_PAUSE;
        loop {
            let sent = self.send(&message).await;
            self.tell(sent.as_ref().err());
            let again = match sent {
                Ok(taken) => {
                    if taken.rejected > 0 {
                        log::warn!("traces: {} rejected {} spans: {}", self.service.url(), taken.rejected, taken.why);
                    }
                    return self.spans.settle(desk, number.saturating_sub(taken.rejected));
                }
                Err(refused) => refused.again,
            };
            if self.spans.is_hurried() {
                log::warn!("traces: {number} spans are lost: the process ends");
                return self.spans.settle(desk, 0);
            }
            let wait = match again {
                Again::Soon if began.elapsed() < TRIED => jittered(pause),
                Again::In(wait) if began.elapsed() < TRIED => wait.min(TRIED),
                _ => return self.spans.settle(desk, 0),
            };
            self.spans.pause(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Once when the receiver takes nothing, and once when it does again.
    fn tell(&self, refused: Option<&Refused>) {
        if self.down.swap(refused.is_some(), Relaxed) == refused.is_some() {
            return;
        }
        match refused {
            Some(refused) => log::warn!("traces: {}: {}", self.service.url(), refused.why),
            None => log::info!("traces: {} answers again", self.service.url()),
        }
    }

    async fn send(&self, message: &[u8]) -> Result<verdict::Taken, Refused> {
        let asked = async {
            match self.protocol {
                Protocol::Http => http::send(&self.service, &self.fields, message).await,
                Protocol::Grpc => grpc::send(&self.service, &self.fields, message, self.deadline).await,
            }
        };
        let answer = tokio::time::timeout(self.deadline, asked).await;
        answer.unwrap_or_else(|_| Err(Refused::lost(format!("did not answer within {:?}", self.deadline))))
    }

    /// What is sent of a batch, which stays where it is.
    fn message(&self, desk: &mut Desk) -> Vec<u8> {
        let scope = InstrumentationScope {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let spans = std::mem::take(&mut desk.batch);
        let scoped = ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() };
        let mut request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![scoped],
                ..ResourceSpans::default()
            }],
        };
        let message = request.encode_to_vec();
        let all = request.resource_spans.iter_mut().flat_map(|of| of.scope_spans.drain(..));
        desk.batch = all.flat_map(|scope| scope.spans).collect();
        message
    }
}

/// Between half of it and all of it: receivers that come back are not asked by all hosts at once.
fn jittered(pause: Duration) -> Duration {
    let millis = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX).max(2);
    Duration::from_millis(millis / 2 + random::next() % (millis / 2))
}

fn fields(config: &Config, at: &Path, problems: &mut Problems) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(config.headers.len());
    for (name, said) in &config.headers {
        let at = at.key("headers").key(name);
        let Ok(known) = HeaderName::try_from(name.as_str()) else {
            problems.error(at, "is no name of a field");
            continue;
        };
        if !config.otlp.is_safe() && said.file().is_some() {
            problems.warn(at.clone(), "a secret that travels in the clear: the receiver is reached without TLS");
        }
        match said.resolve().map(|value| HeaderValue::try_from(value).map_err(|_| "holds what no field may hold")) {
            Ok(Ok(mut value)) => {
                value.set_sensitive(true);
                fields.insert(known, value);
            }
            Ok(Err(why)) => problems.error(at, why),
            Err(why) => problems.error(at, why),
        }
    }
    fields
}
