//! How requests come in: several listeners, unix sockets, PROXY protocol, TLS, HTTP/2.

use std::net::TcpListener;

use rustls::version::{TLS12, TLS13};

use std::time::Duration;

use crate::harness::tls::{Authority, handshake};
use crate::harness::tools::finish;
use crate::harness::{Connection, Gateway, Origin, Request, Setup, eventually, h2};

const NAMED: &str = "routes:\n  all: { match: '/*', respond: { body: served } }\n";

fn secured(tls: &str, setup: Setup) -> Gateway {
    setup.start(format!("listeners:\n  edge:\n    bind: 127.0.0.1:0\n    tls: {tls}\n{NAMED}"))
}

const ONE: &str = "{ certs: [{ cert: \"$DIR/a.pem\", key: \"$DIR/a.key\" }] }";

#[test]
fn several_listeners_on_several_addresses_serve() {
    let gateway = Gateway::start(format!(
        "listeners:\n  one: {{ bind: 127.0.0.1:0 }}\n  two: {{ bind: [127.0.0.1:0, \"[::1]:0\"] }}\n  file: {{ bind: \"unix:$DIR/edge.sock\" }}\n{NAMED}"
    ));
    assert_eq!(gateway.addresses("two").len(), 2);
    for name in ["one", "two", "file"] {
        for address in gateway.addresses(name) {
            assert_eq!(Connection::to(address).get("/").text(), "served", "{address}");
        }
    }
}

#[test]
fn an_address_in_use_ends_the_start_with_71_and_its_name() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = Setup::new().run(&format!("listeners: {{ edge: {{ bind: \"{address}\" }} }}\n{NAMED}"), "run", &[]);
    assert_eq!(ended.code, 71, "{}", ended.err);
    assert!(ended.err.contains(&address) && !ended.err.contains("panicked"), "{}", ended.err);
}

#[test]
fn a_killed_gateway_leaves_nothing_in_the_way() {
    let setup = Setup::new();
    let dir = setup.path().to_owned();
    let document = format!("listeners: {{ edge: {{ bind: \"unix:{}/edge.sock\" }} }}\n{NAMED}", dir.display());
    let mut gateway = setup.start(&document);
    gateway.signal("KILL");
    gateway.ended();
    let again = Gateway::start(&document);
    assert_eq!(again.get("/").text(), "served");
}

#[test]
fn listeners_come_and_go_at_a_reload() {
    let origin = Origin::answering("ok");
    let routes = Gateway::document(&origin, "all: { match: /*, to: app }");
    let mut gateway = Gateway::start(format!("listeners: {{ edge: {{ bind: 127.0.0.1:0 }} }}\n{routes}"));
    let edge = gateway.edge();
    let mut kept = gateway.connect();
    assert_eq!(kept.get("/").status, 200);
    gateway.reload(format!("listeners: {{ edge: {{ bind: 127.0.0.1:0 }}, more: {{ bind: 127.0.0.1:0 }} }}\n{routes}"));
    let more = gateway.listener("more");
    assert_eq!(Connection::to(&more).get("/").status, 200);
    assert_eq!(gateway.edge(), edge, "a listener that stays keeps its port");
    assert_eq!(kept.get("/").status, 200, "a connection survives a reload");
    gateway.reload(format!("listeners: {{ edge: {{ bind: 127.0.0.1:0 }} }}\n{routes}"));
    let address: std::net::SocketAddr = more.parse().unwrap();
    eventually("the removed one refuses", || std::net::TcpStream::connect(address).err());
}

#[test]
fn the_proxy_protocol_tells_the_client_address() {
    let origin = Origin::answering("ok");
    let document = |trust: &str| {
        let rest = Gateway::document(&origin, "all: { match: /*, to: app }");
        format!("listeners: {{ edge: {{ bind: 127.0.0.1:0, proxy_protocol: {{ trust: [{trust}] }} }} }}\n{rest}")
    };
    let gateway = Gateway::start(document("127.0.0.0/8"));
    let v2 = |command: u8, family: u8, address: &[u8]| {
        let length = u16::try_from(address.len()).unwrap().to_be_bytes();
        [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[0x20 | command, family], &length, address].concat()
    };
    let v4 = [1, 2, 3, 4, 127, 0, 0, 1, 0x12, 0x34, 0, 80];
    let v6: Vec<u8> = [[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7], [0; 16]]
        .concat()
        .into_iter()
        .chain([1, 1, 0, 80])
        .collect();
    for (header, client) in [
        (b"PROXY TCP4 1.2.3.4 127.0.0.1 4660 80\r\n".to_vec(), "1.2.3.4"),
        (b"PROXY TCP6 2001:db8::7 ::1 4660 80\r\n".to_vec(), "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (v2(1, 0x11, &v4), "1.2.3.4"),
        (v2(1, 0x21, &v6), "2001:db8::7"),
        (v2(0, 0, &[]), "127.0.0.1"),
    ] {
        let answer = gateway.connect().send(&header).ask(&Request::get("/"));
        assert_eq!(answer.status, 200, "{header:?}");
        assert_eq!(origin.last().fields.all("x-forwarded-for"), [client], "{header:?}");
    }
    origin.forget();
    for wrong in [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"PROXY TCP4 1.2.3.4\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"PROXY TCP4 999.2.3.4 127.0.0.1 1 2\r\n".to_vec(),
        [b"PROXY TCP4 ".as_slice(), &[b'1'; 500]].concat(),
        v2(1, 0x11, &v4[..4]),
        v2(7, 0x11, &v4),
    ] {
        let (answers, ended) = gateway.raw([wrong.as_slice(), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"].concat());
        assert!(ended && answers.iter().all(|answer| answer.status >= 400), "{wrong:?}");
    }
    assert!(origin.seen().is_empty(), "a connection without a right header was served");
    let strangers = Gateway::start(document("10.0.0.0/8"));
    let (answers, _) = strangers.raw(b"PROXY TCP4 1.2.3.4 127.0.0.1 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(answers.iter().all(|answer| answer.status >= 400), "a stranger's header was believed");
    assert_eq!(strangers.get("/").status, 200, "others are served without a header");
}

#[test]
fn tls_serves_and_chooses_the_certificate_by_name() {
    let authority = Authority::new();
    let (a, wild) = (authority.issue(&["a.example"]), authority.issue(&["*.b.example"]));
    let setup = Setup::new().pair("a", &a).pair("b", &wild);
    let gateway = secured(
        "{ certs: [{ cert: \"$DIR/a.pem\", key: \"$DIR/a.key\" }, { cert: \"$DIR/b.pem\", key: \"$DIR/b.key\" }] }",
        setup,
    );
    for (name, pair) in [("a.example", &a), ("x.b.example", &wild)] {
        let mut secured = authority.client().connect(&gateway.edge(), name).unwrap();
        assert_eq!(secured.server, pair.chain()[0], "{name}");
        assert_eq!(secured.version, rustls::ProtocolVersion::TLSv1_3);
        assert_eq!(secured.connection.ask(&Request::get("/").host(name)).text(), "served");
    }
}

#[test]
fn the_oldest_version_is_what_the_document_says() {
    let authority = Authority::new();
    let setup = || Setup::new().pair("a", &authority.issue(&["a.example"]));
    let both = secured(ONE, setup());
    assert!(authority.client().only(&TLS12).connect(&both.edge(), "a.example").is_ok());
    let modern = secured(&ONE.replace("{ certs", "{ min: \"1.3\", certs"), setup());
    assert!(authority.client().only(&TLS12).connect(&modern.edge(), "a.example").is_err());
    assert!(authority.client().only(&TLS13).connect(&modern.edge(), "a.example").is_ok());
    for old in [
        "-tls1",
        "-tls1_1",
        "-tls1_2 -cipher AES128-SHA",
        "-tls1_2 -cipher AES128-GCM-SHA256",
        "-tls1_2 -cipher ECDHE-ECDSA-AES128-SHA",
    ] {
        let edge = both.edge();
        let mut arguments = vec!["s_client", "-connect", &edge, "-servername", "a.example"];
        arguments.extend(old.split(' '));
        let ended = crate::harness::tools::run("openssl", &arguments);
        assert!(ended.out.contains("Cipher is (NONE)") || ended.code != 0, "{old} was spoken");
    }
}

#[test]
fn client_certificates_are_required_or_optional() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let start = |mode: &str| {
        let setup = Setup::new().pair("a", &ours.issue(&["a.example"])).file("ca.pem", &ours.pem);
        let ca = format!("{{ client_ca: {{ file: \"$DIR/ca.pem\", mode: {mode} }}, certs");
        secured(&ONE.replace("{ certs", &ca), setup)
    };
    let served = |gateway: &Gateway, client: crate::harness::tls::Client| {
        let Ok(mut secured) = client.connect(&gateway.edge(), "a.example") else { return false };
        let request = Request::get("/").host("a.example").bytes();
        matches!(secured.connection.send(request).try_response(), Ok(Some(answer)) if answer.status == 200)
    };
    let (known, stranger) = (ours.issue(&["client"]), theirs.issue(&["client"]));
    let required = start("required");
    assert!(served(&required, ours.client().showing(&known)));
    assert!(!served(&required, ours.client()));
    assert!(!served(&required, ours.client().showing(&stranger)));
    let optional = start("optional");
    assert!(served(&optional, ours.client().showing(&known)));
    assert!(served(&optional, ours.client()));
    assert!(!served(&optional, ours.client().showing(&stranger)));
}

#[test]
fn sessions_resume_by_ticket_unless_switched_off() {
    let authority = Authority::new();
    for (tls, resumes) in [(ONE.to_owned(), true), (ONE.replace("{ certs", "{ tickets: false, certs"), false)] {
        let gateway = secured(&tls, Setup::new().pair("a", &authority.issue(&["a.example"])));
        let config = authority.client().config();
        let resumed = crate::harness::times(3, || {
            let mut secured = handshake(&config, &gateway.edge(), "a.example").unwrap();
            secured.connection.ask(&Request::get("/").host("a.example"));
            secured.resumed
        });
        assert_eq!(resumed[2], resumes, "{tls}");
    }
}

#[test]
fn a_name_of_other_tls_settings_is_misdirected() {
    let authority = Authority::new();
    let setup = Setup::new().pair("a", &authority.issue(&["a.example"])).pair("b", &authority.issue(&["b.example"]));
    let gateway = setup.start(
        "listeners:\n  edge:\n    bind: 127.0.0.1:0\n    tls: { certs: [{ cert: \"$DIR/a.pem\", key: \"$DIR/a.key\" }, { cert: \"$DIR/b.pem\", key: \"$DIR/b.key\" }] }\n\
         routes:\n  a: { match: a.example/*, respond: { body: a } }\n  b: { match: b.example/*, respond: { body: b } }\n",
    );
    let mut secured = authority.client().connect(&gateway.edge(), "a.example").unwrap();
    assert_eq!(secured.connection.ask(&Request::get("/").host("a.example")).text(), "a");
    let other = secured.connection.ask(&Request::get("/").host("b.example"));
    assert_eq!(other.verdict(), (421, "request.misdirected".into()));
    assert_eq!(gateway.access_line(|line| line["reason"] == "request.misdirected")["host"], "b.example");
    let told = gateway.yumen("explain", &["GET", "https://b.example/", "--sni", "a.example"]).out;
    assert!(told.starts_with("GET b.example/\n"), "{told}");
}

#[test]
fn a_replaced_certificate_is_served_and_no_handshake_fails() {
    let authority = Authority::new();
    let (old, new) = (authority.issue(&["a.example"]), authority.issue(&["a.example"]));
    let gateway = secured(ONE, Setup::new().pair("a", &old));
    let served = || authority.client().connect(&gateway.edge(), "a.example").unwrap().server;
    assert_eq!(served(), old.chain()[0]);
    std::fs::write(gateway.setup.path().join("a.key"), &new.key).unwrap();
    std::fs::write(gateway.setup.path().join("a.pem"), &new.cert).unwrap();
    eventually("the new certificate", || (served() == new.chain()[0]).then_some(()));
}

#[test]
fn a_key_that_does_not_fit_its_certificate_is_refused() {
    let authority = Authority::new();
    let (a, b) = (authority.issue(&["a.example"]), authority.issue(&["a.example"]));
    let setup = Setup::new().file("a.pem", &a.cert).file("a.key", &b.key);
    let ended =
        setup.run(&format!("listeners:\n  edge:\n    bind: 127.0.0.1:0\n    tls: {ONE}\n{NAMED}"), "check", &[]);
    assert_eq!(ended.code, 78, "{}{}", ended.out, ended.err);
    assert!((ended.out + &ended.err).contains("a.key"));
}

#[test]
fn a_plain_listener_may_send_everyone_to_https() {
    let gateway = Gateway::start(format!("listeners: {{ edge: {{ bind: 127.0.0.1:0, redirect: https }} }}\n{NAMED}"));
    let answer = gateway.get_at("api.example.com:8080/a/b?c=d");
    assert_eq!((answer.status, answer.field("location")), (308, Some("https://api.example.com/a/b?c=d")));
    assert_eq!(gateway.ask(Request::post("/", "x")).status, 308, "the method is kept");
}

#[test]
fn http_2_is_agreed_by_alpn_and_by_prior_knowledge() {
    let authority = Authority::new();
    let gateway = secured(ONE, Setup::new().pair("a", &authority.issue(&["a.example"])));
    let agreed = |alpn: &[&str]| authority.client().alpn(alpn).connect(&gateway.edge(), "a.example").map(|it| it.alpn);
    assert_eq!(agreed(&["h2", "http/1.1"]).unwrap(), "h2");
    assert_eq!(agreed(&["http/1.1"]).unwrap(), "http/1.1");
    // Under TLS nobody speaks it who has not said so.
    for alpn in [&["http/1.1"][..], &[]] {
        let mut silent = authority.client().alpn(alpn).connect(&gateway.edge(), "a.example").unwrap().connection;
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        let (said, ended) = silent.send(preface).rest(Duration::from_secs(8));
        let said = String::from_utf8_lossy(&said);
        assert!(ended && said.starts_with("HTTP/1.1 4"), "{alpn:?}: {said}");
    }
    let plain = Gateway::start(NAMED);
    let answer = h2::ask(&plain.edge(), http::Request::get("http://a.example/").body(()).unwrap(), b"").unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"served"[..]));
}

#[test]
fn a_listener_speaks_only_its_protocols() {
    let authority = Authority::new();
    let start = |protocols: &str| {
        Setup::new().pair("a", &authority.issue(&["a.example"])).start(format!(
            "listeners:\n  edge: {{ bind: 127.0.0.1:0, protocols: [{protocols}] }}\n  \
             tls: {{ bind: 127.0.0.1:0, protocols: [{protocols}], tls: {ONE} }}\n{NAMED}"
        ))
    };
    let old = start("h1");
    let h2 =
        |gateway: &Gateway| h2::ask(&gateway.edge(), http::Request::get("http://a.example/").body(()).unwrap(), b"");
    assert!(h2(&old).is_err());
    let chosen = authority.client().alpn(&["h2", "http/1.1"]).connect(&old.listener("tls"), "a.example");
    assert_eq!(chosen.unwrap().alpn, "http/1.1");
    let new = start("h2");
    assert_eq!(h2(&new).unwrap().status, 200);
    let (answers, ended) = new.raw(Request::get("/").bytes());
    assert!(ended && answers.iter().all(|answer| answer.status != 200));
}

#[test]
fn curl_speaks_every_protocol() {
    let authority = Authority::new();
    let setup = Setup::new().pair("a", &authority.issue(&["a.example"])).file("ca.pem", &authority.pem);
    let gateway = setup.start(format!(
        "listeners:\n  edge: {{ bind: 127.0.0.1:0 }}\n  tls: {{ bind: 127.0.0.1:0, tls: {ONE} }}\n{NAMED}"
    ));
    let port = |name: &str| gateway.listener(name).rsplit(':').next().unwrap().to_owned();
    for (scheme, listener, protocol, version) in [
        ("http", "edge", "--http1.1", "1.1"),
        ("http", "edge", "--http2-prior-knowledge", "2"),
        ("http", "edge", "--http2", "1.1"),
        ("https", "tls", "--http1.1", "1.1"),
        ("https", "tls", "--http2", "2"),
    ] {
        let ended = finish(
            std::process::Command::new("curl")
                .args(["-sS", "--noproxy", "*", "-w", " %{http_version} %{http_code}", protocol, "--cacert"])
                .arg(gateway.setup.path().join("ca.pem"))
                .args(["--resolve", &format!("a.example:{}:127.0.0.1", port(listener))])
                .arg(format!("{scheme}://a.example:{}/", port(listener))),
        );
        assert_eq!(ended.out, format!("served {version} 200"), "{scheme} {protocol}: {}", ended.err);
    }
}
