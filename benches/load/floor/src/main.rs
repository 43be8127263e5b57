//! A bare Pingora proxy: one upstream, one thread, no log, no metric, no route. What the framework alone costs.
//!
//! `floor HTTP_ADDRESS TLS_ADDRESS UPSTREAM CERT KEY`

use std::net::SocketAddr;

use async_trait::async_trait;
use pingora::listeners::tls::TlsSettings;
use pingora::prelude::*;
use pingora::server::configuration::ServerConf;

struct Floor {
    upstream: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Floor {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [http, tls, upstream, cert, key] = arguments.as_slice() else {
        eprintln!("floor HTTP_ADDRESS TLS_ADDRESS UPSTREAM CERT KEY");
        std::process::exit(64);
    };
    let conf =
        ServerConf { threads: 1, work_stealing: false, upstream_keepalive_pool_size: 1024, ..Default::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let floor = Floor { upstream: upstream.parse().expect("an address") };
    let mut service = http_proxy_service(&server.configuration, floor);
    let mut settings = TlsSettings::intermediate(cert, key).expect("a certificate and its key");
    settings.enable_h2();
    service.add_tcp(http);
    service.add_tls_with_settings(tls, None, settings);
    server.add_service(service);
    server.run_forever();
}
