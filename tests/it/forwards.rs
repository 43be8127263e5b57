//! Messages of MQTT that go on to a pool: on disk until it has them, whatever goes away meanwhile.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::harness::origin::Seen;
use crate::harness::wire::Connection;
use crate::harness::{Gateway, Mosquitto, Origin, Request, Setup, eventually};

fn document(broker: &Mosquitto, target: &str, forward: &str) -> String {
    format!(
        "admin: {{ bind: 127.0.0.1:0, control: 'unix:$DIR/control.sock' }}\nruntime: {{ state: $DIR/state }}\nstores:\n  plant:\n    mqtt: '{}'\n    keep_alive: 4s\n    forward:\n      readings: {{ to: ingest, {forward} }}\npools: {{ ingest: {{ targets: ['{target}'], retry: off, eject: off }} }}\nroutes: {{ none: {{ match: /, respond: 204 }} }}\n",
        broker.address()
    )
}

fn setup() -> Setup {
    Setup::new().file("state/here", "")
}

const READINGS: &str = "topic: 'devices/:id/readings', path: '/devices/:id/readings'";

fn heard(gateway: &Gateway) {
    eventually("messages for pools are heard", || {
        (gateway.metrics().sum("yumen_mqtt_forward_up", &[("forward", "readings")]) > 0.5).then_some(())
    });
}

fn fate(gateway: &Gateway, result: &str) -> u64 {
    count(gateway.metrics().sum("yumen_mqtt_forwarded_total", &[("forward", "readings"), ("result", result)]))
}

fn waiting(gateway: &Gateway) -> u64 {
    count(gateway.metrics().sum("yumen_mqtt_queue_messages", &[("forward", "readings")]))
}

fn count(sum: f64) -> u64 {
    format!("{sum:.0}").parse().unwrap()
}

/// An origin that answers with the status of the moment, and counts what it has taken.
struct Service {
    origin: Origin,
    status: Arc<AtomicU16>,
    taken: Arc<Mutex<Vec<Seen>>>,
}

impl Service {
    fn on(listener: TcpListener) -> Self {
        let (status, taken) = (Arc::new(AtomicU16::new(204)), Arc::<Mutex<Vec<Seen>>>::default());
        let (says, keeps) = (Arc::clone(&status), Arc::clone(&taken));
        let origin = Origin::on(listener, move |seen, talk| {
            let status = says.load(SeqCst);
            if status < 300 {
                keeps.lock().unwrap().push(seen.clone());
            }
            talk.answer(status, "", "");
        });
        Self { origin, status, taken }
    }
    fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap())
    }
    fn taken(&self) -> Vec<Seen> {
        self.taken.lock().unwrap().clone()
    }
    fn bodies(&self) -> BTreeSet<String> {
        self.taken().iter().map(|seen| String::from_utf8(seen.body.clone()).unwrap()).collect()
    }
    /// Until all of these have come, and nothing else; a key is for one alone.
    fn has(&self, all: &BTreeSet<String>) {
        eventually("every message has come", || (all.difference(&self.bodies()).count() == 0).then_some(()));
        let mut keys = HashMap::new();
        for seen in self.taken() {
            let key = seen.field("idempotency-key").unwrap().to_owned();
            assert_eq!(keys.entry(key).or_insert_with(|| seen.body.clone()), &seen.body, "one key, one message");
        }
        assert_eq!(&self.bodies(), all, "and nothing else");
    }
    /// The same, and each under one key.
    fn has_all(&self, all: &BTreeSet<String>) {
        self.has(all);
        let mut bodies = HashMap::new();
        for seen in self.taken() {
            let key = seen.field("idempotency-key").unwrap().to_owned();
            assert_eq!(bodies.entry(seen.body).or_insert_with(|| key.clone()), &key, "one message, one key");
        }
    }
}

fn lines(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|number| format!("{number:06}")).collect()
}

fn all(lines: &[&[String]]) -> BTreeSet<String> {
    lines.iter().flat_map(|lines| lines.iter().cloned()).collect()
}

#[test]
fn a_message_is_sent_to_its_pool_as_the_document_says() {
    let (broker, service) = (Mosquitto::start(), Service::start());
    let forward = "topic: 'devices/:id/+/readings', qos: 2, method: PUT, path: '/v1/:id', at_once: 2, headers: { content-type: application/json }";
    let gateway = setup().start(document(&broker, &service.origin.to_string(), forward));
    heard(&gateway);
    broker.publish("devices/é 7/x/readings", 2, "{\"t\":21.5}", &[]);
    broker.publish("devices/other", 2, "not meant", &[]);
    let seen = service.origin.last();
    assert_eq!((&*seen.method, &*seen.target), ("PUT", "/v1/%C3%A9%207"));
    assert_eq!(seen.body, b"{\"t\":21.5}");
    assert_eq!(seen.field("content-type"), Some("application/json"));
    assert_eq!(seen.field("x-mqtt-topic"), Some("devices/%C3%A9%207/x/readings"));
    assert!(seen.field("idempotency-key").unwrap().ends_with("-1"), "{:?}", seen.fields);
    eventually("it is forgotten", || (waiting(&gateway) == 0 && fate(&gateway, "delivered") == 1).then_some(()));
    // What cannot be a path of its own leads nowhere, and is set aside.
    broker.publish("devices/../x/readings", 1, "climbs", &[]);
    eventually("it is set aside", || (fate(&gateway, "dead") == 1).then_some(()));
    assert_eq!(service.origin.seen().len(), 1);
    eventually("the status says so", || {
        let queue = &gateway.status()["stores"]["plant"]["forward"]["readings"];
        let said = (&queue["state"], &queue["messages"], &queue["dead"]);
        (said == (&json!("up"), &json!(0), &json!(1))).then_some(())
    });
}

#[test]
fn messages_wait_on_disk_while_the_pool_is_away_and_keep_the_order_of_their_topic() {
    let broker = Mosquitto::start();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = free.local_addr().unwrap();
    drop(free);
    let gateway = setup().start(document(&broker, &target.to_string(), READINGS));
    heard(&gateway);
    for device in ["a", "b"] {
        broker.publish_lines(&format!("devices/{device}/readings"), 1, &lines(0, 50));
    }
    eventually("all are on disk", || (fate(&gateway, "received") == 100 && waiting(&gateway) == 100).then_some(()));
    eventually("and it was tried", || (fate(&gateway, "failed") > 3).then_some(()));
    gateway.log.wait("messages wait on disk until the pool takes them");
    eventually("the oldest gets older", || {
        (gateway.metrics().sum("yumen_mqtt_queue_oldest_seconds", &[("forward", "readings")]) > 0.5).then_some(())
    });
    let service = Service::on(TcpListener::bind(target).unwrap());
    eventually("all have come", || (service.taken().len() >= 100).then_some(()));
    let mut by_device: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for seen in service.taken() {
        by_device.entry(seen.target).or_default().push(String::from_utf8(seen.body).unwrap());
    }
    let in_order = lines(0, 50);
    assert!(by_device.len() == 2 && by_device.values().all(|bodies| *bodies == in_order), "{by_device:?}");
    eventually("nothing waits any more", || (waiting(&gateway) == 0).then_some(()));
    gateway.log.wait("messages are delivered again");
}

#[test]
fn what_a_pool_refuses_for_good_is_set_aside_and_holds_up_nothing() {
    let broker = Mosquitto::start();
    let origin = Origin::new(|seen, talk| match &*seen.body {
        b"poison" => talk.answer(422, "", ""),
        _ => talk.answer(200, "", ""),
    });
    let gateway = setup().start(document(&broker, &origin.to_string(), READINGS));
    heard(&gateway);
    for message in ["one", "poison", "two"] {
        broker.publish("devices/7/readings", 1, message, &[]);
    }
    eventually("the one after it has come", || {
        (fate(&gateway, "delivered") == 2 && fate(&gateway, "dead") == 1).then_some(())
    });
    let aside = eventually("it is set aside", || {
        Some(gateway.read("state/mqtt/plant/readings/dead.jsonl")).filter(|text| text.ends_with('\n'))
    });
    let line: serde_json::Value = serde_json::from_str(aside.trim_end()).unwrap();
    assert_eq!(
        (&line["payload"], &line["status"], &line["topic"]),
        (&json!("poison"), &json!(422), &json!("devices/7/readings"))
    );
    eventually("nothing waits any more", || (waiting(&gateway) == 0).then_some(()));
}

#[test]
fn nothing_is_lost_when_the_gateway_is_killed_in_the_middle() {
    let (broker, service) = (Mosquitto::start(), Service::start());
    let document = document(&broker, &service.origin.to_string(), READINGS);
    let mut gateway = setup().start(&document);
    heard(&gateway);
    let mut sent = Vec::new();
    for round in 0..3 {
        let some = lines(round * 300, round * 300 + 300);
        // The pool stalls, so that some wait on disk when it happens.
        service.status.store(if round == 1 { 503 } else { 204 }, SeqCst);
        broker.publish_lines(&format!("devices/{round}/readings"), 1, &some);
        sent.push(some);
        eventually("some have come", || (fate(&gateway, "received") > 20).then_some(()));
        gateway = gateway.restart(|mut command| {
            command.stdin(Stdio::null());
            command
        });
    }
    service.status.store(204, SeqCst);
    heard(&gateway);
    let sent: Vec<&[String]> = sent.iter().map(Vec::as_slice).collect();
    service.has_all(&all(&sent));
    eventually("nothing waits any more", || (waiting(&gateway) == 0).then_some(()));
}

#[test]
fn the_broker_keeps_messages_while_we_are_away_and_is_entered_again_when_it_is_back() {
    let (mut broker, service) = (Mosquitto::start(), Service::start());
    let document = document(&broker, &service.origin.to_string(), READINGS);
    let mut gateway = setup().start(&document);
    heard(&gateway);
    let first = lines(0, 100);
    broker.publish_lines("devices/1/readings", 1, &first);
    broker.stop();
    gateway.log.wait("its messages for pools are not heard");
    broker.again();
    heard(&gateway);
    let second = lines(100, 200);
    broker.publish_lines("devices/1/readings", 2, &second);
    // Now the gateway is away.
    eventually("they have come", || service.bodies().contains("000199").then_some(()));
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), 0);
    let third = lines(200, 300);
    broker.publish_lines("devices/1/readings", 1, &third);
    let gateway = gateway.restart(|mut command| {
        command.stdin(Stdio::null());
        command
    });
    heard(&gateway);
    service.has_all(&all(&[&first, &second, &third]));
}

#[test]
fn a_full_queue_leaves_messages_with_the_broker() {
    let (broker, service) = (Mosquitto::start(), Service::start());
    service.status.store(503, SeqCst);
    let gateway = setup().start(document(&broker, &service.origin.to_string(), &format!("{READINGS}, queue: 64KiB")));
    heard(&gateway);
    let sent: Vec<String> = lines(0, 500).into_iter().map(|line| format!("{line} {}", "x".repeat(500))).collect();
    broker.publish_lines("devices/1/readings", 1, &sent);
    eventually("it is full", || {
        (gateway.metrics().sum("yumen_mqtt_queue_full", &[("forward", "readings")]) > 0.5).then_some(())
    });
    let bytes = gateway.metrics().sum("yumen_mqtt_queue_bytes", &[("forward", "readings")]);
    assert!(bytes <= 65536.0 && fate(&gateway, "received") < 200, "{bytes}");
    let larger = "y".repeat(100_000);
    broker.publish("devices/2/readings", 1, &larger, &[]);
    service.status.store(204, SeqCst);
    service.has_all(&all(&[&sent]));
    eventually("what never has room is dropped and told", || (fate(&gateway, "too_long") == 1).then_some(()));
    eventually("nothing waits any more", || {
        let metrics = gateway.metrics();
        let full = metrics.sum("yumen_mqtt_queue_full", &[("forward", "readings")]);
        (waiting(&gateway) == 0 && full < 0.5).then_some(())
    });
}

#[test]
fn an_upgrade_hands_the_messages_over_and_none_is_lost() {
    let (broker, service) = (Mosquitto::start(), Service::start());
    let mut gateway = setup().start(document(&broker, &service.origin.to_string(), READINGS));
    heard(&gateway);
    let mut sent = Vec::new();
    for round in 0..3 {
        let some = lines(round * 200, round * 200 + 200);
        broker.publish_lines("devices/1/readings", 1, &some);
        gateway.upgrade();
        sent.push(some);
    }
    heard(&gateway);
    let sent: Vec<&[String]> = sent.iter().map(Vec::as_slice).collect();
    service.has_all(&all(&sent));
    let log = gateway.log.all();
    assert!(log.iter().any(|line| line.contains("are left to another process")), "{log:#?}");
    assert!(!log.iter().any(|line| line.contains("are not heard")), "the two fight: {log:#?}");
}

#[test]
fn a_reload_changes_what_is_heard_and_keeps_what_waits() {
    let (broker, service) = (Mosquitto::start(), Service::start());
    service.status.store(503, SeqCst);
    let of = |forward: &str| document(&broker, &service.origin.to_string(), forward);
    let mut gateway = setup().start(of("topic: 'old/:id', path: '/:id'"));
    heard(&gateway);
    broker.publish("old/1", 1, "waits", &[]);
    eventually("it is on disk", || (waiting(&gateway) == 1).then_some(()));
    gateway.reload(of("topic: 'new/:id', path: '/:id', at_once: 3"));
    eventually("it is entered anew", || {
        let entered = |line: &&String| line.contains("its messages for pools are heard");
        (gateway.log.all().iter().filter(entered).count() == 2).then_some(())
    });
    heard(&gateway);
    broker.publish("old/2", 1, "not meant any more", &[]);
    broker.publish("new/3", 1, "meant", &[]);
    // What waits has a topic of its own time: it makes no request now, and is set aside when its turn comes.
    eventually("both are taken", || (waiting(&gateway) + fate(&gateway, "dead") == 2).then_some(()));
    service.status.store(204, SeqCst);
    eventually("the new one has come", || service.bodies().contains("meant").then_some(()));
    eventually("the old one is set aside", || (fate(&gateway, "dead") == 1 && waiting(&gateway) == 0).then_some(()));
    assert_eq!(service.bodies(), ["meant".to_owned()].into());
}

#[test]
fn the_example_of_devices_does_what_it_says() {
    let (broker, service) = (Mosquitto::start(), Service::start());
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/examples/devices.yaml");
    let text = std::fs::read_to_string(file).unwrap();
    let made = crate::harness::tools::yumen(&["key", "new", "ops"]).out;
    let said = |what: &str| made.lines().find_map(|line| Some(line.strip_prefix(what)?.trim().to_owned())).unwrap();
    let (key, hash) = (said("key:"), said("line:"));
    let setup = setup().file("operator-keys.yaml", hash);
    let text = text
        .replace("10.0.0.7:1883", &broker.address())
        .replace("/etc/yumen/operator-keys.yaml", "operator-keys.yaml")
        .replace("10.0.0.31:8080", &service.origin.to_string())
        .replace("web: { bind: 127.0.0.1:8080 }", "edge: { bind: 127.0.0.1:0 }");
    let gateway = setup.start(format!("runtime: {{ state: $DIR/state }}\n{text}"));
    heard(&gateway);
    broker.publish("devices/7/readings", 1, "{\"t\":21}", &[]);
    let seen = service.origin.last();
    assert_eq!((&*seen.target, &*seen.body), ("/devices/7/readings", &b"{\"t\":21}"[..]));
    assert_eq!(gateway.ask(Request::post("/devices/7/commands", "on")).status, 401);
    let heard = broker.listen("devices/7/commands", 1);
    let answer = gateway.ask(Request::post("/devices/7/commands", "on").with("x-api-key", &key));
    assert_eq!(answer.status, 202);
    heard.lines.wait("devices/7/commands 1 0 on");
    let mut stream: Connection = gateway.connect();
    stream.send(Request::get("/devices/7/events").with("x-api-key", &key).bytes());
    assert_eq!(stream.head().status, 200);
    stream.until(": listening\n\n");
    broker.publish("devices/7/events", 1, "door open", &[]);
    stream.until("event: devices/7/events\ndata: door open\n");
}

#[test]
fn as_many_requests_are_under_way_as_the_document_says() {
    let broker = Mosquitto::start();
    let (under_way, most) = (Arc::new(AtomicU16::new(0)), Arc::new(AtomicU16::new(0)));
    let (now, highest) = (Arc::clone(&under_way), Arc::clone(&most));
    let origin = Origin::new(move |_, talk| {
        highest.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
        // Nobody is answered before three are there; a fourth would come soon.
        eventually("three at once", || (highest.load(SeqCst) >= 3).then_some(()));
        std::thread::park_timeout(std::time::Duration::from_millis(20));
        now.fetch_sub(1, SeqCst);
        talk.answer(204, "", "");
    });
    let gateway = setup().start(document(&broker, &origin.to_string(), &format!("{READINGS}, at_once: 3")));
    heard(&gateway);
    for device in 0..12 {
        broker.publish_lines(&format!("devices/{device}/readings"), 1, &lines(0, 4));
    }
    eventually("all have come", || (fate(&gateway, "delivered") == 48).then_some(()));
    assert_eq!(most.load(SeqCst), 3);
}
