//! One way to be known, compiled: whom it admits, and what it says to whom it does not.

use std::borrow::Cow;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, header};

use super::api_key::ApiKeys;
use super::basic::{self, Users};
use super::certificate::Certificates;
use super::ext::Ext;
use super::forward::{self, Fields};
use super::introspection::Introspection;
use super::jwt::Jwt;
use super::source::{self, Source};
use super::{Config, Denial, Follow, Schemes};
use crate::exchange::{Found, Identity, Refusal, Request};
use crate::fault::Fault;
use crate::policy::guard::{Rule, Tools};
use crate::problem::{Path, Problems, Step};
use crate::telemetry::metrics::Decision;

/// How a scheme knows a client.
#[derive(Debug)]
pub(super) enum Kind {
    Jwt(Box<Jwt>),
    Key(ApiKeys),
    Basic(Users),
    Certificate(Certificates),
    Ext(Box<Ext>),
    Introspection(Box<Introspection>),
    Any(Vec<Arc<Scheme>>),
    All(Vec<Arc<Scheme>>),
}

impl Kind {
    fn compile(
        config: &Config,
        at: &Path,
        schemes: &Schemes,
        tools: &Tools<'_>,
        problems: &mut Problems,
    ) -> Option<Self> {
        let members = |names: &[_]| names.iter().map(|name| schemes.get(name)?.clone()).collect::<Option<Vec<_>>>();
        let Config { jwt, key, basic, certificate, ext, introspection, any, all, .. } = config;
        let said = [jwt.is_some(), key.is_some(), basic.is_some(), certificate.is_some()];
        let more = [ext.is_some(), introspection.is_some(), any.is_some(), all.is_some()];
        if said.iter().chain(&more).filter(|said| **said).count() != 1 {
            let sentence =
                "takes exactly one of `jwt`, `key`, `basic`, `certificate`, `ext`, `introspection`, `any` and `all`";
            problems.error(at.clone(), sentence);
            return None;
        }
        if any.iter().chain(all).any(Vec::is_empty) {
            problems.error(at.clone(), "names no auth, so nobody or everybody could come in");
            return None;
        }
        if let Some(jwt) = jwt {
            return Jwt::compile(jwt, &at.key("jwt"), tools, problems).map(|jwt| Self::Jwt(Box::new(jwt)));
        }
        if let Some(key) = key {
            return ApiKeys::compile(key, &at.key("key"), problems).map(Self::Key);
        }
        if let Some(basic) = basic {
            return Users::compile(basic, &at.key("basic"), problems).map(Self::Basic);
        }
        if let Some(certificate) = certificate {
            return Certificates::compile(certificate, &at.key("certificate"), problems).map(Self::Certificate);
        }
        if let Some(ext) = ext {
            return Ext::compile(ext, &at.key("ext"), tools, problems).map(|ext| Self::Ext(Box::new(ext)));
        }
        if let Some(config) = introspection {
            let made = Introspection::compile(config, &at.key("introspection"), tools, problems);
            return made.map(|made| Self::Introspection(Box::new(made)));
        }
        match (any, all) {
            (Some(names), _) => members(names).map(Self::Any),
            (_, Some(names)) => members(names).map(Self::All),
            (None, None) => None,
        }
    }
}

/// A scheme, decided once.
#[derive(Debug)]
pub struct Scheme {
    pub(super) kind: Kind,
    forward: Fields,
    strip: bool,
    rule: Rule,
    /// `WWW-Authenticate` where nothing was shown, where it has expired, and where it is invalid.
    challenges: [HeaderValue; 3],
}

/// What became of a client that is admitted.
#[derive(Debug, Clone, Default)]
pub struct Pass {
    pub identity: Identity,
    pub forward: Vec<(HeaderName, Option<HeaderValue>)>,
    /// Fields of the answer.
    pub answer: Vec<(HeaderName, HeaderValue)>,
    /// Nobody could be asked, for this reason, and the document says that everyone comes in then.
    pub unasked: Option<Cow<'static, str>>,
}

impl Pass {
    pub(super) fn decision(&self) -> Decision {
        if self.unasked.is_some() { Decision::Open } else { Decision::Admitted }
    }
}

impl Scheme {
    /// `schemes` are those that this one may name.
    pub fn compile(
        config: &Config,
        at: &Path,
        schemes: &Schemes,
        tools: &Tools<'_>,
        problems: &mut Problems,
    ) -> Option<Self> {
        let before = problems.errors();
        let forward = forward::compile(&config.forward, &at.key("forward"), problems);
        let kind = Kind::compile(config, at, schemes, tools, problems);
        let mut names =
            at.steps().iter().filter_map(|step| if let Step::Key(key) = step { Some(&**key) } else { None });
        let realm = names.rfind(|key| *key != "auth").unwrap_or("yumen");
        let scheme = Self {
            challenges: challenges(kind.as_ref()?, realm),
            kind: kind?,
            forward,
            strip: config.strip,
            rule: Rule::new(at, config.mode, tools),
        };
        (problems.errors() == before).then_some(scheme)
    }

    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    pub fn files(&self) -> Vec<PathBuf> {
        match &self.kind {
            Kind::Jwt(jwt) => jwt.files().to_vec(),
            Kind::Key(keys) => vec![keys.file().clone()],
            Kind::Basic(users) => vec![users.file().clone()],
            Kind::Certificate(_) => Vec::new(),
            Kind::Ext(ext) => ext.files().to_vec(),
            Kind::Introspection(introspection) => introspection.files().to_vec(),
            Kind::Any(members) | Kind::All(members) => members.iter().flat_map(|member| member.files()).collect(),
        }
    }

    /// The word for this kind on the metrics page.
    pub fn method(&self) -> &'static str {
        match &self.kind {
            Kind::Jwt(_) => "jwt",
            Kind::Key(_) => "key",
            Kind::Basic(_) => "basic",
            Kind::Certificate(_) => "certificate",
            Kind::Ext(_) => "ext",
            Kind::Introspection(_) => "introspection",
            Kind::Any(_) => "any",
            Kind::All(_) => "all",
        }
    }

    /// The keys that are fetched for this scheme and its members.
    pub fn fetched(&self) -> Vec<Follow> {
        match &self.kind {
            Kind::Jwt(jwt) => jwt.fetched().cloned().into_iter().collect(),
            _ => self.members().iter().flat_map(|member| member.fetched()).collect(),
        }
    }

    pub(super) fn members(&self) -> &[Arc<Self>] {
        match &self.kind {
            Kind::Any(members) | Kind::All(members) => members,
            _ => &[],
        }
    }

    /// Who the request comes from, or why it is nobody that is known.
    pub fn ask<'a>(&'a self, request: &'a dyn Request) -> Asking<'a> {
        match &self.kind {
            Kind::Jwt(jwt) => self.by_token(jwt, request),
            Kind::Key(keys) => Asking::Now(Some(keys.ask(request).map(|identity| self.pass(identity)))),
            Kind::Basic(users) => match users.recall(request) {
                Ok(Err(shown)) => Asking::Later(Box::pin(async {
                    let identity = users.verify(shown).await?;
                    Ok(self.pass(identity))
                })),
                Ok(Ok(identity)) => Asking::Now(Some(Ok(self.pass(identity)))),
                Err(denial) => Asking::Now(Some(Err(denial))),
            },
            Kind::Certificate(known) => Asking::Now(Some(known.ask(request).map(|identity| self.pass(identity)))),
            Kind::Ext(ext) => Asking::Later(Box::pin(async {
                let mut pass = ext.ask(request).await?;
                pass.forward.extend(forward::values(&self.forward, &pass.identity));
                Ok(pass)
            })),
            Kind::Introspection(introspection) => match introspection.recall(request) {
                Ok(Err(token)) => Asking::Later(Box::pin(async {
                    let identity = introspection.ask(token).await?;
                    Ok(self.pass(identity))
                })),
                Ok(Ok(identity)) => Asking::Now(Some(Ok(self.pass(identity)))),
                Err(denial) => Asking::Now(Some(Err(denial))),
            },
            Kind::Any(members) => Asking::Later(Box::pin(self.any(members, request))),
            Kind::All(members) => Asking::Later(Box::pin(self.all(members, request))),
        }
    }

    /// A token whose key is unknown waits for the keys that are being fetched, and is looked at once more.
    fn by_token<'a>(&'a self, jwt: &'a Jwt, request: &'a dyn Request) -> Asking<'a> {
        let ask = || jwt.ask(request).map(|identity| self.pass(identity));
        match (ask(), jwt.coming()) {
            (Err(denial), Some(keys)) if denial.fault == Fault::AuthKeyUnknown => Asking::Later(Box::pin(async move {
                keys.comes().await;
                ask()
            })),
            (answer, _) => Asking::Now(Some(answer)),
        }
    }

    /// The same without waiting for keys: where one of several is enough, another one may have them.
    pub(super) fn ask_now<'a>(&'a self, request: &'a dyn Request) -> Asking<'a> {
        match &self.kind {
            Kind::Jwt(jwt) => Asking::Now(Some(jwt.ask(request).map(|identity| self.pass(identity)))),
            _ => self.ask(request),
        }
    }

    pub(super) fn pass(&self, identity: Identity) -> Pass {
        Pass { forward: forward::values(&self.forward, &identity).collect(), identity, ..Pass::default() }
    }

    /// The first that admits; what only the others would tell the target is taken away.
    async fn any(&self, members: &[Arc<Self>], request: &dyn Request) -> Result<Pass, Denial> {
        let (mut denied, mut unasked): (Option<Denial>, _) = (None, None);
        for member in members {
            match member.ask_now(request).await {
                // Who is known to another comes in as that.
                Ok(pass) if pass.unasked.is_some() => unasked = unasked.or(Some(pass)),
                Ok(pass) => return Ok(self.joined(vec![pass])),
                // What was shown and is wrong says more than what was not shown.
                Err(denial) if denied.as_ref().is_none_or(|before| before.fault == Fault::AuthMissing) => {
                    denied = Some(denial);
                }
                Err(_) => {}
            }
        }
        match unasked {
            Some(pass) => Ok(self.joined(vec![pass])),
            None => Err(denied.unwrap_or(Denial::missing("nothing was asked for"))),
        }
    }

    async fn all(&self, members: &[Arc<Self>], request: &dyn Request) -> Result<Pass, Denial> {
        let mut passes = Vec::with_capacity(members.len());
        for member in members {
            passes.push(member.ask(request).await?);
        }
        Ok(self.joined(passes))
    }

    /// What several have found out, the first word of each kind holds.
    fn joined(&self, passes: Vec<Pass>) -> Pass {
        let mut owned = Vec::new();
        self.owned(&mut owned);
        let mut whole = Pass { forward: owned.into_iter().map(|name| (name, None)).collect(), ..Pass::default() };
        for pass in passes {
            whole.identity.join(pass.identity);
            whole.forward.extend(pass.forward);
            whole.answer.extend(pass.answer);
            whole.unasked = whole.unasked.take().or(pass.unasked);
        }
        whole.forward.extend(forward::values(&self.forward, &whole.identity));
        whole
    }

    /// The fields that this scheme or one of its members sets.
    fn owned(&self, names: &mut Vec<HeaderName>) {
        names.extend(self.forward.iter().map(|(name, _)| name.clone()));
        if let Kind::Ext(ext) = &self.kind {
            names.extend_from_slice(&ext.to_target);
        }
        for member in self.members() {
            member.owned(names);
        }
    }

    /// What the target does not get to see.
    pub fn hide(&self, request: &dyn Request, found: &mut Found) {
        let mut sources = Vec::new();
        self.shown(false, &mut sources);
        if !sources.is_empty() {
            source::hide(&sources, request, found);
        }
    }

    fn shown(&self, strip: bool, sources: &mut Vec<Source>) {
        let strip = strip || self.strip;
        match &self.kind {
            Kind::Jwt(jwt) if strip => sources.extend_from_slice(&jwt.sources),
            Kind::Key(keys) if strip => sources.extend_from_slice(&keys.sources),
            Kind::Basic(_) if strip => sources.push(basic::SOURCE),
            Kind::Ext(ext) if strip => sources.extend(ext.send.iter().cloned().map(Source::Header)),
            Kind::Introspection(issuer) if strip => sources.extend_from_slice(&issuer.sources),
            _ => self.members().iter().for_each(|member| member.shown(strip, sources)),
        }
    }

    /// The parameters of the query in which secrets may stand.
    pub fn secret_params(&self, names: &mut Vec<Box<str>>) {
        let sources = match &self.kind {
            Kind::Jwt(jwt) => &*jwt.sources,
            Kind::Key(keys) => &*keys.sources,
            Kind::Introspection(issuer) => &*issuer.sources,
            Kind::Basic(_) | Kind::Certificate(_) | Kind::Ext(_) | Kind::Any(_) | Kind::All(_) => &[],
        };
        names.extend(sources.iter().filter_map(|source| match source {
            Source::Query(name) => Some(name.clone()),
            _ => None,
        }));
        self.members().iter().for_each(|member| member.secret_params(names));
    }

    /// A refusal in the words of RFC 6750 section 3.
    pub fn refuse(&self, denial: Denial) -> Refusal {
        let mut refusal = self.rule.refuse(denial.fault, denial.why);
        refusal.fields = denial.fields;
        self.challenge(denial.fault, &mut refusal.fields);
        refusal
    }

    fn challenge(&self, fault: Fault, fields: &mut Vec<(HeaderName, HeaderValue)>) {
        let at = match fault.outside() {
            Fault::AuthMissing => 0,
            Fault::AuthExpired => 1,
            Fault::AuthInvalid => 2,
            _ => return,
        };
        if let Kind::Any(members) | Kind::All(members) = &self.kind {
            for member in members {
                member.challenge(fault, fields);
            }
        } else if let Some(challenge) = self.challenges.get(at)
            && !fields.iter().any(|(_, said)| said == challenge)
            // What the service itself says is the better one.
            && !(matches!(self.kind, Kind::Ext(_)) && fields.iter().any(|(name, _)| name == header::WWW_AUTHENTICATE))
        {
            fields.push((header::WWW_AUTHENTICATE, challenge.clone()));
        }
    }
}

/// RFC 9110 section 11.6.1 asks for one on every 401; `ApiKey`, `Certificate` and `External` are no registered schemes.
fn challenges(kind: &Kind, realm: &str) -> [HeaderValue; 3] {
    let (scheme, errors) = match kind {
        Kind::Key(_) => ("ApiKey", ["", "", ""]),
        Kind::Basic(_) => ("Basic", [", charset=\"UTF-8\""; 3]),
        Kind::Certificate(_) => ("Certificate", ["", "", ""]),
        Kind::Ext(_) => ("External", ["", "", ""]),
        _ => ("Bearer", ["", ", error=\"invalid_token\", error_description=\"expired\"", ", error=\"invalid_token\""]),
    };
    errors.map(|error| {
        let challenge = format!("{scheme} realm=\"{realm}\"{error}");
        HeaderValue::try_from(challenge).unwrap_or(HeaderValue::from_static("Bearer"))
    })
}

/// An answer that is there already, or one that has to be waited for; only the latter costs memory.
pub enum Asking<'a> {
    Now(Option<Result<Pass, Denial>>),
    Later(Pin<Box<dyn Future<Output = Result<Pass, Denial>> + Send + 'a>>),
}

impl Future for Asking<'_> {
    type Output = Result<Pass, Denial>;

    fn poll(self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        match self.get_mut() {
            Self::Now(answer) => match answer.take() {
                Some(answer) => std::task::Poll::Ready(answer),
                None => std::task::Poll::Pending,
            },
            Self::Later(later) => later.as_mut().poll(context),
        }
    }
}
