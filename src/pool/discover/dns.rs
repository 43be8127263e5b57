//! Host names become addresses, again and again as their time to live tells; the last good set is kept.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::config::{LookupIpStrategy, ResolveHosts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, ResolverBuilder, TokioResolver};
use tokio::sync::watch;

use super::super::chance;
use super::super::resume::Resume;

/// Addresses are asked for again not sooner and not later than this, whatever their time to live.
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_mins(5);
/// Entries of the hosts file have no time to live.
const HOSTS_TTL: Duration = Duration::from_secs(5);
/// Pauses after failures double up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A lookup is given up after this.
pub(in crate::pool) const PATIENCE: Duration = Duration::from_secs(10);
/// More addresses of one name are not used.
const MOST: usize = 256;
const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// Addresses and how long they hold, or why there are none.
type Answer = Result<(Vec<IpAddr>, Duration), String>;

/// What is known of one host name; it outlives reloads.
pub(in crate::pool) struct Lookup {
    known: Mutex<Known>,
    /// Whether one lookup has ended, well or not.
    tried: watch::Sender<bool>,
    running: Resume<Answer>,
}

#[derive(Default)]
struct Known {
    addresses: Vec<IpAddr>,
    next: Option<Instant>,
    failures: u32,
    reason: Option<String>,
}

/// What an answer changed.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::pool) enum Change {
    Nothing,
    Addresses(Vec<IpAddr>),
    /// The first failure after a success.
    Failed(String),
}

impl Default for Lookup {
    fn default() -> Self {
        Self { known: Mutex::default(), tried: watch::Sender::new(false), running: Resume::default() }
    }
}

impl Lookup {
    pub(in crate::pool) fn addresses(&self) -> Vec<IpAddr> {
        self.with(|known| known.addresses.clone())
    }
    /// Why the last lookup failed, if it did.
    pub(in crate::pool) fn reason(&self) -> Option<String> {
        self.with(|known| known.reason.clone())
    }
    pub(in crate::pool) fn is_tried(&self) -> bool {
        *self.tried.borrow()
    }
    /// Returns once one lookup has ended, well or not.
    pub(in crate::pool) async fn tried(&self) {
        // An error means that the sender is gone, which is `self`.
        let _ = self.tried.subscribe().wait_for(|tried| *tried).await;
    }

    /// Waits until the name is due, and asks.
    pub(in crate::pool) async fn ask(&self, host: &str, resolver: &Arc<Resolver>) -> Change {
        let now = Instant::now();
        if !self.running.waits(0, now, PATIENCE) {
            let next = self.with(|known| known.next).unwrap_or(now);
            tokio::time::sleep(next.saturating_duration_since(now)).await;
        }
        let (resolver, host) = (Arc::clone(resolver), host.to_owned());
        let begin = || Box::pin(async move { resolver.lookup(&host).await }) as _;
        let answer = self.running.run(0, PATIENCE, begin).await;
        let change = self.with(|known| known.learn(answer, Instant::now(), chance::share()));
        self.tried.send_replace(true);
        change
    }

    fn with<R>(&self, change: impl FnOnce(&mut Known) -> R) -> R {
        change(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Known {
    fn learn(&mut self, answer: Answer, now: Instant, share: f64) -> Change {
        match answer {
            Ok((mut addresses, ttl)) if !addresses.is_empty() => {
                addresses.sort_unstable();
                addresses.dedup();
                addresses.truncate(MOST);
                let ttl = ttl.clamp(SOONEST, LATEST);
                self.next = Some(now + ttl + ttl.mul_f64(share / 10.0));
                (self.failures, self.reason) = (0, None);
                if self.addresses == addresses {
                    return Change::Nothing;
                }
                self.addresses.clone_from(&addresses);
                Change::Addresses(addresses)
            }
            nothing => {
                let reason = nothing.err().unwrap_or_else(|| "no addresses".into());
                let pause = SOONEST.saturating_mul(1 << self.failures.min(10)).min(LONGEST_PAUSE);
                self.next = Some(now + chance::about(pause, share));
                self.failures = self.failures.saturating_add(1);
                self.reason = Some(reason.clone());
                if self.failures == 1 { Change::Failed(reason) } else { Change::Nothing }
            }
        }
    }
}

/// The system's way of resolving names, read again when its files change.
#[derive(Default)]
pub(in crate::pool) struct Resolver(Mutex<Option<System>>);

#[derive(Clone)]
struct System {
    stamps: [Option<SystemTime>; 2],
    hosts: Arc<Hosts>,
    dns: Arc<TokioResolver>,
}

impl Resolver {
    async fn lookup(&self, host: &str) -> Answer {
        let system = self.system()?;
        let name = Name::from_utf8(host).map_err(|why| why.to_string())?;
        let known = in_hosts(&system.hosts, &name);
        if !known.is_empty() {
            return Ok((reachable(known), HOSTS_TTL));
        }
        let asked = tokio::time::timeout(PATIENCE, system.dns.lookup_ip(name)).await;
        let answer = asked.map_err(|_| format!("no answer within {PATIENCE:?}"))?.map_err(|why| why.to_string())?;
        let ttl = answer.valid_until().saturating_duration_since(Instant::now());
        Ok((reachable(answer.iter().collect()), ttl))
    }

    fn system(&self) -> Result<System, String> {
        let stamps = stamps();
        let mut system = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(system) = system.as_ref().filter(|system| system.stamps == stamps) {
            return Ok(system.clone());
        }
        let builder = TokioResolver::builder_tokio().map_err(|why| why.to_string())?;
        Ok(system.insert(System::new(stamps, builder)?).clone())
    }
}

fn stamps() -> [Option<SystemTime>; 2] {
    FILES.map(|file| std::fs::metadata(file).and_then(|about| about.modified()).ok())
}

impl System {
    fn new(
        stamps: [Option<SystemTime>; 2],
        mut builder: ResolverBuilder<TokioRuntimeProvider>,
    ) -> Result<Self, String> {
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        // The hosts file is asked before, for both families at once: a name that stands there is not asked for outside.
        options.use_hosts_file = ResolveHosts::Never;
        // Whoever asks waits for the time to live already.
        options.cache_size = 0;
        let dns = Arc::new(builder.build().map_err(|why| why.to_string())?);
        Ok(Self { stamps, hosts: Arc::new(Hosts::from_system().unwrap_or_default()), dns })
    }
}

fn in_hosts(hosts: &Hosts, name: &Name) -> Vec<IpAddr> {
    let kinds = [RecordType::A, RecordType::AAAA].into_iter();
    let found = kinds.filter_map(|kind| hosts.lookup_static_host(&Query::query(name.clone(), kind)));
    found.flat_map(|lookup| lookup.answers().iter().filter_map(|one| one.data.ip_addr()).collect::<Vec<_>>()).collect()
}

/// Without those of a family that this machine has no route for, unless nothing is left.
fn reachable(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let some: Vec<_> = addresses.iter().copied().filter(|&address| has_route(address)).collect();
    if some.is_empty() { addresses } else { some }
}

/// Connecting a datagram socket asks the routing table and sends nothing.
fn has_route(address: IpAddr) -> bool {
    let any: SocketAddr = match address {
        IpAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    UdpSocket::bind(any).and_then(|socket| socket.connect((address, 9))).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::config::{NameServerConfig, ResolverConfig};
    use hickory_resolver::proto::op::{Message, ResponseCode};
    use hickory_resolver::proto::rr::{RData, Record};
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use tokio::task::JoinSet;

    #[allow(clippy::unnecessary_wraps)]
    fn good(addresses: &[&str], ttl: u64) -> Answer {
        Ok((addresses.iter().map(|text| text.parse().unwrap()).collect(), Duration::from_secs(ttl)))
    }

    #[test]
    fn the_last_good_set_is_kept() {
        let now = Instant::now();
        let mut known = Known::default();
        let both = ["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        assert_eq!(known.learn(good(&["10.0.0.2", "10.0.0.1"], 30), now, 0.0), Change::Addresses(both.to_vec()));
        assert_eq!(known.learn(good(&["10.0.0.1", "10.0.0.2"], 30), now, 0.0), Change::Nothing);
        assert_eq!(known.learn(good(&[], 30), now, 0.5), Change::Failed("no addresses".into()));
        assert_eq!(known.learn(Err("refused".into()), now, 0.5), Change::Nothing, "told once");
        assert_eq!(known.addresses, both);
        assert_eq!(known.learn(good(&["10.0.0.1", "10.0.0.2"], 30), now, 0.0), Change::Nothing);
        assert_eq!(known.reason, None);
    }

    #[test]
    fn the_time_to_live_is_bounded_and_failures_wait_longer_each_time() {
        let now = Instant::now();
        let after = |known: &Known| known.next.map(|next| next - now);
        let mut known = Known::default();
        for (ttl, wait) in [(0, 1), (30, 30), (86_400, 300)] {
            known.learn(good(&["10.0.0.1"], ttl), now, 0.0);
            assert_eq!(after(&known), Some(Duration::from_secs(wait)));
        }
        for wait in [1, 2, 4, 8, 16, 30, 30] {
            known.learn(Err("refused".into()), now, 0.5);
            assert_eq!(after(&known), Some(Duration::from_secs(wait)));
        }
    }

    #[tokio::test]
    async fn localhost_is_found_without_a_server() {
        let lookup = Lookup::default();
        assert!(!lookup.is_tried());
        assert!(matches!(lookup.ask("localhost", &Arc::default()).await, Change::Addresses(_)));
        lookup.tried().await;
        assert!(lookup.addresses().iter().all(IpAddr::is_loopback));
    }

    /// A name server on the loopback that knows `app.test` and counts the questions.
    async fn name_server(asked: Arc<AtomicUsize>) -> (Arc<Resolver>, JoinSet<()>) {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let mut work = JoinSet::new();
        work.spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                asked.fetch_add(1, SeqCst);
                let question = Message::from_vec(&buffer[..length]).unwrap();
                let query = question.queries[0].clone();
                let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
                match (query.name().to_utf8().as_str(), query.query_type()) {
                    ("app.test.", RecordType::A) => {
                        let address = RData::A(std::net::Ipv4Addr::new(127, 0, 0, 9).into());
                        answer.answers.push(Record::from_rdata(query.name().clone(), 77, address));
                    }
                    ("app.test.", _) => {}
                    _ => answer.metadata.response_code = ResponseCode::NXDomain,
                }
                answer.queries.push(query);
                socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
            }
        });
        let mut server = NameServerConfig::udp([127, 0, 0, 1].into());
        server.connections[0].port = port;
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let system = System::new(stamps(), builder).unwrap();
        (Arc::new(Resolver(Mutex::new(Some(system)))), work)
    }

    #[tokio::test]
    async fn a_name_server_is_asked_each_time_and_its_time_to_live_is_known() {
        let asked = Arc::new(AtomicUsize::new(0));
        let (resolver, _work) = name_server(Arc::clone(&asked)).await;
        let (addresses, ttl) = resolver.lookup("app.test").await.unwrap();
        assert_eq!(addresses, [IpAddr::from([127, 0, 0, 9])]);
        assert!((70..=77).contains(&ttl.as_secs()), "{ttl:?}");
        assert_eq!(asked.load(SeqCst), 2, "A and AAAA");
        resolver.lookup("app.test").await.unwrap();
        assert_eq!(asked.load(SeqCst), 4, "nothing is kept");
        assert!(resolver.lookup("other.test").await.is_err());
    }
}
