//! Guards in general, and those that look at the address: who is refused, how it is told, and what a shadow does.

use serde_json::json;

use crate::harness::wire::Response;
use crate::harness::{Gateway, Origin, Request, Setup, eventually};

#[test]
fn the_address_decides_and_the_log_names_the_rule() {
    let origin = Origin::answering("in");
    let gateway = Gateway::before(
        &origin,
        "
  open: { match: /open/*, to: app }
  shut: { match: /shut/*, ip: { deny: [127.0.0.0/8] }, to: app }
  office: { match: /office/*, ip: { allow: [10.0.0.0/8, 127.0.0.1], deny: [10.9.0.0/16] }, to: app }",
    );
    assert_eq!(["/open/x", "/shut/x", "/office/x"].map(|path| gateway.get(path).status), [200, 403, 200]);
    let refused = gateway.get("/shut/x");
    assert_eq!(refused.json()["code"], "client.refused");
    assert!(!refused.text().contains("127.0.0"), "the client is not told which rule it was");
    assert_eq!(origin.seen().len(), 2, "who is refused does not reach the target");
    let line = gateway.access_line(|line| line["reason"] == "client.refused");
    assert!(line["rule"].as_str().unwrap().starts_with("routes.shut.ip ("), "{line}");
    assert_eq!(line["detail"], "127.0.0.1 is in 127.0.0.0/8");
    assert_eq!((&line["route"], &line["pool"]), (&json!("shut"), &serde_json::Value::Null));
    let counted = || gateway.metrics().sum("yumen_faults_total", &[("route", "shut"), ("reason", "client.refused")]);
    eventually("counted", || (counted() > 1.5).then_some(()));
}

#[test]
fn the_client_behind_a_trusted_hop_is_the_one_that_counts() {
    let origin = Origin::answering("in");
    let text = format!(
        "version: 1\nruntime: {{ client_ip: {{ trust: [127.0.0.1] }} }}\nlisteners: {{ edge: {{ bind: '127.0.0.1:0' }} }}\n\
         pools: {{ app: ['{}'] }}\nroutes: {{ all: {{ match: /*, ip: {{ deny: [203.0.113.0/24] }}, to: app }} }}\n",
        origin.address()
    );
    let gateway = Gateway::start(text);
    let from = |hops: &str| gateway.ask(Request::get("/").with("X-Forwarded-For", hops)).status;
    assert_eq!([from("203.0.113.9"), from("198.51.100.1"), from("203.0.113.9, 198.51.100.1")], [403, 200, 200]);
}

#[test]
fn a_list_from_a_file_reloads_when_the_file_changes() {
    let origin = Origin::answering("in");
    let setup = Setup::new().file("blocked.txt", "# nobody yet\n");
    let list = setup.path().join("blocked.txt");
    let routes = format!("all: {{ match: /*, ip: {{ deny: 'file:{}' }}, to: app }}", list.display());
    let gateway = setup.start(Gateway::document(&origin, &routes));
    assert_eq!(gateway.get("/").status, 200);
    std::fs::write(&list, "127.0.0.0/8\n").unwrap();
    eventually("refused", || (gateway.get("/").status == 403).then_some(()));
    std::fs::write(&list, "not a network\n").unwrap();
    eventually("the reload is refused", || {
        (gateway.metrics().sum("yumen_config_last_reload_success", &[]) < 0.5).then_some(())
    });
    assert_eq!(gateway.get("/").status, 403, "the old list holds");
}

#[test]
fn a_shadow_counts_and_tells_and_changes_nothing() {
    let origin = Origin::answering("in");
    let gateway = Gateway::before(
        &origin,
        "
  plain: { match: /plain, to: app }
  watched: { match: /watched, ip: { allow: [10.0.0.0/8], mode: shadow }, to: app }",
    );
    let (plain, watched) = (gateway.get("/plain"), gateway.get("/watched"));
    assert_eq!((watched.status, watched.text()), (plain.status, plain.text()));
    let names = |answer: &Response| answer.fields.0.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&watched), names(&plain));
    let line = gateway.access_line(|line| line["route"] == "watched");
    let said = line["would_refuse"].as_str().unwrap();
    assert!(said.starts_with("client.refused by routes.watched.ip ("), "{said}");
    assert_eq!((&line["reason"], &line["http.response.status_code"]), (&serde_json::Value::Null, &json!(200)));
    let shadow = [("route", "watched"), ("reason", "client.refused")];
    eventually("counted", || (gateway.metrics().sum("yumen_shadow_refusals_total", &shadow) > 0.5).then_some(()));
    assert!(gateway.metrics().sum("yumen_faults_total", &[("route", "watched")]) < 0.5);
}

#[test]
fn explain_names_the_guards_of_a_route() {
    let text = "version: 1\nlisteners: { web: { bind: '127.0.0.1:0' } }\nroutes:\n  shut:\n    match: /*\n    ip: { deny: [10.0.0.0/8], mode: shadow }\n    respond: 204\n";
    let ended = Setup::new().run(text, "explain", &["GET", "example.com/x"]);
    assert!(ended.out.contains("guard routes.shut.ip (") && ended.out.contains("only watches"), "{}", ended.out);
    assert!(ended.out.contains("yumen.yaml:6:"), "{}", ended.out);
}
