//! Address, TLS and limits become the peer that Pingora connects to.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora::connectors::L4Connect;
use pingora::protocols::l4::ext;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::{ALPN, TcpKeepalive};
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy, PeerOptions, Scheme};
use pingora_error::{Error, ErrorType};

use super::connection::{Connections, Errand, Limits};
use super::tls::Tls;
use super::{Protocol, Timeout, timeout};
use crate::units;

/// Requests on one HTTP/2 connection at a time (Pingora's default is 1).
const STREAMS: usize = 100;
/// Servers of gRPC close connections that are pinged more often than every five minutes, so this only finds the dead
/// ones that TCP keep-alive misses.
const PING: Duration = Duration::from_mins(6);
const TCP_IDLE: Duration = Duration::from_secs(15);
const TCP_INTERVAL: Duration = Duration::from_secs(5);

fn alive() -> TcpKeepalive {
    // A limit on unacknowledged data would also cut upstreams that read slowly; `timeout.write` does that.
    TcpKeepalive { idle: TCP_IDLE, interval: TCP_INTERVAL, count: 3, user_timeout: Duration::ZERO }
}

/// All that a pool's peers have in common.
pub(super) struct Settings {
    tls: Option<Tls>,
    alpn: ALPN,
    timeouts: timeout::Config,
    keep: Duration,
    group: u64,
}

impl Settings {
    pub(super) fn new(tls: Option<Tls>, protocol: Protocol, timeouts: timeout::Config, keep: Duration) -> Self {
        let alpn = match protocol {
            Protocol::Auto if tls.is_some() => ALPN::H2H1,
            Protocol::Auto | Protocol::H1 => ALPN::H1,
            Protocol::H2 | Protocol::H2c => ALPN::H2,
        };
        // What Pingora leaves out when it looks for a connection to use again.
        let mut group = DefaultHasher::new();
        alpn.hash(&mut group);
        tls.as_ref().map(Tls::identity).hash(&mut group);
        Self { tls, alpn, timeouts, keep, group: group.finish() }
    }

    /// The peer at `address`; `name` is what it is asked for and must prove to be.
    pub(super) fn peer(&self, address: SocketAddr, name: &str) -> HttpPeer {
        let mut peer = HttpPeer {
            _address: address,
            scheme: Scheme::from_tls_bool(self.tls.is_some()),
            sni: String::new(),
            proxy: None,
            client_cert_key: None,
            group_key: self.group,
            options: PeerOptions::new(),
        };
        let options = &mut peer.options;
        options.alpn = self.alpn.clone();
        // The proxy has taken away what belongs to the client's connection, once for all tries.
        options.http_upstream_request_policy = HttpUpstreamRequestPolicy::preserve();
        options.max_h2_streams = STREAMS;
        options.h2_ping_interval = Some(PING);
        options.idle_timeout = Some(self.keep);
        options.tcp_keepalive = Some(alive());
        if let Some(tls) = &self.tls {
            options.verify_cert = tls.verify();
            options.verify_hostname = tls.verify();
            options.ca = tls.ca();
            peer.client_cert_key = tls.client();
            // Pingora does not verify where the name is empty: no peer leaves here without one.
            peer.sni = match tls.name().unwrap_or(name) {
                "" => "name.invalid".into(),
                name => name.into(),
            };
        }
        self.limit(&mut peer, &self.timeouts, None);
        peer
    }

    /// Lets the peer connect through an errand of ours, where it speaks plain HTTP/1: Pingora then watches no time.
    pub(super) fn send(
        &self,
        peer: &mut HttpPeer,
        timeouts: &timeout::Config,
        end: Option<Instant>,
        once: bool,
        connections: &Arc<Connections>,
    ) -> Option<Arc<Errand>> {
        if !self.has_errands() {
            return None;
        }
        let limits = Limits {
            connect: timeouts.connect.get(),
            first_byte: timeouts.head().get(),
            per_try: timeouts.per_try.map(units::Duration::get),
            idle: timeouts.idle.get(),
            write: timeouts.write.get(),
            end: end.map(Into::into),
            keep: self.keep,
            once,
            alive: alive(),
        };
        let errand = Errand::new(connections.clone(), limits);
        let options = &mut peer.options;
        options.custom_l4 = Some(errand.clone());
        options.connection_timeout = None;
        options.total_connection_timeout = None;
        options.read_timeout = None;
        options.write_timeout = None;
        options.tcp_keepalive = None;
        Some(errand)
    }

    /// Sets the limits of a peer whose connections are Pingora's; it has but one for every read, so the shortest holds for
    /// all. `left` is what is left of the request's time.
    pub(super) fn limit(&self, peer: &mut HttpPeer, timeouts: &timeout::Config, left: Option<Duration>) {
        let within = |limit: Duration| left.map_or(limit, |left| left.min(limit));
        let (connect, tls) = (within(timeouts.connect.get()), within(timeouts.tls.get()));
        let limits = [Some(timeouts.idle), timeouts.first_byte, timeouts.per_try];
        let options = &mut peer.options;
        options.read_timeout = limits.into_iter().flatten().map(|limit| within(limit.get())).min();
        options.write_timeout = Some(within(timeouts.write.get()));
        if self.tls.is_some() {
            // Pingora has one limit for both steps, so the first one is our own.
            options.custom_l4 = Some(Arc::new(Connect { within: connect }));
            options.connection_timeout = Some(tls);
            options.total_connection_timeout = Some(within(connect + tls));
        } else {
            options.connection_timeout = Some(connect);
            options.total_connection_timeout = Some(connect);
        }
    }

    /// Whether its connections are our own.
    pub(super) fn has_errands(&self) -> bool {
        self.tls.is_none() && matches!(self.alpn, ALPN::H1)
    }

    /// Whether HTTP/1.1 can be spoken with the targets.
    pub(super) fn speaks_h1(&self) -> bool {
        self.alpn.get_min_http_version() == 1
    }

    /// Makes it the peer of a tunnel: HTTP/1.1, and a socket of its own without a buffer.
    pub(super) fn tunnel(&self, peer: &mut HttpPeer, timeouts: &timeout::Config, left: Option<Duration>) {
        self.limit(peer, timeouts, left);
        let connect = left.map_or(timeouts.connect.get(), |left| left.min(timeouts.connect.get()));
        peer.options.alpn = ALPN::H1;
        peer.options.custom_l4 = Some(Arc::new(Connect { within: connect }));
    }

    /// The limits of a try: the route's in place of the pool's.
    pub(super) fn timeouts(&self, route: Option<&Timeout>) -> Cow<'_, timeout::Config> {
        route.map_or(Cow::Borrowed(&self.timeouts), |route| Cow::Owned(route.over(&self.timeouts)))
    }
    /// How long connections may rest.
    pub(super) fn keep(&self) -> Duration {
        self.keep
    }
    pub(super) fn has_tls(&self) -> bool {
        self.tls.is_some()
    }
    /// The name that every target is asked for, if the pool says one.
    pub(super) fn name(&self) -> Option<&str> {
        self.tls.as_ref()?.name()
    }
    /// Tells these settings from others, as far as connections go.
    pub(super) fn group(&self) -> u64 {
        self.group
    }
}

/// Opens a connection within its own limit.
#[derive(Debug)]
struct Connect {
    within: Duration,
}

#[async_trait]
impl L4Connect for Connect {
    async fn connect(&self, address: &SocketAddr) -> pingora_error::Result<Stream> {
        let open = async {
            match address {
                SocketAddr::Inet(ip) => ext::connect(ip, None).await.map(Stream::from),
                SocketAddr::Unix(path) => match path.as_pathname() {
                    Some(path) => ext::connect_uds(path).await.map(Stream::from),
                    None => Error::e_explain(ErrorType::SocketError, "a unix socket without a path"),
                },
            }
        };
        match tokio::time::timeout(self.within, open).await {
            Ok(answer) => answer,
            Err(_) => Error::e_explain(ErrorType::ConnectTimedout, format!("no connection within {:?}", self.within)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Timeout;
    use pingora::upstreams::peer::Peer;

    fn address() -> SocketAddr {
        SocketAddr::Inet("127.0.0.1:80".parse().unwrap())
    }

    fn settings(tls: Option<Tls>, protocol: Protocol) -> Settings {
        Settings::new(tls, protocol, timeout::Config::default(), Duration::from_mins(1))
    }

    #[test]
    fn every_limit_is_set_and_a_route_changes_what_it_names() {
        let settings = settings(None, Protocol::Auto);
        let mut peer = settings.peer(address(), "app");
        assert_eq!(peer.connection_timeout(), Some(Duration::from_secs(1)));
        assert_eq!(peer.total_connection_timeout(), Some(Duration::from_secs(1)));
        assert_eq!(peer.options.read_timeout, Some(Duration::from_mins(1)));
        assert_eq!(peer.options.write_timeout, Some(Duration::from_mins(1)));
        assert_eq!(peer.idle_timeout(), Some(Duration::from_mins(1)));
        let route = Timeout { idle: Some(units::Duration::from_secs(7)), ..Timeout::default() };
        settings.limit(&mut peer, &settings.timeouts(Some(&route)), None);
        assert_eq!(peer.options.read_timeout, Some(Duration::from_secs(7)));
        assert_eq!(peer.connection_timeout(), Some(Duration::from_secs(1)));
        let route = Timeout { first_byte: Some(units::Duration::from_secs(5)), ..Timeout::default() };
        let (left, own) = (Duration::from_millis(300), settings.timeouts(Some(&route)));
        settings.limit(&mut peer, &own, None);
        assert_eq!(peer.options.read_timeout, Some(Duration::from_secs(5)));
        settings.limit(&mut peer, &own, Some(left));
        let limits = [peer.options.read_timeout, peer.options.write_timeout, peer.connection_timeout()];
        assert_eq!(limits, [Some(left); 3], "no step outlasts the request");
    }

    #[test]
    fn a_tls_peer_always_has_a_name() {
        let tls = Tls::default();
        let with = settings(Some(tls), Protocol::Auto);
        assert_eq!(with.peer(address(), "10.0.0.1").sni, "10.0.0.1");
        assert_eq!(with.peer(address(), "").sni, "name.invalid");
        assert!(with.peer(address(), "").verify_cert());
        assert_eq!(with.peer(address(), "a").total_connection_timeout(), Some(Duration::from_secs(4)));
    }

    #[test]
    fn other_protocols_do_not_share_connections() {
        let hash = |protocol| settings(None, protocol).peer(address(), "a").reuse_hash();
        assert_eq!(hash(Protocol::Auto), hash(Protocol::H1));
        assert_ne!(hash(Protocol::H1), hash(Protocol::H2c));
    }
}
