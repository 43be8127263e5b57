//! What is counted: every metric in one list, its series handed down to those who count.

mod cache;
mod compress;
mod copy;
mod discover;
mod family;
mod gather;
mod graphql;
mod handles;
mod list;
mod mqtt;
mod pool;
mod process;
mod quota;
mod store;
mod totals;
mod trace;
mod websocket;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{IntCounter, Registry, TextEncoder};

pub use cache::{CacheMetrics, CacheResult};
pub use compress::CompressMetrics;
pub use copy::{CopyMetrics, CopyResult};
pub use discover::DiscoverMetrics;
pub use family::{CEILING, Row};
pub use gather::{GatherMetrics, GatherResult};
pub use graphql::GraphqlMetrics;
pub use handles::{
    AskedMetrics, AuthMetrics, Connected, Decision, Figure, InFlight, JwksMetrics, LimitMetrics, ListenerMetrics,
    RouteMetrics,
};
pub use list::LIST;
pub use mqtt::{BrokerMetrics, Fate, ForwardMetrics, OpenStream, StreamMetrics};
pub use pool::PoolMetrics;
pub use quota::QuotaMetrics;
pub use store::StoreMetrics;
pub use totals::Totals;
pub use trace::TraceMetrics;
pub use websocket::{By, Tunnelled, WebsocketMetrics};

use family::Book;
use list::Families;

/// The media type of `render`.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Every figure of this process.
pub struct Metrics {
    registry: Registry,
    families: Arc<Families>,
    book: Arc<Book>,
    /// The hash on the page; also what lets only one page be rendered at a time.
    hash: Mutex<String>,
}

impl Metrics {
    /// An error is a mistake in the list, which a test rules out.
    pub fn new() -> prometheus::Result<Arc<Self>> {
        let registry = Registry::new();
        let families = Arc::new(Families::new(&registry)?);
        families.build_info.fixed(&[env!("CARGO_PKG_VERSION")]).set(1);
        families.start_time.fixed(&[]).set(now());
        families.access_log_dropped.fixed(&[]);
        families.program_log_dropped.fixed(&[]);
        for figure in [&families.memory_limit, &families.memory_used, &families.memory_short] {
            figure.fixed(&[]).set(0);
        }
        families.reloads.fixed(&["applied"]);
        families.reloads.fixed(&["unchanged"]);
        families.reloads.fixed(&["refused"]);
        families.not_on_disk.fixed(&["rollback"]);
        families.not_on_disk.fixed(&["boot"]);
        families.not_on_disk.fixed(&["include"]);
        Ok(Arc::new(Self { registry, families, book: Arc::default(), hash: Mutex::default() }))
    }

    /// A route behind a listener; `-` where a request found none.
    pub fn route(&self, listener: &str, route: &str) -> Arc<RouteMetrics> {
        let pair = self.book.lease(format!("route\0{route}\0{listener}"));
        let alone = self.book.lease(format!("route\0{route}"));
        Arc::new(RouteMetrics::new(&self.families, pair, alone, listener, route))
    }

    pub fn pool(&self, pool: &str) -> Arc<PoolMetrics> {
        Arc::new(PoolMetrics::new(&self.families, self.book.lease(format!("pool\0{pool}")), pool))
    }

    /// The compressed answers of a route.
    pub fn compress(&self, route: &str) -> CompressMetrics {
        CompressMetrics::new(&self.families, self.book.lease(format!("compress\0{route}")), route)
    }

    /// The operations of a route that speaks GraphQL.
    pub fn graphql(&self, route: &str) -> GraphqlMetrics {
        GraphqlMetrics::new(&self.families, self.book.lease(format!("graphql\0{route}")), route)
    }

    /// The calls that a route is answered by.
    pub fn gathered(&self, route: &str) -> GatherMetrics {
        GatherMetrics::new(&self.families, self.book.lease(format!("gather\0{route}")), route)
    }

    /// The copies of a route's requests.
    pub fn copies(&self, route: &str) -> CopyMetrics {
        CopyMetrics::new(&self.families, self.book.lease(format!("copies\0{route}")), route)
    }

    pub fn limit(&self, limit: &str) -> LimitMetrics {
        LimitMetrics::new(&self.families, self.book.lease(format!("limit\0{limit}")), limit)
    }

    /// The counts of a quota on disk.
    pub fn quota(&self, limit: &str) -> QuotaMetrics {
        QuotaMetrics::new(&self.families, self.book.lease(format!("quota\0{limit}")), limit)
    }

    /// By how many requests a limit may be off.
    pub fn overshoot(&self, limit: &str) -> Figure {
        let lease = self.book.lease(format!("overshoot\0{limit}"));
        Figure::new(lease.child(&self.families.limit_overshoot, &[limit]), lease)
    }

    pub fn store(&self, store: &str) -> StoreMetrics {
        StoreMetrics::new(&self.families, self.book.lease(format!("store\0{store}")), store)
    }

    /// The spans of requests.
    pub fn traces(&self) -> TraceMetrics {
        TraceMetrics::new(&self.families)
    }

    /// A store of answers.
    pub fn cache(&self, store: &str) -> CacheMetrics {
        CacheMetrics::new(&self.families, self.book.lease(format!("cache\0{store}")), store)
    }

    /// A broker, and what requests publish through it.
    pub fn broker(&self, store: &str) -> BrokerMetrics {
        BrokerMetrics::new(&self.families, self.book.lease(format!("broker\0{store}")), store)
    }

    /// Those who listen through a route.
    pub fn streams(&self, route: &str) -> Arc<StreamMetrics> {
        StreamMetrics::new(&self.families, self.book.lease(format!("streams\0{route}")), route)
    }

    /// Messages of a broker that go on to a pool.
    pub fn forward(&self, store: &str, forward: &str) -> ForwardMetrics {
        let lease = self.book.lease(format!("forward\0{store}\0{forward}"));
        ForwardMetrics::new(&self.families, lease, store, forward)
    }

    /// The keys of an issuer, by the scheme that believes it.
    pub fn jwks(&self, auth: &str) -> JwksMetrics {
        JwksMetrics::new(&self.families, self.book.lease(format!("jwks\0{auth}")), auth)
    }

    /// A service that is asked who comes, by the scheme that asks it.
    pub fn asked(&self, auth: &str) -> AskedMetrics {
        AskedMetrics::new(&self.families, self.book.lease(format!("asked\0{auth}")), auth)
    }

    /// The credentials of a route; `method` comes from a closed list.
    pub fn auth(&self, route: &str, method: &'static str) -> AuthMetrics {
        AuthMetrics::new(&self.families, self.book.lease(format!("auth\0{route}\0{method}")), route, method)
    }

    /// Whether a target is healthy: 1 or 0.
    pub fn target(&self, pool: &str, target: &str) -> Figure {
        let lease = self.book.lease(format!("target\0{pool}\0{target}"));
        Figure::new(lease.child(&self.families.target_up, &[pool, target]), lease)
    }

    /// The stage of a target's breaker: 0, 1 or 2.
    pub fn breaker(&self, pool: &str, target: &str) -> Figure {
        let lease = self.book.lease(format!("breaker\0{pool}\0{target}"));
        Figure::new(lease.child(&self.families.breaker, &[pool, target]), lease)
    }

    /// Whether a target is ejected: 1 or 0.
    pub fn ejected(&self, pool: &str, target: &str) -> Figure {
        let lease = self.book.lease(format!("ejected\0{pool}\0{target}"));
        Figure::new(lease.child(&self.families.ejected, &[pool, target]), lease)
    }

    /// Whether a pool uses all its targets because too few are well: 1 or 0.
    pub fn panics(&self, pool: &str) -> Figure {
        let lease = self.book.lease(format!("panics\0{pool}"));
        Figure::new(lease.child(&self.families.panics, &[pool]), lease)
    }

    pub fn listener(&self, listener: &str) -> Arc<ListenerMetrics> {
        Arc::new(ListenerMetrics::new(&self.families, self.book.lease(format!("listener\0{listener}")), listener))
    }

    /// When a certificate ends, in seconds since 1970.
    pub fn certificate(&self, cert: &str) -> Figure {
        let lease = self.book.lease(format!("cert\0{cert}"));
        Figure::new(lease.child(&self.families.certificate_expiry, &[cert]), lease)
    }

    /// One TLS handshake with a client has ended; both words come from closed lists.
    pub fn handshake(&self, version: &'static str, result: &'static str) {
        self.families.handshakes.fixed(&[version, result]).inc();
    }

    /// Access lines that were lost.
    pub fn access_log_dropped(&self) -> IntCounter {
        self.families.access_log_dropped.fixed(&[])
    }

    /// Lines of the program's own log that were lost.
    pub fn program_log_dropped(&self) -> IntCounter {
        self.families.program_log_dropped.fixed(&[])
    }

    /// How much memory there is and is used, in bytes, and whether that is too much.
    pub fn memory(&self, limit: u64, used: u64, short: bool) {
        let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.families.memory_limit.fixed(&[]).set(number(limit));
        self.families.memory_used.fixed(&[]).set(number(used));
        self.families.memory_short.fixed(&[]).set(short.into());
    }

    /// A configuration was applied by a reload.
    pub fn applied(&self, generation: u64, hash: &str) {
        self.families.reloads.fixed(&["applied"]).inc();
        self.serves(generation, hash);
    }

    /// Whether something else serves than the files say, or how many of them; `why` comes from a closed list.
    pub fn not_on_disk(&self, why: &'static str, so: usize) {
        self.families.not_on_disk.fixed(&[why]).set(i64::try_from(so).unwrap_or(i64::MAX));
    }

    /// A configuration serves.
    pub fn serves(&self, generation: u64, hash: &str) {
        let families = &self.families;
        families.generation.fixed(&[]).set(i64::try_from(generation).unwrap_or(i64::MAX));
        families.reload_success.fixed(&[]).set(1);
        families.reload_time.fixed(&[]).set(now());
        let mut shown = self.hash.lock().unwrap_or_else(PoisonError::into_inner);
        families.hash.remove(&[&shown]);
        families.hash.fixed(&[hash]).set(1);
        hash.clone_into(&mut shown);
    }

    /// A reload found nothing new.
    pub fn unchanged(&self) {
        self.families.reloads.fixed(&["unchanged"]).inc();
        self.families.reload_success.fixed(&[]).set(1);
    }

    /// A reload was refused; the old configuration serves on.
    pub fn refused(&self) {
        self.families.reloads.fixed(&["refused"]).inc();
        self.families.reload_success.fixed(&[]).set(0);
    }

    /// This process has taken over, or its successor has failed to.
    pub fn upgraded(&self, well: bool) {
        self.families.upgrades.fixed(&[if well { "ok" } else { "failed" }]).inc();
    }

    /// The sum over all series of a gauge.
    pub fn sum(&self, name: &str) -> i64 {
        let families = self.registry.gather();
        let series = families
            .iter()
            .filter(|family| family.name() == name)
            .flat_map(prometheus::proto::MetricFamily::get_metric);
        let sum: f64 = series.map(|one| one.get_gauge().get_value()).sum();
        #[allow(clippy::cast_possible_truncation)]
        let whole = sum as i64;
        whole
    }

    /// Everything, in Prometheus' text format 0.0.4.
    pub fn render(&self) -> String {
        let _one_at_a_time = self.hash.lock().unwrap_or_else(PoisonError::into_inner);
        process::refresh(&self.families);
        let mut page = String::new();
        if let Err(why) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut page) {
            log::error!("cannot render metrics: {why}");
        }
        page
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use http::Method;

    use super::*;
    use crate::fault::Fault;

    /// What is done with bodies.
    fn conversions(metrics: &Metrics) -> Box<dyn std::any::Any> {
        let compress = metrics.compress("orders");
        compress.coded("gzip", 100, 10);
        let graphql = metrics.graphql("orders");
        graphql.count("Cart", "query", "passed");
        let gathered = metrics.gathered("orders");
        gathered.count("user", GatherResult::Ok);
        Box::new((compress, graphql, gathered, metrics.cache("pages")))
    }

    /// Messages of a broker.
    fn messages(metrics: &Metrics) -> Box<dyn std::any::Any> {
        let (broker, forward) = (metrics.broker("plant"), metrics.forward("plant", "readings"));
        broker.published(true);
        forward.count(Fate::Received, 1);
        forward.waits(1, 100, 2);
        Box::new((broker, metrics.streams("live").begin(), forward))
    }

    /// A page on which every metric of the list stands.
    fn full() -> (Arc<Metrics>, Vec<Box<dyn std::any::Any>>) {
        let metrics = Metrics::new().unwrap();
        let route = metrics.route("edge", "orders");
        route.count(&Method::GET, 200, 0.02, 0.000_03);
        route.count(&Method::from_bytes(b"BREW").unwrap(), 999, 0.02, 0.000_03);
        route.fault(Fault::PoolEmpty);
        route.would_refuse(Fault::ClientRefused);
        route.cache(CacheResult::Hit);
        let tunnel = route.websockets().open();
        route.websockets().passed(By::Client, 1, 10);
        route.websockets().closed(Some(1000), By::Client);
        let limit = metrics.limit("per-user");
        limit.admitted();
        let bound = metrics.overshoot("per-user");
        bound.set(15);
        let quota = metrics.quota("monthly");
        quota.written(true);
        let store = metrics.store("shared");
        store.up(true);
        store.answered(std::time::Duration::from_micros(200));
        let (jwks, auth) = (metrics.jwks("idp"), metrics.auth("orders", "jwt"));
        jwks.fetched(true);
        let asked = metrics.asked("sso");
        asked.asked(true, 0.01);
        auth.count(Decision::Admitted);
        let pool = metrics.pool("orders");
        pool.count(Some(200), 0.01);
        pool.count(None, 0.01);
        pool.connected(true);
        pool.retried("reset", true);
        pool.over_budget();
        pool.fell_back();
        pool.ejected("errors", "ejected");
        let (ejected, panics) = (metrics.ejected("orders", "10.0.0.1:80"), metrics.panics("orders"));
        let discover = pool.discover("consul:orders");
        discover.set(true, 1);
        let copies = metrics.copies("orders");
        copies.count(CopyResult::TooLarge);
        let listener = metrics.listener("edge");
        listener.refuse("per_address");
        listener.not_accepted();
        metrics.handshake("1.3", "ok");
        let target = metrics.target("orders", "10.0.0.1:80");
        let breaker = metrics.breaker("orders", "10.0.0.1:80");
        target.set(1);
        let cert = metrics.certificate("/etc/certs/a.crt");
        cert.set(1_800_000_000);
        metrics.serves(1, "abc");
        metrics.upgraded(true);
        metrics.traces().dropped(1);
        let held: Vec<Box<dyn std::any::Any>> = vec![
            Box::new((route.begin(), pool.wait(), tunnel)),
            Box::new(listener.open()),
            Box::new((route, pool, listener, target, cert, limit)),
            Box::new((jwks, auth, breaker, asked, store, bound, quota)),
            Box::new((ejected, panics, discover, copies, conversions(&metrics), messages(&metrics))),
        ];
        (metrics, held)
    }

    #[test]
    fn the_page_shows_every_metric_of_the_list() {
        let (metrics, _held) = full();
        let page = metrics.render();
        for row in LIST {
            assert!(page.contains(&format!("# TYPE {} ", row.name)), "{} is missing:\n{page}", row.name);
        }
        for line in [
            r#"yumen_http_requests_total{code="200",listener="edge",method="GET",route="orders"} 1"#,
            r#"yumen_http_requests_total{code="other",listener="edge",method="OTHER",route="orders"} 1"#,
            r#"yumen_pool_requests_total{code="-",pool="orders"} 1"#,
            r#"yumen_copies_total{result="too_large",route="orders"} 1"#,
            r#"yumen_compress_in_bytes_total{coding="gzip",route="orders"} 100"#,
            r#"yumen_gather_calls_total{call="user",result="ok",route="orders"} 1"#,
            r#"yumen_discover_refused{pool="orders",source="consul:orders"} 1"#,
            r#"yumen_http_requests_in_flight{route="orders"} 1"#,
            r#"yumen_connections{listener="edge"} 1"#,
            r#"yumen_faults_total{reason="pool.empty",route="orders"} 1"#,
            r#"yumen_limit_decisions_total{limit="per-user",result="admitted"} 1"#,
            r#"yumen_websockets{route="orders"} 1"#,
            r#"yumen_websocket_bytes_total{from="client",route="orders"} 10"#,
            r#"yumen_websocket_closes_total{by="client",code="1000",route="orders"} 1"#,
            r#"yumen_overhead_seconds_bucket{route="orders",le="0.00005"} 2"#,
        ] {
            assert!(page.contains(line), "{line} is missing:\n{page}");
        }
    }

    #[test]
    fn promtool_has_nothing_to_say() {
        let (metrics, _held) = full();
        let tool =
            Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let Ok(mut tool) = tool else { return };
        std::io::Write::write_all(&mut tool.stdin.take().unwrap(), metrics.render().as_bytes()).unwrap();
        let said = tool.wait_with_output().unwrap();
        assert!(said.status.success() && said.stderr.is_empty(), "{}", String::from_utf8_lossy(&said.stderr));
    }

    /// The names that alert rules and the dashboard query, each with its place in the text.
    fn queried(text: &str) -> Vec<&str> {
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let words = text.split(|letter| !is_name(letter));
        words.filter(|word| ["yumen_", "process_"].iter().any(|prefix| word.starts_with(prefix))).collect()
    }

    #[test]
    fn alerts_and_dashboard_query_only_metrics_that_exist_and_the_dashboard_shows_all() {
        let alerts = include_str!("../../../conf/prometheus/alerts.yaml");
        let dashboard = include_str!("../../../conf/grafana/yumen.json");
        let names: Vec<_> = LIST.iter().map(|row| row.name).collect();
        let base = |word: &str| {
            ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word).to_owned()
        };
        for word in queried(alerts).into_iter().chain(queried(dashboard)) {
            assert!(names.contains(&word) || names.contains(&&*base(word)), "{word} does not exist");
        }
        let shown: Vec<_> = queried(dashboard).into_iter().map(base).collect();
        assert!(names.iter().all(|name| shown.iter().any(|shown| shown == name)), "the dashboard leaves one out");
    }

    #[test]
    fn the_alert_rules_and_the_dashboard_are_well_formed() {
        let dashboard: serde_json::Value =
            serde_json::from_str(include_str!("../../../conf/grafana/yumen.json")).unwrap();
        assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() > 10));
        let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/prometheus/alerts.yaml");
        let Ok(said) = Command::new("promtool").args(["check", "rules", rules]).output() else { return };
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    }

    #[test]
    fn series_of_removed_routes_go_and_counters_of_kept_ones_stay() {
        let metrics = Metrics::new().unwrap();
        let (kept, gone) = (metrics.route("edge", "kept"), metrics.route("edge", "gone"));
        kept.count(&Method::GET, 200, 0.1, 0.0);
        gone.count(&Method::GET, 200, 0.1, 0.0);
        let after_reload = metrics.route("edge", "kept");
        drop((kept, gone));
        after_reload.count(&Method::GET, 200, 0.1, 0.0);
        let page = metrics.render();
        assert!(
            page.contains(r#"yumen_http_requests_total{code="200",listener="edge",method="GET",route="kept"} 2"#),
            "{page}"
        );
        assert!(!page.contains("gone"), "{page}");
    }

    #[test]
    fn idle_routes_cost_the_page_nothing() {
        let metrics = Metrics::new().unwrap();
        let _routes: Vec<_> = (0..100).map(|at| metrics.route("edge", &format!("route-{at}"))).collect();
        assert!(!metrics.render().contains("route-"));
    }

    #[test]
    fn a_route_behind_two_listeners_shares_what_has_no_listener() {
        let metrics = Metrics::new().unwrap();
        let (edge, inside) = (metrics.route("edge", "orders"), metrics.route("inside", "orders"));
        edge.count(&Method::GET, 200, 0.1, 0.0);
        drop(edge);
        inside.count(&Method::GET, 200, 0.1, 0.0);
        let page = metrics.render();
        assert!(page.contains(r#"yumen_http_request_duration_seconds_count{route="orders"} 2"#), "{page}");
        assert!(!page.contains("edge"), "{page}");
    }

    #[test]
    fn a_million_made_up_words_make_no_series() {
        let metrics = Metrics::new().unwrap();
        let route = metrics.route("edge", "-");
        for status in 0..=u16::MAX {
            let method = Method::from_bytes(format!("X{status}").as_bytes()).unwrap();
            route.count(&method, if (100..=599).contains(&status) { 404 } else { status }, 0.0, 0.0);
        }
        let series = metrics.render().lines().filter(|line| line.starts_with("yumen_http_requests_total")).count();
        assert_eq!(series, 2);
    }

    #[test]
    fn more_codes_than_slots_are_still_counted() {
        let metrics = Metrics::new().unwrap();
        let route = metrics.route("edge", "orders");
        (100..600).for_each(|status| route.count(&Method::GET, status, 0.0, 0.0));
        (100..600).for_each(|status| route.count(&Method::GET, status, 0.0, 0.0));
        let page = metrics.render();
        let counted: Vec<_> = page.lines().filter(|line| line.starts_with("yumen_http_requests_total")).collect();
        assert_eq!(counted.len(), 500);
        assert!(counted.iter().all(|line| line.ends_with(" 2")), "{counted:?}");
    }

    #[test]
    fn a_family_never_outgrows_its_ceiling_and_shrinks_again() {
        let metrics = Metrics::new().unwrap();
        let targets: Vec<_> = (0..CEILING + 5).map(|at| metrics.target("pool", &at.to_string())).collect();
        for target in &targets {
            target.set(1);
        }
        let series = |page: &str| page.lines().filter(|line| line.starts_with("yumen_target_up")).count();
        let page = metrics.render();
        assert_eq!(series(&page), CEILING + 1);
        assert!(page.contains(r#"yumen_target_up{pool="other",target="other"} 1"#));
        drop(targets);
        let _one = metrics.target("pool", "new");
        assert!(metrics.render().contains(r#"yumen_target_up{pool="pool",target="new"} 0"#));
    }

    #[test]
    fn a_reload_is_told() {
        let metrics = Metrics::new().unwrap();
        metrics.serves(1, "one");
        metrics.refused();
        assert!(metrics.render().contains("yumen_config_last_reload_success 0"));
        metrics.applied(2, "two");
        let page = metrics.render();
        for line in [
            "yumen_config_generation 2",
            "yumen_config_last_reload_success 1",
            r#"yumen_config_hash_info{hash="two"} 1"#,
            r#"yumen_config_reloads_total{result="applied"} 1"#,
            r#"yumen_config_reloads_total{result="refused"} 1"#,
        ] {
            assert!(page.contains(line), "{line} is missing:\n{page}");
        }
        assert!(!page.contains(r#"hash="one""#));
    }
}
