//! A request that is only asked about: its bytes are checked as a connection does, then it is judged by what serves.

use std::fmt::Write;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::check_head;
use crate::exchange::Identity;
use crate::fault::Fault;
use crate::policy::foresee::Step;
use crate::proxy::trial::{self, Asked, End, Ground, Trial, Verdict};
use crate::units::{Name, Size};

/// What is asked about.
pub struct Ask<'a> {
    pub method: &'a str,
    /// With or without scheme, or a path alone.
    pub url: &'a str,
    pub head: Vec<(String, String)>,
    /// Who opens the connection.
    pub client: IpAddr,
    /// The first one that speaks the scheme of the URL, when left out.
    pub listener: Option<&'a Name>,
    /// The name that its TLS handshake asks for; the host of the URL, when left out.
    pub sni: Option<&'a str>,
    pub who: Option<Identity>,
    pub body: Vec<u8>,
    /// The length of a body that is not at hand.
    pub length: Option<Size>,
}

impl Ask<'_> {
    /// The way of a request: its bytes, its head, its route, the guards. The error says that there is no such listener.
    pub async fn judge(mut self, ground: Ground<'_>) -> Result<Verdict<'_>, String> {
        let (https, host, target) = parts(self.url);
        let listener = match self.listener {
            Some(name) => ground.listeners.iter().find(|listener| listener.name == *name),
            None => ground.listeners.iter().find(|listener| listener.tls().is_some() == https),
        };
        let listener = listener.or_else(|| ground.listeners.first().filter(|_| self.listener.is_none()));
        let listener = listener.ok_or_else(|| {
            let known: Vec<&str> = ground.listeners.iter().map(|listener| listener.name.as_str()).collect();
            let name = self.listener.map_or("-", Name::as_str);
            format!("listener `{name}` is not defined. Listeners: {}", known.join(", "))
        })?;
        self.complete(&host);
        let name = self.sni.unwrap_or_else(|| host.split(':').next().unwrap_or_default());
        let tls = listener.tls().map(|_| name.to_ascii_lowercase().into());
        let mut bytes = format!("{} {target} HTTP/1.1\r\n", self.method);
        for (name, value) in &self.head {
            // Writing to a String cannot fail.
            let _ = write!(bytes, "{name}: {value}\r\n");
        }
        let read = check_head(format!("{bytes}\r\n").as_bytes(), &listener.limits);
        let refused = |fault: Fault| Verdict { end: End::Refused(fault.into()), ..Verdict::default() };
        let request = match read.and_then(|()| trial::head(self.method, &target, &self.head)) {
            Ok(request) => request,
            Err(fault) => return Ok(refused(fault)),
        };
        let unseen = self.length.is_some_and(|length| length.len() > self.body.len());
        let asked = Asked { request, peer: self.client, tls, who: self.who, body: self.body, unseen };
        Ok(Trial { ground, listener }.of(asked).await)
    }

    /// What every client says without being told.
    fn complete(&mut self, host: &str) {
        let said = |head: &[(String, String)], name: &str| head.iter().any(|(said, _)| said.eq_ignore_ascii_case(name));
        let length = self.length.map_or(self.body.len() as u64, Size::bytes);
        if length > 0 && !said(&self.head, "content-length") && !said(&self.head, "transfer-encoding") {
            self.head.push(("Content-Length".to_owned(), length.to_string()));
        }
        if !said(&self.head, "host") {
            self.head.insert(0, ("Host".to_owned(), host.to_owned()));
        }
    }
}

/// Whether it is by TLS, the host, and the target of a URL with or without its scheme, or of a path alone.
fn parts(url: &str) -> (bool, String, String) {
    let (https, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => (false, url),
    };
    let (host, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let slash = if target.starts_with('/') { "" } else { "/" };
    (https, if host.is_empty() { "localhost" } else { host }.to_owned(), format!("{slash}{target}"))
}

/// What would become of it, for programs.
pub fn told(method: &str, verdict: &Verdict<'_>) -> Value {
    let explanation = verdict.explanation.as_ref();
    let route = explanation.and_then(|explanation| explanation.chosen).map(|(route, _)| route);
    let guard = |step: &Step| {
        let refusal = step.said.refusal();
        json!({
            "rule": step.rule, "said": step.said.to_string(),
            "code": refusal.map(|refusal| refusal.fault.code()), "detail": refusal.map(|refusal| &refusal.why),
        })
    };
    let answer = match &verdict.end {
        End::Refused(refused) => json!({
            "status": refused.fault.status(), "code": refused.fault.code(), "rule": refused.rule, "detail": refused.why,
        }),
        End::Replied(status) => json!({ "status": status }),
        End::Served => json!({ "status": null }),
        End::Unknown(_) => Value::Null,
    };
    json!({
        "method": method, "host": verdict.host, "path": verdict.path,
        "route": route.map(|route| json!({ "name": route.name, "place": route.place })),
        "does": route.and_then(|route| route.does()),
        "pools": route.map(|route| route.pools().iter().map(|pool| pool.name()).collect::<Vec<_>>()),
        "calls": verdict.call,
        "guards": verdict.steps.iter().map(guard).collect::<Vec<_>>(),
        "answer": answer,
        "not": explanation.map(|explanation| explanation.lost.iter().map(ToString::to_string).collect::<Vec<_>>()),
    })
}
