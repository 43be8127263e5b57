//! What an operator sees: metrics, access log, health, status, routes, pools.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::harness::{Gateway, Origin, Request, Setup, eventually, tools, wire};

#[test]
fn requests_are_counted_by_listener_route_method_and_code() {
    let origin = Origin::new(|_, talk| talk.answer(201, "", "ok"));
    let gateway = Gateway::passing(&origin);
    gateway.get("/");
    gateway.ask(Request::post("/", "x"));
    let count = |labels: &[(&str, &str)]| gateway.metrics().sum("yumen_http_requests_total", labels);
    eventually("both counted", || (count(&[]) > 1.5).then_some(()));
    assert!((count(&[("listener", "edge"), ("route", "all"), ("method", "POST"), ("code", "201")]) - 1.0).abs() < 0.1);
    let metrics = gateway.metrics();
    for name in [
        "yumen_build_info",
        "yumen_http_request_duration_seconds_count",
        "yumen_overhead_seconds_count",
        "yumen_pool_requests_total",
        "yumen_pool_request_duration_seconds_count",
        "yumen_pool_connects_total",
        "yumen_target_up",
        "yumen_config_generation",
        "yumen_config_last_reload_success",
        "yumen_config_last_reload_success_timestamp_seconds",
        "yumen_config_hash_info",
        "process_resident_memory_bytes",
        "process_open_fds",
    ] {
        assert!(metrics.sum(name, &[]) > 0.0, "{name}");
    }
}

#[test]
fn the_metrics_are_to_promtools_liking() {
    let origin = Origin::answering("ok");
    let gateway = Gateway::passing(&origin);
    gateway.get("/");
    gateway.raw("BROKEN\r\n\r\n");
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = promtool.spawn().expect("promtool; `tests/run` installs it");
    child.stdin.take().unwrap().write_all(gateway.metrics().0.as_bytes()).unwrap();
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
    assert!(ended.status.success() && said.trim().is_empty(), "{said}");
}

#[test]
fn random_requests_make_no_new_series() {
    let origin = Origin::answering("ok");
    let gateway = Gateway::before(&origin, "all: { match: 'GET /known/*', to: app }");
    let ask = |n: usize| {
        gateway.get(&format!("/known/{n}"));
        gateway.ask(Request::get(&format!("/{n}")).host(&format!("h{n}.example")));
        gateway.ask(Request::new(&format!("M{n}"), "/"));
        gateway.ask(Request::new("POST", "/known/x").with("User-Agent", n));
    };
    (0..20).for_each(ask);
    let before = gateway.metrics().series();
    (20..120).for_each(ask);
    assert_eq!(gateway.metrics().series(), before);
}

#[test]
fn an_access_line_tells_the_whole_story() {
    let origin = Origin::new(|_, talk| talk.answer(201, "", "four"));
    let gateway = Gateway::passing(&origin);
    let answer =
        gateway.ask(Request::post("/orders/7?secret=1", "body").host("api.example.com").with("User-Agent", "test/1"));
    let id = answer.field("x-request-id").unwrap().to_owned();
    let line = gateway.access_line(|line| line.to_string().contains(&id));
    let said = line.to_string();
    for word in
        ["edge", "all", "app", "api.example.com", "/orders/7", "POST", "test/1", "127.0.0.1", &origin.to_string()]
    {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert_eq!(line["http.response.status_code"], 201, "{said}");
    assert!(!said.contains("secret"), "the query is off by default: {said}");
}

#[test]
fn the_query_is_logged_where_the_document_says_so() {
    let gateway = Gateway::start(
        "observe: { access_log: { to: \"file:$DIR/access.log\", query: true } }\nroutes:\n  all: { match: '/*', respond: 204 }\n",
    );
    gateway.get("/x?a=b");
    gateway.access_line(|line| line.to_string().contains("a=b"));
}

#[test]
fn a_line_is_one_valid_object_whatever_the_client_sends() {
    let origin = Origin::answering("ok");
    let gateway = Gateway::passing(&origin);
    let hostile = ["\"", "\\", "\"}\\n{\"a\":\"", "\u{7f}\u{80}\u{2028}", "\x1b[31m", "ä€𝄞", "%0a%0d", "</script>"];
    for text in hostile {
        let request = format!(
            "GET /{text} HTTP/1.1\r\nHost: a\r\nUser-Agent: {text}\r\nReferer: {text}\r\nConnection: close\r\n\r\n"
        );
        gateway.raw(request.replace(['\u{7f}', '\x1b'], "?"));
    }
    gateway
        .connect()
        .send(b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\nUser-Agent: \xff\xfe\xc3\x28\r\n\r\n")
        .try_response()
        .unwrap();
    gateway
        .connect()
        .send(b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: \xff\xfe\xc3\x28\r\n\r\n")
        .try_response()
        .unwrap();
    gateway.get("/last");
    gateway.access_line(|line| line.to_string().contains("/last"));
    assert!(gateway.access().len() > hostile.len());
}

#[test]
fn combined_lines_are_as_everyone_knows_them() {
    let gateway = Gateway::start(
        "observe: { access_log: { to: stdout, format: combined } }\nroutes:\n  all: { match: '/*', respond: { body: four } }\n",
    );
    gateway.ask(Request::get("/x").with("User-Agent", "a\"b").with("Referer", "http://r.example/"));
    let line = gateway.out.wait("GET /x");
    let pattern = r#"^127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "GET /x HTTP/1\.1" 200 4 "http://r\.example/" "a\\(x22|")b"$"#;
    assert!(regex::Regex::new(pattern).unwrap().is_match(&line), "{line}");
}

#[test]
fn the_access_log_may_be_off_or_on_stderr() {
    let document = |to: &str| {
        format!("observe: {{ access_log: {{ to: {to} }} }}\nroutes:\n  all: {{ match: '/*', respond: 204 }}\n")
    };
    let told = Gateway::start(document("stderr"));
    told.get("/seen-on-stderr");
    told.log.wait("/seen-on-stderr");
    let silent = Gateway::start(document("\"off\""));
    silent.get("/never");
    eventually("it is counted", || (silent.metrics().sum("yumen_http_requests_total", &[]) > 0.5).then_some(()));
    assert!(!silent.out.all().concat().contains("/never") && !silent.log.all().concat().contains("/never"));
}

#[test]
fn a_stuck_log_stops_no_request_and_is_counted() {
    let setup = Setup::new();
    let fifo = setup.path().join("fifo");
    assert_eq!(tools::run("mkfifo", &[fifo.to_str().unwrap()]).code, 0);
    let reader = fifo.clone();
    // Opened for both, so that the gateway's open does not wait; never read.
    let held = std::fs::File::options().read(true).write(true).open(reader).unwrap();
    let gateway = setup
        .start("observe: { access_log: { to: \"file:$DIR/fifo\" } }\nroutes:\n  all: { match: '/*', respond: 204 }\n");
    let mut connection = gateway.connect();
    let agent = "x".repeat(8000);
    eventually("dropped lines", || {
        for _ in 0..200 {
            let answer = connection.ask(&Request::get("/").with("User-Agent", &agent));
            assert_eq!(answer.status, 204);
            if answer.field("connection") == Some("close") {
                connection = gateway.connect();
            }
        }
        (gateway.metrics().sum("yumen_access_log_dropped_total", &[]) > 0.5).then_some(())
    });
    drop(held);
}

#[test]
fn the_admin_door_tells_how_things_are() {
    let origin = Origin::answering("ok");
    let gateway = Gateway::passing(&origin);
    assert_eq!(gateway.admin("/livez").status, 200);
    assert_eq!(gateway.admin("/readyz").status, 200);
    let health = gateway.admin("/health").json();
    assert!(health["pools"]["app"].to_string().contains(&origin.to_string()), "{health}");
    let status = gateway.status();
    for key in ["generation", "hash", "listeners"] {
        assert!(!status[key].is_null(), "{key}: {status}");
    }
    assert!(gateway.admin("/routes").text().contains("all"));
    assert!(gateway.admin("/pools").text().contains(&origin.to_string()));
    assert_eq!(gateway.admin("/nothing").status, 404);
}

#[test]
fn readiness_goes_off_when_the_gateway_drains() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let origin = Origin::new(move |_, talk| {
        wait.lock().unwrap().recv().unwrap();
        talk.answer(200, "", "done");
    });
    let mut gateway = Gateway::passing(&origin);
    let mut connection = gateway.connect();
    connection.send(Request::get("/").bytes());
    origin.last();
    gateway.signal("TERM");
    eventually("not ready", || (gateway.admin("/readyz").status == 503).then_some(()));
    assert_eq!(gateway.admin("/livez").status, 200);
    go.send(()).unwrap();
    assert_eq!(connection.response().text(), "done", "a request in flight is finished");
    assert_eq!(gateway.ended(), 0);
}

#[test]
fn the_drain_ends_at_its_deadline() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut gateway = Gateway::start(format!(
        "runtime: {{ drain: {{ requests: 300ms }} }}\npools: {{ app: [\"{}\"] }}\nroutes:\n  all: {{ match: '/*', to: app }}\n",
        held.local_addr().unwrap()
    ));
    let mut connection = gateway.connect();
    connection.send(Request::get("/").bytes());
    let upstream = held.accept().unwrap();
    let start = std::time::Instant::now();
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), 0);
    assert!(start.elapsed() < std::time::Duration::from_secs(10));
    drop(upstream);
}

#[test]
fn the_admin_door_answers_to_its_own_names_only() {
    let gateway = Gateway::start(
        "admin: { bind: 127.0.0.1:0, hosts: [ops.example] }\nroutes:\n  all: { match: '/*', respond: 204 }\n",
    );
    let at = |host: &str| gateway.admin_ask(Request::get("/status").host(host)).status;
    for own in [gateway.admin_address(), "localhost", "localhost:9901", "127.0.0.1", "[::1]:9901", "ops.example"] {
        assert_eq!(at(own), 200, "{own}");
    }
    for other in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example"] {
        assert!(matches!(at(other), 400 | 403 | 421), "{other}");
    }
}

#[test]
fn the_admin_door_may_be_a_unix_socket_that_only_we_can_open() {
    use std::os::unix::fs::PermissionsExt;
    let gateway =
        Gateway::start("admin: { bind: \"unix:$DIR/admin.sock\" }\nroutes:\n  all: { match: '/*', respond: 204 }\n");
    assert_eq!(gateway.admin("/livez").status, 200);
    let socket = std::fs::metadata(gateway.setup.path().join("admin.sock")).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_admin_door_is_not_reached_through_a_data_listener() {
    let gateway = Gateway::start("routes:\n  one: { match: /one, respond: 204 }\n");
    for path in ["/metrics", "/status", "/livez", "/reload"] {
        assert_eq!(gateway.get(path).verdict(), (404, "route.none".into()));
        let named = gateway.ask(Request::get(path).host(gateway.admin_address()));
        assert_eq!(named.status, 404);
    }
}

#[test]
fn a_hostile_client_of_the_admin_door_gets_nothing() {
    let gateway = Gateway::start("routes:\n  one: { match: /one, respond: 204 }\n");
    for bytes in
        ["BROKEN\r\n\r\n", "GET /status HTTP/1.1\r\n\r\n", "GET /status HTTP/1.1\r\nHost: a\r\nHost: localhost\r\n\r\n"]
    {
        let mut connection = crate::harness::Connection::to(gateway.admin_address());
        let (said, _) = connection.send(bytes).rest(std::time::Duration::from_secs(3));
        assert!(wire::answers(&said).iter().all(|answer| answer.status >= 400), "{bytes}");
    }
    assert_eq!(gateway.admin("/livez").status, 200);
}
