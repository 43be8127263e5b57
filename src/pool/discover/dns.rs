//! Names become addresses, and services names of hosts with ports, each with its time to live.

use std::fmt;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Hosts, ResolverBuilder, TokioResolver};

/// Entries of the hosts file have no time to live.
const HOSTS_TTL: Duration = Duration::from_secs(5);
/// A lookup is given up after this.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// A name server: its address, and its port where that is not 53.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Server(SocketAddr);

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let server = bare.map(|ip| SocketAddr::new(ip, 53)).or_else(|_| text.parse());
        let wrong = |_| format!("`{text}` is no address of a name server, e.g. 10.0.0.53 or 10.0.0.53:5353");
        server.map(Self).map_err(wrong)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.port() == 53 { self.0.ip().fmt(f) } else { self.0.fmt(f) }
    }
}

crate::units::scalar!(Server, "an address of a name server", example "10.0.0.53",
    bare number |n| n.to_string().parse(),
    "The IP address of a name server, with its port unless that is 53.");

/// The instances of a service, as DNS has them (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    pub(super) host: Box<str>,
}

/// How names are resolved: by the servers that are named, else the system's way, read again when its files change.
#[derive(Default)]
pub(in crate::pool) struct Resolver {
    servers: Vec<Server>,
    system: Mutex<Option<System>>,
}

#[derive(Clone)]
struct System {
    stamps: [Option<SystemTime>; 2],
    hosts: Arc<Hosts>,
    dns: Arc<TokioResolver>,
}

impl Resolver {
    pub(in crate::pool) fn new(servers: &[Server]) -> Self {
        Self { servers: servers.to_vec(), system: Mutex::default() }
    }

    pub(super) async fn lookup(&self, host: &str) -> Result<(Vec<IpAddr>, Duration), String> {
        let system = self.system()?;
        let name = Name::from_utf8(host).map_err(|why| why.to_string())?;
        let known = in_hosts(&system.hosts, &name);
        if !known.is_empty() {
            return Ok((reachable(known), HOSTS_TTL));
        }
        let answer = system.dns.lookup_ip(name).await.map_err(|why| why.to_string())?;
        Ok((reachable(answer.iter().collect()), left(answer.valid_until())))
    }

    pub(super) async fn services(&self, name: &str) -> Result<(Vec<Service>, Duration), String> {
        // A name without a dot at its end would be looked for in the search domains too.
        let mut name = Name::from_utf8(name).map_err(|why| why.to_string())?;
        name.set_fqdn(true);
        let answer = self.system()?.dns.srv_lookup(name).await.map_err(|why| why.to_string())?;
        let one = |data: &RData| match data {
            RData::SRV(srv) if !srv.target.is_root() => {
                let host = srv.target.to_utf8().trim_end_matches('.').to_ascii_lowercase().into();
                Some(Service { priority: srv.priority, weight: srv.weight, port: srv.port, host })
            }
            _ => None,
        };
        let services = answer.answers().iter().filter_map(|record| one(&record.data)).collect();
        Ok((services, left(answer.valid_until())))
    }

    fn system(&self) -> Result<System, String> {
        let stamps = stamps();
        let mut system = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(system) = system.as_ref().filter(|system| system.stamps == stamps) {
            return Ok(system.clone());
        }
        let builder = if self.servers.is_empty() {
            TokioResolver::builder_tokio().map_err(|why| why.to_string())?
        } else {
            let servers = self.servers.iter().map(|server| {
                let mut config = NameServerConfig::udp_and_tcp(server.0.ip());
                config.connections.iter_mut().for_each(|connection| connection.port = server.0.port());
                config
            });
            let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        Ok(system.insert(System::new(stamps, builder)?).clone())
    }
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
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
    use hickory_resolver::proto::op::{Message, ResponseCode};
    use hickory_resolver::proto::rr::Record;
    use hickory_resolver::proto::rr::rdata::SRV;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use tokio::task::JoinSet;

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
                    ("_http._tcp.app.test.", RecordType::SRV) => {
                        for (target, weight) in [("App.test.", 3), (".", 1)] {
                            let service = RData::SRV(SRV::new(10, weight, 8080, target.parse().unwrap()));
                            answer.answers.push(Record::from_rdata(query.name().clone(), 55, service));
                        }
                    }
                    ("app.test.", _) => {}
                    _ => answer.metadata.response_code = ResponseCode::NXDomain,
                }
                answer.queries.push(query);
                socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
            }
        });
        (Arc::new(Resolver::new(&[format!("127.0.0.1:{port}").parse().unwrap()])), work)
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

    #[tokio::test]
    async fn services_are_asked_for_and_no_host_is_none() {
        let (resolver, _work) = name_server(Arc::default()).await;
        let (services, ttl) = resolver.services("_http._tcp.app.test").await.unwrap();
        assert_eq!(services, [Service { priority: 10, weight: 3, port: 8080, host: "app.test".into() }]);
        assert!((50..=55).contains(&ttl.as_secs()), "{ttl:?}");
        assert!(resolver.services("_http._tcp.other.test").await.is_err());
    }

    #[test]
    fn a_name_server_has_a_port_where_that_is_not_53() {
        for text in ["10.0.0.53", "10.0.0.53:5353", "2001:db8::53", "[2001:db8::53]:5353"] {
            assert_eq!(text.parse::<Server>().unwrap().to_string(), text);
        }
        assert_eq!("10.0.0.53:53".parse::<Server>().unwrap().to_string(), "10.0.0.53");
        assert!("dns.internal".parse::<Server>().is_err());
    }
}
