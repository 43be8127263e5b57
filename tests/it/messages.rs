//! Messages of MQTT: published by requests, and streamed to clients, through a real mosquitto.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::harness::tls::Authority;
use crate::harness::{Connection, Gateway, Mosquitto, Request, Setup, eventually};

fn document(broker: &Mosquitto, store: &str, routes: &str) -> String {
    let routes: String = routes.lines().map(|line| format!("  {line}\n")).collect();
    format!("stores: {{ plant: {{ mqtt: '{}', {store} }} }}\nroutes:\n{routes}", broker.address())
}

const BOTH: &str = "
send: { match: POST /devices/:id/commands, publish: { store: plant, topic: devices/:id/commands } }
see: { match: GET /devices/:id/events, subscribe: { store: plant, topic: devices/:id/events, qos: 1 } }";

fn up(gateway: &Gateway) {
    eventually("the broker is up", || {
        (gateway.metrics().sum("yumen_store_up", &[("store", "plant")]) > 0.5).then_some(())
    });
}

fn listen(gateway: &Gateway, target: &str) -> Connection {
    listen_from(gateway, Request::get(target))
}

fn listen_from(gateway: &Gateway, request: Request) -> Connection {
    let mut stream = gateway.connect();
    stream.send(request.bytes());
    let head = stream.head();
    assert_eq!((head.status, head.field("content-type")), (200, Some("text/event-stream")));
    stream.until(": listening\n\n");
    stream
}

#[test]
fn a_body_is_published_as_the_route_says_and_answered_once_the_broker_has_it() {
    let broker = Mosquitto::start();
    let routes = "
none: { match: POST /0/:id, publish: { store: plant, topic: a/:id/0, qos: 0 } }
once: { match: POST /1/:id, publish: { store: plant, topic: a/:id/1, qos: 1 } }
exactly: { match: PUT /2/:id, publish: { store: plant, topic: a/:id/2, qos: 2, retain: true, max: 1KiB } }";
    let gateway = Gateway::start(document(&broker, "keep_alive: 10s", routes));
    let heard = broker.listen("a/#", 2);
    let mut connection = gateway.connect();
    for (method, target, line) in [
        ("POST", "/0/x", "a/x/0 0 0 hello"),
        ("POST", "/1/x", "a/x/1 1 0 hello"),
        ("PUT", "/2/%C3%A9", "a/é/2 2 0 hello"),
    ] {
        let answer = connection.ask(&Request { body: b"hello".to_vec(), ..Request::new(method, target) });
        assert_eq!((answer.status, answer.text()), (202, String::new()), "{target}");
        heard.lines.wait(line);
    }
    broker.listen("a/#", 0).lines.wait("a/é/2 0 1 hello");
    let large = Request { body: vec![b'x'; 1025], ..Request::new("PUT", "/2/x") };
    assert_eq!(gateway.ask(large).verdict(), (413, "body.too_large".into()));
    assert!(
        gateway.metrics().sum("yumen_mqtt_published_total", &[("store", "plant"), ("result", "acknowledged")]) > 2.5
    );
}

#[test]
fn what_a_client_says_stays_one_level_of_the_topic() {
    let broker = Mosquitto::start();
    let gateway = Gateway::start(document(&broker, "timeout: 5s", BOTH));
    let heard = broker.listen("#", 0);
    for id in ["+", "%23", "a%00b", "a%2Bb", "%24SYS", "a%2Fb"] {
        let answer = gateway.ask(Request::post(&format!("/devices/{id}/commands"), "x"));
        assert_eq!(answer.verdict(), (400, "request.target".into()), "{id}");
        let answer = gateway.get(&format!("/devices/{id}/events"));
        assert_eq!(answer.verdict(), (400, "request.target".into()), "{id}");
    }
    assert_eq!(gateway.ask(Request::post("/devices/7/commands", "good")).status, 202);
    heard.lines.wait("devices/7/commands 0 0 good");
    assert!(!heard.lines.all().iter().any(|line| line.ends_with(" x")), "{:?}", heard.lines.all());
}

#[test]
fn without_its_broker_a_message_is_refused_in_time_and_taken_again_when_it_is_back() {
    let mut broker = Mosquitto::start();
    let gateway = Gateway::start(document(&broker, "timeout: 300ms, keep_alive: 2s", BOTH));
    let post = || gateway.ask(Request::post("/devices/7/commands", "x"));
    assert_eq!(post().status, 202);
    broker.freeze();
    let began = std::time::Instant::now();
    assert_eq!(post().verdict(), (503, "mqtt.unavailable".into()), "not acknowledged in time");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    gateway.log.wait("store plant is down");
    broker.thaw();
    eventually("it is taken again", || (post().status == 202).then_some(()));
    broker.kill();
    eventually("the end is noticed", || {
        (gateway.admin("/health").json()["stores"]["plant"]["state"] == "down").then_some(())
    });
    let answer = post();
    assert_eq!(answer.verdict(), (503, "mqtt.unavailable".into()));
    assert!(answer.field("retry-after").is_some());
    assert_eq!(gateway.get("/devices/7/events").verdict(), (503, "mqtt.unavailable".into()));
    broker.again();
    eventually("it is taken again", || (post().status == 202).then_some(()));
}

#[test]
fn a_wrong_password_is_told_and_the_right_one_lets_us_in() {
    let broker = Mosquitto::guarded("s3cret");
    let setup = Setup::new().file("password", "wrong\n");
    let text = document(&broker, "user: plant, password: 'file:$DIR/password', client_id: gate", BOTH);
    let gateway = setup.start(text);
    gateway.log.wait("does not let us in: not authorized");
    assert_eq!(gateway.ask(Request::post("/devices/7/commands", "x")).verdict(), (503, "mqtt.unavailable".into()));
    assert!(!gateway.log.all().iter().any(|line| line.contains("wrong")), "the password is not told");
    std::fs::write(gateway.setup.path().join("password"), "s3cret\n").unwrap();
    eventually("the new password is taken", || {
        (gateway.ask(Request::post("/devices/7/commands", "x")).status == 202).then_some(())
    });
}

#[test]
fn a_broker_may_be_reached_by_tls_and_no_other_way() {
    let authority = Authority::new();
    let broker = Mosquitto::secured(&authority, &authority.issue(&["127.0.0.1"]));
    let setup = Setup::new().file("ca.pem", &authority.pem).file("other.pem", &Authority::new().pem);
    let gateway = setup.start(document(&broker, "tls: { ca: other.pem }", BOTH));
    gateway.log.wait("cannot connect to");
    assert_eq!(gateway.ask(Request::post("/devices/7/commands", "x")).status, 503, "an authority that is not ours");
    let mut gateway = gateway;
    gateway.reload(document(&broker, "tls: { ca: ca.pem }", BOTH));
    up(&gateway);
    let heard = broker.listen("#", 1);
    assert_eq!(gateway.ask(Request::post("/devices/7/commands", "secret")).status, 202);
    heard.lines.wait("devices/7/commands 1 0 secret");
}

#[test]
fn messages_are_streamed_as_events_and_a_client_that_comes_back_misses_none() {
    let mut broker = Mosquitto::start();
    let gateway = Gateway::start(document(&broker, "keep_alive: 10s", BOTH));
    broker.publish("devices/7/events", 1, "kept", &["-r"]);
    let mut stream = listen(&gateway, "/devices/7/events");
    let first = stream.until("\n\n");
    assert!(first.contains("event: devices/7/events\ndata: kept\n"), "{first}");
    broker.publish("devices/7/events", 1, "two\nlines", &[]);
    broker.publish("devices/8/events", 1, "of another", &[]);
    let said = stream.until("\n\n");
    assert!(said.contains("event: devices/7/events\ndata: two\ndata: lines\nid: "), "{said}");
    let id = said.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
    drop(stream);
    broker.publish("devices/7/events", 1, "while away", &[]);
    let mut stream = listen_from(&gateway, Request::get("/devices/7/events").with("last-event-id", id));
    let said = stream.until("\n\n");
    assert!(said.contains("data: while away\n"), "{said}");
    // The broker goes and comes: the stream stays and says that something may be missing.
    broker.kill();
    stream.until("event: gap\ndata: the broker was away\n");
    broker.again();
    up(&gateway);
    eventually("it is subscribed again", || {
        broker.publish("devices/7/events", 1, "after", &[]);
        gateway
            .metrics()
            .sum("yumen_stream_events_total", &[("route", "see"), ("result", "sent")])
            .gt(&4.5)
            .then_some(())
    });
    stream.until("data: after\n");
    assert!(gateway.metrics().sum("yumen_streams", &[("route", "see")]) > 0.5);
}

#[test]
fn a_silent_stream_shows_that_it_lives_and_ends_with_its_right_and_with_the_gateway() {
    let broker = Mosquitto::start();
    let routes = "see: { match: GET /all, subscribe: { store: plant, topic: 'devices/+/events', heartbeat: 200ms } }";
    let mut gateway = Gateway::start(document(&broker, "keep_alive: 10s", routes));
    let mut stream = listen(&gateway, "/all");
    stream.until(":\n\n");
    // A reload closes none, as long as its broker stays.
    gateway.reload(document(&broker, "keep_alive: 10s", &format!("{routes}\nmore: {{ match: /x, respond: 204 }}")));
    broker.publish("devices/9/events", 0, "still here", &[]);
    stream.until("data: still here\n");
    // One that takes its broker away ends it, and the client comes back.
    gateway.reload(document(&broker, "keep_alive: 11s", routes));
    assert!(stream.until("0\r\n\r\n").ends_with("0\r\n\r\n"));
    let mut stream = listen(&gateway, "/all");
    gateway.signal("TERM");
    assert!(stream.until("0\r\n\r\n").ends_with("0\r\n\r\n"));
    assert_eq!(gateway.ended(), 0);
}

#[test]
fn many_clients_share_one_subscription_and_a_slow_one_is_told_what_it_missed() {
    let broker = Mosquitto::start();
    let gateway = Gateway::start(document(&broker, "keep_alive: 10s", BOTH));
    let before = gateway.memory();
    let mut streams: Vec<_> = (0..500).map(|_| listen(&gateway, "/devices/7/events")).collect();
    assert_eq!(gateway.status()["stores"]["plant"]["topics"], json!(1));
    assert_eq!(gateway.status()["stores"]["plant"]["listeners"], json!(500));
    broker.publish("devices/7/events", 1, "to all", &[]);
    for stream in &mut streams {
        stream.until("data: to all\n");
    }
    let each = (gateway.memory().saturating_sub(before)) / 500;
    assert!(each < 100, "{each} KiB for a client");
    // Nobody reads any more: what does not fit is dropped for each of them, and the broker is not held up.
    let lines: Vec<String> = (0..400).map(|number| format!("{number} {}", "x".repeat(20_000))).collect();
    let mut slow = streams.swap_remove(0);
    drop(streams);
    broker.publish_lines("devices/7/events", 1, &lines);
    let mut said = String::new();
    while !said.contains("data: 399 ") {
        said += &slow.until("\n\n");
    }
    assert!(said.contains("event: missed\ndata: "), "{} bytes", said.len());
    assert!(gateway.metrics().sum("yumen_stream_events_total", &[("route", "see"), ("result", "missed")]) > 0.5);
}

#[test]
fn a_broker_knows_us_by_the_name_that_the_document_says() {
    let broker = Mosquitto::with("allow_anonymous true\nclientid_prefixes gate-\n");
    let mut gateway = Gateway::start(document(&broker, "client_id: other", BOTH));
    gateway.log.wait("store plant: ");
    assert_eq!(gateway.ask(Request::post("/devices/7/commands", "x")).status, 503);
    gateway.reload(document(&broker, "client_id: gate-7", BOTH));
    eventually("it lets us in", || {
        (gateway.ask(Request::post("/devices/7/commands", "x")).status == 202).then_some(())
    });
}

#[test]
fn a_stream_asks_its_broker_as_surely_as_the_document_says() {
    let broker = Mosquitto::with("allow_anonymous true\nlog_type subscribe\n");
    let log = broker.log();
    let routes = "
a: { match: GET /0, subscribe: { store: plant, topic: a } }
b: { match: GET /2, subscribe: { store: plant, topic: a, qos: 2 } }";
    let gateway = Gateway::start(document(&broker, "keep_alive: 10s", routes));
    let _first = listen(&gateway, "/0");
    log.wait(" 0 a");
    let _second = listen(&gateway, "/2");
    log.wait(" 2 a");
}

#[test]
fn who_comes_gets_what_the_broker_keeps_once_and_nobody_else_does() {
    let broker = Mosquitto::start();
    let routes =
        format!("{BOTH}\nall: {{ match: GET /all, subscribe: {{ store: plant, topic: 'devices/+/events', qos: 2 }} }}");
    let gateway = Gateway::start(document(&broker, "keep_alive: 10s", &routes));
    up(&gateway);
    let say = |message: &str, more: &[&str]| broker.publish("devices/7/events", 1, message, more);
    let mut first = listen(&gateway, "/devices/7/events");
    say("kept", &["-r"]);
    first.until("data: kept\n");
    say("passing", &[]);
    first.until("data: passing\n");
    let mut second = listen(&gateway, "/devices/7/events");
    let mut all = listen(&gateway, "/all");
    say("", &[]);
    let mut third = listen(&gateway, "/devices/7/events");
    say("end", &[]);
    let told = |stream: &mut Connection| {
        let said = stream.until("data: end\n");
        said.lines().filter_map(|line| line.strip_prefix("data: ").map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(told(&mut first), ["", "end"], "nothing a second time");
    assert_eq!(told(&mut second), ["kept", "", "end"]);
    assert_eq!(told(&mut all), ["kept", "", "end"]);
    assert_eq!(told(&mut third), ["kept", "end"], "what was not to be kept has not taken its place");
    say("", &["-r"]);
    let mut fourth = listen(&gateway, "/devices/7/events");
    say("end", &[]);
    assert_eq!(told(&mut fourth), ["end"], "it is kept no more");
}

#[test]
fn all_that_a_broker_keeps_comes_before_what_is_new() {
    let broker = Mosquitto::start();
    let routes = "all: { match: GET /all, subscribe: { store: plant, topic: 'devices/+/events', qos: 1 } }";
    let gateway = Gateway::start(document(&broker, "keep_alive: 10s", routes));
    up(&gateway);
    // More than a broker has under way at once.
    (0..60)
        .for_each(|number| broker.publish(&format!("devices/{number}/events"), 1, &format!("kept {number}"), &["-r"]));
    let mut open = listen(&gateway, "/all");
    open.until("data: kept 59\n");
    let mut streams: Vec<_> = (0..5).map(|_| listen(&gateway, "/all")).collect();
    broker.publish("devices/7/events", 1, "new", &[]);
    for stream in &mut streams {
        let said = stream.until("data: new\n");
        let kept = |number| said.matches(&format!("data: kept {number}\n")).count();
        assert_eq!((0..60).map(kept).collect::<Vec<_>>(), [1; 60], "{said}");
    }
    let said = open.until("data: new\n");
    assert!(!said.contains("kept"), "{said}");
}

/// A broker that acknowledges nothing on its first connection.
fn forgetful() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            thread::spawn(move || talk(&mut stream.unwrap(), number > 0));
        }
    });
    address
}

/// As much of the protocol as a client needs that publishes.
fn talk(stream: &mut TcpStream, acknowledges: bool) -> Option<()> {
    loop {
        let mut byte = [0; 1];
        stream.read_exact(&mut byte).ok()?;
        let kind = byte[0] >> 4;
        let (mut length, mut shift) = (0, 0);
        loop {
            stream.read_exact(&mut byte).ok()?;
            length |= usize::from(byte[0] & 127) << shift;
            shift += 7;
            if byte[0] < 128 {
                break;
            }
        }
        let mut rest = vec![0; length];
        stream.read_exact(&mut rest).ok()?;
        match kind {
            1 => stream.write_all(&[0x20, 2, 0, 0]).ok()?,
            3 if acknowledges => {
                let topic = 2 + usize::from(rest[0]) * 256 + usize::from(rest[1]);
                stream.write_all(&[0x40, 2, rest[topic], rest[topic + 1]]).ok()?;
            }
            12 => stream.write_all(&[0xd0, 0]).ok()?,
            _ => {}
        }
    }
}

#[test]
fn messages_that_nobody_waits_for_any_more_do_not_close_the_way_for_ever() {
    let routes = BOTH.lines().filter(|line| !line.is_empty()).map(|line| format!("  {line}\n")).collect::<String>();
    let gateway = Gateway::start(format!(
        "stores: {{ plant: {{ mqtt: '{}', timeout: 300ms, keep_alive: 60s }} }}\nroutes:\n{routes}",
        forgetful()
    ));
    up(&gateway);
    let refused = || gateway.ask(Request::post("/devices/7/commands", "x")).status;
    thread::scope(|scope| {
        let all: Vec<_> = (0..60).map(|_| scope.spawn(|| (0..5).map(|_| refused()).collect::<Vec<_>>())).collect();
        let all: Vec<_> = all.into_iter().flat_map(|one| one.join().unwrap()).collect();
        assert!(all.iter().filter(|status| **status == 503).count() >= 250, "{all:?}");
    });
    eventually("it is taken again", || (refused() == 202).then_some(()));
    gateway.log.wait("does not acknowledge what it was sent");
}
