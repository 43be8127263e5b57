//! Which request goes where: host, path, method, header, query, cookie, and what happens when nothing fits.

use crate::harness::{Gateway, Origin, Request};

/// A gateway whose routes answer with their own names.
fn naming(routes: &[(&str, &str)]) -> Gateway {
    let route =
        |(name, matches): &(&str, &str)| format!("  {name}: {{ match: {matches}, respond: {{ body: {name} }} }}\n");
    Gateway::start(format!("routes:\n{}", routes.iter().map(route).collect::<String>()))
}

fn lands(gateway: &Gateway, request: Request) -> String {
    let answer = gateway.ask(request);
    if answer.status == 200 { answer.text() } else { answer.code() }
}

fn get(gateway: &Gateway, url: &str) -> String {
    let slash = url.find('/').unwrap();
    let host = if slash == 0 { "any.example" } else { &url[..slash] };
    lands(gateway, Request::get(&url[slash..]).host(host))
}

#[test]
fn the_most_specific_path_wins_whatever_the_order() {
    let mut routes = vec![
        ("rest", "/*"),
        ("orders", "/orders/*"),
        ("new", "/orders/new"),
        ("deep", "/orders/archive/*"),
        ("user", "/users/:id"),
        ("files", "/users/:id/files"),
        ("below", "/users/:id/*"),
        ("hidden", "/orders/:id"),
        ("version", "{ regex: '/v[0-9]+/.*' }"),
    ];
    for _ in 0..2 {
        let gateway = naming(&routes);
        for (path, route) in [
            ("/", "rest"),
            ("/other", "rest"),
            ("/orders", "orders"),
            ("/orders/", "orders"),
            ("/orders/7", "orders"),
            ("/orders/new", "new"),
            ("/orders/7/other", "orders"),
            ("/users/7", "user"),
            ("/users/7/files", "files"),
            ("/users/7/files/1", "below"),
            ("/users", "rest"),
            ("/orders/archive", "deep"),
            ("/orders/archive/1/2", "deep"),
            ("/ordersx", "rest"),
        ] {
            assert_eq!(get(&gateway, path), route, "{path}");
        }
        routes.reverse();
    }
}

#[test]
fn a_regex_has_to_match_the_whole_path_and_priority_decides_between_two() {
    let gateway = naming(&[
        ("any", "{ regex: '/v[0-9]+/.*' }, priority: 1"),
        ("users", "{ regex: '/v[0-9]+/users' }, priority: 2"),
    ]);
    assert_eq!(get(&gateway, "/v1/users"), "users");
    assert_eq!(get(&gateway, "/v12/orders"), "any");
    assert_eq!(get(&gateway, "/v12"), "route.none");
    assert_eq!(get(&gateway, "/x/v1/users"), "route.none");
}

#[test]
fn an_exact_host_wins_over_a_wildcard_and_a_wildcard_over_any() {
    let gateway = naming(&[
        ("any", "/*"),
        ("wild", "'*.example.com/*'"),
        ("deeper", "'*.eu.example.com/*'"),
        ("api", "api.example.com/*"),
    ]);
    for (url, route) in [
        ("api.example.com/x", "api"),
        ("API.Example.COM/x", "api"),
        ("api.example.com:8443/x", "api"),
        ("api.example.com./x", "api"),
        ("www.example.com/x", "wild"),
        ("a.eu.example.com/x", "deeper"),
        ("example.com/x", "any"),
        ("example.org/x", "any"),
        ("evilexample.com/x", "any"),
    ] {
        assert_eq!(get(&gateway, url), route, "{url}");
    }
}

#[test]
fn a_longer_path_wins_over_a_more_exact_host() {
    let gateway = naming(&[("path", "/orders/*"), ("host", "api.example.com/*")]);
    assert_eq!(get(&gateway, "api.example.com/orders/1"), "path");
    assert_eq!(get(&gateway, "api.example.com/other"), "host");
}

#[test]
fn the_wrong_method_is_405_with_the_right_ones() {
    let gateway = naming(&[("read", "GET /orders/*"), ("write", "'POST,PUT /orders/*'")]);
    assert_eq!(lands(&gateway, Request::post("/orders/1", "x")), "write");
    let refused = gateway.ask(Request::new("DELETE", "/orders/1"));
    assert_eq!(refused.verdict(), (405, "route.method".into()));
    let mut allowed: Vec<_> = refused.field("allow").unwrap().split(", ").collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "POST", "PUT"]);
}

#[test]
fn head_is_a_method_of_its_own_and_has_no_body() {
    let gateway = naming(&[("read", "GET /orders/*"), ("both", "'GET,HEAD /users/*'")]);
    assert_eq!(gateway.ask(Request::new("HEAD", "/orders/1")).status, 405);
    let mut connection = gateway.connect();
    let answer = connection.ask(&Request::new("HEAD", "/users/1"));
    assert_eq!((answer.status, answer.field("content-length")), (200, Some("4")));
    assert_eq!(connection.get("/users/1").text(), "both");
}

#[test]
fn a_failed_condition_falls_through_to_the_next_route() {
    let gateway = naming(&[
        ("any", "/*"),
        ("orders", "/orders/*"),
        ("beta", "{ path: /orders/new/*, headers: { x-beta: '1' } }"),
        ("exact", "{ path: /orders/new/7, methods: [POST] }"),
    ]);
    assert_eq!(get(&gateway, "/orders/new/7"), "orders");
    assert_eq!(lands(&gateway, Request::get("/orders/new/7").with("X-Beta", 1)), "beta");
    assert_eq!(lands(&gateway, Request::post("/orders/new/7", "x").with("X-Beta", 1)), "exact");
}

#[test]
fn more_conditions_win_over_fewer() {
    let gateway = naming(&[
        ("plain", "/x"),
        ("header", "{ path: /x, headers: { x-a: { present: true } } }"),
        ("both", "{ path: /x, headers: { x-a: { present: true }, x-b: { regex: 'v[0-9]' } } }"),
    ]);
    assert_eq!(lands(&gateway, Request::get("/x")), "plain");
    assert_eq!(lands(&gateway, Request::get("/x").with("x-a", "")), "header");
    assert_eq!(lands(&gateway, Request::get("/x").with("x-a", "1").with("x-b", "v2")), "both");
    assert_eq!(lands(&gateway, Request::get("/x").with("x-a", "1").with("x-b", "v22")), "header");
}

#[test]
fn headers_queries_and_cookies_decide() {
    let gateway = naming(&[
        ("plain", "/x"),
        ("header", "{ path: /x, headers: { x-tenant: acme } }"),
        ("absent", "{ path: /y, headers: { x-tenant: { present: false } } }"),
        ("query", "{ path: /q, query: { debug: '1' } }"),
        ("cookie", "{ path: /c, cookies: { beta: { regex: 'y.*' } } }"),
    ]);
    assert_eq!(lands(&gateway, Request::get("/x").with("X-Tenant", "acme")), "header");
    assert_eq!(lands(&gateway, Request::get("/x").with("X-Tenant", "other")), "plain");
    assert_eq!(lands(&gateway, Request::get("/y")), "absent");
    assert_eq!(lands(&gateway, Request::get("/y").with("X-Tenant", "acme")), "route.none");
    assert_eq!(lands(&gateway, Request::get("/q?a=2&debug=1")), "query");
    assert_eq!(lands(&gateway, Request::get("/q?debug=2")), "route.none");
    assert_eq!(lands(&gateway, Request::get("/c").with("Cookie", "a=1; beta=yes")), "cookie");
    assert_eq!(lands(&gateway, Request::get("/c").with("Cookie", "a=1; beta=no")), "route.none");
}

#[test]
fn a_list_of_matches_means_any_of_them() {
    let gateway = naming(&[("both", "[/a, 'POST /b']")]);
    assert_eq!(get(&gateway, "/a"), "both");
    assert_eq!(lands(&gateway, Request::post("/b", "x")), "both");
    assert_eq!(get(&gateway, "/b"), "route.method");
}

#[test]
fn nothing_fits_is_404_and_the_log_names_the_nearest_route() {
    let gateway = naming(&[("orders", "{ host: api.example.com, path: /orders/*, headers: { x-beta: '1' } }")]);
    let answer = gateway.get_at("api.example.com/orders/7");
    assert_eq!(answer.verdict(), (404, "route.none".into()));
    let line = gateway.access_line(|line| line["http.response.status_code"] == 404);
    assert!(line.to_string().contains("orders"), "the nearest route is not named: {line}");
}

#[test]
fn ten_thousand_routes_find_the_right_one() {
    let origin = Origin::answering("here");
    let routes: String = (0..10_000)
        .map(|n| format!("svc{n}: {{ match: /svc{n}/*, to: app, rewrite: {{ strip: /svc{n} }} }}\n"))
        .collect();
    let gateway = Gateway::before(&origin, &routes);
    for n in [0, 1, 4_999, 9_999] {
        assert_eq!(gateway.get(&format!("/svc{n}/{n}")).text(), "here");
        assert_eq!(origin.last().target, format!("/{n}"));
    }
    assert_eq!(gateway.get("/svc10000/x").status, 404);
}

#[test]
fn long_conditions_on_query_and_cookie_decide() {
    let gateway = naming(&[
        ("plain", "/x"),
        ("query", "{ path: /x, query: { v: { regex: '[0-9]+' } } }"),
        ("flag", "{ path: /y, query: { flag: { present: true } } }"),
        ("no-flag", "{ path: /y, query: { flag: { present: false } } }"),
        ("cookie", "{ path: /z, cookies: { side: { is: left } } }"),
        ("no-cookie", "{ path: /z, cookies: { side: { present: false } } }"),
    ]);
    assert_eq!(get(&gateway, "/x?v=12"), "query");
    assert_eq!(get(&gateway, "/x?v=1a"), "plain");
    assert_eq!(get(&gateway, "/y?flag"), "flag");
    assert_eq!(get(&gateway, "/y?other"), "no-flag");
    assert_eq!(lands(&gateway, Request::get("/z").with("Cookie", "side=left")), "cookie");
    assert_eq!(lands(&gateway, Request::get("/z").with("Cookie", "side=right")), "route.none");
    assert_eq!(get(&gateway, "/z"), "no-cookie");
}
