//! The limits of one route: all of them must admit, and who is refused by one has used nothing of the others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::{Use, Uses};
use super::gauge::Given;
use super::left::Left;
use super::shared::Refused;
use super::{Limit, Tools};
use crate::exchange::{Exchange, Hold, Refusal};
use crate::policy::guard::Rule;
use crate::problem::{Path, Problems};

/// The limits of one route.
#[derive(Debug)]
pub struct Limits {
    route: Box<str>,
    limits: Box<[Arc<Limit>]>,
}

/// More limits than this on one route are a mistake.
const MOST: usize = 16;

impl Limits {
    /// `route` is `routes.NAME`. A name that means nothing was reported by the reader, at its place.
    pub fn compile(uses: &Uses, route: &Path, tools: &Tools<'_>, problems: &mut Problems) -> Option<Self> {
        let at = route.key("limit");
        let Some(room) = tools.limits.filter(|_| !uses.is_empty()) else {
            if !uses.is_empty() {
                problems.error(at, "there is nothing to count with");
            }
            return None;
        };
        if uses.0.len() > MOST {
            problems.error(at.clone(), format!("more than {MOST} limits on one route"));
            return None;
        }
        let mut limits: Vec<Arc<Limit>> = Vec::with_capacity(uses.0.len());
        for (index, one) in uses.0.iter().enumerate() {
            let alone = uses.0.len() == 1;
            let limit = match one {
                Use::Named(name) => room.named.get(name)?.clone()?,
                Use::Here(config) if alone => Limit::compile(&route.to_string(), config, &at, room, tools, problems)?,
                Use::Here(config) => {
                    let name = format!("{route}.{}", index + 1);
                    Limit::compile(&name, config, &at.index(index), room, tools, problems)?
                }
            };
            if limits.iter().any(|other| Arc::ptr_eq(other, &limit)) {
                problems.error(at.index(index), "is in this list already");
            }
            limits.push(limit);
        }
        if limits.iter().all(|limit| limit.when.is_some()) {
            problems.warn(at, "every one has a `when`: a request for which none of them holds has no limit");
        }
        Some(Self { route: route.to_string().into(), limits: limits.into() })
    }

    /// Only this one; `at` is what stands for the route in keys.
    pub fn of(limit: Arc<Limit>, at: &Path) -> Self {
        Self { route: at.to_string().into(), limits: [limit].into() }
    }

    /// What their keys ask of the route's match.
    pub fn params(&self) -> impl Iterator<Item = &str> {
        self.limits.iter().flat_map(|limit| limit.config.key.params())
    }

    /// Whether one of them counts by what GraphQL asks for.
    pub fn ask_what(&self) -> bool {
        self.limits.iter().any(|limit| limit.config.key.asks_what())
    }

    /// Whether one of them counts by what only `auth` can tell.
    pub fn ask_who(&self) -> bool {
        self.limits.iter().any(|limit| limit.asks_who())
    }

    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.limits.iter().map(|limit| &limit.rule)
    }

    /// Each rule, and whether it counts this request.
    pub fn foresee<'l>(&'l self, exchange: &Exchange<'_>) -> Vec<(&'l Rule, bool)> {
        self.limits.iter().map(|limit| (&limit.rule, limit.applies(exchange))).collect()
    }

    pub fn each(&self) -> impl Iterator<Item = &Arc<Limit>> {
        self.limits.iter()
    }

    /// Whether one of them is counted in a store, which has to be waited for.
    pub fn share(&self) -> bool {
        self.limits.iter().any(|limit| limit.shared.is_some())
    }

    /// Takes what the request needs from each limit, or from none and says which refuses. Whom all admit may still have
    /// to wait for that long.
    pub fn admit(&self, exchange: &mut Exchange<'_>, now: Instant) -> Result<Duration, Refusal> {
        let mut round = Round::default();
        self.admit_here(&mut round, exchange, now)?;
        Ok(self.admitted(round, exchange))
    }

    /// The same where some are counted in a store. Those of this host are asked first: whom they refuse costs the store
    /// nothing.
    pub async fn admit_shared(&self, exchange: &mut Exchange<'_>, now: Instant) -> Result<Duration, Refusal> {
        let (mut round, mut lost, mut places) = (Round::default(), Vec::new(), Vec::new());
        self.admit_here(&mut round, exchange, now)?;
        for (index, limit) in self.limits.iter().enumerate() {
            let Some(shared) = limit.shared.as_ref().filter(|_| limit.applies(exchange)) else { continue };
            let names = limit.names(shared, exchange, &self.route);
            limit.notice(names.number, now);
            let answer = shared.take(&limit.gauge, &names, &mut lost).await;
            let answer = answer.map(|(given, place)| {
                places.push((limit, shared, names, place));
                given
            });
            if let Err(refused) = round.heed(limit, index, answer, exchange) {
                self.give_back_here(&round, exchange);
                for (limit, shared, names, place) in &places {
                    shared.give_back(&limit.gauge, names, *place, &lost).await;
                }
                limit.counted.refused();
                return Err(limit.refuse(&refused));
            }
        }
        Ok(self.admitted(round, exchange))
    }

    /// Asks those that count on this host alone.
    fn admit_here<'l>(
        &'l self,
        round: &mut Round<'l>,
        exchange: &mut Exchange<'_>,
        now: Instant,
    ) -> Result<(), Refusal> {
        for (index, limit) in self.limits.iter().enumerate() {
            if limit.shared.is_some() || !limit.applies(exchange) {
                continue;
            }
            let answer = limit.ask(exchange, &self.route, now);
            if let Err(refused) = round.heed(limit, index, answer, exchange) {
                self.give_back_here(round, exchange);
                let (limit, refused) = self.strictest((limit, refused), index, exchange, now);
                limit.counted.refused();
                return Err(limit.refuse(&refused));
            }
        }
        Ok(())
    }

    /// Whom all admit is told of the tightest.
    fn admitted(&self, round: Round<'_>, exchange: &mut Exchange<'_>) -> Duration {
        self.taken(round.taken).for_each(|limit| limit.counted.admitted());
        if let Some((limit, left)) = round.tightest {
            limit.fields.admitted(&left, &mut exchange.found.answer);
        }
        exchange.found.held.extend(round.held);
        round.wait
    }

    fn give_back_here(&self, round: &Round<'_>, exchange: &Exchange<'_>) {
        let here = self.taken(round.taken).filter(|limit| limit.shared.is_none());
        here.for_each(|limit| limit.gauge.give_back(limit.number(exchange, &self.route)));
    }

    fn taken(&self, bits: u64) -> impl Iterator<Item = &Limit> {
        self.limits.iter().enumerate().filter(move |(index, _)| bits >> index & 1 == 1).map(|(_, limit)| &**limit)
    }

    /// Of the first limit that refuses, which is the one at `index`, and those behind it that count on this host: which
    /// one refuses longest.
    fn strictest<'a>(
        &'a self,
        first: (&'a Limit, Refused),
        index: usize,
        exchange: &Exchange<'_>,
        now: Instant,
    ) -> (&'a Limit, Refused) {
        let behind = self.limits.iter().skip(index + 1).filter(|limit| !limit.is_shadow() && limit.shared.is_none());
        let refusing = behind.filter(|limit| limit.applies(exchange)).filter_map(|limit| {
            let left = limit.gauge.peek(limit.number(exchange, &self.route), now).err()?;
            Some((&**limit, Refused::Spent(left)))
        });
        refusing.fold(first, |longest, other| if other.1.reset() > longest.1.reset() { other } else { longest })
    }
}

/// What one request has got from the limits that were asked so far.
#[derive(Default)]
struct Round<'l> {
    /// One bit for each limit that has given something.
    taken: u64,
    held: Vec<Box<dyn Hold>>,
    wait: Duration,
    tightest: Option<(&'l Limit, Left)>,
}

impl<'l> Round<'l> {
    /// Takes down what one limit says. A shadow refuses nobody.
    fn heed(
        &mut self,
        limit: &'l Limit,
        index: usize,
        answer: Result<Given, Refused>,
        exchange: &mut Exchange<'_>,
    ) -> Result<(), Refused> {
        let shadow = limit.is_shadow();
        let given = match answer {
            Ok(given) => given,
            Err(refused) if shadow => {
                limit.counted.would_refuse();
                exchange.found.would_refuse.push(limit.refuse(&refused));
                return Ok(());
            }
            Err(refused) => return Err(refused),
        };
        self.taken |= 1 << index;
        self.held.extend(given.hold);
        let Some(left) = given.left.filter(|_| !shadow) else { return Ok(()) };
        self.wait = self.wait.max(given.wait);
        let tighter = |(other, than): &(&Limit, Left)| limit.fields.is_tighter(&left, &other.fields, than);
        if self.tightest.as_ref().is_none_or(tighter) {
            self.tightest = Some((limit, left));
        }
        Ok(())
    }
}
