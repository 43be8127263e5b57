//! What a request becomes, and what becomes of an answer, by the shop of the examples.

use std::path::Path as FilePath;

use bytes::BytesMut;
use prost::Message;
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};

use super::*;
use crate::policy::auth::Schemes;

mod json;

fn compile(yaml: &str) -> Result<Transcode, Vec<String>> {
    let mut config: Config = serde_yaml::from_str(yaml).unwrap();
    let examples = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("conf/examples");
    config.proto.iter_mut().for_each(|file| *file = examples.join(&*file));
    let (place, schemes, mut problems) = (|_: &Path| String::new(), Schemes::new(), Problems::default());
    let compiled = Transcode::compile(&config, &Path::default(), &Tools::alone(&place, &schemes), &mut problems);
    compiled.ok_or_else(|| problems.iter().map(|problem| problem.sentence.clone()).collect())
}

fn shop() -> Transcode {
    compile("proto: [shop.proto]").unwrap()
}

/// `GET /v1/orders?x=1` with a body: the method, and its messages as JSON, or what is wrong.
fn told(shop: &Transcode, request: &str, body: &str) -> (String, Value) {
    let (verb, target) = request.split_once(' ').unwrap();
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let found = match shop.find(&verb.parse().unwrap(), path) {
        Ok(found) => found,
        Err(miss) => return (miss.why(), Value::Null),
    };
    let name = found.binding.method.name.split_once('/').unwrap().1.to_owned();
    let parts = Parts { path: "", query, content_type: None, body: body.as_bytes() };
    match shop.messages(&found, &parts) {
        Err((at, why)) => (name, json!(format!("{at} {why}"))),
        Ok(wire) => {
            let mut frames = frame::Frames::new(1 << 20);
            frames.push(&wire);
            let mut messages = Vec::new();
            while let Some(message) = frames.take().unwrap() {
                let message = DynamicMessage::decode(found.binding.method.input.clone(), message).unwrap();
                messages.push(shop.print.value(&message).unwrap());
            }
            (name, messages.into())
        }
    }
}

#[test]
fn a_request_is_the_call_that_its_rule_says() {
    let shop = shop();
    let story: [(&str, &str, &str, Value); 13] = [
        ("GET /v1/orders/7", "", "GetOrder", json!([{ "name": "orders/7" }])),
        ("HEAD /v1/orders/7", "", "GetOrder", json!([{ "name": "orders/7" }])),
        ("GET /v1/customers/a%20b/orders/7", "", "GetOrder", json!([{ "name": "customers/a b/orders/7" }])),
        (
            "GET /v1/orders?page_size=5&filter.states=OPEN&filter.states=2&filter.since=2026-01-02T03:04:05Z&filter.open=true",
            "",
            "ListOrders",
            json!([{
                "filter": { "states": ["OPEN", "SHIPPED"], "since": "2026-01-02T03:04:05Z", "open": true }, "pageSize": 5,
            }]),
        ),
        ("GET /v1/orders?pageSize=5", "", "ListOrders", json!([{ "pageSize": 5 }])),
        (
            "POST /v1/orders?request_id=a%2Bb+c",
            r#"{ "state": 2, "totalCents": "9007199254740993", "label": "AQI=" }"#,
            "CreateOrder",
            json!([{
                "order": { "state": "SHIPPED", "totalCents": "9007199254740993", "label": "AQI=" }, "requestId": "a+b c",
            }]),
        ),
        (
            "PATCH /v1/orders/7?updateMask=state,totalCents",
            r#"{ "name": "orders/8", "state": "OPEN" }"#,
            "UpdateOrder",
            json!([{ "order": { "name": "orders/7", "state": "OPEN" }, "updateMask": "state,totalCents" }]),
        ),
        (
            "POST /v1/orders/7:cancel",
            r#"{ "reason": "late" }"#,
            "CancelOrder",
            json!([{ "name": "orders/7", "reason": "late" }]),
        ),
        ("POST /v1/orders/7:cancel", "", "CancelOrder", json!([{ "name": "orders/7" }])),
        ("GET /v1/orders:watch", "", "WatchOrders", json!([{}])),
        (
            "POST /v1/orders:import",
            r#"[{ "name": "a" }, { "total_cents": 1 }]"#,
            "ImportOrders",
            json!([{ "name": "a" }, { "totalCents": "1" }]),
        ),
        (
            "POST /v1/orders:import",
            "{ \"name\": \"a\" }\n\n{ \"name\": \"b\" }\n",
            "ImportOrders",
            json!([{ "name": "a" }, { "name": "b" }]),
        ),
        ("POST /shop.v1.Shop/Price", r#"{ "name": "x" }"#, "Price", json!([{ "name": "x" }])),
    ];
    for (request, body, method, messages) in story {
        assert_eq!(told(&shop, request, body), (method.to_owned(), messages), "{request} {body}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    let shop = shop();
    let story = [
        (
            "GET /v1/orders?page_sise=5",
            "",
            "page_sise means nothing here: shop.v1.ListOrdersRequest has no field `page_sise`",
        ),
        ("GET /v1/orders?page_size=many", "", "page_size has to be a whole number of 32 bits"),
        ("GET /v1/orders?page_size=1&pageSize=2", "", "pageSize is said already, or another of which only one may be"),
        ("GET /v1/orders?filter.states=LATE", "", "filter.states has to be one of STATE_UNSPECIFIED, OPEN, SHIPPED"),
        ("GET /v1/orders?filter=x", "", "filter is a message: only its fields can be said"),
        (
            "GET /v1/orders?filter.since.seconds=x",
            "",
            "filter.since.seconds means nothing here: `since` has no fields that a path or a query could name",
        ),
        ("GET /v1/orders/7?name=orders/8", "", "name is said already, or another of which only one may be"),
        ("GET /v1/orders/%FF", "", "name is no text in UTF-8"),
        ("GET /v1/orders", "{}", "# no body is taken here"),
        ("POST /v1/orders?order.state=OPEN", "{}", "order.state belongs into the body"),
        ("POST /v1/orders/7:cancel?reason=x", "{}", "reason belongs into the body, which is the whole message here"),
        ("POST /v1/orders", r#"{"x":1}"#, "# unrecognized field name 'x'"),
        ("POST /v1/orders", r#"{}, "validateOnly": true"#, "# trailing characters at line 1 column 3"),
        ("POST /v1/orders", "[", "# invalid type: sequence, expected an object at line 1 column 1"),
        ("POST /v1/orders", r#"{ "items": {} }"#, "#/items invalid type: map, expected a list"),
        ("POST /v1/orders:import", r#"[{}, {"x":1}]"#, "# unrecognized field name 'x'"),
        ("POST /v1/orders:import", "[{}] {}", "# trailing characters at line 1 column 6"),
        ("POST /v1/orders:import", "{} nul", "# EOF while parsing a value"),
    ];
    for (request, body, wanted) in story {
        let said = told(&shop, request, body).1;
        assert!(said.as_str().is_some_and(|said| said.starts_with(wanted)), "{request} {body}: {said}");
    }
    let mild = compile("{ proto: [shop.proto], ignore_unknown: true }").unwrap();
    assert_eq!(told(&mild, "GET /v1/orders?x=5&page_size=2", "").1, json!([{ "pageSize": 2 }]));
    assert_eq!(told(&mild, "POST /v1/orders", r#"{"x":1}"#).1, json!([{ "order": {} }]));
}

#[test]
fn who_fits_no_rule_is_told_the_nearest() {
    let shop = shop();
    let story = [
        ("DELETE /v1/orders/7", "shop.v1.Shop/GetOrder needs GET /v1/{name=orders/*}"),
        ("GET /v1/orders/7/items", "the nearest is shop.v1.Shop/GetOrder: GET /v1/{name=orders/*}"),
        ("GET /v2/orders", "no rule begins like this path"),
        ("GET /shop.v1.Shop/Price", "shop.v1.Shop/Price needs POST /shop.v1.Shop/Price"),
        ("GET /shop.v1.Shop/GetOrder", "the nearest is shop.v1.Shop/Price: POST /shop.v1.Shop/Price"),
    ];
    for (request, wanted) in story {
        assert_eq!(told(&shop, request, "").0, wanted, "{request}");
    }
    let Err(Miss::Method { allow, .. }) = shop.find(&Verb::PUT, "/v1/orders/7") else { panic!("should be no method") };
    assert_eq!(allow, "GET, HEAD, PATCH");
}

/// Each message as the client reads it.
fn answered(shop: &Transcode, request: &str, accept: &[&str], messages: &[Value]) -> (Shape, String) {
    let (verb, path) = request.split_once(' ').unwrap();
    let found = shop.find(&verb.parse().unwrap(), path).unwrap();
    let mut wire = BytesMut::new();
    for message in messages {
        let output = found.binding.method.output.clone();
        let message = read::Reader::default().message(&output, message.clone()).unwrap();
        frame::put(&message.encode_to_vec(), &mut wire);
    }
    let mut answer = shop.answer(found.binding, accept);
    let mut text = String::new();
    for byte in wire {
        answer.push(&[byte]);
        while let Some((_, piece)) = answer.message().unwrap() {
            text += std::str::from_utf8(&piece).unwrap();
        }
    }
    (answer.shape(), text)
}

#[test]
fn an_answer_is_written_as_its_rule_and_the_client_want_it() {
    let order = json!({ "name": "orders/7", "state": "OPEN", "totalCents": "5" });
    let text = r#"{"name":"orders/7","state":"OPEN","totalCents":"5"}"#;
    let shop = shop();
    let get = "GET /v1/orders/7";
    assert_eq!(answered(&shop, get, &[], std::slice::from_ref(&order)), (Shape::Document, text.to_owned()));
    let list = json!({ "orders": [order] });
    assert_eq!(answered(&shop, "GET /v1/orders", &[], &[list]).1, format!("[{text}]"));
    assert_eq!(answered(&shop, "GET /v1/orders", &[], &[json!({})]).1, "[]");
    let (watch, both) = ("GET /v1/orders:watch", [order.clone(), json!({})]);
    assert_eq!(answered(&shop, watch, &[], &both), (Shape::Lines, format!("{text}\n{{}}\n")));
    let sse = format!("data: {text}\n\ndata: {{}}\n\n");
    assert_eq!(answered(&shop, watch, &["text/event-stream"], &both), (Shape::Events, sse.clone()));
    let always = compile("{ proto: [shop.proto], stream: sse }").unwrap();
    let shape = |shop: &Transcode, accept: &[&str]| answered(shop, watch, accept, &[]).0;
    for accept in [
        &["Text/Event-Stream;q=0.5, application/json"][..],
        &["application/json", "text/event-stream"],
        &["application/x-ndjson, text/event-stream"],
    ] {
        assert_eq!(shape(&shop, accept), Shape::Events, "{accept:?}");
    }
    for accept in [
        "application/x-ndjson, text/event-stream;q=0",
        "text/event-stream; q=0.5, application/x-ndjson",
        "text/event-streams",
    ] {
        assert_eq!(shape(&shop, &[accept]), Shape::Lines, "{accept}");
    }
    assert_eq!(shape(&always, &["application/x-ndjson, text/event-stream;q=0"]), Shape::Lines);
    assert_eq!(answered(&always, watch, &[], &both), (Shape::Events, sse));
    let print = "{ proto: [shop.proto], print: { enum_numbers: true, default_fields: true, proto_names: true } }";
    let said: Value = serde_json::from_str(&answered(&compile(print).unwrap(), get, &[], &[order]).1).unwrap();
    assert_eq!(
        (&said["state"], &said["total_cents"], &said["items"], &said["label"]),
        (&json!(1), &json!("5"), &json!([]), &json!(""))
    );
}

#[test]
fn what_a_stream_ends_with_has_its_form() {
    let shop = shop();
    let found = shop.find(&Verb::GET, "/v1/orders:watch").unwrap();
    let problem = || json!({ "status": 404 });
    let last = |accept: &[&str]| shop.answer(found.binding, accept).failed(&problem());
    assert_eq!(last(&[]).unwrap(), "{\"error\":{\"status\":404}}\n");
    assert_eq!(last(&["text/event-stream"]).unwrap(), "event: error\ndata: {\"status\":404}\n\n");
}

#[test]
fn every_complaint_names_its_file_and_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let head = "syntax = \"proto3\"; package a;\nimport \"google/api/annotations.proto\";\n";
    let syntax = file("syntax.proto", "syntax = \"proto3\";\nmessage A { string x = ; }\n");
    let import = file("import.proto", "syntax = \"proto3\";\nimport \"nowhere.proto\";\n");
    let rules = file(
        "rules.proto",
        &format!(
            "{head}message M {{ string a = 1; repeated string b = 2; M c = 3; }}\nservice S {{\n\
             rpc A(M) returns (M) {{ option (google.api.http) = {{ get: \"/v1/{{x}}\" }}; }}\n\
             rpc B(M) returns (M) {{ option (google.api.http) = {{ get: \"/v1/{{b}}\" }}; }}\n\
             rpc C(M) returns (M) {{ option (google.api.http) = {{ get: \"/v1/{{c}}\" }}; }}\n\
             rpc D(M) returns (M) {{ option (google.api.http) = {{ post: \"/v1\" body: \"z\" }}; }}\n\
             rpc E(M) returns (M) {{ option (google.api.http) = {{ get: \"v1\" }}; }}\n\
             rpc F(M) returns (M) {{ option (google.api.http) = {{ get: \"/v1/x/{{a}}\" }}; }}\n\
             rpc G(M) returns (M) {{ option (google.api.http) = {{ get: \"/v1/x/{{c.a}}\" }}; }}\n}}\n"
        ),
    );
    let dir = dir.path().display();
    let said = compile(&format!("proto: [{syntax}, {import}, {dir}/none.proto]")).unwrap_err();
    assert_eq!(said[0], format!("{dir}/syntax.proto:2:24: expected an integer, but found ';'"));
    assert_eq!(said[1], format!("{dir}/import.proto:2:1: import 'nowhere.proto' not found"));
    assert_eq!(said[2], format!("{dir}/none.proto does not exist"));
    let said = compile(&format!("proto: [{rules}]")).unwrap_err();
    let wanted = [
        "rules.proto:5: a.S/A: `/v1/{x}`: a.M has no field `x`",
        "rules.proto:6: a.S/B: `/v1/{b}`: `b` is a list, which no path can say",
        "rules.proto:7: a.S/C: `/v1/{c}`: `c` is a message: only its fields can be said",
        "rules.proto:8: a.S/D: `/v1`: body is `z`, and a.M has no such field",
        "rules.proto:9: a.S/E: `v1` does not begin with `/`",
    ];
    for (said, wanted) in said.iter().zip(wanted) {
        assert_eq!(*said, format!("{dir}/{wanted}"));
    }
    let twice = format!(
        "{dir}/rules.proto:11: a.S/G: `GET /v1/x/{{c.a}}` takes the same requests as a.S/F ({dir}/rules.proto:10); \
         leave one out by `services`"
    );
    assert_eq!(said.get(5), Some(&twice));
}

#[test]
fn a_body_as_it_stands_goes_in_and_comes_out() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, files) = (dir.path().join("google/api/httpbody.proto"), dir.path().join("files.proto"));
    std::fs::create_dir_all(raw.parent().unwrap()).unwrap();
    let body = "message HttpBody { string content_type = 1; bytes data = 2; }";
    std::fs::write(raw, format!("syntax = \"proto3\"; package google.api; {body}")).unwrap();
    let rules = "message File { string name = 1; google.api.HttpBody body = 2; } service Files {\n\
                 rpc Get(File) returns (google.api.HttpBody) { option (google.api.http) = { get: \"/{name=**}\" }; }\n\
                 rpc Put(File) returns (File) { option (google.api.http) = { put: \"/{name=**}\" body: \"body\" }; } }";
    let imports = "import \"google/api/annotations.proto\"; import \"google/api/httpbody.proto\";";
    std::fs::write(&files, format!("syntax = \"proto3\"; {imports} {rules}")).unwrap();
    let files = compile(&format!("proto: ['{}']", files.display())).unwrap();
    let put = files.find(&Verb::PUT, "/a/b.txt").unwrap();
    assert!(put.binding.takes_kind("text/plain"));
    let parts = Parts { path: "", query: None, content_type: Some("text/plain"), body: b"not json" };
    let wire = files.messages(&put, &parts).unwrap();
    let message = DynamicMessage::decode(put.binding.method.input.clone(), wire.slice(5..)).unwrap();
    let wanted = json!({ "name": "a/b.txt", "body": { "contentType": "text/plain", "data": "bm90IGpzb24=" } });
    assert_eq!(files.print.value(&message).unwrap(), wanted);
    let get = files.find(&Verb::GET, "/a/b.txt").unwrap();
    let told = |body: &Value| {
        let output = read::Reader::default().message(&get.binding.method.output, body.clone()).unwrap();
        let mut wire = BytesMut::new();
        frame::put(&output.encode_to_vec(), &mut wire);
        let mut answer = files.answer(get.binding, &[]);
        answer.push(&wire);
        answer.message()
    };
    assert!(told(&json!({ "contentType": "a\r\nx: y" })).is_err(), "it could say more than its type");
    assert_eq!(told(&wanted["body"]).unwrap(), Some((Some("text/plain".to_owned()), "not json".into())));
}

#[test]
fn errors_are_told_with_what_everybody_knows() {
    let mut pool = DescriptorPool::new();
    source::add_details(&mut pool).unwrap();
    assert!(pool.get_message_by_name("google.rpc.BadRequest").is_some());
}
