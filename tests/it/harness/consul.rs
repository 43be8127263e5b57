//! A server that speaks what the documentation of Consul says of `/v1/health/service/NAME`: blocking queries, tags, checks,
//! weights, datacenters, tokens; with an outage whenever a test wants one.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Origin;
use super::origin::Seen;

/// One instance of the service `app`.
#[derive(Clone)]
pub struct Instance {
    pub address: String,
    pub port: u16,
    pub tags: Vec<&'static str>,
    pub weight: u16,
    pub passing: bool,
}

impl Instance {
    pub fn of(origin: &Origin) -> Self {
        let address = origin.address();
        Self { address: address.ip().to_string(), port: address.port(), tags: vec![], weight: 1, passing: true }
    }
}

#[derive(Default)]
struct State {
    index: u64,
    instances: Vec<Instance>,
    /// What is answered instead.
    fails: Option<u16>,
    token: Option<&'static str>,
    /// The token may not read the service.
    hides: bool,
}

pub struct Consul {
    state: Arc<(Mutex<State>, Condvar)>,
    origin: Origin,
}

impl fmt::Display for Consul {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.origin)
    }
}

impl Consul {
    pub fn with(instances: &[Instance]) -> Self {
        let state = Arc::new((Mutex::new(State { index: 10, ..State::default() }), Condvar::new()));
        let mine = state.clone();
        let origin = Origin::new(move |seen, talk| {
            let (status, fields, body) = answered(&mine, seen);
            talk.answer(status, &fields, body);
        });
        let consul = Self { state, origin };
        consul.now(instances);
        consul
    }
    fn change(&self, deed: impl FnOnce(&mut State)) {
        let mut state = self.state.0.lock().unwrap();
        deed(&mut state);
        self.state.1.notify_all();
    }
    /// These are the instances from now on.
    pub fn now(&self, instances: &[Instance]) {
        self.change(|state| (state.index, state.instances) = (state.index + 1, instances.to_vec()));
    }
    /// The same, by a server that has lost its memory.
    pub fn anew(&self, instances: &[Instance]) {
        self.change(|state| (state.index, state.instances) = (1, instances.to_vec()));
    }
    pub fn fails(&self, status: Option<u16>) {
        self.change(|state| state.fails = status);
    }
    /// The rules of the token let it see instances, or do not: Consul then answers as if there were none.
    pub fn hides(&self, hides: bool) {
        self.change(|state| (state.index, state.hides) = (state.index + 1, hides));
    }
    pub fn wants(&self, token: &'static str) {
        self.change(|state| state.token = Some(token));
    }
    /// What it was asked.
    pub fn asked(&self) -> Vec<String> {
        self.origin.seen().into_iter().map(|seen| seen.target).collect()
    }
    pub fn origin(&self) -> &Origin {
        &self.origin
    }
}

fn answered(shared: &(Mutex<State>, Condvar), seen: &Seen) -> (u16, String, String) {
    let (path, query) = seen.target.split_once('?').unwrap_or((&seen.target, ""));
    let query: BTreeMap<_, _> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let mut state = shared.0.lock().unwrap();
    if state.token.is_some_and(|token| seen.field("x-consul-token") != Some(token)) {
        return (403, String::new(), "ACL not found".into());
    }
    if path != "/v1/health/service/app" || query.get("dc").is_some_and(|dc| *dc != "dc1") {
        return (500, String::new(), "No path to datacenter".into());
    }
    let known = query.get("index").and_then(|index| index.parse::<u64>().ok()).unwrap_or(0);
    let wait = query.get("wait").and_then(|wait| wait.strip_suffix("ms")?.parse().ok()).unwrap_or(300_000);
    let deadline = Instant::now() + Duration::from_millis(wait);
    // The real one answers a question from beyond its own index only when its time is over; here it need not be long.
    while known > 0 && state.index == known && state.fails.is_none() && Instant::now() < deadline {
        let left = deadline.saturating_duration_since(Instant::now());
        state = shared.1.wait_timeout(state, left).unwrap().0;
    }
    if let Some(status) = state.fails {
        return (status, String::new(), "No cluster leader".into());
    }
    if state.hides {
        let fields = format!("X-Consul-Index: {}\r\nX-Consul-Results-Filtered-By-ACLs: true\r\n", state.index);
        return (200, fields, "[]".into());
    }
    let passing = query.contains_key("passing");
    let tagged = |one: &&Instance| query.get("tag").is_none_or(|tag| one.tags.contains(tag));
    let list = state.instances.iter().filter(|one| one.passing || !passing).filter(tagged).map(shown);
    (200, format!("X-Consul-Index: {}\r\n", state.index), Value::Array(list.collect()).to_string())
}

fn shown(one: &Instance) -> Value {
    let status = if one.passing { "passing" } else { "critical" };
    json!({
        "Node": { "Node": "n1", "Address": "192.0.2.1", "Datacenter": "dc1" },
        "Service": {
            "ID": "app-1", "Service": "app", "Tags": one.tags, "Address": one.address, "Port": one.port,
            "Weights": { "Passing": one.weight, "Warning": 1 },
        },
        "Checks": [{ "CheckID": "service:app-1", "Status": status }],
    })
}
