//! Many requests in one: each part is a request of the same client on its own way, and can do nothing more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::gather::example;
use crate::harness::wire::Response;
use crate::harness::{Gateway, Origin, Request, eventually, h2};

const JSON: &str = "Content-Type: application/json\r\n";

/// Says what it was asked, as JSON.
fn service() -> Origin {
    Origin::new(|seen, talk| {
        let (path, query) = seen.target.split_once('?').unwrap_or((&seen.target, ""));
        match path {
            "/slow" => {
                thread::sleep(Duration::from_millis(query.parse().unwrap()));
                talk.answer(200, JSON, "true");
            }
            // Until the other side has given it up.
            "/hangs" => talk.echo(),
            "/text" => {
                talk.answer(203, "Content-Type: text/plain\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n", "a \"text\"");
            }
            "/bytes" => talk.answer(200, "", [0xff, 0x00, 0xfe]),
            "/large" => talk.answer(200, "", "x".repeat(5000)),
            "/chunks" => {
                talk.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n2\r\n[1\r\n4\r\n.50]\r\n0\r\n\r\n");
            }
            _ => talk.answer(200, JSON, Value::from(format!("{} {}", seen.method, seen.target)).to_string()),
        }
    })
}

fn gateway(origin: &Origin, batch: &str, routes: &str) -> Gateway {
    Gateway::start(format!(
        "pools:\n  app: {{ targets: ['{origin}'], retry: off, eject: off }}\n\
         routes:\n  batch: {{ match: /batch, batch: {batch} }}\n  all: {{ match: '/*', to: app }}\n{routes}"
    ))
}

fn get(path: &str) -> Value {
    json!({ "method": "GET", "path": path })
}

fn send(gateway: &Gateway, parts: &[Value]) -> Response {
    gateway.ask(post(parts))
}

fn post(parts: &[Value]) -> Request {
    Request::post("/batch", Value::from(parts.to_vec()).to_string()).with("Content-Type", "application/json")
}

fn statuses(answer: &Response) -> Vec<u64> {
    let parts = answer.json();
    parts
        .as_array()
        .unwrap_or_else(|| panic!("{}", answer.text()))
        .iter()
        .map(|one| one["status"].as_u64().unwrap())
        .collect()
}

#[test]
fn parts_are_answered_in_their_order() {
    let origin = service();
    let gateway = gateway(&origin, "{}", "");
    let parts = [
        json!({ "id": "first", "method": "GET", "path": "/slow?200" }),
        json!({ "id": 2, "method": "POST", "path": "/a?b=1", "body": { "n": 1 }, "headers": { "x-own": "7" } }),
        get("/text"),
        get("/bytes"),
        get("/chunks"),
        json!({ "method": "HEAD", "path": "/x" }),
        get("/a/../../b"),
    ];
    let answer = send(&gateway, &parts);
    assert_eq!((answer.status, answer.field("content-type")), (200, Some("application/json")));
    let all = answer.json();
    let bodies: Vec<_> = all.as_array().unwrap().iter().map(|one| one["body"].clone()).collect();
    let wanted = [json!(true), json!("POST /a?b=1"), json!("a \"text\""), json!("/wD+"), json!([1.5]), Value::Null];
    assert_eq!((&bodies[..6], all.as_array().unwrap().len()), (&wanted[..], 7), "{all}");
    assert!(answer.text().contains("\"body\":[1.50]"), "as it was written: {}", answer.text());
    assert_eq!(statuses(&answer), [200, 200, 203, 200, 200, 200, 400]);
    assert_eq!((&all[0]["id"], &all[1]["id"], all[2].get("id")), (&json!("first"), &json!(2), None));
    assert_eq!((&all[2]["headers"]["set-cookie"], &all[3]["encoding"]), (&json!(["a=1", "b=2"]), &json!("base64")));
    assert_eq!(all[6]["body"]["code"], "request.target");
    let seen = origin.seen();
    let posted = seen.iter().find(|seen| seen.method == "POST").unwrap();
    assert_eq!((posted.body.as_slice(), posted.field("x-own")), (&br#"{"n":1}"#[..], Some("7")));
    assert_eq!(posted.field("content-type"), Some("application/json"));
    assert_eq!(send(&gateway, &[]).json(), json!([]));
    let exact = r#"[{"id":12345678901234567890123.50,"method":"GET","path":"/a"}]"#;
    let answer = gateway.ask(Request::post("/batch", exact).with("Content-Type", "application/json"));
    assert!(answer.text().starts_with(r#"[{"id":12345678901234567890123.50,"#), "{}", answer.text());
}

#[test]
fn a_part_is_the_same_client_with_its_own_line() {
    let origin = service();
    let gateway = gateway(&origin, "{}", "");
    let parts = [
        get("/one"),
        json!({ "method": "GET", "path": "/two", "headers": { "Cookie": "own=2", "Host": "b.example" } }),
    ];
    let request =
        post(&parts).with("Cookie", "s=1").with("Authorization", "Bearer x").with("X-Forwarded-For", "1.2.3.4");
    let answer = gateway.ask(request.with("Idempotency-Key", "k"));
    assert_eq!(statuses(&answer), [200, 200]);
    let seen = origin.seen();
    let of = |target: &str| seen.iter().find(|seen| seen.target == target).unwrap();
    assert_eq!((of("/one").field("cookie"), of("/two").field("cookie")), (Some("s=1"), Some("own=2")));
    assert_eq!((of("/one").field("host"), of("/two").field("host")), (Some("test.example"), Some("b.example")));
    for one in [of("/one"), of("/two")] {
        assert_eq!((one.field("authorization"), one.field("idempotency-key")), (Some("Bearer x"), None));
        assert_eq!((one.field("x-forwarded-for"), one.field("via")), (Some("127.0.0.1"), Some("1.1 yumen")));
    }
    let id = answer.field("x-request-id").unwrap();
    let line = gateway.access_line(|line| line["url.path"] == "/one");
    assert_eq!(
        (&line["part_of"], &line["client.address"], &line["route"]),
        (&json!(id), &json!("127.0.0.1"), &json!("all"))
    );
    assert_ne!(line["request_id"], json!(id));
    let own = gateway.access_line(|line| line["url.path"] == "/batch");
    assert_eq!((&own["request_id"], own.get("part_of")), (&json!(id), None));
    let sum =
        gateway.metrics().sum("yumen_http_requests_total", &[("listener", "edge"), ("route", "all"), ("code", "200")]);
    assert_eq!(sum.to_string(), "2");
}

#[test]
fn a_part_can_do_nothing_that_its_sender_could_not() {
    let origin = service();
    let routes = "  limited: { match: /limited, limit: { rate: 2/h, burst: 2, key: client.ip }, to: app }\n  \
                  mine: { match: /mine, auth: { jwt: { issuer: https://id.example.com/, secret: 0123456789abcdef0123456789abcdef } }, to: app }\n  \
                  inner: { match: '/inner/*', ip: { deny: [127.0.0.0/8] }, to: app }\n  \
                  small: { match: /small, body: { max: 4B }, to: app }\n";
    let gateway = Gateway::start(format!(
        "pools:\n  app: {{ targets: ['{origin}'], retry: off }}\nroutes:\n  batch: {{ match: /batch, batch: {{ parallel: 1 }} }}\n{routes}"
    ));
    let limited = get("/limited");
    assert_eq!(statuses(&send(&gateway, &[limited.clone(), limited.clone(), limited.clone()])), [200, 200, 429]);
    assert_eq!(gateway.get("/limited").status, 429, "each part counts");
    let nested = json!({ "method": "POST", "path": "/batch", "body": [get("/limited")] });
    let large = json!({ "method": "POST", "path": "/small", "body": "too large" });
    let elsewhere = json!({ "method": "TRACE", "path": "/limited" });
    let answer = send(&gateway, &[get("/mine"), get("/inner/x"), get("/none"), nested, large, elsewhere]);
    let codes: Vec<_> = answer.json().as_array().unwrap().iter().map(|one| one["body"]["code"].clone()).collect();
    let wanted = ["auth.missing", "client.refused", "route.none", "request.invalid", "body.too_large", "route.method"];
    assert_eq!(codes, wanted, "{}", answer.text());
    assert_eq!(origin.targets(), ["/limited", "/limited"]);
}

#[test]
fn what_is_no_batch_is_refused_with_its_place() {
    let origin = service();
    let gateway = gateway(&origin, "{ max: 2 }", "");
    let refused = |body: &str| {
        let answer = gateway.ask(Request::post("/batch", body).with("Content-Type", "application/json"));
        let errors = answer.json()["errors"].clone();
        assert!(errors[0]["pointer"].as_str().is_some_and(|at| at.starts_with('#')), "{errors}");
        (answer.verdict(), errors.as_array().map_or(0, Vec::len))
    };
    let invalid = (422, "body.invalid".to_owned());
    assert_eq!(refused("no list"), (invalid.clone(), 1));
    assert_eq!(refused(&Value::from(vec![get("/a"), get("/a"), get("/a")]).to_string()), (invalid.clone(), 1));
    let forged =
        json!([{ "method": "GET", "path": "/", "headers": { "x-forwarded-for": "1.2.3.4" } }, { "path": "/" }]);
    assert_eq!(refused(&forged.to_string()), (invalid, 2));
    assert_eq!(gateway.get("/batch").verdict(), (405, "route.method".into()));
    assert_eq!(origin.targets(), [""; 0]);
}

#[test]
fn no_page_of_another_origin_can_send_a_batch_unasked_and_no_part_says_which_page_asks() {
    let origin = service();
    let gateway = gateway(&origin, "{}", "");
    let body = Value::from(vec![get("/a")]).to_string();
    for kind in
        [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("text/plain; application/json")]
    {
        let request = Request::post("/batch", &body);
        let answer = gateway.ask(match kind {
            Some(kind) => request.with("Content-Type", kind),
            None => request,
        });
        assert_eq!((answer.verdict(), answer.field("accept")), ((415, "body.type".into()), Some("application/json")));
    }
    assert_eq!(origin.targets(), [""; 0]);
    let kind = "application/vnd.batch+json; charset=utf-8";
    let said = [("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site"), ("X-Requested-With", "its own")];
    let request =
        said.into_iter().fold(Request::post("/batch", &body), |request, (name, value)| request.with(name, value));
    assert_eq!(statuses(&gateway.ask(request.with("Content-Type", kind))), [200]);
    let seen = origin.last();
    for (name, value) in said {
        assert_eq!(seen.field(name), Some(value), "of the batch");
        let part = json!({ "method": "GET", "path": "/a", "headers": { name: "https://shop.example" } });
        let answer = send(&gateway, &[part]);
        assert_eq!(answer.verdict(), (422, "body.invalid".into()), "{name}");
        assert!(answer.text().contains(&format!("/0/headers/{name}")), "{}", answer.text());
    }
}

#[test]
fn a_part_that_is_no_request_is_refused_as_its_connection_would_with_a_line_of_its_own() {
    let origin = service();
    let gateway = Gateway::start(format!(
        "listeners: {{ edge: {{ bind: '127.0.0.1:0', limits: {{ head: 1KiB, uri: 500B }} }} }}\n\
         pools:\n  app: {{ targets: ['{origin}'] }}\n\
         routes:\n  batch: {{ match: /batch, batch: {{}} }}\n  all: {{ match: '/*', to: app }}\n"
    ));
    let part = |path: &str, name: &str, value: &str| json!({ "method": "POST", "path": path, "headers": { name: value }, "body": "x" });
    let parts = [
        part("/large", "x-own", &"x".repeat(1024)),
        part("/under", "x_own", "1"),
        part("/host", "host", "a b"),
        json!({ "method": "BREW", "path": "/coffee" }),
        get(&format!("/{}", "x".repeat(600))),
        part("/fits", "x-own", &"x".repeat(500)),
    ];
    let answer = send(&gateway, &parts);
    assert_eq!(statuses(&answer), [431, 400, 400, 501, 414, 200], "{}", answer.text());
    let wanted = [
        ("/large", "request.header_too_large"),
        ("/under", "request.malformed"),
        ("/host", "request.host"),
        ("/coffee", "request.method_unknown"),
    ];
    for (at, (path, code)) in wanted.into_iter().enumerate() {
        assert_eq!(answer.json()[at]["body"]["code"], code);
        let line = gateway.access_line(|line| line["url.path"] == path);
        assert_eq!((&line["reason"], &line["part_of"]), (&json!(code), &json!(answer.field("x-request-id"))), "{line}");
    }
    assert_eq!(origin.targets(), ["/fits"]);
}

#[test]
fn a_client_that_leaves_takes_its_parts_with_it() {
    let origin = service();
    let gateway = gateway(&origin, "{}", "");
    let mut leaving = gateway.connect();
    leaving.send(post(&[get("/hangs")]).bytes());
    eventually("the part is on its way", || origin.targets().contains(&"/hangs".to_owned()).then_some(()));
    let begun = Instant::now();
    drop(leaving);
    for path in ["/batch", "/hangs"] {
        let line = gateway.access_line(|line| line["url.path"] == path);
        assert_eq!(
            (&line["http.response.status_code"], &line["reason"]),
            (&json!(499), &json!("client.gone")),
            "{path}"
        );
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn so_many_parts_run_at_once() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counting, highest) = (Arc::clone(&now), Arc::clone(&most));
    // Nobody is answered before three are here: fewer at once would never end.
    let three = std::sync::Barrier::new(3);
    let origin = Origin::new(move |_, talk| {
        highest.fetch_max(counting.fetch_add(1, SeqCst) + 1, SeqCst);
        three.wait();
        counting.fetch_sub(1, SeqCst);
        talk.answer(200, "", "");
    });
    let gateway = gateway(&origin, "{ parallel: 3 }", "");
    let parts: Vec<_> = (0..9).map(|at| get(&format!("/{at}"))).collect();
    assert_eq!(statuses(&send(&gateway, &parts)), [200; 9]);
    assert_eq!(most.load(SeqCst), 3);
}

#[test]
fn one_part_that_hangs_holds_up_no_other() {
    let origin = service();
    let gateway = gateway(&origin, "{ timeout: 500ms }", "");
    let begun = Instant::now();
    let answer = send(&gateway, &[get("/a"), get("/hangs"), get("/b")]);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(statuses(&answer), [200, 504, 200]);
}

#[test]
fn a_part_that_was_not_waited_for_is_told_of_as_that_everywhere_under_its_own_id() {
    let origin = service();
    let gateway = gateway(&origin, "{ timeout: 500ms, parallel: 1 }", "");
    // The second of them has no time at all.
    let answer = send(&gateway, &[get("/hangs"), get("/late")]);
    assert_eq!(statuses(&answer), [504, 504]);
    let batch = answer.field("x-request-id").unwrap().to_owned();
    for (at, path) in [(0, "/hangs"), (1, "/late")] {
        let body = &answer.json()[at]["body"];
        let id = body["instance"].as_str().unwrap_or_else(|| panic!("{body}"));
        assert_ne!(id, batch);
        let told = [&body["type"], &body["title"], &body["status"], &body["code"]];
        let wanted = [
            json!("urn:yumen:problem:upstream.timeout.total"),
            json!("Took too long"),
            json!(504),
            json!("upstream.timeout.total"),
        ];
        assert_eq!(told, wanted.each_ref(), "{body}");
        assert_eq!(answer.json()[at]["headers"]["content-type"], "application/problem+json");
        let line = gateway.access_line(|line| line["url.path"] == path);
        let told = [&line["http.response.status_code"], &line["reason"], &line["request_id"], &line["part_of"]];
        assert_eq!(told, [&json!(504), &json!("upstream.timeout.total"), &json!(id), &json!(batch)], "{line}");
        let why = gateway.yumen("why", &[id, "--admin", gateway.admin_address()]).out;
        assert!(why.contains("upstream.timeout.total") && why.contains("routes.batch.batch"), "{why}");
    }
    assert!(!origin.targets().contains(&"/late".to_owned()), "too late to ask anyone");
    let faults = gateway.metrics().sum("yumen_faults_total", &[("reason", "upstream.timeout.total")]);
    assert_eq!(faults.to_string(), "2");
}

#[test]
fn an_answer_that_is_too_large_is_only_its_own_failure() {
    let origin = service();
    let gateway = gateway(&origin, "{ answer: 4KiB }", "");
    let answer = send(&gateway, &[get("/large"), get("/a")]);
    assert_eq!(statuses(&answer), [502, 200]);
    assert_eq!(answer.json()[0]["body"]["code"], "upstream.too_large");
}

#[test]
fn a_batch_may_come_over_http_2() {
    let origin = service();
    let gateway = gateway(&origin, "{}", "");
    let body = Value::from(vec![get("/a"), get("/b")]).to_string();
    let request =
        http::Request::post("http://a.example/batch").header("content-type", "application/json").body(()).unwrap();
    let answer = h2::ask(&gateway.edge(), request, body.as_bytes()).unwrap();
    let all: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(all[1]["body"], json!("GET /b"));
}

#[test]
fn three_services_are_asked_in_one_batch() {
    let services = [service(), service(), service()];
    let gateway = example("batch.yaml", &services.each_ref());
    let parts =
        [get("/goods/7"), get("/stock/7"), json!({ "method": "POST", "path": "/payments/7", "body": { "sum": 1 } })];
    let answer = send(&gateway, &parts);
    let bodies: Vec<_> = answer.json().as_array().unwrap().iter().map(|one| one["body"].clone()).collect();
    assert_eq!(bodies, ["GET /goods/7", "GET /stock/7", "POST /payments/7"]);
    for (at, origin) in services.iter().enumerate() {
        assert_eq!(origin.seen().len(), 1, "service {at}: {:?}", origin.targets());
    }
    let more: Vec<_> = (0..10).map(|_| get("/goods/7")).collect();
    send(&gateway, &more);
    let over = statuses(&send(&gateway, &more));
    assert!(over.contains(&429) && over.contains(&200), "one limit for all of them: {over:?}");
}
