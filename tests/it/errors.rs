//! Every refusal of our own: problem+json with a code, in the client's language, as gRPC where the client speaks it.

use http::HeaderMap;

use crate::harness::{Gateway, Origin, Request, Setup, h2};

#[test]
fn a_refusal_is_a_problem_with_a_code_and_an_id() {
    let gateway = Gateway::start("routes:\n  one: { match: GET /one, respond: 204 }\n");
    let answer = gateway.get("/nothing");
    assert_eq!(answer.field("content-type"), Some("application/problem+json"));
    let body = answer.json();
    assert_eq!((&body["status"], &body["code"]), (&404.into(), &"route.none".into()));
    for key in ["type", "title", "detail"] {
        assert!(body[key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {body}");
    }
    let id = answer.field("x-request-id").unwrap();
    assert!(body["instance"].as_str().unwrap().contains(id), "{body}");
    let told = answer.field("proxy-status").unwrap();
    assert!(told.contains("error=destination_not_found"), "{told}");
    assert_eq!(answer.field("server"), None, "the answer tells what we are built from");
}

#[test]
fn a_head_request_gets_the_head_of_the_problem() {
    let gateway = Gateway::start("routes:\n  one: { match: GET /one, respond: 204 }\n");
    let mut connection = gateway.connect();
    assert_eq!(connection.ask(&Request::new("HEAD", "/nothing")).status, 404);
    assert_eq!(connection.get("/one").status, 204, "out of step");
}

#[test]
fn texts_come_in_the_language_that_the_client_asks_for() {
    let gateway = Gateway::start("errors: { languages: [en, zh-CN] }\nroutes:\n  one: { match: /one, respond: 204 }\n");
    let title = |language: &str| {
        let answer = gateway.ask(Request::get("/x").with("Accept-Language", language));
        (answer.json()["title"].as_str().unwrap().to_owned(), answer.field("content-language").unwrap_or("").to_owned())
    };
    let english = title("en");
    assert_eq!((english.1.as_str(), english.0.is_ascii()), ("en", true));
    for chinese in ["zh-CN", "zh", "fr;q=0.9, zh-CN;q=0.8, en;q=0.1"] {
        let told = title(chinese);
        assert_eq!(told.1, "zh-CN", "{chinese}");
        assert!(!told.0.is_ascii(), "{told:?}");
    }
    for other in ["fr", "", "*", "zh-CN;q=0, en", ";;;q=,,"] {
        assert_eq!(title(other), english, "{other}");
    }
    let answer = gateway.get("/x");
    assert!(answer.fields.all("vary").join(",").to_ascii_lowercase().contains("accept-language"));
}

#[test]
fn a_language_that_is_not_listed_is_not_spoken() {
    let gateway = Gateway::start("errors: { languages: [en] }\nroutes:\n  one: { match: /one, respond: 204 }\n");
    let answer = gateway.ask(Request::get("/x").with("Accept-Language", "zh-CN"));
    assert!(answer.json()["title"].as_str().unwrap().is_ascii());
}

#[test]
fn texts_of_ones_own_replace_ours() {
    let message = "route-none = Not here, friend\n    .detail = Look elsewhere.\n";
    let gateway = Setup::new().file("messages/en.ftl", message).start(
        "errors: { languages: [en], messages: \"$DIR/messages\" }\nroutes:\n  one: { match: /one, respond: 204 }\n",
    );
    let text = gateway.get("/x").text();
    assert!(text.contains("Not here, friend"), "{text}");
}

#[test]
fn a_grpc_client_is_answered_as_grpc() {
    let gateway = Gateway::start("pools: { app: [\"127.0.0.1:1\"] }\nroutes:\n  one: { match: POST /up/*, to: app }\n");
    let call = |path: &str| {
        let request = http::Request::post(format!("http://test.example{path}"));
        let request = request.header("content-type", "application/grpc").header("te", "trailers").body(()).unwrap();
        h2::ask(&gateway.edge(), request, &[0, 0, 0, 0, 0]).unwrap()
    };
    for (path, code) in [("/none/Call", "12"), ("/up/Call", "14")] {
        let answer = call(path);
        let all: HeaderMap =
            answer.headers.iter().chain(&answer.trailers).map(|(k, v)| (k.clone(), v.clone())).collect();
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(all["grpc-status"], code, "{path}");
        assert!(all.contains_key("grpc-message"), "{path}");
        assert_eq!(all["content-type"], "application/grpc");
        assert!(answer.body.is_empty(), "{path}: a body that gRPC cannot read");
    }
}

#[test]
fn an_error_page_of_the_upstream_is_passed_as_it_is() {
    let origin = Origin::new(|_, talk| talk.answer(503, "Content-Type: text/html\r\n", "<p>mine"));
    let answer = Gateway::passing(&origin).get("/");
    assert_eq!(
        (answer.status, answer.text().as_str(), answer.field("content-type")),
        (503, "<p>mine", Some("text/html"))
    );
}

#[test]
fn hostile_input_is_never_echoed_unescaped() {
    let gateway = Gateway::start("routes:\n  one: { match: /one, respond: 204 }\n");
    for target in ["/<script>alert(1)</script>", "/x\"},\"code\":\"forged", "/%22%7d"] {
        let (answers, _) = gateway.raw(Request::get(target).with("Connection", "close").bytes());
        let body = answers[0].text();
        assert!(!body.contains("<script>") && !body.contains("forged"), "{body}");
        assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok(), "{body}");
    }
}

#[test]
fn clients_are_told_the_cause_where_the_document_says_so() {
    let routes = "auth: { a: { jwt: { secret: 'file:$DIR/secret' } } }\nroutes: { one: { match: /one, auth: a, respond: 204 } }\n";
    for (settings, reason, why) in [
        ("", None, None),
        ("errors: { detail: brief }\n", None, None),
        ("errors: { detail: full }\n", Some("auth.malformed"), Some("a token of two parts")),
    ] {
        let setup = Setup::new().file("secret", "0123456789abcdef0123456789abcdef");
        let gateway = setup.start(format!("{settings}{routes}"));
        let answer = gateway.ask(Request::get("/one").with("Authorization", "Bearer a.b"));
        let body = answer.json();
        assert_eq!((answer.status, body["code"].as_str()), (401, Some("auth.invalid")));
        assert_eq!(body["reason"].as_str(), reason, "{body}");
        assert_eq!(
            body["why"].as_str().map(|said| said.contains(why.unwrap_or_default())),
            why.map(|_| true),
            "{body}"
        );
        let malformed = gateway.connect().send("GET /one HTTP/1.1\r\nHost: a b\r\n\r\n").response().json();
        assert_eq!(malformed["reason"].as_str(), reason.map(|_| "request.host"), "{malformed}");
    }
}
