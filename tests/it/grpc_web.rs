//! gRPC-Web, spoken by hand to services that others wrote.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::harness::h2;
use crate::harness::wire::{Request, Response};
use crate::harness::{Gateway, PATIENCE, Setup};
use crate::services::Services;

/// A message of one field, number 1, that is this text.
fn message(text: &str) -> Vec<u8> {
    let body = if text.is_empty() {
        Vec::new()
    } else {
        [&[0x0a, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
    };
    framed(0, &body)
}

fn framed(flag: u8, body: &[u8]) -> Vec<u8> {
    [&[flag][..], &u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
}

/// Each frame with its flag.
fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<5>() {
        let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
        assert!(rest.len() >= length, "a frame is cut: {frames:?} {bytes:?}");
        frames.push((head[0], rest[..length].to_vec()));
        bytes = &rest[length..];
    }
    assert!(bytes.is_empty(), "{bytes:?}");
    frames
}

/// The messages of an answer and its trailers.
fn answer(response: &Response, text: bool) -> (Vec<Vec<u8>>, String) {
    let bytes = if text { decoded(&response.text()) } else { response.body.clone() };
    let mut frames = frames(&bytes);
    let (flag, trailers) = frames.pop().expect("trailers");
    assert_eq!(flag, 0x80);
    assert!(frames.iter().all(|(flag, _)| *flag == 0), "{frames:?}");
    let trailers = String::from_utf8(trailers).unwrap();
    (frames.into_iter().map(|(_, message)| message).collect(), trailers)
}

/// As clients read it: four letters after the other, wherever there is a padding.
fn decoded(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(4).flat_map(|letters| STANDARD.decode(letters).expect(text)).collect()
}

fn call(method: &str, kind: &str, body: &[u8]) -> Request {
    Request::post(&format!("/{method}"), body).with("Content-Type", kind).with("X-Grpc-Web", 1)
}

fn document(services: &Services, more: &str) -> String {
    format!(
        "pools: {{ app: {} }}\nroutes: {{ web: {{ match: /*, grpc_web: true, to: app{more} }} }}\n",
        services.pool()
    )
}

const CHECK: &str = "grpc.health.v1.Health/Check";
const SERVING: &[u8] = &[8, 1];

#[test]
fn a_page_calls_in_binary_and_in_text() {
    let setup = Setup::new();
    let Some(services) = Services::start(&setup) else { return };
    let gateway = setup.start(document(&services, ""));
    for kind in ["application/grpc-web", "application/grpc-web+proto"] {
        let response = gateway.ask(call(CHECK, kind, &message("")));
        assert_eq!((response.status, response.field("content-type")), (200, Some(kind)));
        let (messages, trailers) = answer(&response, false);
        assert_eq!(messages, [SERVING]);
        assert!(trailers.contains("grpc-status: 0\r\n"), "{trailers}");
    }
    for kind in ["application/grpc-web-text", "application/grpc-web-text+proto"] {
        let text = STANDARD.encode(message(""));
        let response = gateway.ask(call(CHECK, kind, text.as_bytes()));
        assert_eq!((response.status, response.field("content-type")), (200, Some(kind)));
        assert_eq!(answer(&response, true).0, [SERVING]);
    }
    let request =
        http::Request::post(format!("http://a.example/{CHECK}")).header("content-type", "application/grpc-web");
    let by_two = h2::ask(&gateway.edge(), request.body(()).unwrap(), &message("")).unwrap();
    assert_eq!((by_two.status, by_two.header("content-type")), (200, Some("application/grpc-web")));
    let mut all = frames(&by_two.body);
    assert!(all.pop().is_some_and(|(flag, _)| flag == 0x80) && by_two.trailers.is_empty(), "{by_two:?}");
    assert_eq!(all, [(0, SERVING.to_vec())]);
    // Plain gRPC goes the same way as before.
    services.call(&gateway.edge());
}

#[test]
fn a_text_may_come_in_pieces_of_any_length() {
    let setup = Setup::new();
    let Some(services) = Services::start(&setup) else { return };
    let gateway = setup.start(document(&services, ""));
    let name = "operations/a-rather-long-name";
    let text = STANDARD.encode(message(name));
    let head = "POST /google.longrunning.Operations/GetOperation HTTP/1.1\r\nHost: a\r\n\
                Content-Type: application/grpc-web-text\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut connection = gateway.connect();
    connection.send(head);
    for piece in text.as_bytes().chunks(5) {
        connection.send(format!("{:x}\r\n{}\r\n", piece.len(), std::str::from_utf8(piece).unwrap()));
    }
    let response = connection.send("0\r\n\r\n").response();
    let (messages, trailers) = answer(&response, true);
    assert!(String::from_utf8_lossy(&messages[0]).contains(name), "{messages:?}");
    assert!(trailers.contains("grpc-status: 0"), "{trailers}");
    let wrong = gateway.ask(call(CHECK, "application/grpc-web-text", b"AAA*"));
    assert_eq!((wrong.status, wrong.field("grpc-status")), (200, Some("3")), "{}", wrong.text());
}

#[test]
fn a_stream_comes_message_by_message() {
    let setup = Setup::new();
    let Some(mut services) = Services::start(&setup) else { return };
    services.set("shop", "SERVING");
    let gateway = setup.start(document(&services, ""));
    let body = STANDARD.encode(message("shop"));
    let request = call("grpc.health.v1.Health/Watch", "application/grpc-web-text", body.as_bytes());
    let mut connection = gateway.connect();
    connection.send(request.bytes());
    assert_eq!(connection.head().field("content-type"), Some("application/grpc-web-text"));
    let first = STANDARD.encode(framed(0, SERVING));
    connection.until(&first);
    services.set("shop", "NOT_SERVING");
    connection.until(&STANDARD.encode(framed(0, &[8, 2])));
}

#[test]
fn what_fails_is_told_in_trailers_or_in_the_head() {
    let setup = Setup::new();
    let Some(mut services) = Services::start(&setup) else { return };
    let more = ", cors: { origins: ['https://shop.example'] }, auth: { key: { file: $DIR/keys.yaml, in: [header.x-api-key] } }";
    let routes = format!(
        "  web: {{ match: /*, grpc_web: true, to: app }}\n  \
         closed: {{ match: closed.example/*, grpc_web: true, to: app{more} }}\n"
    );
    let document = format!("pools: {{ app: {} }}\nroutes:\n{routes}", services.pool());
    let gateway = setup.file("keys.yaml", "acme: { hash: [] }\n").start(document);
    let get = "google.longrunning.Operations/GetOperation";
    let kind = "application/grpc-web+proto";
    let failed = gateway.ask(call(get, kind, &message("operations/details")));
    let told = match failed.field("grpc-status") {
        Some(status) => format!("grpc-status: {status}\r\ngrpc-message: {}", failed.field("grpc-message").unwrap()),
        None => answer(&failed, false).1,
    };
    assert!(told.contains("grpc-status: 3\r\n") && told.contains("grpc-message: look closer"), "{told}");
    let broken = gateway.ask(call("grpc.health.v1.Health/Watch", kind, &message("broken")));
    let (messages, trailers) = answer(&broken, false);
    assert_eq!(messages, [SERVING, &[8, 2]]);
    assert!(trailers.contains("grpc-status: 15") && trailers.contains("grpc-status-details-bin: "), "{trailers}");
    // Our own refusals are answers of trailers only, which a page may read.
    let refused =
        gateway.ask(call(get, kind, &message("x")).host("closed.example").with("Origin", "https://shop.example"));
    assert_eq!((refused.status, refused.field("content-type")), (200, Some(kind)));
    assert_eq!((refused.field("grpc-status"), refused.body.len()), (Some("16"), 0));
    let exposed = refused.field("access-control-expose-headers").unwrap_or_default();
    assert_eq!(exposed, "grpc-status, grpc-message, grpc-status-details-bin");
    services.kill();
    let gone = gateway.ask(call(get, "application/grpc-web-text", b""));
    assert_eq!((gone.status, gone.field("grpc-status")), (200, Some("14")));
    assert_eq!(gone.field("content-type"), Some("application/grpc-web-text"));
}

#[test]
fn a_page_of_another_origin_may_ask_without_a_word_more() {
    let setup = Setup::new();
    let Some(services) = Services::start(&setup) else { return };
    let gateway =
        setup.start(document(&services, ", cors: { origins: ['https://shop.example'], headers: [x-grpc-web] }"));
    let preflight = Request::new("OPTIONS", &format!("/{CHECK}"))
        .with("Origin", "https://shop.example")
        .with("Access-Control-Request-Method", "POST")
        .with("Access-Control-Request-Headers", "content-type,x-grpc-web,x-user-agent");
    let answered = gateway.ask(preflight);
    assert_eq!(answered.status, 204);
    let allowed = answered.field("access-control-allow-headers");
    assert_eq!(allowed, Some("x-grpc-web, content-type, x-user-agent, grpc-timeout"));
    let called = gateway.ask(call(CHECK, "application/grpc-web", &message("")).with("Origin", "https://shop.example"));
    assert_eq!(called.field("access-control-allow-origin"), Some("https://shop.example"));
    assert_eq!(
        called.field("access-control-expose-headers"),
        Some("grpc-status, grpc-message, grpc-status-details-bin")
    );
}

#[test]
fn a_target_that_dies_in_a_stream_is_told_in_its_last_frame() {
    let setup = Setup::new();
    let Some(mut services) = Services::start(&setup) else { return };
    services.set("shop", "SERVING");
    let gateway = setup.start(document(&services, ""));
    let request = call("grpc.health.v1.Health/Watch", "application/grpc-web", &message("shop"));
    let mut connection = gateway.connect().patient(PATIENCE);
    connection.send(request.bytes());
    connection.head();
    connection.until("\u{8}\u{1}");
    services.kill();
    connection.until("grpc-status: 14\r\ngrpc-message: upstream.reset\r\n");
    assert!(connection.ends_within(Duration::from_secs(10)), "the connection stays open");
}

#[test]
fn a_route_that_says_nothing_of_it_passes_it_as_it_is() {
    let setup = Setup::new();
    let Some(services) = Services::start(&setup) else { return };
    let gateway: Gateway =
        setup.start(format!("pools: {{ app: {} }}\nroutes: {{ all: {{ match: /*, to: app }} }}\n", services.pool()));
    let response = gateway.ask(call(CHECK, "application/grpc-web", &message("")));
    // grpcio does not speak it.
    assert_eq!((response.field("grpc-status"), response.body.len()), (Some("13"), 0), "{response:?}");
}
