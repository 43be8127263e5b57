//! The admin page: what people see who open the admin listener in a browser, and that it changes and gives away nothing.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::harness::tools::finish;
use crate::harness::{Gateway, Origin, Request, Setup, eventually};

const PATH: &str = "/<script>alert(1)</script>";
const PAGES: [&str; 5] = ["/", "/routes", "/pools", "/certs", "/why"];

fn page(gateway: &Gateway, target: &str) -> crate::harness::wire::Response {
    gateway.admin_ask(Request::get(target).with("Accept", "text/html,application/xhtml+xml,*/*;q=0.8"))
}

/// The text of a page, with `/` as it is meant.
fn text(gateway: &Gateway, target: &str) -> String {
    page(gateway, target).text().replace("&#x2f;", "/")
}

/// A gateway that has refused a client with hostile names, whose origin fails now and then.
fn busy() -> (Gateway, Origin, String) {
    let origin = Origin::new(|seen, talk| match seen.target.as_str() {
        "/orders/13" => talk.answer(500, "", "no"),
        _ => talk.answer(200, "", "ok"),
    });
    let gateway = Setup::new().file("secret", "the-secret-of-the-key-that-is-long-enough").start(format!(
        "pools: {{ app: [\"{origin}\"], gone: [\"127.0.0.1:1\"] }}\n\
         auth: {{ keys: {{ jwt: {{ secret: \"file:$DIR/secret\", issuer: '<img src=x>', audience: a }} }} }}\n\
         routes:\n  \
         orders: {{ match: 'GET api.example.com/orders/:id', to: app, ip: {{ deny: [203.0.113.0/24] }} }}\n  \
         gone: {{ match: /gone, to: gone, retry: off }}\n  \
         closed: {{ match: /closed, auth: keys, respond: 204 }}\n"
    ));
    for (target, status) in [("/orders/7", 200), ("/orders/13", 500), ("/gone", 502), ("/closed", 401)] {
        let sent = Request::get(target).host("api.example.com").with("User-Agent", "<b>bold</b>");
        assert_eq!(gateway.ask(sent).status, status, "{target}");
    }
    let hostile = gateway.raw(format!("GET {PATH} HTTP/1.1\r\nHost: api.example.com\r\n\r\n")).0;
    assert!(hostile[0].status >= 400);
    let id = gateway.get("/none").field("x-request-id").unwrap().to_owned();
    eventually("six of them are told", || {
        (gateway.admin("/why").json()["requests"].as_array().unwrap().len() >= 5).then_some(())
    });
    (gateway, origin, id)
}

#[test]
fn browsers_get_pages_and_programs_get_what_they_always_got() {
    let (gateway, _origin, id) = busy();
    for target in PAGES {
        let html = page(&gateway, target);
        assert_eq!((html.status, html.field("content-type")), (200, Some("text/html; charset=utf-8")), "{target}");
        let policy = html.field("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'self';") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(html.field("x-content-type-options"), Some("nosniff"));
        let text = html.text();
        for inline in ["style=", "<style", "onclick", "javascript:", "http://www"] {
            assert!(!text.contains(inline), "{target}: {inline}");
        }
        if target != "/" {
            assert_eq!(gateway.admin(target).field("content-type"), Some("application/json"), "{target}");
        }
    }
    assert_eq!(gateway.admin("/").status, 404, "programs find the list of what there is");
    let overview = text(&gateway, "/");
    let hash = gateway.status()["hash"].as_str().unwrap()[..16].to_owned();
    for word in ["Overview", "route.none", "upstream.refused", "none since the start", &hash, "127.0.0.1"] {
        assert!(overview.contains(word), "{word}:\n{overview}");
    }
    let one = text(&gateway, &format!("/why?id={id}"));
    assert!(one.contains("route.none") && one.contains("/none"), "{one}");
    let none = page(&gateway, "/why?id=not-there");
    assert!(none.status == 404 && none.text().contains("not-there"), "{}", none.text());
}

#[test]
fn what_clients_and_documents_say_is_text_and_secrets_are_not_shown() {
    let (gateway, _origin, _) = busy();
    for target in PAGES
        .into_iter()
        .chain(["/routes?url=%3Cscript%3E&method=%22%3E%3Cq%3E&as=%3Ci%3E&head=%3Cu%3E", "/why?id=%3Cscript%3E"])
    {
        let text = text(&gateway, target);
        for raw in ["<script>", "<img src=x", "<b>bold", "\"><q>", "<i>", "<u>", "the-secret"] {
            assert!(!text.contains(raw), "{target}: {raw}:\n{text}");
        }
    }
    assert!(text(&gateway, "/why").contains("&lt;script&gt;"), "it is shown as text");
}

#[test]
fn the_explain_box_says_what_explain_says() {
    let (gateway, _origin, _) = busy();
    let asked = |query: &str| text(&gateway, &format!("/routes?{query}"));
    let refused = asked("method=GET&url=api.example.com%2Forders%2F7&client=203.0.113.7");
    for word in ["403 client.refused", "203.0.113.7 is in 203.0.113.0/24", "routes.orders.ip"] {
        assert!(refused.contains(word), "{word}:\n{refused}");
    }
    let said = gateway.yumen("explain", &["GET", "api.example.com/orders/7", "--client", "203.0.113.7"]).out;
    assert!(said.contains("403 client.refused"), "{said}");
    assert!(asked("method=GET&url=api.example.com%2Forders%2F7").contains("goes to app"));
    assert!(asked("url=/closed").contains("401 auth.missing"));
    assert!(asked("url=/x&client=nobody").contains("`nobody` is no address"));
    let seen = gateway.metrics().sum("yumen_http_requests_total", &[("route", "orders")]);
    assert!((1.5..2.5).contains(&seen), "nothing was sent or counted: {seen}");
}

#[test]
fn pages_of_others_and_other_names_ask_nothing_here_and_no_page_changes_anything() {
    let (gateway, _origin, _) = busy();
    let target = "/routes?method=GET&url=api.example.com%2Forders%2F7&client=203.0.113.7";
    let html = |request: Request| gateway.admin_ask(request.with("Accept", "text/html"));
    let foreign = html(Request::get(target).with("Sec-Fetch-Site", "cross-site")).text();
    assert!(!foreign.contains("client.refused"), "a link on another site works nothing out");
    for host in ["evil.example", "yumen.example:9901"] {
        assert_eq!(html(Request::get("/").host(host)).status, 421, "{host}");
    }
    let before = gateway.status();
    for method in ["POST", "PUT", "DELETE"] {
        for target in PAGES {
            let answer = html(Request::new(method, target));
            assert_eq!(answer.status, 405, "{method} {target}");
        }
    }
    for order in ["/reload", "/rollback", "/breaker", "/target", "/upgrade"] {
        assert_eq!(html(Request::get(order)).status, 405, "{order}");
    }
    assert_eq!(gateway.status()["generation"], before["generation"]);
}

#[test]
fn chromium_shows_it_in_two_widths_with_and_without_javascript_and_complains_of_nothing() {
    let packages = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/tests-node");
    if !packages.join("node_modules/playwright-core").exists() || !PathBuf::from("/usr/bin/chromium").exists() {
        eprintln!("LEFT OUT: no npm package playwright-core, or no chromium; `tests/run` installs both");
        return;
    }
    let (gateway, _origin, id) = busy();
    let profile = tempfile::tempdir().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/outside/admin_page.mjs");
    let ended =
        finish(Command::new("node").arg(script).arg(packages).arg(profile.path()).args([gateway.admin_address(), &id]));
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
    let seen: Value = serde_json::from_str(&ended.out).unwrap();
    // A browser says of each status of an error that it came; the page of an unknown id is none here.
    assert_eq!(seen["complaints"], Value::Array(Vec::new()));
    let pages = seen["pages"].as_array().unwrap();
    assert_eq!(pages.len(), 24);
    for page in pages {
        assert!(page["title"].as_str().unwrap().ends_with("· Yumen"), "{page}");
        assert_eq!(page["room"][0], page["room"][1], "nothing lies beside the page: {page}");
    }
    for way in ["with", "without"] {
        let said = seen[format!("explained {way}")].as_str().unwrap();
        assert!(said.contains("403 client.refused") && said.contains("203.0.113.0/24"), "{way}: {said}");
        let clicked = seen[format!("clicked {way}")].as_str().unwrap();
        assert!(clicked.contains("Why?") && clicked.contains("took"), "{way}: {clicked}");
    }
    assert!(seen["hostile"].as_str().unwrap().contains(PATH), "{}", seen["hostile"]);
    assert_ne!(seen["dark"]["light"], seen["dark"]["dark"]);
    assert_eq!(seen["refreshed"], true);
    let bytes = seen["bytes"].as_u64().unwrap();
    eprintln!("the overview with all its parts: {bytes} bytes");
    assert!(bytes < 100_000, "{bytes}");
    let ours = |request: &Value| request.as_str().is_some_and(|request| request.starts_with('/'));
    assert!(seen["requests"].as_array().unwrap().iter().all(ours), "{}", seen["requests"]);
}
