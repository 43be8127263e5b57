//! Asks a target by opening a connection, with TLS if the pool has it.

use pingora::connectors::TransportConnector;
use pingora::upstreams::peer::HttpPeer;
use pingora_load_balancing::Backend;
use pingora_load_balancing::health_check::{HealthCheck, TcpHealthCheck};

use super::why;

/// A plain target is asked by Pingora's own check; one behind TLS as its requests would be, with the pool's CA and
/// certificate, which that check does not know. How long it may take is the caller's to say.
pub(super) async fn ask(plain: &TcpHealthCheck, tls: &TransportConnector, peer: &HttpPeer) -> Result<(), String> {
    let asked = if peer.is_tls() {
        tls.new_stream(peer).await.map(drop)
    } else {
        let target = Backend { addr: peer._address.clone(), weight: 1, ext: http::Extensions::default() };
        plain.check(&target).await
    };
    asked.map_err(|error| why(&error))
}
