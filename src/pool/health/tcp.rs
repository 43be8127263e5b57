//! Asks a target by opening a connection, with TLS if the pool has it.

use pingora_core::connectors::TransportConnector;
use pingora_core::upstreams::peer::HttpPeer;

use super::why;

pub(super) async fn ask(connector: &TransportConnector, peer: &HttpPeer) -> Result<(), String> {
    connector.new_stream(peer).await.map(drop).map_err(|error| why(&error))
}
