//! Refusals at the door: requests that were wrong before they could be read as one are counted, told and answered.

use std::sync::Arc;
use std::time::SystemTime;

use crate::answer::{Answer, Asked};
use crate::fault::Fault;
use crate::listener::{Door, Seen};
use crate::snapshot::Live;
use crate::telemetry::access::{Entry, Timings};
use crate::telemetry::trace::{RequestId, Trace};

/// What the accept loop asks when it must refuse.
pub fn door(live: Arc<Live>) -> Arc<dyn Door> {
    Arc::new(Refusals { live })
}

struct Refusals {
    live: Arc<Live>,
}

impl Door for Refusals {
    fn refuse(&self, fault: Fault, seen: &Seen<'_>) -> Vec<u8> {
        let snapshot = self.live.load();
        let listener = &seen.connection.listener.name;
        if let Some(counted) = snapshot.nowhere.through(listener) {
            counted.refuse(fault);
        }
        let id = RequestId::new(SystemTime::now());
        if snapshot.access.is_on() {
            snapshot.access.write(&Entry {
                time: SystemTime::now(),
                request_id: id.as_str(),
                trace_id: Trace::started().id(),
                listener: listener.as_str(),
                route: None,
                method: seen.method.unwrap_or("-"),
                host: b"-",
                path: seen.target.unwrap_or(b"-"),
                query: None,
                protocol: "HTTP/1.1",
                status: fault.status(),
                bytes_in: 0,
                bytes_out: 0,
                user_agent: None,
                referer: None,
                client: seen.connection.peer.ip().to_canonical(),
                pool: None,
                target: None,
                tries: 0,
                reason: Some(fault.code()),
                detail: None,
                timings: Timings::default(),
            });
        }
        Answer::of(fault, &snapshot.messages, id.as_str(), &Asked::default()).render_h1()
    }
}
