//! What an operator is told when something is not as he meant it: the cause, its place, and nothing that is not so.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::harness::tools::{finish, yumen};
use crate::harness::{Gateway, Origin, Request, Setup, eventually};
use crate::why::kept_as;

fn id_of(answer: &crate::harness::wire::Response) -> String {
    answer.field("x-request-id").unwrap().to_owned()
}

#[test]
fn explain_says_of_each_limit_whether_it_counts_the_request() {
    let document = "limits:
  gold: { rate: 5/min, key: client.ip, when: 'request.headers[\"x-plan\"] == \"gold\"' }
  others: { rate: 1/min, key: client.ip, when: 'request.headers[\"x-plan\"] != \"gold\"' }
routes: { all: { match: /*, limit: [gold, others], respond: 204 } }\n";
    let told = Setup::new().run(document, "explain", &["GET", "a/x", "-H", "x-plan: gold"]).out;
    let said = |name: &str| told.lines().find(|line| line.contains(&format!("limits.{name} "))).unwrap_or(&told);
    assert!(said("gold").ends_with("  counts"), "{told}");
    assert!(said("others").ends_with("  does not count"), "{told}");
}

#[test]
fn a_breaker_that_is_held_open_by_hand_says_so() {
    let origin = Origin::answering("well");
    let gateway = Gateway::before(&origin, "all: { match: /*, to: app }");
    let held = gateway.yumen("breaker", &["app", "open", "--for", "1h", "--admin", gateway.admin_address()]);
    assert_eq!(held.code, 0, "{held:?}");
    let refused = gateway.get("/");
    assert_eq!(refused.code(), "breaker.open");
    let page = kept_as(&gateway, &id_of(&refused));
    assert!(page["detail"].as_str().unwrap().starts_with("held open by hand"), "{page}");
    let target = &page["targets"][0];
    assert_eq!((&target["out"], &target["detail"]), (&json!("breaker"), &json!("held open by hand")), "{page}");
    let line = gateway.access_line(|line| line["reason"] == "breaker.open");
    assert!(line["detail"].as_str().unwrap().starts_with("held open by hand"), "{line}");
    assert_eq!(gateway.admin("/pools").json()[0]["targets"][0]["reason"], "held open by hand");
}

#[test]
fn a_host_that_was_read_is_told_of_though_the_request_is_a_loop() {
    let gateway = Gateway::start("routes: { all: { match: /*, respond: 204 } }\n");
    let via = ["1.1 yumen"; 5].join(", ");
    let refused = gateway.ask(Request::get("/").host("A.Example:80").with("Via", &via));
    assert_eq!(refused.code(), "request.loop");
    assert_eq!(gateway.access_line(|line| line["reason"] == "request.loop")["host"], "a.example");
    assert_eq!(kept_as(&gateway, &id_of(&refused))["host"], "a.example");
}

#[test]
fn a_name_that_does_not_resolve_is_the_cause_of_an_empty_pool() {
    let gateway = Gateway::start("pools: { gone: ['nowhere.invalid:80'] }\nroutes: { all: { match: /*, to: gone } }\n");
    eventually("it was looked up", || {
        (gateway.admin("/pools").json()[0]["discover"][0]["state"] == "down").then_some(())
    });
    let refused = gateway.get("/");
    assert_eq!(refused.code(), "pool.empty");
    let page = kept_as(&gateway, &id_of(&refused));
    let reason = gateway.admin("/pools").json()[0]["discover"][0]["reason"].as_str().unwrap().to_owned();
    let why = format!("nowhere.invalid:80: {reason}");
    assert_eq!(page["detail"], why.as_str(), "{page}");
    assert_eq!(gateway.access_line(|line| line["reason"] == "pool.empty")["detail"], why.as_str());
}

#[test]
fn the_page_of_pools_tells_who_waits_and_only_who_is_out_now() {
    let slow = Origin::new(|seen, talk| match seen.target.as_str() {
        "/fail" => talk.close(),
        _ => thread::park_timeout(Duration::from_secs(5)),
    });
    let gateway = Gateway::start(format!(
        "pools:
  full: {{ targets: ['{slow}'], max_in_flight: {{ per_target: 1, queue: 3, wait: 5s }} }}
  back: {{ targets: ['{slow}', '127.0.0.1:1'], retry: off, eject: {{ errors: 1, for: 100ms }} }}
routes: {{ full: {{ match: /full, to: full }}, back: {{ match: /fail, to: back }} }}\n"
    ));
    let html = || gateway.admin_ask(Request::get("/pools").with("Accept", "text/html")).text();
    let mut clients = [gateway.connect(), gateway.connect()];
    for client in &mut clients {
        client.send(Request::get("/full").bytes());
    }
    eventually("one waits", || html().contains("1 wait").then_some(()));
    gateway.get("/fail");
    let pools = || gateway.admin("/pools").json();
    let targets = |pools: &serde_json::Value| {
        let back = pools.as_array().unwrap().iter().find(|pool| pool["name"] == "back").unwrap();
        back["targets"].as_array().unwrap().clone()
    };
    eventually("the ejection is over", || {
        let all = targets(&pools());
        let over = all.iter().any(|target| target["ejection"]["out"] == false);
        (over && all.iter().all(|target| target["ejection"]["out"] != true)).then_some(())
    });
    assert!(!html().contains("ejected"), "{}", html());
}

#[test]
fn who_may_not_ask_is_told_so() {
    let gateway = Setup::new().start(
        "admin: { bind: 127.0.0.1:0, control: \"unix:$DIR/control.sock\" }\nroutes: { all: { match: /*, respond: 204 } }\n",
    );
    let socket = gateway.setup.path().join("control.sock");
    let mut permissions = std::fs::metadata(&socket).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0);
    std::fs::set_permissions(&socket, permissions).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_yumen"));
    command.args(["status", "--admin", &format!("unix:{}", socket.display())]);
    if finish(Command::new("id").arg("-u")).out.trim() == "0" {
        // Root may do anything.
        command.uid(65534).gid(65534);
    }
    let ended = finish(&mut command);
    assert_eq!(ended.code, 77, "{ended:?}");
    assert!(ended.err.contains("you may not ask the gateway at unix:/"), "{ended:?}");
}

#[test]
fn a_file_that_is_not_there_is_told_alike_by_every_verb() {
    for verb in ["check", "run", "status", "reload", "pools", "upgrade"] {
        let ended = yumen(&[verb, "--config", "/nowhere/nope.yaml"]);
        assert_eq!(ended.code, 66, "{verb}: {ended:?}");
        assert!((ended.out + &ended.err).contains("there is no file /nowhere/nope.yaml"), "{verb}");
    }
    let document = "routes: { all: { match: /*, respond: 204 } }\n";
    let ended = Setup::new().run(document, "explain", &["GET", "a/", "--body", "@missing"]);
    assert_eq!((ended.code, ended.err.as_str()), (66, "yumen: there is no file missing\n"));
}

#[test]
fn check_prints_as_other_verbs_do() {
    let document = "routes: { all: { match: /*, respond: 204 } }\n";
    for words in [&["-o", "json"][..], &["--output", "json"], &["--format", "json"]] {
        let ended = Setup::new().run(document, "check", words);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&ended.out).unwrap()["errors"], 0, "{words:?}: {ended:?}");
    }
}

#[test]
fn a_list_of_networks_may_lie_beside_the_document() {
    let setup = Setup::new().file("nets.txt", "127.0.0.0/8\n");
    let gateway = setup.start("routes: { all: { match: /*, ip: { deny: 'file:nets.txt' }, respond: 204 } }\n");
    assert_eq!(gateway.get("/").code(), "client.refused");
}

#[test]
fn too_many_at_the_same_time_are_told_as_that() {
    let slow = Origin::new(|_, _| thread::park_timeout(Duration::from_secs(5)));
    let gateway = Gateway::before(&slow, "all: { match: /*, limit: { in_flight: 1, key: route }, to: app }");
    let mut first = gateway.connect();
    first.send(Request::get("/").bytes());
    eventually("it is there", || (slow.seen().len() == 1).then_some(()));
    assert_eq!(gateway.get("/").code(), "limit.in_flight");
    let line = gateway.access_line(|line| line["reason"] == "limit.in_flight");
    assert_eq!(line["detail"], "as many requests as may be are under way");
}

#[test]
fn a_misspelt_key_of_a_description_is_refused_by_check() {
    let api =
        "openapi: 3.0.3\npaths:\n  /a:\n    get:\n      params:\n        - { name: q, in: query, required: true }\n";
    let setup = Setup::new().file("api.yaml", api);
    let document =
        "pools: { app: ['127.0.0.1:1'] }\nroutes: { all: { match: /*, validate: { openapi: api.yaml }, to: app } }\n";
    let ended = setup.run(document, "check", &[]);
    let said = "api.yaml:5: `params` in #/paths/~1a/get is no field that OpenAPI knows. Did you mean `parameters`?";
    assert!(ended.code == 78 && ended.out.contains(said), "{ended:?}");
}
