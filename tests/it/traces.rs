//! Traces: what a receiver of OTLP is told of requests, which of them, and that nobody waits for it.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::gateway::Lines;
use crate::harness::handshake::{SWITCH, upgrade};
use crate::harness::{Gateway, Origin, Request, Setup, eventually, times};
use crate::outside::python;

const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const ID: &str = "0af7651916cd43dd8448eb211c80319c";

/// A receiver in Python, built on the messages that OpenTelemetry publishes.
pub struct Receiver {
    server: Child,
    pub port: String,
    heard: Lines,
}

impl Receiver {
    /// Nothing where Python lacks the packages.
    pub fn start(kind: &str, port: &str, refusals: u32) -> Option<Self> {
        let python = python("opentelemetry.proto.collector.trace.v1, grpc_status")?;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/outside/otlp_receiver.py");
        let mut command = Command::new(python);
        command.args([script, kind, port, &refusals.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut server = command.spawn().unwrap();
        let heard = Lines::of(server.stdout.take().unwrap());
        let port = eventually("a port", || heard.all().first().cloned());
        Some(Self { server, port, heard })
    }

    fn spans(&self) -> Vec<Value> {
        self.heard.all().iter().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The first span that is meant, waited for.
    fn span(&self, meant: impl Fn(&Value) -> bool) -> Value {
        let found = eventually_or(|| self.spans().into_iter().find(&meant));
        found.unwrap_or_else(|| panic!("no such span in {:#?}", self.spans()))
    }

    /// The span of a request for this path.
    pub fn request(&self, path: &str) -> Value {
        self.span(|span| span["kind"] == "SERVER" && span["attributes"]["url.path"] == path)
    }

    /// The spans of the tries of a request, in their order, once there are so many.
    pub fn tries(&self, request: &Value, number: usize) -> Vec<Value> {
        let below =
            || -> Vec<Value> { self.spans().into_iter().filter(|span| span["parent"] == request["span"]).collect() };
        let all = eventually_or(|| Some(below()).filter(|tries| tries.len() >= number));
        let mut tries = all.unwrap_or_else(|| panic!("not {number} tries in {:#?}", self.spans()));
        tries.sort_by_key(|span| span["attributes"]["http.request.resend_count"].as_u64());
        tries
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn eventually_or<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + crate::harness::PATIENCE;
    while Instant::now() < end {
        if let Some(seen) = look() {
            return Some(seen);
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    None
}

pub fn observed(traces: &str, rest: &str) -> String {
    format!("observe: {{ access_log: {{ to: \"file:$DIR/access.log\" }}, traces: {traces} }}\n{rest}")
}

fn plain(origin: &Origin, traces: &str) -> String {
    observed(traces, &Gateway::document(origin, "all: { match: /*, to: app }"))
}

fn counted(gateway: &Gateway, result: &str) -> u64 {
    let sum = gateway.metrics().sum("yumen_trace_spans_total", &[("result", result)]);
    sum.to_string().parse().unwrap()
}

fn comes_to(gateway: &Gateway, result: &str, number: u64) {
    let mut last = 0;
    let came = eventually_or(|| {
        last = counted(gateway, result);
        (last == number).then_some(())
    });
    assert!(came.is_some(), "{result}: {last}, not {number}");
}

#[test]
fn a_request_with_a_retry_is_one_server_span_with_a_client_span_for_each_try() {
    let Some(receiver) = Receiver::start("http", "0", 0) else { return };
    let (sick, well) = (Origin::new(|_, talk| talk.answer(503, "", "no")), Origin::answering("well"));
    let traces = format!("{{ otlp: 'http://127.0.0.1:{}', sample: 100% }}", receiver.port);
    let gateway = Gateway::start(observed(
        &traces,
        &format!(
            "pools: {{ app: {{ targets: [{{ at: '{sick}', weight: 1000 }}, '{well}'], retry: {{ on: [503] }} }} }}\n\
             routes:\n  orders: {{ match: 'GET /orders/:id', to: app, rewrite: {{ path: '/v2/:id' }} }}\n"
        ),
    ));
    let sent = Request::get("/orders/7?token=secret").host("api.example.com:8080").with("User-Agent", "tests/1.0");
    assert_eq!(gateway.ask(sent).text(), "well");
    let server = receiver.request("/orders/7");
    assert_eq!(server["name"], "GET /orders/:id");
    assert_eq!((&server["parent"], &server["remote"]), (&"".into(), &false.into()));
    let said = &server["attributes"];
    let id = gateway.access_line(|line| line["url.path"] == "/orders/7");
    for (name, value) in [
        ("http.request.method", "GET".into()),
        ("url.path", "/orders/7".into()),
        ("server.address", "api.example.com".into()),
        ("server.port", 8080.into()),
        ("url.scheme", "http".into()),
        ("http.route", "/orders/:id".into()),
        ("http.response.status_code", 200.into()),
        ("network.protocol.version", "1.1".into()),
        ("client.address", "127.0.0.1".into()),
        ("network.peer.address", "127.0.0.1".into()),
        ("user_agent.original", "tests/1.0".into()),
        ("yumen.route", "orders".into()),
        ("yumen.listener", "edge".into()),
        ("yumen.request_id", id["request_id"].clone()),
    ] {
        assert_eq!(said[name], value, "{name}: {server:#}");
    }
    assert_eq!((&said["error.type"], &server["error"]), (&Value::Null, &false.into()), "the client was served");
    assert!(!server.to_string().contains("secret"), "queries carry tokens");
    assert_eq!(server["trace"], id["trace_id"], "log and trace are found by each other");
    for (name, value) in [("service.name", "yumen"), ("service.version", env!("CARGO_PKG_VERSION"))] {
        assert_eq!(server["resource"][name], value, "{name}");
    }
    assert_ne!(server["resource"]["host.name"], Value::Null);
    assert!(server["age"].as_u64().unwrap() < 60_000_000_000, "{server:#}");

    let tries = receiver.tries(&server, 2);
    let told: Vec<_> = tries
        .iter()
        .map(|span| {
            let said = &span["attributes"];
            (&span["kind"], &said["http.response.status_code"], &said["http.request.resend_count"], &said["error.type"])
        })
        .collect();
    let (client, null) = (&Value::from("CLIENT"), &Value::Null);
    assert_eq!(
        told,
        [(client, &503.into(), null, &"503".into()), (client, &200.into(), &1.into(), null)],
        "{tries:#?}"
    );
    for (origin, span) in [(&sick, &tries[0]), (&well, &tries[1])] {
        let said = &span["attributes"];
        assert_eq!(said["url.full"], format!("http://{origin}/v2/7"));
        assert_eq!((&said["server.address"], &said["yumen.pool"]), (&"127.0.0.1".into(), &"app".into()));
        assert_eq!(said["server.port"], origin.address().port());
        assert_eq!(span["trace"], server["trace"]);
        assert!(span["took"].as_u64() <= server["took"].as_u64());
        let parent = format!("00-{}-{}-01", server["trace"].as_str().unwrap(), span["span"].as_str().unwrap());
        assert_eq!(origin.last().field("traceparent"), Some(&*parent), "the target's parent is its try");
    }
    comes_to(&gateway, "exported", 3);
}

#[test]
fn a_trace_is_continued_and_whose_word_on_keeping_it_counts_is_said() {
    let Some(receiver) = Receiver::start("http", "0", 0) else { return };
    let origin = Origin::answering("ok");
    let otlp = format!("otlp: 'http://127.0.0.1:{}'", receiver.port);
    let mut gateway = Gateway::start(plain(&origin, &format!("{{ {otlp}, sample: 0%, follow: anyone }}")));
    let ask = |gateway: &Gateway, path: &str| {
        gateway.ask(Request::get(path).with("traceparent", CALLER).with("tracestate", "a=b"));
        let seen = origin.last();
        assert_eq!(seen.field("tracestate"), Some("a=b"));
        seen.field("traceparent").unwrap().to_owned()
    };
    assert!(ask(&gateway, "/followed").ends_with("-01"));
    let server = receiver.request("/followed");
    assert_eq!((&server["trace"], &server["parent"]), (&ID.into(), &"b7ad6b7169203331".into()));
    assert_eq!((&server["remote"], &server["sampled"]), (&true.into(), &true.into()));
    assert_eq!(server["state"], "a=b");
    // Without a word on it, that of hops that we trust: this client is none.
    gateway.reload(plain(&origin, &format!("{{ {otlp}, sample: 0% }}")));
    assert!(ask(&gateway, "/not-trusted").ends_with("-00"));
    let trust = "runtime: { client_ip: { trust: [127.0.0.1/32] } }\n";
    gateway.reload(format!("{trust}{}", plain(&origin, &format!("{{ {otlp}, sample: 0% }}"))));
    assert!(ask(&gateway, "/trusted").ends_with("-01"));
    gateway.reload(format!("{trust}{}", plain(&origin, &format!("{{ {otlp}, sample: 0%, follow: nobody }}"))));
    assert!(ask(&gateway, "/nobody").ends_with("-00"));
    receiver.request("/trusted");
    let paths: Vec<_> = receiver.spans().iter().map(|span| span["attributes"]["url.path"].clone()).collect();
    assert!(!paths.contains(&"/not-trusted".into()) && !paths.contains(&"/nobody".into()), "{paths:?}");
}

#[test]
fn of_requests_that_are_not_kept_only_errors_are_told_and_a_route_has_a_rate_of_its_own() {
    let Some(receiver) = Receiver::start("http", "0", 0) else { return };
    let origin = Origin::new(|seen, talk| match seen.target.as_str() {
        "/broken" => talk.answer(500, "", "no"),
        "/gone" => talk.send("nonsense\r\n\r\n").close(),
        _ => talk.answer(200, "", "ok"),
    });
    let traces = format!("{{ otlp: 'http://127.0.0.1:{}', sample: 0% }}", receiver.port);
    let gateway = Gateway::start(observed(
        &traces,
        &Gateway::document(
            &origin,
            "all: { match: /*, to: app, retry: off }\n\
             kept: { match: /kept, to: app, trace: { sample: 100% } }\n\
             closed: { match: /closed, to: app, ip: { deny: [127.0.0.1/32] } }",
        ),
    ));
    let statuses = ["/fine", "/broken", "/gone", "/closed", "/kept"].map(|path| gateway.get(path).status);
    assert_eq!(statuses, [200, 500, 502, 403, 200]);
    assert_eq!(gateway.get("/fine").status, 200);
    let broken = receiver.request("/broken");
    let said =
        |span: &Value| (span["error"].clone(), span["sampled"].clone(), span["attributes"]["error.type"].clone());
    assert_eq!(said(&broken), (true.into(), false.into(), "500".into()), "its target was told that it is not kept");
    let gone = receiver.request("/gone");
    assert_eq!(said(&gone), (true.into(), false.into(), "upstream.protocol".into()));
    assert_eq!(said(&receiver.tries(&gone, 1)[0]).2, "upstream.protocol");
    assert_eq!(said(&receiver.request("/kept")), (false.into(), true.into(), Value::Null));
    comes_to(&gateway, "exported", 6);
    let paths: Vec<_> = receiver.spans().iter().map(|span| span["attributes"]["url.path"].clone()).collect();
    assert!(!paths.contains(&"/fine".into()) && !paths.contains(&"/closed".into()), "{paths:?}");
    assert_eq!(gateway.admin("/routes").json()["kept"]["trace"], "100%");
    let explained = gateway.yumen("explain", &["GET", "http://a.example/kept"]).out;
    assert!(explained.contains("sample 100%"), "{explained}");
}

#[test]
fn a_receiver_of_grpc_is_told_the_same_and_asked_again_when_it_wants() {
    let Some(receiver) = Receiver::start("grpc", "0", 1) else { return };
    let origin = Origin::answering("ok");
    let setup = Setup::new().file("key", "of-the-receiver\n");
    let key = setup.path().join("key");
    let traces = format!(
        "{{ otlp: 'http://127.0.0.1:{}', protocol: grpc, sample: 100%, timeout: 5s, headers: {{ x-key: 'file:{}' }}, \
         attributes: {{ service.name: edge, deployment.environment.name: tests }} }}",
        receiver.port,
        key.display()
    );
    let gateway = setup.start(plain(&origin, &traces));
    gateway.get("/called");
    let server = receiver.request("/called");
    assert_eq!(receiver.tries(&server, 1).len(), 1);
    assert_eq!((&server["fields"]["x-key"], &server["scope"]), (&"of-the-receiver".into(), &"yumen".into()));
    assert_eq!(server["resource"]["service.name"], "edge");
    assert_eq!(server["resource"]["deployment.environment.name"], "tests");
    gateway.log.wait("grpc-status 8 full");
    gateway.get("/again");
    receiver.request("/again");
    comes_to(&gateway, "exported", 4);
    assert_eq!((counted(&gateway, "failed"), counted(&gateway, "dropped")), (0, 0));
}

#[test]
fn nobody_waits_for_a_receiver_that_is_down_and_it_may_come_back() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let origin = Origin::answering("ok");
    let traces = format!("{{ otlp: 'http://127.0.0.1:{port}', sample: 100%, queue: 10, timeout: 1s }}");
    let gateway = Gateway::start(plain(&origin, &traces));
    let began = Instant::now();
    assert!(times(50, || gateway.get("/down").status).iter().all(|status| *status == 200));
    assert!(began.elapsed() < Duration::from_secs(5), "50 requests took {:?}", began.elapsed());
    gateway.log.wait("traces: http://127.0.0.1");
    assert_eq!(counted(&gateway, "dropped"), 90, "five requests of two spans find room");
    let Some(mut receiver) = Receiver::start("http", &port, 1) else { return };
    comes_to(&gateway, "exported", 10);
    gateway.log.wait("answers again");
    gateway.get("/up");
    receiver.request("/up");
    let _ = receiver.server.kill();
    let _ = receiver.server.wait();
    gateway.get("/killed");
    let receiver = Receiver::start("http", &port, 0).unwrap();
    receiver.request("/killed");
    comes_to(&gateway, "exported", 14);
    assert_eq!((counted(&gateway, "dropped"), counted(&gateway, "failed")), (90, 0));
}

#[test]
fn a_receiver_that_is_silent_is_not_waited_for() {
    let silent = Origin::new(|_, talk| talk.echo());
    let origin = Origin::answering("ok");
    let mut gateway =
        Gateway::start(plain(&origin, &format!("{{ otlp: 'http://{silent}', sample: 100%, timeout: 200ms }}")));
    assert_eq!(gateway.get("/").status, 200);
    gateway.log.wait("did not answer within 200ms");
    let again = eventually("another try", || (silent.seen().len() > 1).then(|| silent.seen()));
    assert_eq!((again[0].target.as_str(), &again[0].body), ("/v1/traces", &again[1].body), "the same batch");
    let began = Instant::now();
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), 0);
    assert!(began.elapsed() < Duration::from_secs(8), "it ended after {:?}", began.elapsed());
    gateway.log.wait("spans are lost");
}

#[test]
fn what_waits_outlives_a_reload_and_is_sent_before_the_end() {
    let Some(first) = Receiver::start("http", "0", 0) else { return };
    let second = Receiver::start("http", "0", 0).unwrap();
    let origin = Origin::answering("ok");
    let settings =
        |port: &str, path: &str| plain(&origin, &format!("{{ otlp: 'http://127.0.0.1:{port}{path}', sample: 100% }}"));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let mut gateway = Gateway::start(settings(&nobody, ""));
    gateway.get("/waits");
    gateway.log.wait("traces: http://127.0.0.1");
    gateway.reload(settings(&first.port, ""));
    assert_eq!(first.request("/waits")["fields"]["path"], "/v1/traces");
    gateway.reload(settings(&second.port, "/own/path"));
    gateway.get("/told-before");
    gateway.reload(Gateway::document(&origin, "all: { match: /*, to: app }"));
    assert_eq!(second.request("/told-before")["fields"]["path"], "/own/path", "where nobody is told any more");
    gateway.reload(settings(&second.port, "/own/path"));
    gateway.get("/last");
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), 0);
    assert_eq!(second.request("/last")["fields"]["path"], "/own/path");
    eventually("both spans", || (first.spans().len() == 2).then_some(()));
}

#[test]
fn a_websocket_and_a_copy_have_their_spans() {
    let Some(receiver) = Receiver::start("http", "0", 0) else { return };
    let origin = Origin::new(|seen, talk| match seen.field("upgrade") {
        Some(_) => drop(talk.send(SWITCH)),
        None => talk.answer(200, "", "ok"),
    });
    let copies = Origin::answering("copied");
    let traces = format!("{{ otlp: 'http://127.0.0.1:{}', sample: 100% }}", receiver.port);
    let gateway = Gateway::start(observed(
        &traces,
        &format!(
            "pools: {{ app: [\"{origin}\"], next: [\"{copies}\"] }}\n\
             routes: {{ all: {{ match: /all/*, to: app, copy_to: next }}, ws: {{ match: '/*', to: app }} }}\n"
        ),
    ));
    let mut connection = gateway.connect();
    assert_eq!(connection.ask(&upgrade()).status, 101);
    drop(connection);
    let tunnel =
        receiver.span(|span| span["attributes"]["http.response.status_code"] == 101 && span["kind"] == "SERVER");
    assert_eq!((&tunnel["attributes"]["http.route"], &tunnel["error"]), (&"/*".into(), &false.into()));
    assert_eq!(receiver.tries(&tunnel, 1)[0]["attributes"]["http.response.status_code"], 101);
    gateway.get("/all/7");
    let copy = receiver.span(|span| span["name"] == "GET copy");
    let server = receiver.request("/all/7");
    assert_eq!((&copy["parent"], &copy["attributes"]["yumen.pool"]), (&server["span"], &"next".into()));
    let parent = format!("00-{}-{}-01", copy["trace"].as_str().unwrap(), copy["span"].as_str().unwrap());
    assert_eq!(copies.last().field("traceparent"), Some(&*parent));
}

#[test]
fn a_receiver_behind_tls_has_to_prove_who_it_is() {
    let authority = crate::harness::tls::Authority::new();
    let setup = Setup::new().pair("a", &authority.issue(&["localhost"])).file("ca.pem", &authority.pem);
    let dir = setup.path().display().to_string();
    let Some(receiver) = Receiver::start("http", "0", 0) else { return };
    let origin = Origin::answering("ok");
    // A gateway before the receiver has the certificate; it believes this authority, and the system's do not know it.
    let door = Setup::new().pair("a", &authority.issue(&["localhost"])).start(format!(
        "listeners: {{ tls: {{ bind: 127.0.0.1:0, tls: {{ certs: [{{ cert: \"$DIR/a.pem\", key: \"$DIR/a.key\" }}] }} }} }}\n\
         pools: {{ app: [\"127.0.0.1:{}\"] }}\nroutes: {{ all: {{ match: /*, to: app }} }}\n",
        receiver.port
    ));
    let url = format!("https://{}", door.listener("tls").replace("127.0.0.1", "localhost"));
    let traces = |ca: &str| plain(&origin, &format!("{{ otlp: '{url}', sample: 100%{ca} }}"));
    let mut gateway = setup.start(traces(""));
    gateway.get("/not-known");
    gateway.log.wait("traces: https://localhost");
    assert_eq!(receiver.spans(), Vec::<Value>::new());
    gateway.reload(traces(&format!(", ca: '{dir}/ca.pem'")));
    receiver.request("/not-known");
}
