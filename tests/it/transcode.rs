//! JSON over HTTP for services of gRPC that others wrote, by rules that others wrote.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::h2;
use crate::harness::wire::{Request, Response};
use crate::harness::{Gateway, Setup, eventually};
use crate::services::Services;

/// The route before `google.longrunning.Operations`, by the files of its package.
fn operations(services: &Services, more: &str) -> String {
    let protos = services.protos();
    let protos = protos.display();
    format!(
        "pools: {{ app: {} }}\nroutes:\n  ops:\n    match: /*\n    to: app\n    transcode:\n      \
         proto: ['{protos}/google/longrunning/operations_proto.proto']\n      import: ['{protos}']\n{more}",
        services.pool()
    )
}

/// The same before health and reflection, by a set of descriptors.
fn sets(services: &Services, more: &str) -> String {
    format!(
        "pools: {{ app: {} }}\nroutes: {{ all: {{ match: /*, to: app, transcode: {{ descriptors: sets.binpb{more} }} }} }}\n",
        services.pool()
    )
}

fn post(target: &str, body: &Value) -> Request {
    Request::post(target, body.to_string()).with("Content-Type", "application/json")
}

const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";

fn lines(response: &Response) -> Vec<Value> {
    response.text().lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

#[test]
fn rules_of_others_are_served() {
    let setup = Setup::new();
    let Some(services) = Services::start(&setup) else { return };
    let gateway = setup.start(operations(&services, ""));
    let got = gateway.get("/v1/operations/a/b%20c");
    assert_eq!((got.status, got.field("content-type")), (200, Some("application/json")), "{}", got.text());
    assert_eq!(got.json(), json!({ "name": "operations/a/b c", "done": true }));
    let listed = gateway.get("/v1/operations?filter=x%3D1&page_size=3&returnPartialSuccess=true").json();
    assert_eq!(listed, json!({ "operations": [{ "name": "operations/x=1" }], "nextPageToken": "operations 3 True" }));
    let deleted = gateway.ask(Request::new("DELETE", "/v1/operations/7"));
    assert_eq!((deleted.status, deleted.json()), (200, json!({})));
    let cancelled = gateway.ask(post("/v1/operations/7:cancel", &json!({})));
    assert_eq!((cancelled.status, cancelled.code()), (400, "grpc.failed_precondition".to_owned()));
    assert_eq!(cancelled.json()["detail"], "operations/7 cannot be cancelled");
    // A method without a rule, and one connection for all.
    let mut connection = gateway.connect();
    for _ in 0..2 {
        let wait = post("/google.longrunning.Operations/WaitOperation", &json!({ "name": "x", "timeout": "0.01s" }));
        assert_eq!(connection.ask(&wait).json()["name"], "x none");
    }
    let head = gateway.ask(Request::new("HEAD", "/v1/operations/7"));
    assert_eq!((head.status, head.body.len()), (200, 0));
    let error = gateway.get("/v1/operations/error").json();
    assert_eq!(error["error"], json!({ "code": 5, "message": "no such thing" }));
    // Who speaks gRPC goes the same way as before.
    services.call(&gateway.edge());
}

#[test]
fn who_fits_no_rule_is_told_and_explained() {
    let setup = Setup::new();
    let Some(services) = Services::start(&setup) else { return };
    let gateway =
        setup.start(operations(&services, "    rewrite: { strip: /api }\n").replace("match: /*", "match: /api/*"));
    let wrong = gateway.ask(Request::new("PUT", "/api/v1/operations/7"));
    assert_eq!(wrong.verdict(), (405, "route.method".to_owned()));
    assert_eq!(wrong.field("allow"), Some("DELETE, GET, HEAD"));
    assert_eq!(gateway.get("/api/v1/operation/7").verdict(), (404, "route.none".to_owned()));
    let line = gateway.access_line(|line| line["http.response.status_code"] == 405);
    let needs = "google.longrunning.Operations/GetOperation needs GET /v1/{name=operations/**}";
    assert_eq!(line["detail"], needs, "{line}");
    assert_eq!(gateway.get("/api/v1/operations/7").status, 200);
    let explained = |method: &str, path: &str| gateway.yumen("explain", &[method, path]).out;
    let get = explained("GET", "/api/v1/operations/7");
    let calls = "calls google.longrunning.Operations/GetOperation by GET /v1/{name=operations/**}";
    assert!(get.contains(calls), "{get}");
    let put = explained("PUT", "/api/v1/operations/7");
    assert!(put.contains("answer 405 route.method by routes.ops.transcode") && put.contains(needs), "{put}");
}

#[test]
fn a_set_of_descriptors_is_as_good() {
    let setup = Setup::new();
    let Some(mut services) = Services::start(&setup) else { return };
    services.set("shop", "NOT_SERVING");
    let mut gateway = setup.start(sets(&services, ""));
    assert_eq!(gateway.ask(post(CHECK, &json!({ "service": "shop" }))).json(), json!({ "status": "NOT_SERVING" }));
    assert_eq!(gateway.ask(Request::new("POST", CHECK)).json(), json!({ "status": "SERVING" }));
    let unknown = gateway.ask(post(CHECK, &json!({ "service": "none" })));
    assert_eq!((unknown.status, unknown.code()), (404, "grpc.not_found".to_owned()));
    for (path, body, wanted) in [
        (CHECK, r#"{"service":"shop"}"#, r#"{"status":"NOT_SERVING"}"#),
        (CHECK, r#"{"service":"none"}"#, r#"{"code":"grpc.not_found","#),
        (WATCH, r#"{"service":"broken"}"#, "{\"status\":\"SERVING\"}\n{\"status\":\"NOT_SERVING\"}\n{\"error\":{"),
    ] {
        let request = http::Request::post(format!("http://a.example{path}")).header("content-type", "application/json");
        let by_two = h2::ask(&gateway.edge(), request.body(()).unwrap(), body.as_bytes()).unwrap();
        let text = String::from_utf8(by_two.body).unwrap();
        assert!(text.starts_with(wanted), "{text}");
    }
    // Many messages both ways: all are sent, then the answers come.
    let reflect = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
    let ask = json!([{ "listServices": "" }, { "fileContainingSymbol": "grpc.health.v1.Health" }]);
    let answers = lines(&gateway.ask(post(reflect, &ask)));
    assert_eq!(answers.len(), 2, "{answers:?}");
    assert!(answers[0]["listServicesResponse"]["service"].as_array().unwrap().len() >= 3, "{answers:?}");
    assert!(answers[1]["fileDescriptorResponse"]["fileDescriptorProto"][0].is_string(), "{answers:?}");
    gateway.reload(sets(&services, ", services: [grpc.health.v1.Health]"));
    assert_eq!(gateway.ask(post(reflect, &ask)).verdict(), (404, "route.none".to_owned()));
    assert_eq!(gateway.ask(post(CHECK, &json!({}))).status, 200);
}

#[test]
fn a_stream_comes_line_by_line_or_event_by_event() {
    let setup = Setup::new();
    let Some(mut services) = Services::start(&setup) else { return };
    services.set("shop", "SERVING");
    let mut gateway = setup.start(sets(&services, ""));
    let watch = || post(WATCH, &json!({ "service": "shop" }));
    let mut other = ["NOT_SERVING", "SERVING"].into_iter().cycle();
    let now = |of: &str| json!({ "status": of }).to_string();
    let mut follows = |gateway: &Gateway, request: Request, kind: &str, before: &str, after: &str| {
        let mut connection = gateway.connect();
        connection.send(request.bytes());
        assert_eq!(connection.head().field("content-type"), Some(kind));
        let (next, last) = (other.next().unwrap(), other.next().unwrap());
        connection.until(&format!("{before}{}{after}", now(last)));
        services.set("shop", next);
        connection.until(&format!("{before}{}{after}", now(next)));
        services.set("shop", last);
        connection.until(&format!("{before}{}{after}", now(last)));
    };
    follows(&gateway, watch(), "application/x-ndjson", "", "\n");
    let events = watch().with("Accept", "text/event-stream");
    follows(&gateway, events, "text/event-stream", "data: ", "\n\n");
    let always = sets(&services, ", stream: sse");
    gateway.reload(always);
    let mut connection = gateway.connect();
    connection.send(watch().bytes());
    assert_eq!(connection.head().field("content-type"), Some("text/event-stream"));
    connection.until("data: ");
}

#[test]
fn a_stream_that_breaks_says_so_last() {
    let setup = Setup::new();
    let Some(mut services) = Services::start(&setup) else { return };
    services.set("shop", "SERVING");
    let gateway = setup.start(sets(&services, ""));
    let broken = gateway.ask(post(WATCH, &json!({ "service": "broken" })));
    assert_eq!(broken.status, 200);
    let lines = lines(&broken);
    assert_eq!(lines[..2], [json!({ "status": "SERVING" }), json!({ "status": "NOT_SERVING" })]);
    let error = &lines[2]["error"];
    assert_eq!(
        (&error["code"], &error["status"], &error["grpc_status"]),
        (&json!("grpc.data_loss"), &json!(500), &json!(15))
    );
    assert_eq!(error["detail"], "the disk is gone");
    let violation = json!({ "type": "disk", "subject": "full" });
    assert_eq!(error["details"][0]["violations"], json!([violation]), "{error}");
    let events = gateway.ask(post(WATCH, &json!({ "service": "broken" })).with("Accept", "text/event-stream"));
    let last = events.text().split("\n\n").nth(2).unwrap().to_owned();
    assert!(last.starts_with("event: error\ndata: {") && last.contains("grpc.data_loss"), "{last}");
    // A target that dies says nothing itself.
    let mut connection = gateway.connect();
    connection.send(post(WATCH, &json!({ "service": "shop" })).bytes());
    connection.head();
    connection.until("\"SERVING\"");
    services.kill();
    let last = connection.until("}}\n");
    assert!(last.contains("\"code\":\"upstream.reset\""), "{last}");
    let line = gateway.access_line(|line| line["reason"] == "upstream.reset");
    assert_eq!((&line["http.response.status_code"], &line["tries"]), (&json!(200), &json!(1)), "{line}");
    let gone = gateway.ask(post(CHECK, &json!({})));
    assert_eq!(gone.verdict(), (502, "upstream.refused".to_owned()));
}

#[test]
fn a_client_that_leaves_ends_the_call() {
    let setup = Setup::new();
    let Some(mut services) = Services::start(&setup) else { return };
    services.set("shop", "SERVING");
    let gateway = setup.start(sets(&services, ""));
    let mut connection = gateway.connect();
    connection.send(post(WATCH, &json!({ "service": "shop" })).bytes());
    connection.until("SERVING");
    drop(connection);
    let line = gateway.access_line(|line| line["reason"] == "client.gone");
    assert_eq!(line["http.response.status_code"], 499, "{line}");
    eventually("nothing in flight", || {
        (gateway.admin("/pools").json()[0]["targets"][0]["in_flight"] == 0).then_some(())
    });
}

#[test]
fn messages_are_printed_as_the_document_says() {
    let setup = Setup::new();
    let Some(services) = Services::start(&setup) else { return };
    let print = |more: &str| operations(&services, &format!("      print: {{ {more} }}\n"));
    let mut gateway = setup.start(print("default_fields: true"));
    let listed = |gateway: &Gateway| gateway.get("/v1/operations").json();
    let default = listed(&gateway);
    assert_eq!((&default["unreachable"], &default["operations"][0]["done"]), (&json!([]), &json!(false)), "{default}");
    gateway.reload(print("proto_names: true"));
    assert_eq!(listed(&gateway)["next_page_token"], "operations 0 False");
    gateway.reload(sets(&services, ", print: { enum_numbers: true }"));
    assert_eq!(gateway.ask(post(CHECK, &json!({}))).json(), json!({ "status": 1 }));
}

#[test]
fn what_nobody_knows_is_refused_or_ignored() {
    let setup = Setup::new();
    let Some(services) = Services::start(&setup) else { return };
    let mut gateway = setup.start(operations(&services, ""));
    let wait = "/google.longrunning.Operations/WaitOperation";
    let unknown = gateway.get("/v1/operations?page_sise=3");
    assert_eq!(unknown.verdict(), (400, "request.invalid".to_owned()));
    assert_eq!(unknown.json()["errors"][0]["parameter"], "page_sise", "{}", unknown.text());
    let body = gateway.ask(post(wait, &json!({ "nam": "x" })));
    assert_eq!((body.status, &body.json()["errors"][0]["pointer"]), (400, &json!("#")), "{}", body.text());
    let form = Request::post(wait, "name=x").with("Content-Type", "application/x-www-form-urlencoded");
    assert_eq!(gateway.ask(form).verdict(), (415, "body.type".to_owned()));
    assert_eq!(gateway.ask(Request::post(wait, "{}")).verdict(), (415, "body.type".to_owned()), "no type at all");
    gateway.reload(operations(&services, "      ignore_unknown: true\n"));
    assert_eq!(gateway.get("/v1/operations?page_sise=3").status, 200);
    assert_eq!(gateway.ask(post(wait, &json!({ "nam": "x" }))).status, 200);
}

#[test]
fn messages_and_bodies_have_their_limits() {
    let setup = Setup::new();
    let Some(services) = Services::start(&setup) else { return };
    let mut gateway = setup.start(operations(&services, "      max_message: 1KiB\n"));
    let wait = "/google.longrunning.Operations/WaitOperation";
    let name = |length: usize| json!({ "name": "x".repeat(length) });
    assert_eq!(gateway.ask(post(wait, &name(900))).status, 200);
    assert_eq!(gateway.ask(post(wait, &name(1100))).verdict(), (413, "body.too_large".to_owned()));
    assert_eq!(gateway.get("/v1/operations/large/500").status, 200);
    assert_eq!(gateway.get("/v1/operations/large/1100").verdict(), (502, "upstream.protocol".to_owned()));
    gateway.reload(sets(&services, ", max_message: 1KiB, max_body: 2KiB"));
    let reflect = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
    let ask =
        |many: usize, length: usize| post(reflect, &json!(vec![json!({ "fileByFilename": "x".repeat(length) }); many]));
    assert_eq!(gateway.ask(ask(3, 400)).status, 200);
    assert_eq!(gateway.ask(ask(6, 400)).verdict(), (413, "body.too_large".to_owned()));
    assert_eq!(gateway.ask(ask(1, 1100)).verdict(), (400, "request.invalid".to_owned()));
}

#[test]
fn every_status_is_told_over_http() {
    let setup = Setup::new();
    let Some(services) = Services::start(&setup) else { return };
    let gateway = setup.start(operations(&services, ""));
    let wanted = [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401];
    for (code, status) in wanted.into_iter().enumerate() {
        let answer = gateway.get(&format!("/v1/operations/code/{code}"));
        assert_eq!(answer.status, status, "{code}: {}", answer.text());
        if code > 0 {
            assert_eq!(answer.field("content-type"), Some("application/problem+json"));
            let problem = answer.json();
            assert_eq!((&problem["grpc_status"], &problem["status"]), (&json!(code), &json!(status)));
            assert_eq!(problem["detail"], format!("as asked: {code} \u{7389} 100%"));
        }
    }
    let details = gateway.get("/v1/operations/details");
    assert_eq!((details.status, details.field("retry-after")), (400, Some("3")));
    let details = &details.json()["details"];
    assert_eq!(details[0]["@type"], "type.googleapis.com/google.rpc.BadRequest");
    let violation = json!({ "field": "name", "description": "is not to be seen" });
    assert_eq!(details[0]["fieldViolations"], json!([violation]));
    assert_eq!(details[1], json!({ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3s" }));
    // What no description knows comes as it is.
    assert_eq!(details[2]["@type"], "type.googleapis.com/google.protobuf.Struct");
    assert!(details[2]["value"].is_string() || details[2]["value"].is_object(), "{details}");
    let unknown = gateway.get("/v1/operations/unknown");
    assert!([200, 502].contains(&unknown.status), "{}", unknown.text());
}

#[test]
fn an_answer_that_lies_too_deep_takes_nothing_with_it() {
    let setup = Setup::new();
    let Some(services) = Services::start(&setup) else { return };
    let gateway = setup.start(operations(&services, ""));
    let fine = gateway.get("/v1/operations/nested/90");
    assert_eq!((fine.status, fine.text().matches("@type").count()), (200, 90), "{}", fine.text());
    for levels in [101, 6000] {
        let deep = gateway.get(&format!("/v1/operations/nested/{levels}"));
        assert_eq!(deep.verdict(), (502, "upstream.protocol".to_owned()), "{levels}");
    }
    let line = gateway.access_line(|line| line["reason"] == "upstream.protocol");
    assert_eq!(line["detail"], "more than 100 messages lie within each other", "{line}");
    assert_eq!(gateway.get("/v1/operations/7").status, 200);
}

#[test]
fn fields_are_metadata_and_metadata_are_fields() {
    let setup = Setup::new();
    let Some(services) = Services::start(&setup) else { return };
    let more = "    request: { set: { x-route: ops } }\n    response: { remove: [x-last] }\n";
    let gateway = setup.start(operations(&services, more));
    let request = Request::get("/v1/operations/metadata").with("X-Tenant", "acme").with("Accept", "application/json");
    let answer = gateway.ask(request.with("Grpc-Reserved", "1").with("X-Real-IP", "1.2.3.4"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told = &answer.json()["response"]["metadata"];
    assert_eq!((&told["x-tenant"], &told["x-route"]), (&json!("acme"), &json!("ops")), "{told}");
    assert_eq!(told["x-request-id"].as_str(), answer.field("x-request-id"));
    assert_eq!(told["x-real-ip"], "127.0.0.1");
    assert!(told["traceparent"].is_string(), "{told}");
    for name in ["accept", "grpc-reserved", "content-encoding"] {
        assert!(told[name].is_null(), "{name}: {told}");
    }
    assert_eq!((answer.field("x-first"), answer.field("x-raw-bin")), (Some("one"), Some("AAE")));
    assert_eq!((answer.field("x-last"), answer.field("grpc-status")), (None, None));
    let line = gateway.access_line(|line| line["url.path"] == "/v1/operations/metadata");
    assert_eq!(line["target"], format!("127.0.0.1:{}", services.port), "{line}");
    let metrics = gateway.metrics();
    let counted = metrics.sum("yumen_pool_requests_total", &[("pool", "app")]);
    assert!((counted - 1.0).abs() < 0.1, "counted once, not {counted}");
}

#[test]
fn a_deadline_goes_with_the_call() {
    let setup = Setup::new();
    let Some(services) = Services::start(&setup) else { return };
    let gateway = setup.start(operations(&services, "    timeout: { total: 5s }\n"));
    let wait =
        |length: &str| post("/google.longrunning.Operations/WaitOperation", &json!({ "name": "x", "timeout": length }));
    let told = |request: Request| gateway.ask(request).json()["name"].as_str().unwrap_or_default().to_owned();
    let left = |told: String| told.strip_prefix("x ").and_then(|left| left.parse::<f64>().ok()).expect(&told);
    let total = left(told(wait("0s")));
    assert!(total > 3.0 && total <= 5.0, "{total}");
    let asked = left(told(wait("0s").with("grpc-timeout", "2S")));
    assert!(asked > 0.5 && asked <= 2.0, "{asked}");
    let begun = Instant::now();
    let late = gateway.ask(wait("4s").with("grpc-timeout", "300m"));
    assert_eq!(late.status, 504, "{}", late.text());
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[test]
fn a_changed_proto_file_is_taken_up_and_a_wrong_one_is_not() {
    let setup = Setup::new();
    let Some(services) = Services::start(&setup) else { return };
    let proto = |path: &str| {
        format!(
            "syntax = \"proto3\";\npackage grpc.health.v1;\nimport \"google/api/annotations.proto\";\n\
             message HealthCheckRequest {{ string service = 1; }}\nmessage HealthCheckResponse {{ int32 status = 1; }}\n\
             service Health {{ rpc Check(HealthCheckRequest) returns (HealthCheckResponse) {{\n\
             option (google.api.http) = {{ get: \"{path}\" }}; }} }}\n"
        )
    };
    let setup = setup.file("protos/health.proto", proto("/v1/health"));
    let file = setup.path().join("protos/health.proto");
    let document = format!(
        "pools: {{ app: {} }}\nroutes: {{ all: {{ match: /*, to: app, transcode: {{ proto: [protos/health.proto] }} }} }}\n",
        services.pool()
    );
    let gateway = setup.start(document);
    assert_eq!(gateway.get("/v1/health").json(), json!({ "status": 1 }));
    std::fs::write(&file, proto("/v2/{{nothing}}").replace("{{", "{").replace("}}", "}")).unwrap();
    gateway.log.wait("protos/health.proto:6: grpc.health.v1.Health/Check: `/v2/{nothing}`");
    assert_eq!(gateway.get("/v1/health").status, 200, "the old one serves");
    std::fs::write(&file, proto("/v2/health")).unwrap();
    eventually("the new rule", || (gateway.get("/v2/health").status == 200).then_some(()));
    assert_eq!(gateway.get("/v1/health").status, 404);
}
