//! WebSocket passes through: the handshake, both directions, and nothing before the 101.

use crate::harness::handshake::{SWITCH, upgrade};
use crate::harness::{Connection, Gateway, Origin, Request, h2};

fn echoing() -> Origin {
    Origin::new(|seen, talk| {
        if seen.field("upgrade").is_some() {
            talk.send(SWITCH).echo();
        } else {
            talk.answer(200, "", "plain");
        }
    })
}

#[test]
fn bytes_pass_both_ways_after_the_handshake() {
    let origin = echoing();
    let gateway = Gateway::passing(&origin);
    let mut connection = gateway.connect();
    let answer = connection.ask(&upgrade());
    assert_eq!((answer.status, answer.field("upgrade")), (101, Some("websocket")));
    assert_eq!(answer.field("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    for word in ["one", "two", "three"] {
        connection.send(word);
        assert_eq!(connection.exactly(word.len()), word.as_bytes());
    }
    assert_eq!(origin.last().field("upgrade"), Some("websocket"));
}

#[test]
fn a_refused_upgrade_is_an_ordinary_answer() {
    let origin = Origin::new(|_, talk| talk.answer(403, "", "no"));
    let gateway = Gateway::passing(&origin);
    let mut connection = gateway.connect();
    let answer = connection.ask(&upgrade());
    assert_eq!((answer.status, answer.text().as_str()), (403, "no"));
}

#[test]
fn nothing_tunnels_before_the_101() {
    let origin = Origin::new(|_, talk| talk.answer(200, "", "no upgrade here"));
    let gateway = Gateway::passing(&origin);
    let mut connection = gateway.connect();
    connection.send([upgrade().bytes(), Request::get("/smuggled").bytes()].concat());
    let first = connection.response();
    assert_eq!(first.status, 200);
    let _ = connection.try_response();
    let smuggled: Vec<_> = origin.seen().into_iter().filter(|seen| seen.target == "/smuggled").collect();
    // As a request of its own it may be served; as tunnelled bytes it would bear no forwarded fields.
    assert!(smuggled.iter().all(|seen| seen.field("x-forwarded-for").is_some()), "{smuggled:?}");
}

#[test]
fn an_upgrade_to_h2c_never_tunnels() {
    let origin = Origin::new(|_, talk| talk.answer(200, "", "plain"));
    let gateway = Gateway::passing(&origin);
    let request = Request::get("/")
        .with("Connection", "Upgrade, HTTP2-Settings")
        .with("Upgrade", "h2c")
        .with("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA");
    let answer = gateway.ask(request);
    assert!(answer.status == 200 || answer.status == 400, "{}", answer.status);
    for seen in origin.seen() {
        assert_eq!((seen.field("upgrade"), seen.field("http2-settings")), (None, None));
    }
}

#[test]
fn an_unasked_101_is_502() {
    let origin = Origin::new(|_, talk| {
        talk.send(SWITCH);
    });
    let gateway = Gateway::passing(&origin);
    let answer = gateway.get("/");
    assert_eq!(answer.verdict(), (502, "upstream.upgrade".into()));
}

#[test]
fn a_tunnel_ends_when_either_side_ends() {
    let origin = Origin::new(|_, talk| talk.send(SWITCH).send("bye").close());
    let gateway = Gateway::passing(&origin);
    let mut connection: Connection = gateway.connect();
    assert_eq!(connection.ask(&upgrade()).status, 101);
    assert_eq!(connection.exactly(3), b"bye");
    assert!(connection.ends());
}

#[test]
fn a_pool_that_speaks_http2_only_is_asked_for_none() {
    let origin = h2::Origin::plain(&[]);
    let gateway = Gateway::start(format!(
        "pools: {{ app: {{ targets: ['{origin}'], protocol: h2c, breaker: {{ open_after: 1 }} }} }}\nroutes: {{ all: {{ match: /*, to: app }} }}\n"
    ));
    assert_eq!(gateway.ask(upgrade()).verdict(), (502, "upstream.upgrade".into()));
    let line = gateway.access_line(|line| line["reason"] == "upstream.upgrade");
    assert_eq!(line["detail"], "a WebSocket for a pool that is spoken to by HTTP/2 only");
    assert_eq!((origin.asked().len(), gateway.get("/").status), (0, 200), "it is no failure of the target");
}
