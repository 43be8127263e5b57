//! Tests in the document: what they expect is what the gateway does, and a reload that breaks one never serves.

use serde_json::Value;

use crate::harness::tools::Ended;
use crate::harness::{Gateway, Origin, Request, Setup, eventually};

const BARE: &str = "\
pools: { orders: [127.0.0.1:9], canary: [127.0.0.1:9] }
auth:
  staff: { jwt: { issuer: https://id.example.com/, audience: orders, jwks: https://id.example.com/keys } }
routes:
  orders: { match: api.example.com/orders/*, auth: staff, body: { max: 1MiB }, limit: { rate: 1/min, key: client.ip }, to: orders }
  split: { match: api.example.com/split, to: { orders: 90, canary: 10 }, opt_in: { canary: { headers: { x-canary: '1' } } } }
  admin: { match: api.example.com/admin, auth: staff, require: { role: admin }, respond: 204 }
  office: { match: api.example.com/office, ip: { allow: [10.0.0.0/8] }, respond: 200 }
  old: { match: /old, redirect: /new }
";

/// Runs one test, written without its dash, in a document with these routes.
fn test(case: &str) -> (bool, String, Ended) {
    let ended = Setup::new().run(&format!("{BARE}tests:\n  - {case}\n"), "test", &["-o", "json"]);
    let all: Value = serde_json::from_str(&ended.out).unwrap_or_else(|why| panic!("{why}: {case} {ended:?}"));
    let one = &all[0];
    (one["holds"].as_bool().unwrap(), one["detail"].as_str().unwrap_or_default().to_owned(), ended)
}

fn holds(case: &str) {
    let (holds, detail, ended) = test(case);
    assert!(holds && ended.code == 0, "{case}: {detail} {ended:?}");
}

fn fails(case: &str, sentence: &str) {
    let (holds, detail, ended) = test(case);
    assert!(!holds && ended.code == 78, "{case}: {ended:?}");
    assert!(detail.contains(sentence), "{case}: {detail}");
}

#[test]
fn a_reload_that_breaks_a_test_is_refused_and_the_old_generation_serves() {
    let document = |word: &str, more: &str| {
        format!(
            "routes:\n  all: {{ match: '/*', respond: {{ body: {word} }} }}\n{more}\
             tests:\n  - {{ send: GET a.example/secret, expect: 403 client.refused }}\n"
        )
    };
    let guarded = "  secret: { match: /secret, ip: { allow: [10.0.0.0/8] }, respond: 200 }\n";
    let gateway = Gateway::start(document("one", guarded));
    assert_eq!(gateway.get("/secret").status, 403, "the test tells the truth");
    gateway.write(document("two", ""));
    let told = gateway.yumen("reload", &["--wait", "--admin", gateway.admin_address()]);
    assert_eq!(told.code, 78, "{told:?}");
    let sentence = "tests[0]: expected 403 client.refused, but route all takes it and answers 200";
    assert!(told.err.contains("yumen.yaml:8:5") && told.err.contains(sentence), "{told:?}");
    assert_eq!((gateway.get("/").text(), gateway.generation()), ("one".to_owned(), 1));
    let checked = gateway.yumen("check", &[]);
    assert!(checked.code == 78 && checked.out.contains(sentence), "{checked:?}");
    gateway.write(document("three", guarded));
    eventually("it is right again", || (gateway.get("/").text() == "three").then_some(()));
}

#[test]
fn a_start_whose_test_fails_is_none() {
    let text = "routes: { all: { match: /*, respond: 204 } }\ntests: [{ send: GET a.example/, expect: 200 }]\n";
    let ended = Setup::new().run(text, "run", &[]);
    assert_eq!(ended.code, 78, "{ended:?}");
    assert!(ended.err.contains("tests[0]: expected 200, but route all takes it and answers 204"), "{ended:?}");
}

#[test]
fn each_part_of_what_is_expected_is_looked_at() {
    holds("{ send: GET api.example.com/orders/7, expect: 401 auth.missing }");
    holds("{ send: GET api.example.com/orders/7, expect: { route: orders } }");
    holds("{ send: GET api.example.com/orders/7, as: { sub: u1 }, expect: { route: orders, pool: orders } }");
    holds("{ send: GET a.example/old, expect: { status: 308, route: old } }");
    holds("{ send: GET a.example/none, expect: 404 route.none }");
    let missing = "but route orders takes it and is refused with 401 auth.missing by auth.staff";
    fails("{ send: GET api.example.com/orders/7, expect: { status: 403 } }", missing);
    fails("{ send: GET api.example.com/orders/7, expect: { code: auth.expired } }", missing);
    fails("{ send: GET api.example.com/orders/7, expect: { pool: orders } }", missing);
    fails("{ send: GET api.example.com/orders/7, expect: { route: split } }", "expected route split, but route orders");
    let orders = "{ send: GET api.example.com/orders/7, as: { sub: u1 }, expect: ";
    fails(&format!("{orders}{{ pool: canary }} }}"), "but route orders takes it and forwards it to pool orders");
    fails(&format!("{orders}200 }}"), "what a target answers is not known here, write { route: .., pool: .. }");
    fails(&format!("{orders}{{}} }}"), "`expect` expects nothing");
}

#[test]
fn a_test_says_who_sends_what_from_where() {
    holds("{ send: POST api.example.com/orders, as: { sub: u1 }, body: 2MiB, expect: 413 body.too_large }");
    holds("{ send: POST api.example.com/orders, as: sub=u1, body: small, expect: { pool: orders } }");
    holds("{ send: GET api.example.com/admin, as: { sub: u1, role: admin }, expect: 204 }");
    holds("{ send: GET api.example.com/admin, as: { sub: u1, role: clerk }, expect: 403 require.refused }");
    holds("{ send: GET api.example.com/office, client: 10.1.2.3, expect: 200 }");
    holds("{ send: GET api.example.com/office, client: 192.0.2.1, expect: 403 client.refused }");
    holds("{ send: GET api.example.com/split, headers: { x-canary: '1' }, expect: { pool: canary } }");
    holds("{ send: GET api.example.com/office, client: 10.1.2.3, listener: edge, expect: 200 }");
    fails(
        "{ send: GET api.example.com/office, listener: egde, expect: 200 }",
        "listener `egde` is not defined. Listeners: edge",
    );
}

#[test]
fn what_is_not_decided_here_is_said_and_never_guessed() {
    let token = |expect: &str| {
        let (head, claims) = (
            "eyJhbGciOiAiUlMyNTYiLCAia2lkIjogImsiLCAidHlwIjogIkpXVCJ9",
            "eyJpc3MiOiAiaHR0cHM6Ly9pZC5leGFtcGxlLmNvbS8iLCAiYXVkIjogIm9yZGVycyIsICJzdWIiOiAidTEiLCAiZXhwIjogNDEwMjQ0NDgwMH0",
        );
        let token = format!("{head}.{claims}.{}", "A".repeat(342));
        format!(
            "{{ send: GET api.example.com/orders/7, headers: {{ authorization: Bearer {token} }}, expect: {expect} }}"
        )
    };
    fails(&token("{ pool: orders }"), "expected pool orders: not decided here, `auth` would ask somebody");
    fails(&token("401 auth.signature"), "expected 401 auth.signature: not decided here");
    holds(&token("{ route: orders }"));
    fails(
        "{ send: GET api.example.com/split, expect: { pool: orders } }",
        "not decided here, the weights of the pools",
    );
    fails(
        "{ send: GET api.example.com/orders/7, as: { sub: u1 }, expect: 429 limit.rate }",
        "expected 429 limit.rate: not decided here, routes.orders.limit counts only where the gateway serves",
    );
}

#[test]
fn one_of_several_ways_to_be_known_is_decided_as_far_as_nobody_has_to_be_asked() {
    let text = "\
auth:
  staff: { jwt: { issuer: https://id.example.com/, audience: orders, jwks: discover } }
  partners: { key: { file: $DIR/keys.yaml } }
  either: { any: [partners, staff] }
routes: { all: { match: /*, auth: either, respond: 204 } }
tests:
  - { send: GET a.example/, expect: 401 auth.missing }
  - { send: GET a.example/, headers: { x-api-key: unknown }, expect: 401 auth.key }
  - { send: GET a.example/, headers: { x-api-key: unknown }, expect: 401 auth.invalid }
";
    let ended = Setup::new().file("keys.yaml", "acme: { hash: [] }").run(text, "test", &[]);
    assert!(ended.code == 0 && ended.out.ends_with("3 tests, 0 failed\n"), "{ended:?}");
}

#[test]
fn of_a_body_of_a_size_only_the_length_is_known() {
    let document = |case: &str| {
        format!(
            "pools: {{ app: [127.0.0.1:9] }}\nroutes: {{ all: {{ match: /*, validate: {{ body: {{ schema: $DIR/order.json }} }}, to: app }} }}\ntests:\n  - {case}\n"
        )
    };
    let told = |case: &str| {
        let setup = Setup::new().file("order.json", "{ \"required\": [\"id\"] }");
        setup.run(&document(case), "test", &[])
    };
    let json = "headers: { content-type: application/json }";
    let written = told(&format!("{{ send: POST a.example/, {json}, body: '{{}}', expect: 422 body.invalid }}"));
    assert_eq!(written.code, 0, "{written:?}");
    let sized = told(&format!("{{ send: POST a.example/, {json}, body: 2KiB, expect: 422 body.invalid }}"));
    assert!(sized.code == 78 && sized.out.contains("not decided here, `validate` reads the body"), "{sized:?}");
}

#[test]
fn a_test_tells_what_the_gateway_does() {
    let origin = Origin::answering("in");
    let cases = [
        ("GET", "/orders/7", "401 auth.missing"),
        ("GET", "/office", "403 client.refused"),
        ("PUT", "/get", "405 route.method"),
    ];
    let tests: String = cases
        .iter()
        .map(|(method, path, code)| format!("  - {{ send: {method} a.example{path}, expect: {code} }}\n"))
        .collect();
    let text = Gateway::document(
        &origin,
        "orders: { match: /orders/*, auth: staff, to: app }\noffice: { match: /office, ip: { allow: [10.0.0.0/8] }, to: app }\nget: { match: GET /get, to: app }",
    );
    let staff = "auth: { staff: { jwt: { issuer: https://id.example.com/, audience: orders, jwks: http://127.0.0.1:9/keys } } }\n";
    let gateway = Gateway::start(format!("{staff}{text}\ntests:\n{tests}"));
    for (method, path, code) in cases {
        let answer = gateway.ask(Request::new(method, path).host("a.example"));
        let said = format!("{} {}", answer.status, answer.json()["code"].as_str().unwrap());
        assert_eq!(said, code, "{method} {path}");
    }
}

#[test]
fn the_tests_of_all_files_are_run_and_told_with_their_places() {
    let more = "tests:\n  - { send: GET a.example/x, expect: 204 }\n  - { send: POST a.example/x, expect: 204 }\n";
    let text = "include: [more.yaml]\nroutes:\n  x: { match: GET /x, limit: { rate: 1/s, key: client.ip }, respond: 204 }\ntests:\n  - { send: GET a.example/x, expect: { route: x } }\n";
    let ended = Setup::new().file("more.yaml", more).run(text, "test", &[]);
    assert_eq!(ended.code, 78, "{ended:?}");
    let lines: Vec<&str> = ended.out.lines().collect();
    assert!(lines[0].starts_with("holds  ") && lines[0].contains("yumen.yaml:9:5"), "{lines:?}");
    assert!(lines[0].ends_with("route x (not counted here: routes.x.limit)"), "{lines:?}");
    assert!(lines[1].starts_with("holds  ") && lines[1].contains("more.yaml:2:5 "), "{lines:?}");
    assert!(lines[2].starts_with("fails  ") && lines[2].contains("more.yaml:3:5 "), "{lines:?}");
    assert!(lines[2].contains("expected 204, but it is refused with 405 route.method"), "{lines:?}");
    assert_eq!(lines[3], "3 tests, 1 failed");
}

#[test]
fn a_file_whose_tests_fail_is_held_back_like_any_other_mistake() {
    let team = |status: u16| {
        format!(
            "routes:\n  b: {{ match: /b, respond: {status} }}\ntests:\n  - {{ send: GET a.example/b, expect: 204 }}\n"
        )
    };
    let setup = Setup::new().file("teams/b.yaml", team(204)).file("state/here", "");
    let main = |word: &str| {
        format!(
            "runtime: {{ state: $DIR/state }}\ninclude: [{{ files: teams/*.yaml, on_error: keep_last }}]\nroutes: {{ a: {{ match: /a, respond: {{ body: {word} }} }} }}\n"
        )
    };
    let gateway = setup.start(main("one"));
    std::fs::write(gateway.setup.path().join("teams/b.yaml"), team(200)).unwrap();
    gateway.write(main("two"));
    eventually("the others land", || (gateway.get("/a").text() == "two").then_some(()));
    assert_eq!(gateway.get("/b").status, 204);
    gateway.log.wait("held back since");
}
