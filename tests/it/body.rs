//! Bodies: how large, of what kind, however they are framed; what is refused never looks whole to the target.

use std::time::{Duration, Instant};

use http::Request as H2Request;

use crate::harness::{Connection, Gateway, Origin, Request, eventually, h2};

const H2: &str = "listeners: { edge: { bind: 127.0.0.1:0, protocols: [h1, h2] } }\n";

fn limited(origin: &Origin) -> Gateway {
    let routes = "
  small: { match: /small/*, body: { max: 1KiB }, to: app }
  large: { match: /large/*, body: { max: none }, to: app }
  usual: { match: /*, to: app }";
    Gateway::start(format!("{H2}{}", Gateway::document(origin, routes)))
}

fn chunked(connection: &mut Connection, target: &str, size: usize) {
    connection.send(format!("POST {target} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"));
    connection.send(format!("{size:x}\r\n")).send(vec![b'x'; size]).send("\r\n0\r\n\r\n");
}

#[test]
fn a_body_is_as_large_as_the_route_says_however_it_is_framed() {
    let origin = Origin::new(|seen, talk| talk.answer(200, "", seen.body.len().to_string()));
    let gateway = limited(&origin);
    let too_large = (413, "body.too_large".to_owned());
    assert_eq!(gateway.ask(Request::post("/small/x", [b'x'; 1024])).text(), "1024");
    assert_eq!(gateway.ask(Request::post("/small/x", [b'x'; 1025])).verdict(), too_large);
    let line = gateway.access_line(|line| line["reason"] == "body.too_large");
    assert!(line["rule"].as_str().unwrap().starts_with("routes.small.body ("), "{line}");
    assert_eq!(line["detail"], "1025 bytes are more than 1KiB");
    for (size, expected) in [(1024, 200), (1025, 413), (300_000, 413)] {
        let mut connection = gateway.connect();
        chunked(&mut connection, "/small/x", size);
        assert_eq!(connection.response().status, expected, "{size} chunked");
    }
    // Over HTTP/2 a body need not say its length either.
    let send = |target: &str, size: usize| {
        let request = H2Request::post(format!("http://test.example{target}")).body(()).unwrap();
        h2::ask(&gateway.edge(), request, &vec![b'x'; size]).map(|answer| (answer.status, answer.body))
    };
    assert_eq!(send("/small/x", 1024).unwrap(), (200, b"1024".to_vec()));
    let (status, said) = send("/small/x", 2000).unwrap();
    assert!(status == 413 && String::from_utf8_lossy(&said).contains("body.too_large"), "{status}");
    // 10MiB where the route says nothing, and no end where it says so.
    let eleven = vec![b'x'; 11 << 20];
    assert_eq!(gateway.ask(Request::post("/usual", &eleven)).verdict(), too_large);
    assert_eq!(gateway.ask(Request::post("/large/x", &eleven)).text(), (11 << 20).to_string());
    assert_eq!(gateway.ask(Request::post("/usual", &eleven[..10 << 20])).text(), (10 << 20).to_string());
    assert!(
        origin.seen().iter().all(|seen| [1024, 10 << 20, 11 << 20].contains(&seen.body.len())),
        "none looked whole"
    );
}

#[test]
fn what_is_refused_while_it_passes_ends_at_the_target_too() {
    let origin = Origin::answering("in");
    let gateway = limited(&origin);
    let mut connection = gateway.connect();
    connection.send("POST /small/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..3 {
        connection.send("200\r\n").send([b'x'; 512]).send("\r\n");
    }
    assert_eq!(connection.response().verdict(), (413, "body.too_large".to_owned()));
    assert!(connection.ends(), "what is left of the body is not read as a request");
    assert!(origin.seen().is_empty());
    assert_eq!(gateway.ask(Request::post("/small/x", "ok")).text(), "in");
}

#[test]
fn a_kept_connection_that_was_closed_does_not_count_the_body_twice() {
    // The origin closes after each answer without saying so: the next request on the kept connection is sent again.
    let origin = Origin::new(|seen, talk| {
        talk.answer(200, "", seen.body.len().to_string());
        talk.close();
    });
    let gateway = limited(&origin);
    for _ in 0..10 {
        let request = Request { method: "PUT".into(), ..Request::post("/small/x", [b'x'; 1000]) };
        assert_eq!(gateway.ask(request).text(), "1000");
    }
}

#[test]
fn a_refused_grpc_stream_is_told_by_its_status() {
    let origin = h2::Origin::plain(&[("grpc-status", "0")]);
    let gateway = Gateway::start(format!(
        "{H2}pools: {{ app: {{ targets: ['{origin}'], protocol: h2c }} }}\nroutes: {{ all: {{ match: /*, body: {{ max: 100B }}, to: app }} }}\n"
    ));
    let send = |size: usize| {
        let request = H2Request::post("http://test.example/s/m").header("content-type", "application/grpc");
        h2::ask(&gateway.edge(), request.header("te", "trailers").body(()).unwrap(), &vec![0; size])
    };
    assert_eq!(send(100).unwrap().trailers["grpc-status"], "0");
    // The origin answers as the body comes: then only the cut is left to say it.
    if let Ok(answer) = send(5000) {
        assert_eq!(answer.trailers["grpc-status"], "8");
    }
    let line = gateway.access_line(|line| line["reason"] == "body.too_large");
    assert_eq!(line["route"], "all");
    assert_eq!(origin.asked().len(), 1, "the refused one never ended");
}

#[test]
fn a_body_of_another_type_is_refused() {
    let origin = Origin::answering("in");
    let gateway =
        Gateway::before(&origin, "all: { match: /*, body: { type: [application/json, 'image/*'] }, to: app }");
    let send = |kind: &str| gateway.ask(Request::post("/", "{}").with("Content-Type", kind));
    assert_eq!(["application/json; charset=utf-8", "image/png"].map(|kind| send(kind).status), [200, 200]);
    let refused = send("text/html");
    assert_eq!(refused.verdict(), (415, "body.type".to_owned()));
    assert_eq!(refused.field("accept"), Some("application/json, image/*"));
    assert_eq!(gateway.ask(Request::post("/", "{}")).status, 415, "a body that says nothing of its type");
    assert_eq!(gateway.get("/").status, 200, "no body, no type");
    assert_eq!(gateway.ask(Request::new("POST", "/").with("Content-Length", "0")).status, 200);
}

#[test]
fn a_shadow_lets_large_bodies_pass_and_tells() {
    let origin = Origin::new(|seen, talk| talk.answer(200, "", seen.body.len().to_string()));
    let gateway = Gateway::before(
        &origin,
        "all: { match: /*, body: { max: 1KiB, type: [application/json], mode: shadow }, to: app }",
    );
    let mut connection = gateway.connect();
    chunked(&mut connection, "/", 200_000);
    assert_eq!(connection.response().text(), "200000");
    let line = gateway.access_line(|line| !line["would_refuse"].is_null());
    let said = line["would_refuse"].as_str().unwrap();
    assert_eq!((said.matches("body.type").count(), said.matches("body.too_large").count()), (1, 1), "{said}");
    let shadow = [("route", "all"), ("reason", "body.too_large")];
    eventually("counted", || (gateway.metrics().sum("yumen_shadow_refusals_total", &shadow) > 0.5).then_some(()));
    // What is built in holds under a shadow as it does without one.
    assert_eq!(gateway.ask(Request::post("/", vec![b'x'; 11 << 20])).status, 413);
}

#[test]
fn a_body_that_drips_over_http2_is_408_and_frees_the_upstream() {
    let origin = Origin::answering("in");
    let gateway = Gateway::start(format!("{H2}{}", Gateway::document(&origin, "all: { match: /*, to: app }")));
    let mut frames = h2::Frames::open(&gateway.edge());
    frames.send(h2::HEADERS, h2::END_HEADERS, 1, &h2::request("POST", "/", &[]));
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(40) {
        frames.send(h2::DATA, 0, 1, b"x");
        if gateway.access().iter().any(|line| line["reason"] == "request.timeout") {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(200));
    }
    assert!(matches!(frames.outcome(1), h2::Outcome::Status(_)));
    let line = gateway.access_line(|line| line["reason"] == "request.timeout");
    assert_eq!(line["http.response.status_code"], 408);
    assert!(start.elapsed() > Duration::from_secs(9) && origin.seen().is_empty());
}
