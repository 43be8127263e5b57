//! Streams of events and calls of gRPC: how long they may rest.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request as H2Request;

use crate::harness::{Gateway, Origin, Request, h2};

/// Sends a head and an event, and another one when it is told to.
fn events() -> (Origin, Sender<()>) {
    let (more, wanted): (_, Receiver<()>) = channel();
    let wanted = Mutex::new(wanted);
    let origin = Origin::new(move |_, talk| {
        talk.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        talk.send("9\r\ndata: 1\n\n\r\n");
        if wanted.lock().unwrap().recv_timeout(Duration::from_secs(10)).is_ok() {
            talk.send("9\r\ndata: 2\n\n\r\n0\r\n\r\n");
        }
        talk.close();
    });
    (origin, more)
}

fn pooled(origin: &impl std::fmt::Display, settings: &str) -> Gateway {
    Gateway::start(format!(
        "pools: {{ app: {{ targets: ['{origin}'], {settings} }} }}\nroutes:\n  all: {{ match: '/*', to: app }}\n"
    ))
}

/// Until this long has passed.
fn rest(length: Duration) {
    let (_keep, never) = channel::<()>();
    let _ = never.recv_timeout(length);
}

#[test]
fn a_stream_of_events_may_rest_longer_than_other_answers() {
    let (origin, more) = events();
    let gateway = pooled(&origin, "timeout: { idle: 300ms, stream_idle: 20s }");
    let mut stream = gateway.connect();
    stream.send(Request::get("/").with("Accept", "text/event-stream").bytes());
    assert_eq!(stream.head().status, 200);
    assert!(stream.until("data: 1\n\n").ends_with("data: 1\n\n"));
    rest(Duration::from_millis(900));
    more.send(()).unwrap();
    assert!(stream.until("data: 2\n\n").ends_with("data: 2\n\n"));
    let mut other = gateway.connect();
    other.send(Request::get("/").bytes());
    assert_eq!(other.head().status, 200);
    assert!(other.ends(), "this one did not say that it waits for events");
    gateway.access_line(|line| line["reason"] == "upstream.timeout.idle");
}

#[test]
fn a_stream_that_rests_for_too_long_is_cut() {
    let (origin, _more) = events();
    let document =
        Gateway::document(&origin, "events: { match: /*, timeout: { idle: 20s, stream_idle: 300ms }, to: app }");
    let gateway = Gateway::start(document);
    let (mut stream, start) = (gateway.connect(), Instant::now());
    stream.send(Request::get("/").with("Accept", "text/event-stream").bytes());
    assert_eq!(stream.head().status, 200);
    assert!(stream.ends() && start.elapsed() < Duration::from_secs(8));
    gateway.access_line(|line| line["reason"] == "upstream.timeout.idle");
}

#[test]
fn a_call_of_grpc_may_rest_longer_than_other_requests_and_fails_as_grpc() {
    let origin = h2::Origin::scripted(|_, mut respond| {
        rest(Duration::from_millis(900));
        let head = http::Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        let mut body = respond.send_response(head, false).unwrap();
        body.send_data(Bytes::from_static(b"late"), false).unwrap();
        let trailers = [("grpc-status".parse().unwrap(), "0".parse().unwrap())].into_iter().collect();
        body.send_trailers(trailers).unwrap();
    });
    let call = |gateway: &Gateway| {
        let request = H2Request::post("http://test.example/s/m").header("content-type", "application/grpc");
        h2::ask(&gateway.edge(), request.body(()).unwrap(), b"").unwrap()
    };
    let patient = pooled(&origin, "protocol: h2c, timeout: { idle: 300ms, first_byte: 200ms, stream_idle: 20s }");
    assert_eq!(call(&patient).trailers["grpc-status"], "0");
    let hasty = pooled(&origin, "protocol: h2c, timeout: { stream_idle: 200ms }");
    let answer = call(&hasty);
    let status = answer
        .header("grpc-status")
        .map_or_else(|| answer.trailers["grpc-status"].to_str().unwrap().to_owned(), str::to_owned);
    assert_eq!((answer.status, status.as_str()), (200, "4"));
}
