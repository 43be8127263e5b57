//! Who asked: the right-most hop that is not trusted, and nothing that a stranger claims.

use crate::harness::{Gateway, Origin, Request};

fn trusting(origin: &Origin, client_ip: &str) -> Gateway {
    let document = Gateway::document(origin, "all: { match: /*, to: app }");
    Gateway::start(format!("runtime: {{ client_ip: {client_ip} }}\n{document}"))
}

const FORGED: [&str; 8] = [
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-Port",
    "X-Real-IP",
    "Forwarded",
    "X-Forwarded-Prefix",
    "X-Client-IP",
];

#[test]
fn what_a_stranger_claims_is_replaced() {
    let origin = Origin::answering("ok");
    let gateway = Gateway::passing(&origin);
    let forged = FORGED.iter().fold(Request::get("/"), |request, name| request.with(name, "for=6.6.6.6"));
    assert_eq!(gateway.ask(forged).status, 200);
    let seen = origin.last();
    assert_eq!(seen.fields.all("x-forwarded-for"), ["127.0.0.1"]);
    for name in &FORGED[..6] {
        assert!(!seen.fields.all(name).join(" ").contains("6.6.6.6"), "{name} reached the origin");
    }
}

#[test]
fn the_right_most_untrusted_hop_is_the_client() {
    let origin = Origin::answering("ok");
    let gateway = trusting(&origin, "{ trust: [127.0.0.0/8, 10.0.0.0/8], from: x-forwarded-for }");
    for (claimed, client) in [
        ("1.2.3.4", "1.2.3.4"),
        ("6.6.6.6, 1.2.3.4", "1.2.3.4"),
        ("6.6.6.6, 1.2.3.4, 10.1.1.1", "1.2.3.4"),
        ("10.1.1.1, 10.2.2.2", "10.1.1.1"),
        ("1.2.3.4, nonsense", "127.0.0.1"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("2001:db8::1", "2001:db8::1"),
    ] {
        let id = gateway.ask(Request::get("/").with("X-Forwarded-For", claimed));
        let id = id.field("x-request-id").unwrap().to_owned();
        let line = gateway.access_line(|line| line.to_string().contains(&id));
        assert_eq!(line["client.address"], client, "{claimed}: {line}");
        assert!(origin.last().field("x-forwarded-for").unwrap().ends_with("127.0.0.1"), "the hop to us is added");
    }
}

#[test]
fn several_lines_are_one_chain() {
    let origin = Origin::answering("ok");
    let gateway = trusting(&origin, "{ trust: [127.0.0.0/8], from: x-forwarded-for }");
    gateway.ask(Request::get("/a").with("X-Forwarded-For", "6.6.6.6").with("X-Forwarded-For", "1.2.3.4"));
    let line = gateway.access_line(|line| line["url.path"] == "/a");
    assert_eq!(line["client.address"], "1.2.3.4");
}

#[test]
fn forwarded_and_x_real_ip_are_read_where_the_document_says_so() {
    let origin = Origin::answering("ok");
    let gateway = trusting(&origin, "{ trust: [127.0.0.0/8], from: forwarded }");
    let chain = "for=6.6.6.6, for=\"[2001:db8::7]:4711\";proto=https";
    gateway.ask(Request::get("/f").with("Forwarded", chain).with("X-Forwarded-For", "9.9.9.9"));
    assert_eq!(gateway.access_line(|line| line["url.path"] == "/f")["client.address"], "2001:db8::7");
    let gateway = trusting(&origin, "{ trust: [127.0.0.0/8], from: x-real-ip }");
    gateway.ask(Request::get("/r").with("X-Real-IP", "1.2.3.4").with("X-Forwarded-For", "9.9.9.9"));
    assert_eq!(gateway.access_line(|line| line["url.path"] == "/r")["client.address"], "1.2.3.4");
}

#[test]
fn a_trusted_proxy_keeps_its_word_on_scheme_and_host() {
    let origin = Origin::answering("ok");
    let gateway = trusting(&origin, "{ trust: [127.0.0.0/8], from: x-forwarded-for }");
    gateway.ask(Request::get("/").with("X-Forwarded-For", "1.2.3.4").with("X-Forwarded-Proto", "https"));
    assert_eq!(origin.last().fields.all("x-forwarded-proto"), ["https"]);
    assert_eq!(origin.last().fields.all("x-forwarded-for").join(", "), "1.2.3.4, 127.0.0.1");
}
