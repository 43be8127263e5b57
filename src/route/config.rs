//! The settings of a route: which requests, under which rules, to where.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{copy, host, matches, opt_in, split, stick, trace};
use crate::policy::guard::{self, Guards};
use crate::policy::template::Offer;
use crate::policy::{
    auth, batch, body, cache, compress, cors, gather, graphql, headers, ip, limit, publish, redirect, require, respond,
    rewrite, subscribe, transcode, transform, validate, websocket,
};
use crate::pool::{Retry, Timeout};
use crate::problem::{Path, Problems};
use crate::units::Name;

/// One route: which requests, under which rules, to where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Route")]
pub struct Config {
    /// Which requests, e.g. `GET,POST api.example.com/orders/*`; a list means any of them.
    #[serde(rename = "match")]
    pub matches: matches::Matches,
    /// Another route whose settings hold where this one says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub like: Option<Name>,
    /// Which regex comes first where two match; the higher one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// Which networks may enter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<ip::Config>,
    /// Which pages of other origins may read the answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<cors::Config>,
    /// Who may come in: the name of an `auth`, `none`, or one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<auth::Use>,
    /// How often: a name of the section `limits`, a limit of its own, or a list of them that must all admit.
    #[serde(default, skip_serializing_if = "limit::Uses::is_empty")]
    pub limit: limit::Uses,
    /// How large bodies may be, and of what kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<body::Config>,
    /// Who has the right to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require: Option<require::Config>,
    /// What GraphQL may ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graphql: Option<graphql::Config>,
    /// What parameters and bodies have to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validate: Option<validate::Config>,
    /// How its WebSockets are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub websocket: Option<websocket::Config>,
    /// Which answers are remembered, and for how long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<cache::Config>,
    /// Whether pages of browsers may speak gRPC-Web to a pool that speaks gRPC.
    #[serde(default)]
    pub grpc_web: bool,
    /// Speaks HTTP with JSON to clients and gRPC to the pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcode: Option<transcode::Config>,
    /// The pool, or pools with their weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<split::To>,
    /// By what a user is known who stays with the same of several pools, e.g. jwt.sub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stick: Option<stick::Config>,
    /// Who gets one of the pools for the asking, whatever the weights say.
    #[serde(default, skip_serializing_if = "opt_in::Config::is_empty")]
    pub opt_in: opt_in::Config,
    /// Another pool that gets copies of the requests; nobody waits for its answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_to: Option<copy::Config>,
    /// Sends the client elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<redirect::Config>,
    /// Answers by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub respond: Option<respond::Config>,
    /// Answers with what calls to several pools bring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gather: Option<gather::Config>,
    /// Sends each of many requests that come as one on its own way through the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<batch::Config>,
    /// Publishes the body as a message of MQTT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<publish::Config>,
    /// Streams the messages of a topic of MQTT to the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscribe: Option<subscribe::Config>,
    /// How the path changes before it is forwarded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<rewrite::Config>,
    /// The host that the upstream sees: `pass` keeps the client's.
    #[serde(default)]
    pub host: host::UpstreamHost,
    /// Header fields of the request, on its way to the upstream.
    #[serde(default, skip_serializing_if = "headers::Config::is_empty")]
    pub request: headers::Config,
    /// Header fields of the response, on its way to the client.
    #[serde(default, skip_serializing_if = "headers::Config::is_empty")]
    pub response: headers::Config,
    /// How JSON bodies change on their way there and back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transform: Option<transform::Both>,
    /// Which answers are compressed: `on`, `off`, codings in the order of preference, or more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compress: Option<compress::Config>,
    /// How many of its requests are told of as traces, where `observe.traces` says whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<trace::Config>,
    /// Where this route waits shorter or longer than its pools say.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timeout: Timeout,
    /// Where this route tries again otherwise than its pools say; `off` for never.
    #[serde(default, skip_serializing_if = "Retry::is_default")]
    pub retry: Retry,
}

impl Config {
    /// Whatever tells requests apart has to be there: parameters in the match, and `auth` for who asks.
    pub(super) fn asks_for_nothing_else(
        &self,
        offers: &[Offer],
        guards: Option<&Guards>,
        at: &Path,
        problems: &mut Problems,
    ) {
        if self.graphql.is_none() && guards.is_some_and(Guards::ask_what) {
            let sentence = "counts by `graphql.operation`, and the route has no `graphql`: all are `other`";
            problems.warn(at.key("limit"), sentence);
        }
        self.remembers_something(at, problems);
        let known = |name: &str| offers.iter().any(|offer| offer.names.iter().any(|known| **known == *name));
        let counted_by = guards.into_iter().flat_map(Guards::params).map(|name| ("limit", "counts", name));
        let cached_by = self.cache.iter().flat_map(|cache| cache.key.params()).map(|name| ("cache", "goes", name));
        let kept_by = self.stick.iter().flat_map(stick::Config::params).map(|name| ("stick", "goes", name));
        for (key, does, name) in counted_by.chain(cached_by).chain(kept_by).filter(|(_, _, name)| !known(name)) {
            problems.error(at.key(key), format!("{does} by `path.{name}`, and `:{name}` is not in the route's match"));
        }
        let says_who = [
            ("stick", self.stick.as_ref().is_some_and(stick::Config::asks_who), "nobody stays on one side by that"),
            ("cache", self.cache.as_ref().is_some_and(|cache| cache.key.says_who()), "nothing is kept by that"),
        ];
        for (key, _, so) in says_who.into_iter().filter(|(_, asks, _)| *asks && self.auth.is_none()) {
            problems.warn(at.key(key), format!("goes by what `auth` finds out, and the route has none: {so}"));
        }
    }

    /// Only answers to GET and HEAD that a pool gives are kept.
    fn remembers_something(&self, at: &Path, problems: &mut Problems) {
        let reads = |method: &matches::Method| matches!(method, matches::Method::Get | matches::Method::Head);
        let is_read = |one: &matches::Match| one.methods.is_empty() || one.methods.iter().any(reads);
        if self.cache.is_none() {
            return;
        }
        if self.transcode.is_some() {
            let sentence = "remembers nothing of what `transcode` makes; a route takes one of them";
            problems.error(at.key("cache"), sentence);
        }
        if !self.matches.0.is_empty() && !self.matches.0.iter().any(is_read) {
            let sentence = "remembers answers to GET and HEAD, and this route takes neither: nothing is kept";
            problems.warn(at.key("cache"), sentence);
        }
    }

    /// What only has a meaning on the way to a target would do nothing.
    pub(super) fn forwards_nothing(&self, guards: Option<&Guards>, at: &Path, problems: &mut Problems) {
        for (key, there) in [("stick", self.stick.is_some()), ("opt_in", !self.opt_in.is_empty())] {
            if there {
                problems.error(at.key(key), "decides between pools, and this route forwards nothing");
            }
        }
        if self.rewrite.is_some() {
            problems.error(at.key("rewrite"), "changes what is forwarded, and this route forwards nothing");
        }
        if self.websocket.is_some() {
            problems.error(at.key("websocket"), "keeps WebSockets to a pool, and this route forwards nothing");
        }
        if self.graphql.is_some() {
            problems.error(at.key("graphql"), "looks at what goes to a pool, and this route forwards nothing");
        }
        if self.transform.is_some() {
            problems.error(
                at.key("transform"),
                "changes what passes between client and pool, and this route forwards nothing",
            );
        }
        for (key, there) in [("grpc_web", self.grpc_web), ("transcode", self.transcode.is_some())] {
            if there {
                problems.error(at.key(key), "speaks to a pool, and this route forwards nothing");
            }
        }
        if self.cache.is_some() {
            problems.error(at.key("cache"), "remembers what a pool answers, and this route forwards nothing");
        }
        if self.copy_to.is_some() {
            problems.error(at.key("copy_to"), "copies what is forwarded, and this route forwards nothing");
        }
        if self.publish.is_none() && guards.is_some_and(|guards| guards.looks_at_bodies().is_some()) {
            let described = self.validate.as_ref().is_some_and(|validate| validate.openapi.is_some());
            let sentence = "looks at bodies on their way to a pool, and this route forwards nothing";
            problems.error(at.key("validate").key(if described { "openapi" } else { "body" }), sentence);
        }
    }

    /// Each match has to name its methods, of these.
    pub(super) fn takes_only(&self, methods: &[&str], at: &Path, problems: &mut Problems) {
        let fits = |one: &matches::Match| {
            !one.methods.is_empty() && one.methods.iter().all(|method| methods.contains(&&*method.to_string()))
        };
        if !self.matches.0.iter().all(fits) {
            let sentence = format!("needs a match with its method: {}", methods.join(", "));
            problems.error(at.clone(), sentence);
        }
    }

    /// The methods that some match names; none where one of them takes all.
    pub(super) fn methods(&self) -> Vec<&'static str> {
        let all = &self.matches.0;
        if all.iter().any(|one| one.methods.is_empty()) {
            return Vec::new();
        }
        let named = |method: &matches::Method| all.iter().any(|one| one.methods.contains(method));
        matches::Method::ALL.into_iter().filter(named).map(matches::Method::as_str).collect()
    }

    pub(super) fn guards<'c>(&'c self, methods: &'c [&'c str]) -> guard::Settings<'c> {
        guard::Settings {
            methods,
            ip: self.ip.as_ref(),
            cors: self.cors.as_ref(),
            grpc_web: self.grpc_web,
            body: self.body.as_ref(),
            auth: self.auth.as_ref(),
            require: self.require.as_ref(),
            limit: &self.limit,
            validate: self.validate.as_ref(),
        }
    }
}

fn is_default(timeout: &Timeout) -> bool {
    *timeout == Timeout::default()
}
