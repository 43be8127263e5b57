//! Traces of requests that are answered by calls of our own: a span for each try of each, and the target knows its own.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::harness::{Gateway, Origin, Request, Setup};
use crate::services::Services;
use crate::traces::{Receiver, observed};

fn all(receiver: &Receiver) -> String {
    format!("{{ otlp: 'http://127.0.0.1:{}', sample: 100% }}", receiver.port)
}

/// What `name` says in each of these spans.
fn each<'s>(spans: &'s [Value], name: &str) -> Vec<&'s Value> {
    spans.iter().map(|span| &span["attributes"][name]).collect()
}

fn parent_of_target(span: &Value) -> String {
    format!("00-{}-{}-01", span["trace"].as_str().unwrap(), span["span"].as_str().unwrap())
}

#[test]
fn each_try_of_each_call_of_several_is_a_span() {
    let Some(receiver) = Receiver::start("http", "0", 0) else { return };
    let (sick, well) = (Origin::new(|_, talk| talk.answer(503, "", "no")), Origin::answering("{}"));
    let gateway = Gateway::start(observed(
        &all(&receiver),
        &format!(
            "pools:\n  goods: {{ targets: [{{ at: '{sick}', weight: 1000 }}, '{well}'], retry: {{ on: [503] }} }}\n  \
             stock: ['{well}']\nroutes:\n  page: {{ match: /page, gather: {{ goods: {{ pool: goods, path: /goods }}, \
             stock: {{ pool: stock, path: /stock }} }} }}\n"
        ),
    ));
    assert_eq!(gateway.get("/page").json(), json!({ "goods": {}, "stock": {} }));
    let server = receiver.request("/page");
    let calls = receiver.tries(&server, 3);
    let of = |call: &str| -> Vec<Value> {
        calls.iter().filter(|span| span["attributes"]["yumen.call"] == call).cloned().collect()
    };
    let (goods, stock) = (of("goods"), of("stock"));
    assert_eq!(each(&goods, "http.response.status_code"), [503, 200], "{goods:#?}");
    assert_eq!(each(&goods, "http.request.resend_count"), [&Value::Null, &1.into()]);
    assert_eq!(each(&goods, "error.type"), [&"503".into(), &Value::Null]);
    assert_eq!(each(&stock, "http.response.status_code"), [200], "{stock:#?}");
    assert_eq!(sick.last().field("traceparent"), Some(&*parent_of_target(&goods[0])));
    for (span, path) in [(&goods[1], "/goods"), (&stock[0], "/stock")] {
        let seen = well.seen().into_iter().find(|seen| seen.target == path).unwrap();
        assert_eq!(seen.field("traceparent"), Some(&*parent_of_target(span)), "{path}");
    }
    let mut names: Vec<_> = calls.iter().map(|span| span["span"].as_str().unwrap()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 3, "no two spans of one name");
}

#[test]
fn each_try_of_a_transcoded_request_is_a_span() {
    let Some(receiver) = Receiver::start("http", "0", 0) else { return };
    let setup = Setup::new();
    let Some(services) = Services::start(&setup) else { return };
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = setup.start(observed(
        &all(&receiver),
        &format!(
            "pools: {{ app: {{ targets: [{{ at: '{nobody}', weight: 1000 }}, '127.0.0.1:{}'], protocol: h2c }} }}\n\
             routes: {{ all: {{ match: /*, to: app, transcode: {{ descriptors: sets.binpb }} }} }}\n",
            services.port
        ),
    ));
    let check = "/grpc.health.v1.Health/Check";
    assert_eq!(gateway.ask(Request::new("POST", check)).json(), json!({ "status": "SERVING" }));
    let server = receiver.request(check);
    let tries = receiver.tries(&server, 2);
    assert_eq!(each(&tries, "error.type"), [&"upstream.refused".into(), &Value::Null], "{tries:#?}");
    assert_eq!(each(&tries, "http.response.status_code"), [&Value::Null, &200.into()]);
    assert_eq!(each(&tries, "http.request.resend_count"), [&Value::Null, &1.into()]);
    assert_eq!(each(&tries, "http.request.method"), ["POST", "POST"], "what the target gets");
    for (span, target) in tries.iter().zip([nobody.port(), services.port]) {
        assert_eq!(span["attributes"]["url.full"], format!("http://127.0.0.1:{target}{check}"));
    }
}

#[test]
fn what_a_route_says_of_the_trace_holds_for_every_try() {
    let (sick, well) = (Origin::new(|_, talk| talk.answer(503, "", "no")), Origin::answering("{}"));
    let gateway = Gateway::start(format!(
        "pools: {{ goods: {{ targets: [{{ at: '{sick}', weight: 1000 }}, '{well}'], retry: {{ on: [503] }} }} }}\n\
         routes:\n  page:\n    match: /*\n    gather: {{ goods: {{ pool: goods, path: /goods }} }}\n    \
         request: {{ set: {{ traceparent: none }} }}\n"
    ));
    assert_eq!(gateway.get("/").status, 200);
    for origin in [&sick, &well] {
        assert_eq!(origin.last().field("traceparent"), Some("none"));
    }
    assert_eq!(well.last().field("x-yumen-attempt"), Some("2"));
}
