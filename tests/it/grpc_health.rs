//! The health protocol of gRPC as a probe, answered by the health service of the grpcio project.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::harness::tls::Authority;
use crate::harness::{Gateway, Setup, eventually};
use crate::outside::python;

/// The server of `health_server.py`.
struct Server {
    child: Child,
    said: BufReader<ChildStdout>,
    port: u16,
}

impl Server {
    fn start(setup: &Setup, arguments: &[&str]) -> Option<Self> {
        let python = python("grpc_health.v1")?;
        let script = setup.path().join("health_server.py");
        std::fs::write(&script, include_str!("outside/health_server.py")).unwrap();
        let mut command = Command::new(python);
        let mut child =
            command.arg(&script).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        let mut server = Self { child, said, port: 0 };
        server.port = server.line().parse().expect("its port");
        Some(server)
    }
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
    /// From now on the service says this of itself.
    fn set(&mut self, service: &str, status: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{service}={status}").unwrap();
        assert_eq!(self.line(), "set");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn document(pool: &str) -> String {
    format!("pools: {{ app: {pool} }}\nroutes: {{ all: {{ match: POST /*, to: app }} }}\n")
}

/// Waits until the only target is so, and for that reason.
fn until(gateway: &Gateway, state: &str, reason: &str) {
    eventually(&format!("{state}: {reason}"), || {
        let target = &gateway.admin("/pools").json()[0]["targets"][0];
        (target["state"] == state && target["reason"].as_str().unwrap_or_default() == reason).then_some(())
    });
}

const OFTEN: &str = "every: 100ms, timeout: 10s, down_after: 1, up_after: 1";

#[test]
fn a_grpc_service_is_asked_in_its_own_words() {
    let setup = Setup::new();
    let Some(mut server) = Server::start(&setup, &["health"]) else { return };
    server.set("orders.Orders", "SERVING");
    let pool = |service: &str| {
        let port = server.port;
        document(&format!(
            "{{ targets: ['127.0.0.1:{port}'], protocol: h2c, health: {{ grpc: '{service}', {OFTEN} }} }}"
        ))
    };
    let (orders, whole, other) = (pool("orders.Orders"), pool(""), pool("other.Service"));
    let mut gateway = setup.start(orders);
    until(&gateway, "up", "");
    server.set("orders.Orders", "NOT_SERVING");
    until(&gateway, "down", "NOT_SERVING");
    server.set("orders.Orders", "SERVING");
    until(&gateway, "up", "");
    gateway.reload(other);
    until(&gateway, "down", "the target knows no such service (grpc-status 5)");
    gateway.reload(whole);
    until(&gateway, "up", "");
    server.set("", "NOT_SERVING");
    until(&gateway, "down", "NOT_SERVING");
}

#[test]
fn a_server_without_the_service_is_told_apart() {
    let setup = Setup::new();
    let Some(server) = Server::start(&setup, &["nothing"]) else { return };
    let pool = format!("{{ targets: ['127.0.0.1:{}'], protocol: h2c, health: {{ grpc: a.B, {OFTEN} }} }}", server.port);
    let gateway = setup.start(document(&pool));
    until(&gateway, "down", "the target does not offer grpc.health.v1 (grpc-status 12)");
}

#[test]
fn it_is_asked_under_tls_too() {
    let authority = Authority::new();
    let setup = Setup::new().pair("a", &authority.issue(&["localhost"])).file("ca.pem", &authority.pem);
    let path = |name: &str| setup.path().join(name).to_str().unwrap().to_owned();
    let Some(server) = Server::start(&setup, &["health", &path("a.key"), &path("a.pem")]) else { return };
    let pool = format!(
        "{{ targets: ['127.0.0.1:{}'], protocol: h2, tls: {{ ca: \"$DIR/ca.pem\", sni: localhost }}, health: {{ grpc: '', {OFTEN} }} }}",
        server.port
    );
    let gateway = setup.start(document(&pool));
    until(&gateway, "up", "");
}
