//! Where targets come from when the document does not name their addresses: DNS, SRV, files and Consul; and whom we believe.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;

use serde_json::Value;

use crate::harness::consul::Instance;
use crate::harness::names::Answering;
use crate::harness::tls::Authority;
use crate::harness::{Consul, Gateway, Names, Origin, Setup, eventually, times};

fn document(pool: &str) -> String {
    format!("runtime: {{ workers: 1 }}\npools:\n  app: {pool}\nroutes:\n  all: {{ match: '/*', to: app }}\n")
}

fn named(port: u16, names: &Names, more: &str) -> String {
    document(&format!("{{ targets: [\"app.test:{port}\"], discover: {{ dns: [\"{names}\"]{more} }} }}"))
}

/// What `/pools` says of the first source of the pool `app`.
fn source(gateway: &Gateway) -> Value {
    gateway.admin("/pools").json()[0]["discover"][0].clone()
}

fn comes_to(gateway: &Gateway, state: &str) -> Value {
    eventually(state, || Some(source(gateway)).filter(|source| source["state"] == state))
}

fn serves(gateway: &Gateway, text: &str) {
    eventually(text, || (gateway.get("/").text() == text).then_some(()));
}

fn counted(gateway: &Gateway, requests: usize) -> BTreeMap<String, usize> {
    let mut connection = gateway.connect();
    times(requests, || connection.get("/").text()).into_iter().fold(BTreeMap::new(), |mut counts, answer| {
        *counts.entry(answer).or_default() += 1;
        counts
    })
}

#[test]
fn what_leads_back_to_this_machine_is_refused_unless_allowed() {
    let origin = Origin::answering("here");
    let port = origin.address().port();
    let names = Names::of_app(&["127.0.0.1"]);
    let mut gateway = Gateway::start(named(port, &names, ""));
    assert_eq!(gateway.get("/").verdict(), (503, "pool.empty".into()));
    gateway.log.wait(&format!("names 127.0.0.1:{port}, which is loopback: refused"));
    let told = comes_to(&gateway, "down");
    assert_eq!((&told["refused"][0]["why"], &told["found"]), (&"loopback".into(), &0.into()), "{told}");
    assert_eq!(told["reason"], "every address found is refused");
    let labels = [("pool", "app"), ("source", &*format!("app.test:{port}"))];
    assert_eq!(gateway.metrics().sum("yumen_discover_refused", &labels).to_string(), "1");
    assert!(origin.seen().is_empty());
    gateway.reload(named(port, &names, ", allow: [loopback]"));
    serves(&gateway, "here");
    gateway.reload(named(port, &names, ""));
    eventually("no longer allowed", || (gateway.get("/").status == 503).then_some(()));
}

#[test]
fn no_spelling_of_an_address_gets_around_that() {
    for (address, why) in
        [("169.254.169.254", "link_local"), ("::ffff:127.0.0.1", "loopback"), ("0.0.0.0", "unspecified")]
    {
        let names = Names::of_app(&[address]);
        let gateway = Gateway::start(named(80, &names, ""));
        let told = comes_to(&gateway, "down");
        assert_eq!(told["refused"][0]["why"], why, "{address}: {told}");
        assert_eq!(gateway.get("/").status, 503);
    }
}

#[test]
fn a_name_that_leads_to_our_own_listener_is_refused() {
    let names = Names::of_app(&["127.0.0.1"]);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listening =
        |more: &str| format!("listeners: {{ edge: {{ bind: \"127.0.0.1:{port}\" }} }}\n{}", named(port, &names, more));
    let mut gateway = Gateway::start(listening(", allow: [loopback]"));
    assert_eq!(comes_to(&gateway, "down")["refused"][0]["why"], "listeners");
    assert_eq!(gateway.get("/").verdict(), (503, "pool.empty".into()));
    gateway.reload(listening(", allow: [loopback, listeners]"));
    eventually("the loop is cut", || (gateway.get("/").status == 508).then_some(()));
}

#[test]
fn names_are_asked_of_the_servers_that_the_document_names_and_again_in_time() {
    let (a, b) = (Origin::answering("a"), Origin::answering("b"));
    let records = |origin: &Origin| {
        vec![
            "host-record=app.test,127.0.0.1".to_owned(),
            format!("srv-host=_http._tcp.app.test,app.test,{}", origin.address().port()),
        ]
    };
    let mut names = Names::with(&records(&a));
    let srv = format!("{{ discover: {{ srv: _http._tcp.app.test, dns: [\"{names}\"], allow: [loopback] }} }}");
    let gateway = Gateway::start(document(&srv));
    serves(&gateway, "a");
    names.now(&records(&b));
    serves(&gateway, "b");
    assert_eq!(source(&gateway)["source"], "srv:_http._tcp.app.test");
}

#[test]
fn srv_records_are_taken_by_weight_and_priority_and_kept_through_an_outage() {
    let [a, b, c] = ["a", "b", "c"].map(Origin::answering);
    let record = |origin: &Origin, priority: u16, weight: u16| {
        format!("srv-host=_http._tcp.app.test,app.test,{},{priority},{weight}", origin.address().port())
    };
    let host = "host-record=app.test,127.0.0.1".to_owned();
    let mut names = Names::with(&[host.clone(), record(&a, 10, 3), record(&b, 10, 1), record(&c, 20, 9)]);
    let pool = format!("{{ discover: {{ srv: _http._tcp.app.test, dns: [\"{names}\"], allow: [loopback] }} }}");
    let gateway = Gateway::start(document(&pool));
    comes_to(&gateway, "up");
    let counts = counted(&gateway, 40);
    assert_eq!((counts["a"], counts["b"], counts.len()), (30, 10, 2), "{counts:?}");
    names.now(&[host.clone(), record(&a, 10, 1), record(&b, 10, 1)]);
    eventually("other weights", || (counted(&gateway, 4).get("b") == Some(&2)).then_some(()));
    names.now(&[host.clone(), record(&c, 20, 9)]);
    eventually("the second group", || (gateway.get("/").text() == "c").then_some(()));
    names.now(&[host]);
    comes_to(&gateway, "down");
    assert_eq!(gateway.get("/").text(), "c", "no such name: the last set is kept");
    names.stop();
    assert_eq!(counted(&gateway, 10)["c"], 10);
    gateway.log.wait("srv:_http._tcp.app.test does not say where its targets are, 1 kept");
    assert_eq!(gateway.metrics().sum("yumen_discover_up", &[("pool", "app")]).to_string(), "0");
}

#[test]
fn a_name_server_that_fails_or_refuses_changes_nothing() {
    let origin = Origin::answering("here");
    let server = Answering::with("127.0.0.1".parse().unwrap());
    let pool = format!(
        "{{ targets: ['app.test:{}'], discover: {{ dns: [\"{server}\"], allow: [loopback] }} }}",
        origin.address().port()
    );
    let gateway = Gateway::start(document(&pool));
    serves(&gateway, "here");
    for (code, name) in [(2, "server failure"), (5, "refused")] {
        server.fails(code);
        let reason = comes_to(&gateway, "down")["reason"].as_str().unwrap().to_lowercase();
        assert!(reason.contains(name), "{reason}");
        assert_eq!(gateway.get("/").text(), "here");
        server.fails(0);
        comes_to(&gateway, "up");
    }
}

#[test]
fn the_last_answer_is_kept_for_as_long_as_the_document_says() {
    let origin = Origin::answering("here");
    let mut names = Names::of_app(&["127.0.0.1"]);
    let gateway = Gateway::start(named(origin.address().port(), &names, ", allow: [loopback], keep_if_down: 1s"));
    serves(&gateway, "here");
    names.now(&[]);
    eventually("given up", || (gateway.get("/").verdict() == (503, "pool.empty".into())).then_some(()));
    gateway.log.wait("has not said for too long where its targets are: none is kept");
    names.now(&Names::app(&["127.0.0.1"]));
    serves(&gateway, "here");
    gateway.log.wait("says again where its targets are");
}

const FILED: &str = "{ targets: 'file:app.targets', discover: { allow: [loopback] } }";

#[test]
fn targets_may_stand_in_a_file_that_is_read_again_when_it_changes() {
    let [a, b, c] = ["a", "b", "c"].map(Origin::answering);
    let setup = Setup::new().file("app.targets", format!("# written by a program\n{a}\n"));
    let gateway = setup.start(document(FILED));
    assert_eq!(gateway.get("/").text(), "a");
    let path = |name: &str| gateway.setup.path().join(name);
    fs::write(path("next"), format!("- {{ at: \"{b}\", weight: 3 }}\n- \"{c}\"\n")).unwrap();
    fs::rename(path("next"), path("app.targets")).unwrap();
    eventually("renamed over", || (counted(&gateway, 4).get("b") == Some(&3)).then_some(()));
    fs::write(path("third"), format!("{c}\n")).unwrap();
    symlink(path("third"), path("link")).unwrap();
    fs::rename(path("link"), path("app.targets")).unwrap();
    eventually("a link swapped", || (counted(&gateway, 4).get("c") == Some(&4)).then_some(()));
    fs::write(path("third"), format!("{c}\n127.0.0.1\n")).unwrap();
    gateway.log.wait("/app.targets:2: `127.0.0.1` needs a port");
    assert_eq!(counted(&gateway, 4)["c"], 4, "the last set serves on");
    fs::write(path("third"), "").unwrap();
    gateway.log.wait("/app.targets names no target");
    fs::write(path("third"), format!("{a}\n")).unwrap();
    serves(&gateway, "a");
}

#[test]
fn a_file_of_targets_lies_beside_the_file_that_names_it() {
    let origin = Origin::answering("beside");
    let part = format!("pools:\n  app: {FILED}\nroutes:\n  all: {{ match: '/*', to: app }}\n");
    let setup = Setup::new().file("conf.d/app.yaml", part).file("conf.d/app.targets", format!("[\"{origin}\"]"));
    assert_eq!(setup.start("include: [conf.d/*.yaml]\n").get("/").text(), "beside");
}

#[test]
fn an_address_in_a_file_is_found_and_not_written() {
    let origin = Origin::answering("here");
    let setup = Setup::new().file("app.targets", format!("{origin}\n"));
    let mut gateway = setup.start(document("{ targets: 'file:app.targets' }"));
    assert_eq!(gateway.get("/").verdict(), (503, "pool.empty".into()));
    gateway.log.wait(&format!("names {origin}, which is loopback: refused"));
    assert_eq!(source(&gateway)["refused"][0]["why"], "loopback");
    gateway.reload(document(FILED));
    assert_eq!(gateway.get("/").text(), "here");
}

fn consul(consul: &Consul, more: &str) -> String {
    document(&format!("{{ discover: {{ consul: app, at: \"{consul}\", allow: [loopback]{more} }} }}"))
}

#[test]
fn consul_says_at_once_who_passes_its_checks() {
    let [a, b, c] = ["a", "b", "c"].map(Origin::answering);
    let heavy = Instance { weight: 3, ..Instance::of(&a) };
    let sick = Instance { passing: false, ..Instance::of(&c) };
    let agent = Consul::with(&[heavy.clone(), Instance::of(&b), sick]);
    let gateway = Gateway::start(consul(&agent, ""));
    comes_to(&gateway, "up");
    let counts = counted(&gateway, 40);
    assert_eq!((counts["a"], counts["b"], counts.len()), (30, 10, 2), "{counts:?}");
    agent.now(&[Instance::of(&c)]);
    serves(&gateway, "c");
    agent.now(&[Instance { passing: false, ..Instance::of(&c) }]);
    comes_to(&gateway, "down");
    assert_eq!(gateway.get("/").text(), "c", "nobody passes: the last ones are kept");
    let asked = agent.asked();
    assert!(asked[0].ends_with("/v1/health/service/app?passing=true"), "{asked:?}");
    assert!(asked[1].contains("&index=11&wait="), "{asked:?}");
    assert!(asked.len() < 20, "a question waits for its answer: {asked:?}");
}

#[test]
fn consul_is_asked_for_a_tag_in_a_datacenter_with_a_token() {
    let (a, b) = (Origin::answering("a"), Origin::answering("b"));
    let tagged = |origin: &Origin, tag| Instance { tags: vec![tag], ..Instance::of(origin) };
    let agent = Consul::with(&[tagged(&a, "prod"), tagged(&b, "test")]);
    agent.wants("let-me-in");
    let setup = Setup::new().file("token", "let-me-in\n");
    let mut gateway = setup.start(consul(&agent, ", tag: prod, datacenter: dc1, token: 'file:$DIR/token'"));
    serves(&gateway, "a");
    let shown = gateway.yumen("show", &["pools.app.discover"]);
    assert!(!(shown.out + &gateway.log.all().join("\n")).contains("let-me-in"));
    gateway.reload(consul(&agent, ", tag: test, datacenter: dc1, token: 'file:$DIR/token'"));
    serves(&gateway, "b");
    gateway.reload(consul(&agent, ", tag: test, datacenter: dc2, token: 'file:$DIR/token'"));
    assert!(comes_to(&gateway, "down")["reason"].as_str().unwrap().ends_with("answered 500"));
    gateway.reload(consul(&agent, ", tag: test"));
    let refused = eventually("no token", || {
        source(&gateway)["reason"].as_str().filter(|reason| reason.ends_with("answered 403")).map(str::to_owned)
    });
    assert!(!refused.contains("let-me-in"));
    assert_eq!(gateway.get("/").text(), "b");
}

#[test]
fn an_outage_of_consul_keeps_the_last_set_and_is_said_once() {
    let (a, b) = (Origin::answering("a"), Origin::answering("b"));
    let agent = Consul::with(&[Instance::of(&a)]);
    let gateway = Gateway::start(consul(&agent, ""));
    serves(&gateway, "a");
    agent.fails(Some(500));
    comes_to(&gateway, "down");
    let asked = agent.asked().len();
    eventually("further questions", || (agent.asked().len() > asked + 1).then_some(()));
    assert_eq!(gateway.get("/").text(), "a");
    let said = gateway.log.all().iter().filter(|line| line.contains("does not say where its targets are")).count();
    assert_eq!(said, 1);
    assert_eq!(gateway.metrics().sum("yumen_discover_up", &[("source", "consul:app")]).to_string(), "0");
    agent.fails(None);
    agent.anew(&[Instance::of(&b)]);
    serves(&gateway, "b");
    assert_eq!(gateway.metrics().sum("yumen_discover_up", &[("source", "consul:app")]).to_string(), "1");
    agent.now(&[Instance::of(&a)]);
    serves(&gateway, "a");
    agent.anew(&[Instance::of(&b)]);
    serves(&gateway, "b");
    agent.now(&[Instance::of(&a)]);
    serves(&gateway, "a");
}

#[test]
fn instances_that_consul_hides_by_its_rules_are_kept_and_that_is_said() {
    let origin = Origin::answering("a");
    let agent = Consul::with(&[Instance::of(&origin)]);
    let gateway = Gateway::start(consul(&agent, ""));
    serves(&gateway, "a");
    agent.hides(true);
    let reason = comes_to(&gateway, "down")["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("the token may not see"), "{reason}");
    assert_eq!(gateway.get("/").text(), "a");
    agent.hides(false);
    comes_to(&gateway, "up");
}

#[test]
fn while_consul_elects_a_leader_the_last_set_serves() {
    let (a, b) = (Origin::answering("a"), Origin::answering("b"));
    let agent = Consul::with(&[Instance::of(&a)]);
    let gateway = Gateway::start(consul(&agent, ""));
    serves(&gateway, "a");
    eventually("a question that waits", || (agent.asked().len() > 1).then_some(()));
    // Those that wait are answered with it, too.
    agent.fails(Some(500));
    assert!(comes_to(&gateway, "down")["reason"].as_str().unwrap().contains("answered 500"));
    assert_eq!(gateway.get("/").text(), "a");
    // The new leader knows an older state, and counts on from there.
    agent.fails(None);
    agent.anew(&[Instance::of(&b)]);
    serves(&gateway, "b");
    let asked = agent.asked();
    let anew = asked.iter().rposition(|question| !question.contains("index=")).unwrap();
    assert!(anew > 0, "an index that went back is forgotten: {asked:?}");
}

#[test]
fn an_instance_of_consul_that_leads_back_here_is_refused() {
    let origin = Origin::answering("a");
    let agent = Consul::with(&[Instance::of(&origin)]);
    let pool = format!("{{ discover: {{ consul: app, at: \"{agent}\" }} }}");
    let gateway = Gateway::start(document(&pool));
    assert_eq!(comes_to(&gateway, "down")["refused"][0]["why"], "loopback");
    assert_eq!(gateway.get("/").status, 503);
}

#[test]
fn consul_may_answer_by_https_to_whom_its_authority_is_known() {
    let origin = Origin::answering("a");
    let agent = Consul::with(&[Instance::of(&origin)]);
    let (ours, theirs) = (Authority::new(), Authority::new());
    let front = Setup::new().pair("front", &ours.issue(&["localhost"])).start(format!(
        "listeners:\n  edge:\n    bind: 127.0.0.1:0\n    tls: {{ certs: [{{ cert: \"$DIR/front.pem\", key: \"$DIR/front.key\" }}] }}\n\
         pools: {{ consul: [\"{}\"] }}\nroutes:\n  all: {{ match: '/*', to: consul }}\n",
        agent.origin()
    ));
    let port = front.edge().rsplit(':').next().unwrap().to_owned();
    let pool =
        format!("{{ discover: {{ consul: app, at: \"https://localhost:{port}\", ca: ca.pem, allow: [loopback] }} }}");
    let gateway = Setup::new().file("ca.pem", &ours.pem).start(document(&pool));
    serves(&gateway, "a");
    let stranger = Setup::new().file("ca.pem", &theirs.pem).start(document(&pool));
    comes_to(&stranger, "down");
    assert_eq!(stranger.get("/").status, 503);
}
