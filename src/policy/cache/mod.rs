//! Remembers answers, as a shared cache does (RFC 9111), by a key that is never the same for two identities.
//!
//! ```yaml
//! cache: 60s
//! cache: { ttl: 10s, stale: 60s, stale_if_error: 10m, key: [path, query, header.accept-language, jwt.sub] }
//! ```

mod config;
pub mod directives;
pub mod fresh;
mod key;
pub mod merge;
pub mod store;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pingora_cache::key::{CacheHashKey, HashBinary};
use pingora_cache::{CacheKey, VarianceBuilder};

pub use config::Config;
pub use key::{Key, Named};

use self::directives::elements;
use self::fresh::{Asker, Kept, Not, Times};
use self::key::Text;
use self::store::{Label, Place, Spot, Store, Tags};
use super::limit;
use crate::exchange::{Exchange, Found, Request};
use crate::problem::{Path, Problems};
use crate::state::Shelf;
use crate::telemetry::metrics::Metrics;
use crate::units::Name;

/// Stores of answers, through all reloads.
pub type Shelves = Shelf<String, Store>;

/// In memory, where the route names no store.
const BUILT_IN: (&str, u64) = ("-", 64 << 20);

/// The stores that a document has.
pub struct Stores<'a> {
    pub shelves: &'a Shelves,
    /// By their bytes.
    pub memory: BTreeMap<Name, u64>,
    pub redis: &'a limit::Stores,
    /// Those that some route keeps answers in.
    pub used: Option<Arc<[Arc<Store>]>>,
    pub metrics: &'a Arc<Metrics>,
}

impl Stores<'_> {
    /// Nothing where there is no such store, which was said.
    pub fn find(&self, name: Option<&Name>) -> Option<Arc<Store>> {
        let Some(name) = name else { return Some(self.in_memory(BUILT_IN.0, BUILT_IN.1)) };
        if let Some(bytes) = self.memory.get(name) {
            return Some(self.in_memory(name.as_str(), *bytes));
        }
        let redis = self.redis.get(name)?.clone()?;
        let counted = self.metrics.cache(name.as_str());
        // Another Redis under the same name is another one.
        let at = format!("{name}\0redis\0{:p}", Arc::as_ptr(&redis));
        Some(self.shelves.keep(at, || Store::in_redis(redis, counted)))
    }

    /// Where the routes keep their answers.
    pub fn touched(&self) -> Option<Arc<[Arc<Store>]>> {
        self.used.clone()
    }

    /// The stores of these names, each once.
    pub fn all<'n>(&self, names: impl Iterator<Item = Option<&'n Name>>) -> Option<Arc<[Arc<Store>]>> {
        let mut stores: Vec<Arc<Store>> = Vec::new();
        for store in names.filter_map(|name| self.find(name)) {
            if !stores.iter().any(|known| Arc::ptr_eq(known, &store)) {
                stores.push(store);
            }
        }
        (!stores.is_empty()).then(|| stores.into())
    }

    fn in_memory(&self, name: &str, bytes: u64) -> Arc<Store> {
        let counted = || self.metrics.cache(if name == BUILT_IN.0 { "built-in" } else { name });
        self.shelves.keep(format!("{name}\0{bytes}"), || Store::in_memory(bytes, counted()))
    }
}

/// How the answers of a route are remembered.
#[derive(Debug)]
pub struct Cache {
    key: Key,
    /// What of an address is in that.
    place: Place,
    share: bool,
    times: Times,
    most: u64,
    tags: Option<HeaderName>,
    store: Arc<Store>,
    store_name: Option<Name>,
    /// How long a request waits for another one that fetches the same.
    pub wait: Duration,
    /// Whether clients have a say.
    pub obey: bool,
}

/// To whom a request was sent, as it tells answers apart.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    pub https: bool,
    pub port: Option<u16>,
    /// What a trusted hop says was asked for.
    pub forwarded_host: Option<&'a [u8]>,
    /// The pool that the request itself has decided for, where it has.
    pub pool: Option<&'a str>,
}

impl Cache {
    /// `at` is `routes.NAME.cache`.
    pub fn compile(config: &Config, at: &Path, stores: &Stores<'_>, problems: &mut Problems) -> Option<Self> {
        let before = problems.errors();
        let tags = config.tags.as_ref().and_then(|name| {
            let read = HeaderName::from_bytes(name.as_bytes());
            read.map_err(|_| problems.error(at.key("tags"), format!("`{name}` is not the name of a header field"))).ok()
        });
        for (key, time) in [("ttl", config.ttl), ("negative", config.negative), ("wait", Some(config.wait))] {
            if time.is_some_and(|time| time.get().is_zero()) {
                problems.error(at.key(key), "must be more than zero");
            }
        }
        if config.share && config.key.says_who() {
            problems.error(at.key("share"), "the key tells clients apart, so nothing would be shared");
        }
        if !config.key.has_path() {
            problems.warn(at.key("key"), "has no `path`: all paths of this route are given the same answer");
        }
        let store = stores.find(config.store.as_ref())?;
        if let Some(longest) = store.longest().filter(|longest| *longest < config.max.bytes()) {
            let longest = crate::units::Size::from_bytes(longest);
            let sentence = format!("`{}` is more than an eighth of its store, which is {longest}", config.max);
            problems.error(at.key("max"), sentence);
        }
        let place = config.key.place();
        store.keeps(place);
        let cache = Self {
            key: config.key.clone(),
            place,
            share: config.share,
            times: Times {
                ttl: config.ttl.map(crate::units::Duration::get),
                stale: config.stale.map(crate::units::Duration::get),
                stale_if_error: config.stale_if_error.map(crate::units::Duration::get),
                negative: config.negative.map(crate::units::Duration::get),
            },
            most: config.max.bytes(),
            tags,
            store,
            store_name: config.store.clone(),
            wait: config.wait.get(),
            obey: config.obey,
        };
        (problems.errors() == before).then_some(cache)
    }

    /// The longest body that is kept.
    pub fn longest(&self) -> u64 {
        self.most
    }

    /// Whether who asks is part of the key without being named in it.
    fn adds_identity(&self) -> bool {
        !self.share && !self.key.says_who()
    }

    /// The name of the answer to a request; nothing where a part of it cannot be told: it is not cached then.
    pub fn name(&self, exchange: &Exchange<'_>, route: &str, origin: Origin<'_>) -> Option<Named> {
        let mut text = Text(Vec::with_capacity(160));
        let request = exchange.request;
        text.put(route.as_bytes());
        text.put(if origin.https { b"https" } else { b"http" });
        text.put(request.host().as_bytes());
        text.put(&origin.port.unwrap_or(0).to_le_bytes());
        text.maybe(origin.forwarded_host);
        text.maybe(origin.pool.map(str::as_bytes));
        self.key.write(exchange, route, &mut text)?;
        if self.adds_identity() {
            text.identity(exchange.found);
        }
        Some(Named { id: self.store.name_in_memory(&text.0), text: text.0 })
    }

    /// What is kept under this name, where that is known without asking anyone.
    pub fn in_memory(&self, named: &Named) -> Option<Arc<store::Object>> {
        self.store.in_memory_under(named.id.as_ref()?)
    }

    /// The name as Pingora carries it, with all that is needed to keep the answer to this request.
    pub fn key(&self, named: Named, request: &dyn Request, found: Option<&Found>, route: &str) -> CacheKey {
        let mut key = CacheKey::new(named.text, "");
        // Asked for several times.
        key.set_primary_bin_override(named.id.unwrap_or_else(|| key.primary_bin()));
        let at = Label::at(self.place, request.host(), request.path(), request.query());
        let labels = vec![Label::ALL.slot(), at.slot(), Label::route(route).slot()];
        let asker = self.asker(request.headers(), found);
        key.extensions.insert(Arc::new(Spot::new(Arc::clone(&self.store), labels, self.most, asker)));
        key
    }

    fn asker(&self, said: &HeaderMap, found: Option<&Found>) -> Asker {
        let identified = found.is_some_and(|found| {
            let identity = &found.identity;
            let is_known = identity.consumer.is_some() || identity.claims.is_some();
            is_known || identity.unnamed || !found.forward.is_empty()
        });
        let is_told_apart = self.key.says_who() || !found.is_some_and(|found| found.identity.unnamed);
        let authorized = said.contains_key(header::AUTHORIZATION);
        Asker { authorized, identified, keyed: identified && is_told_apart && !self.share }
    }

    /// What an answer that came just now is worth.
    pub fn judge(
        &self,
        status: StatusCode,
        head: &HeaderMap,
        request: &HeaderMap,
        found: Option<&Found>,
    ) -> Result<Kept, Not> {
        fresh::judge(status, head, self.asker(request, found), &self.times, SystemTime::now())
    }

    /// The tags that an answer bears. The field goes no further.
    pub fn take_tags(&self, head: &mut HeaderMap) -> Option<Tags> {
        let name = self.tags.as_ref()?;
        let lines = head.get_all(name).into_iter();
        // Separated by commas or, as some have it, by spaces.
        let words = elements(lines).flat_map(|piece| piece.split(u8::is_ascii_whitespace));
        let tags =
            Tags(words.filter(|word| !word.is_empty()).take(MOST_TAGS).map(|word| Label::tag(word).slot()).collect());
        head.remove(name);
        Some(tags)
    }

    /// The field of tags, which clients do not get to see.
    pub fn hide_tags(&self, head: &mut pingora_http::ResponseHeader) {
        if let Some(name) = &self.tags {
            head.remove_header(name);
        }
    }
}

/// Tags of one answer.
const MOST_TAGS: usize = 64;

/// Which variant a request wants, by what the kept answer varies; nothing where it does not.
pub fn variance(kept: &HeaderMap, request: &HeaderMap, found: Option<&Found>) -> Option<HashBinary> {
    let mut names: Vec<_> = elements(kept.get_all(header::VARY)).map(<[u8]>::to_ascii_lowercase).collect();
    names.sort();
    let mut builder = VarianceBuilder::new();
    for name in names.iter().filter_map(|name| HeaderName::from_bytes(name).ok()) {
        builder.add_owned_name_value(name.as_str().to_owned(), selecting(&name, request, found));
    }
    builder.finalize()
}

/// Lists of which the space and the lines between the elements mean nothing.
const LISTS: [HeaderName; 4] =
    [header::ACCEPT, header::ACCEPT_CHARSET, header::ACCEPT_ENCODING, header::ACCEPT_LANGUAGE];

/// The field as the target gets it: of a list its elements, of any other one its lines, of which cookies have one.
fn selecting(name: &HeaderName, request: &HeaderMap, found: Option<&Found>) -> Vec<u8> {
    let told = found.and_then(|found| found.forward.iter().rev().find(|(told, _)| told == name));
    let lines: Vec<_> = match told {
        Some((_, told)) => told.iter().collect(),
        None => request.get_all(name).iter().collect(),
    };
    if lines.is_empty() {
        return b"-".to_vec();
    }
    let (all, between): (Vec<_>, &[u8]) = match *name {
        _ if LISTS.contains(name) => (elements(lines).collect(), b","),
        header::COOKIE => (lines.into_iter().map(HeaderValue::as_bytes).collect(), b"; "),
        _ => (lines.into_iter().map(HeaderValue::as_bytes).collect(), b"\n"),
    };
    [b"+", all.join(between).as_slice()].concat()
}

impl std::fmt::Display for Cache {
    /// `by path, query and who asks, for 60s, in pages`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut said = format!("by {}", self.key);
        if self.adds_identity() {
            said.push_str(" and who asks");
        }
        match self.times.ttl {
            Some(ttl) => write!(said, ", for {}", crate::units::Duration::from(ttl))?,
            None => said.push_str(", for as long as the answer says"),
        }
        match &self.store_name {
            Some(name) => write!(said, ", in {name}")?,
            None => said.push_str(", in memory"),
        }
        f.write_str(&said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::asked::Asked;

    fn cache(text: &str, problems: &mut Problems) -> Option<Cache> {
        let config: Config = serde_yaml::from_str(text).unwrap();
        let (shelves, redis, metrics) = (Shelves::default(), limit::Stores::new(), Metrics::new().unwrap());
        let memory = BTreeMap::from([("small".parse().unwrap(), 1 << 20)]);
        let stores = Stores { shelves: &shelves, memory, redis: &redis, used: None, metrics: &metrics };
        Cache::compile(&config, &Path::of(["routes", "a", "cache"]), &stores, problems)
    }

    #[test]
    fn what_cannot_be_is_said() {
        let said = |text| {
            let mut problems = Problems::default();
            let cache = cache(text, &mut problems);
            (cache.is_some(), problems.errors())
        };
        assert_eq!(said("60s"), (true, 0));
        assert_eq!(said("{ store: small, max: 64KiB }"), (true, 0));
        assert_eq!(said("{ store: small }"), (false, 1));
        assert_eq!(said("{ ttl: 0s, tags: 'a b' }"), (false, 2));
        assert_eq!(said("{ share: true, key: [path, jwt.sub] }"), (false, 1));
    }

    #[test]
    fn everything_that_tells_answers_apart_is_in_the_key() {
        let cache = cache("60s", &mut Problems::default()).unwrap();
        let plain = Origin { https: true, port: None, forwarded_host: None, pool: None };
        let key = |asked: &Asked, route: &str, origin, consumer: Option<&str>| {
            let mut found = Found::default();
            found.identity.consumer = consumer.map(Into::into);
            cache.name(&Exchange { request: asked, found: &mut found }, route, origin).unwrap().text
        };
        let asked = Asked::new();
        let one = key(&asked, "a", plain, None);
        assert_eq!(one, key(&Asked::new().with("x", "y"), "a", plain, None));
        let others = [
            key(&asked, "b", plain, None),
            key(&asked, "a", Origin { https: false, ..plain }, None),
            key(&asked, "a", Origin { port: Some(8443), ..plain }, None),
            key(&asked, "a", Origin { forwarded_host: Some(b"x"), ..plain }, None),
            key(&asked, "a", Origin { pool: Some("x"), ..plain }, None),
            key(&asked, "a", plain, Some("u1")),
            key(&asked, "a", plain, Some("u2")),
            key(&Asked { path: "/orders/8", ..Asked::new() }, "a", plain, None),
            key(&Asked { query: Some("a=1"), ..Asked::new() }, "a", plain, None),
        ];
        let mut all: Vec<_> = others.iter().chain([&one]).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), others.len() + 1);
    }

    #[test]
    fn variants_are_told_by_what_the_target_gets() {
        let head = |lines: &[(&'static str, &str)]| {
            let mut head = HeaderMap::new();
            for (name, value) in lines {
                head.append(*name, value.parse().unwrap());
            }
            head
        };
        let vary = head(&[("vary", "Accept, x-user"), ("vary", "accept-language")]);
        let of = |lines: &[(&'static str, &str)], found: Option<&Found>| variance(&vary, &head(lines), found);
        assert_eq!(variance(&head(&[]), &head(&[("accept", "a")]), None), None);
        assert_eq!(of(&[("accept", "a , b")], None), of(&[("accept", "a"), ("accept", "b")], None));
        assert_ne!(of(&[("accept", "a")], None), of(&[], None));
        assert_ne!(of(&[("accept", "")], None), of(&[], None));
        let cookie = |lines: &[(&'static str, &str)]| variance(&head(&[("vary", "cookie, x-a")]), &head(lines), None);
        assert_ne!(cookie(&[("cookie", "role=u,")]), cookie(&[("cookie", "role=u")]));
        assert_eq!(cookie(&[("cookie", "a=1; b=2")]), cookie(&[("cookie", "a=1"), ("cookie", "b=2")]));
        assert_ne!(cookie(&[("x-a", "1,2")]), cookie(&[("x-a", "1, 2")]));
        assert_ne!(cookie(&[("x-a", "1,2")]), cookie(&[("x-a", "1"), ("x-a", "2")]));
        let mut found = Found::default();
        found.forward.push(("x-user".parse().unwrap(), Some("u1".parse().unwrap())));
        assert_eq!(of(&[("x-user", "lie")], Some(&found)), of(&[], Some(&found)));
        assert_ne!(of(&[("x-user", "u2")], None), of(&[], Some(&found)));
    }

    #[test]
    fn tags_go_no_further() {
        let cache = cache("{ tags: x-cache-tags }", &mut Problems::default()).unwrap();
        let mut head = HeaderMap::new();
        head.append("x-cache-tags", "a, b c".parse().unwrap());
        let tags = cache.take_tags(&mut head).unwrap();
        assert_eq!(tags.0, ["a", "b", "c"].map(|tag| Label::tag(tag.as_bytes()).slot()));
        assert!(head.is_empty());
    }
}
