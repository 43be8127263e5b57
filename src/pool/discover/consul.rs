//! The instances of a service in Consul that pass their checks, told of at each change by blocking queries.
//!
//! A question carries the index of the last answer and waits until something newer is known, a minute at most. An index
//! that goes back (Consul has lost its memory) begins anew; questions come once a second at most, whatever is answered.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue};
use pingora::protocols::tls::CaType;
use serde_json::Value;

use super::dns::Resolver;
use super::lookup::Asked;
use super::{Answer, Config, Fresh, Instance};
use crate::client::fetch::{self, Terms};
use crate::client::url::Url;
use crate::pool::chance;
use crate::pool::target::MAX_WEIGHT;
use crate::pool::tls;

/// Where an agent answers on its own machine.
const AGENT: &str = "http://127.0.0.1:8500";
/// How long a question waits for something new.
const WAIT: Duration = Duration::from_mins(1);
/// What an answer may take beyond that.
const SLACK: Duration = Duration::from_secs(10);
/// Bytes of an answer, at most.
const CAP: usize = 16 << 20;
const TOKEN: HeaderName = HeaderName::from_static("x-consul-token");
const INDEX: HeaderName = HeaderName::from_static("x-consul-index");
/// Consul answers a token that may not read a service as if there were no instances, and says so in this field.
const FILTERED: HeaderName = HeaderName::from_static("x-consul-results-filtered-by-acls");

/// A service, and how to ask for it.
pub(in crate::pool) struct Service {
    pub(super) name: Box<str>,
    /// The question without its index.
    question: String,
    fields: HeaderMap,
    ca: Option<Arc<CaType>>,
}

/// When a question is given up. Consul itself waits up to a sixteenth longer than it was told.
pub(super) fn patience(asked: &Asked) -> Duration {
    let wait = wait(asked, 1.0);
    wait + wait / 16 + SLACK
}

/// How long a question waits; `share` is chance. Names among the instances are looked up again in their time.
fn wait(asked: &Asked, share: f64) -> Duration {
    if asked.index == 0 {
        return Duration::ZERO;
    }
    let most = if asked.holds.is_zero() { WAIT } else { WAIT.min(asked.holds) };
    chance::about(most, share)
}

/// Where Consul answers.
pub(super) fn at(config: &Config) -> Option<Url> {
    config.at.clone().or_else(|| AGENT.parse().ok())
}

impl Service {
    /// What is wrong with the settings was said before.
    pub(super) fn new(name: &str, config: &Config) -> Self {
        let at = at(config).map(|at| at.as_str().trim_end_matches('/').to_owned()).unwrap_or_default();
        let mut question = format!("{at}/v1/health/service/{}?passing=true", escaped(name));
        for (key, value) in [("tag", &config.tag), ("dc", &config.datacenter)] {
            if let Some(value) = value {
                // Writing to a String cannot fail.
                let _ = write!(question, "&{key}={}", escaped(value));
            }
        }
        let mut fields = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
        let token = config.token.as_ref().and_then(|token| HeaderValue::from_str(&token.resolve().ok()?).ok());
        if let Some(mut token) = token {
            token.set_sensitive(true);
            fields.insert(TOKEN, token);
        }
        Self { name: name.into(), question, fields, ca: config.ca.as_deref().and_then(tls::believed) }
    }

    pub(super) async fn ask(&self, resolver: &Resolver, asked: &Asked) -> Answer {
        let wait = wait(asked, chance::share());
        let question = match asked.index {
            0 => self.question.clone(),
            index => format!("{}&index={index}&wait={}ms", self.question, wait.as_millis().max(1)),
        };
        let terms = Terms { deadline: patience(asked), cap: CAP, ca: self.ca.clone() };
        let url = question.parse::<Url>()?;
        let document = fetch::get_with(&url, &self.fields, &terms).await?;
        let entries = entries(&document.body)?;
        if entries.is_empty() && document.fields.get(FILTERED).is_some_and(|said| said == "true") {
            return Err(format!("there are instances of {} that the token may not see", self.name));
        }
        let (instances, holds) = located(entries, resolver).await?;
        let said = document.fields.get(INDEX).and_then(|index| index.to_str().ok()?.parse().ok());
        Ok(Fresh { instances, holds, index: next(asked.index, said) })
    }
}

/// Where the next question goes on: an index that went back is none.
fn next(before: u64, said: Option<u64>) -> u64 {
    said.filter(|said| *said >= before).unwrap_or(0)
}

/// One instance as Consul has it.
#[derive(Debug, PartialEq)]
struct Entry {
    /// An IP address or a host name.
    host: String,
    port: u16,
    weight: u16,
}

fn entries(body: &[u8]) -> Result<Vec<Entry>, String> {
    let odd = || "the answer is no list of instances".to_owned();
    let all: Value = serde_json::from_slice(body).map_err(|_| odd())?;
    all.as_array().ok_or_else(odd)?.iter().map(|one| entry(one).ok_or_else(odd)).collect()
}

/// A service without an address of its own has that of its node.
fn entry(one: &Value) -> Option<Entry> {
    let text = |at: &str| one.pointer(at).and_then(Value::as_str).filter(|text| !text.is_empty());
    let host = text("/Service/Address").or_else(|| text("/Node/Address"))?.to_owned();
    let port = u16::try_from(one.pointer("/Service/Port")?.as_u64()?).ok()?;
    let weight = one.pointer("/Service/Weights/Passing").and_then(Value::as_u64).unwrap_or(1);
    let weight = u16::try_from(weight).unwrap_or(MAX_WEIGHT).clamp(1, MAX_WEIGHT);
    Some(Entry { host, port, weight })
}

/// The instances with their addresses, and how long the names among them hold; no time where there are none.
async fn located(entries: Vec<Entry>, resolver: &Resolver) -> Result<(Vec<Instance>, Duration), String> {
    let (mut instances, mut named, mut holds, mut failed) = (Vec::new(), Vec::new(), Duration::ZERO, None);
    let one = |ip: IpAddr, entry: &Entry| Instance {
        priority: 0,
        host: entry.host.as_str().into(),
        address: SocketAddr::new(ip, entry.port),
        weight: entry.weight,
    };
    for entry in entries {
        match entry.host.parse() {
            Ok(ip) => instances.push(one(ip, &entry)),
            Err(_) => named.push(entry),
        }
    }
    let found = join_all(named.iter().map(|entry| resolver.lookup(&entry.host))).await;
    for (entry, found) in named.iter().zip(found) {
        match found {
            Ok((addresses, ttl)) => {
                let ttl = ttl.max(Duration::from_secs(1));
                holds = if holds.is_zero() { ttl } else { holds.min(ttl) };
                instances.extend(addresses.into_iter().map(|ip| one(ip, entry)));
            }
            Err(why) => failed = Some(why),
        }
    }
    match failed {
        Some(why) if instances.is_empty() => Err(why),
        _ => Ok((instances, holds)),
    }
}

/// Every byte that could mean something in a path or a query.
fn escaped(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        let _ = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.write_char(byte.into()),
            _ => write!(out, "%{byte:02X}"),
        };
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_asked_for_as_the_api_has_it() {
        let config = Config {
            at: Some("http://consul.internal:8500/".parse().unwrap()),
            tag: Some("a b".into()),
            datacenter: Some("dc1".into()),
            ..Config::default()
        };
        assert_eq!(
            Service::new("ev/ents", &config).question,
            "http://consul.internal:8500/v1/health/service/ev%2Fents?passing=true&tag=a%20b&dc=dc1"
        );
        let plain = Service::new("events", &Config::default());
        assert_eq!(plain.question, "http://127.0.0.1:8500/v1/health/service/events?passing=true");
    }

    #[test]
    fn instances_have_their_own_address_or_that_of_their_node() {
        let body = r#"[
            {"Node":{"Address":"10.0.0.1"},"Service":{"Address":"","Port":80,"Weights":{"Passing":5,"Warning":1}}},
            {"Node":{"Address":"10.0.0.1"},"Service":{"Address":"app.internal","Port":81}},
            {"Node":{"Address":"10.0.0.1"},"Service":{"Address":"10.0.0.2","Port":82,"Weights":{"Passing":70000}}}
        ]"#;
        let entry = |host: &str, port, weight| Entry { host: host.into(), port, weight };
        let expected = [entry("10.0.0.1", 80, 5), entry("app.internal", 81, 1), entry("10.0.0.2", 82, 1000)];
        assert_eq!(entries(body.as_bytes()).unwrap(), expected);
        for odd in ["", "{}", "[1]", r#"[{"Service":{"Port":1}}]"#, "<html>"] {
            assert!(entries(odd.as_bytes()).is_err(), "{odd}");
        }
    }

    #[test]
    fn an_index_that_goes_back_begins_anew() {
        for (before, said, then) in [(0, Some(7), 7), (7, Some(7), 7), (7, Some(9), 9), (9, Some(7), 0), (9, None, 0)] {
            assert_eq!(next(before, said), then, "{before} {said:?}");
        }
    }

    #[test]
    fn a_question_waits_as_long_as_its_answer_holds() {
        let asked = |index, seconds| Asked { index, holds: Duration::from_secs(seconds) };
        let seconds = |asked| wait(&asked, 0.5).as_secs();
        assert_eq!(seconds(asked(0, 0)), 0, "the first one is answered at once");
        assert_eq!(seconds(asked(7, 0)), 60);
        assert_eq!(seconds(asked(7, 5)), 5);
        assert!(patience(&asked(7, 0)) > Duration::from_secs(66 + 4));
    }
}
