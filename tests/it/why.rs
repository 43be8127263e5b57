//! Why a request was refused or failed: kept with every decision, found by its id, without anything secret.

use std::net::TcpListener;

use serde_json::Value;

use crate::harness::tools::{Ended, yumen};
use crate::harness::wire::Response;
use crate::harness::{Gateway, Origin, Request, Setup, eventually};

/// What the gateway keeps of the request that this is the answer to.
pub fn kept(gateway: &Gateway, answer: &Response) -> Value {
    let id = answer.field("x-request-id").map_or_else(|| answer.json()["request_id"].clone(), Into::into);
    kept_as(gateway, id.as_str().unwrap())
}

pub fn kept_as(gateway: &Gateway, id: &str) -> Value {
    eventually("it is kept", || {
        let page = gateway.admin(&format!("/why?id={id}"));
        // Places begin with the directory of the document.
        let text = page.text().replace(&format!("{}/", gateway.setup.path().display()), "");
        (page.status == 200).then(|| serde_json::from_str::<Value>(&text).unwrap()["requests"][0].clone())
    })
}

fn why(gateway: &Gateway, words: &[&str]) -> Ended {
    gateway.yumen("why", &[words, &["--admin", gateway.admin_address()]].concat())
}

fn id(answer: &Response) -> &str {
    answer.field("x-request-id").unwrap()
}

#[test]
fn a_refusal_is_told_with_its_rule_and_what_each_guard_said() {
    let origin = Origin::answering("ok");
    let gateway = Gateway::before(
        &origin,
        "all:\n  match: GET /orders/:id\n  ip: { deny: [127.0.0.0/8], mode: shadow }\n  require: { role: admin }\n  limit: { rate: 9/h, key: client.ip }\n  to: app",
    );
    let answer = gateway.get("/orders/7?x=1");
    assert_eq!(answer.verdict(), (403, "require.refused".into()));
    let page = kept(&gateway, &answer);
    assert_eq!((page["status"].as_u64(), page["code"].as_str()), (Some(403), Some("require.refused")), "{page}");
    assert_eq!(page["rule"], "routes.all.require (yumen.yaml:10:5)");
    assert!(page["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{page}");
    assert_eq!((&page["path"], &page["client"]), (&"/orders/7".into(), &"127.0.0.1".into()));
    assert_eq!(page["route"]["place"], "yumen.yaml:7:3");
    assert_eq!(page["route"]["match"], "GET /orders/:id");
    assert_eq!(page["listener"]["place"].as_str().map(|place| place.starts_with("yumen.yaml:3")), Some(true), "{page}");
    let said: Vec<_> = page["guards"].as_array().unwrap().iter().map(|guard| guard["said"].clone()).collect();
    assert_eq!(said, ["would refuse", "refused", "not asked"], "{page}");
    assert_eq!(page["guards"][0]["code"], "client.refused");
    assert_eq!(page["generation"], 1);
    assert!(page["timings_ms"]["total"].as_f64().unwrap() > 0.0);
    assert!(page.get("query").is_none() && page.get("attempts").is_none(), "{page}");

    let told = why(&gateway, &[id(&answer)]);
    assert_eq!(told.code, 0, "{told:?}");
    for line in
        ["403 require.refused  GET ", "rule     routes.all.require (", "yumen.yaml:10:5)", "refused: require.refused"]
    {
        assert!(told.out.contains(line), "{line}: {}", told.out);
    }
    let whole: Value = serde_json::from_str(&why(&gateway, &[id(&answer), "-o", "json"]).out).unwrap();
    assert_eq!(whole["requests"][0]["request_id"], id(&answer));
}

#[test]
fn each_try_is_told_with_its_target_cause_and_time() {
    let closed = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (one, two) = (closed(), closed());
    let gateway = Gateway::start(format!(
        "pools:\n  app: {{ targets: ['{one}', '{two}'], retry: {{ attempts: 3, backoff: 20ms..30ms }} }}\nroutes: {{ all: {{ match: /*, to: app }} }}\n"
    ));
    let answer = gateway.get("/");
    assert_eq!(answer.verdict(), (502, "upstream.refused".into()));
    let page = kept(&gateway, &answer);
    let tries = page["attempts"].as_array().unwrap();
    assert!(tries.len() > 1, "{page}");
    for one_of in tries {
        assert_eq!(one_of["end"]["code"], "upstream.refused", "{page}");
        assert!(one_of["took_ms"].is_number(), "{page}");
    }
    assert_ne!(tries[0]["target"], tries[1]["target"]);
    assert!(tries.iter().skip(2).all(|one| one["waited_ms"].as_f64() > Some(1.0)), "{page}");
    assert!(page["rule"].as_str().unwrap().starts_with("pools.app (yumen.yaml:"), "{page}");
    let told = why(&gateway, &[id(&answer)]).out;
    assert!(told.contains(&format!("{one}  upstream.refused after ")) && told.contains("  try 2 "), "{told}");
}

#[test]
fn the_limit_that_was_too_short_is_named_where_it_stands() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let document = |pool: &str, route: &str| {
        let at = silent.local_addr().unwrap();
        format!(
            "pools:\n  app: {{ targets: ['{at}'], retry: off, {pool} }}\nroutes:\n  all: {{ match: /*, to: app, {route} }}\n"
        )
    };
    for (pool, route, rule) in [
        ("timeout: { first_byte: 50ms }", "", "pools.app.timeout.first_byte (yumen.yaml:6:"),
        (
            "timeout: { first_byte: 9s }",
            "timeout: { first_byte: 50ms }",
            "routes.all.timeout.first_byte (yumen.yaml:8:",
        ),
        ("timeout: { per_try: 50ms }", "", "pools.app.timeout.per_try (yumen.yaml:6:"),
        ("timeout: { idle: 50ms }", "", "pools.app.timeout.idle (yumen.yaml:6:"),
        ("", "timeout: { total: 50ms }", "routes.all.timeout.total (yumen.yaml:8:"),
    ] {
        let gateway = Gateway::start(document(pool, route));
        let page = kept(&gateway, &gateway.get("/"));
        assert!(page["rule"].as_str().is_some_and(|said| said.starts_with(rule)), "{rule}: {page}");
    }
}

#[test]
fn what_went_well_leaves_nothing_and_an_error_of_the_target_does() {
    let origin = Origin::new(|seen, talk| talk.answer(if seen.target == "/bad" { 500 } else { 204 }, "", ""));
    let gateway = Gateway::passing(&origin);
    let (good, bad) = (gateway.get("/good"), gateway.get("/bad"));
    let page = kept(&gateway, &bad);
    assert_eq!((page["status"].as_u64(), page.get("code")), (Some(500), None), "{page}");
    assert_eq!(page["attempts"][0]["end"]["status"], 500);
    let unknown = why(&gateway, &[id(&good)]);
    assert_eq!(unknown.code, 1, "{unknown:?}");
    assert!(unknown.err.contains("is none of the 1 requests that this gateway refused or failed"), "{}", unknown.err);
    assert_eq!(gateway.admin("/why").json()["kept"], 1);
}

#[test]
fn an_answer_that_broke_off_is_kept() {
    let origin = Origin::new(|_, talk| {
        talk.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
        talk.close();
    });
    let gateway = Gateway::passing(&origin);
    let mut connection = gateway.connect();
    let head = connection.send(Request::get("/").bytes()).head();
    let page = kept(&gateway, &head);
    assert_eq!((&page["cut"], &page["code"]), (&true.into(), &"upstream.reset".into()), "{page}");
}

#[test]
fn a_request_that_never_was_one_is_kept_too() {
    let gateway = Gateway::start("routes: { all: { match: /*, respond: 204 } }\n");
    let (answers, _) = gateway.raw("GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    let page = kept(&gateway, &answers[0]);
    assert_eq!(page["code"], "request.host", "{page}");
    assert!(page["rule"].as_str().unwrap().starts_with("listeners.edge (yumen.yaml:"), "{page}");
}

#[test]
fn a_miss_names_the_route_that_was_nearest() {
    let gateway = Gateway::start("routes:\n  orders: { match: GET /orders/:id, respond: 204 }\n");
    for answer in [gateway.get("/orders"), gateway.ask(Request::post("/orders/7", ""))] {
        let page = kept(&gateway, &answer);
        assert_eq!(page["rule"], "routes.orders (yumen.yaml:6:3)", "{page}");
        assert!(page["detail"].as_str().unwrap().contains("orders needs "), "{page}");
    }
}

#[test]
fn the_last_ones_are_listed_the_newest_first() {
    let gateway = Gateway::start("routes: { one: { match: /one, respond: 204 } }\n");
    let ids: Vec<String> = ["/a", "/b", "/c"].map(|path| id(&gateway.get(path)).to_owned()).into();
    for id in &ids {
        kept_as(&gateway, id);
    }
    let listed = gateway.admin("/why?last=2").json();
    let found: Vec<_> = listed["requests"].as_array().unwrap().iter().map(|page| page["request_id"].clone()).collect();
    assert_eq!(found, [ids[2].as_str(), ids[1].as_str()]);
    let told = why(&gateway, &["--last", "2"]).out;
    assert!(told.starts_with("TIME ") && told.contains("/c") && !told.contains(&ids[0]), "{told}");
    assert!(told.ends_with("3 kept, all of the last 0s\n") || told.contains("3 kept, all of the last "), "{told}");
    assert_eq!(gateway.admin("/why?last=many").status, 400);
    assert_eq!(gateway.admin_ask(Request::new("POST", "/why")).status, 405);
}

#[test]
fn nothing_secret_is_kept() {
    let origin = Origin::new(|_, talk| talk.close());
    let made = yumen(&["key", "new", "ci"]).out;
    let setup =
        Setup::new().file("keys.yaml", made.lines().find_map(|line| line.strip_prefix("line:")).unwrap().trim());
    let gateway = setup.start(format!(
        "observe: {{ access_log: {{ to: \"file:$DIR/access.log\", query: true }} }}\npools: {{ app: ['{origin}'] }}\nroutes:\n  all: {{ match: /*, to: app }}\n  kept: {{ match: /kept/*, auth: {{ key: {{ file: ./keys.yaml, in: [query.api_key, header.x-api-key] }} }}, to: app }}\n"
    ));
    let asked = |target: &str| {
        Request::post(target, "canary-body")
            .with("Authorization", "Bearer canary-token")
            .with("Cookie", "session=canary-cookie")
            .with("X-Api-Key", "canary-key")
            .with("User-Agent", "canary-agent")
            .with("Referer", "http://a/?canary-referer")
    };
    let answers = [gateway.ask(asked("/lost?shown=1")), gateway.ask(asked("/kept/x?api_key=canary-query&shown=1"))];
    for answer in &answers {
        assert!(answer.status >= 400, "{}", answer.status);
        let page = kept(&gateway, answer).to_string();
        assert!(page.contains("shown=1"), "the document says that queries are shown: {page}");
        let told = why(&gateway, &[id(answer)]).out + &why(&gateway, &[]).out;
        for text in [page, gateway.admin("/why").text(), told] {
            assert!(!text.contains("canary"), "{text}");
        }
    }
    let gateway = Gateway::passing(&origin);
    let page = kept(&gateway, &gateway.get("/?canary=1"));
    assert!(!page.to_string().contains("canary"), "{page}");
}

#[test]
fn nobody_who_runs_is_said_by_the_exit_code() {
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let ended = Setup::new().run("routes: {}\n", "why", &["x", "--admin", &nowhere]);
    assert_eq!(ended.code, 69, "{ended:?}");
}
