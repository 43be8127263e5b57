//! `yumen demo`: the main job with nothing else installed: two small services, a gateway before them, lines to type.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use clap::Args;

use super::{Exit, fail, run::serve};
use crate::gateway::boot::Boot;
use crate::gateway::source::Source;
use crate::telemetry::program;

#[derive(Args)]
pub(super) struct Options {
    /// The port of the gateway; the admin listener takes the next one.
    #[arg(long, default_value_t = 8080)]
    port: u16,
}

const DOCUMENT: &str = include_str!("demo.yaml");

pub(super) fn run(options: &Options) -> Exit {
    program::start(program::Level::Info);
    let origins = origin("hello").and_then(|hello| Ok((hello, origin("hello-next")?)));
    let (hello, next) = match origins {
        Ok(ports) => ports,
        Err(why) => return fail(Exit::CannotBind, &format!("cannot start a demo service: {why}")),
    };
    let ports = [("web", options.port), ("admin", options.port.saturating_add(1)), ("hello", hello), ("next", next)];
    let fill = |text: String, (name, port): (&str, u16)| text.replace(&format!("@{name}@"), &port.to_string());
    let document = ports.into_iter().fold(DOCUMENT.to_owned(), fill);
    serve(Source::Text("demo.yaml", document), Boot::Refuse, None, |gateway| invite(&gateway.bound()))
}

/// What to type.
fn invite(bound: &[(String, String)]) {
    let at = |name: &str| bound.iter().find(|(listener, _)| listener == name).map_or("", |(_, address)| address);
    let (web, admin) = (at("web"), at("admin"));
    println!(
        "Yumen serves two small services. Try, in another terminal:

  curl http://{web}/hello/world                    # a route: one in four answers comes from the next version
  curl -H 'x-next: yes' http://{web}/hello/world   # a condition: always the next version
  curl -i http://{web}/nowhere                     # a refusal: a code, a text, a request id
  curl -H 'Accept-Language: zh-CN' http://{web}/nowhere
  curl -i -X DELETE http://{web}/hello/world       # the wrong method: 405 and what is allowed
  curl http://{admin}/health                       # the state of each pool
  curl http://{admin}/metrics

Ctrl-C ends it."
    );
}

/// A service that says who it is and what it was asked; one thread a connection is enough for a demo.
fn origin(name: &'static str) -> std::io::Result<u16> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let port = listener.local_addr()?.port();
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        for connection in listener.incoming().flatten() {
            let _ = std::thread::Builder::new().spawn(move || answer_all(name, connection));
        }
    })?;
    Ok(port)
}

/// Answers every request on one connection; bodies are not expected.
fn answer_all(name: &str, mut connection: std::net::TcpStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(connection.try_clone()?).lines();
    while let Some(first) = lines.next().transpose()? {
        while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
        let target = first.split(' ').nth(1).unwrap_or("/");
        let body = format!("{name} was asked for {target}\n");
        let length = body.len();
        write!(connection, "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n{body}")?;
    }
    Ok(())
}
