//! Where requests go: balance, health, timeouts, names, unix sockets, other protocols and TLS.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::tls::Authority;
use crate::harness::{Gateway, Origin, Request, Setup, eventually, h2, times, tools};

fn pooled(pool: &str) -> Gateway {
    Gateway::start(format!(
        "pools: {{ app: {pool} }}\nroutes:\n  all: {{ match: '/*', body: {{ max: none }}, to: app }}\n  user: {{ match: /users/:id, to: app }}\n"
    ))
}

fn counted(answers: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    answers.into_iter().fold(BTreeMap::new(), |mut counts, answer| {
        *counts.entry(answer).or_default() += 1;
        counts
    })
}

fn three() -> [Origin; 3] {
    ["a", "b", "c"].map(Origin::answering)
}

/// An origin whose health can be switched; `/healthz` says so.
fn switched(name: &'static str) -> (Origin, Arc<AtomicBool>, Arc<AtomicUsize>) {
    let (well, probes) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let (is_well, counted) = (well.clone(), probes.clone());
    let origin = Origin::new(move |seen, talk| {
        if seen.target != "/healthz" {
            return talk.answer(200, "", name);
        }
        counted.fetch_add(1, Ordering::SeqCst);
        talk.answer(if is_well.load(Ordering::SeqCst) { 200 } else { 500 }, "", name);
    });
    (origin, well, probes)
}

#[test]
fn round_robin_is_smooth_by_weight() {
    let [a, b, _] = three();
    let gateway = Gateway::start(format!(
        "runtime: {{ workers: 1 }}\npools:\n  app: {{ targets: [\"{a}\", {{ at: \"{b}\", weight: 3 }}] }}\n\
         routes:\n  all: {{ match: '/*', to: app }}\n"
    ));
    let mut connection = gateway.connect();
    let answers = times(40, || connection.get("/").text());
    for four in answers.chunks(4) {
        assert_eq!(four.iter().filter(|answer| *answer == "a").count(), 1, "{answers:?}");
    }
}

#[test]
fn random_reaches_everyone_by_weight() {
    let [a, b, _] = three();
    let gateway = pooled(&format!("{{ targets: [\"{a}\", {{ at: \"{b}\", weight: 3 }}], balance: random }}"));
    let mut connection = gateway.connect();
    let counts = counted(times(400, || connection.get("/").text()));
    assert!((60..140).contains(&counts["a"]), "{counts:?}");
}

#[test]
fn least_requests_spares_the_busy_one() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let quick = Origin::answering("quick");
    let gateway =
        pooled(&format!("{{ targets: [\"{}\", \"{quick}\"], balance: least_requests }}", held.local_addr().unwrap()));
    let mut waiting = Vec::new();
    held.set_nonblocking(true).unwrap();
    let mut stuck = None;
    while stuck.is_none() {
        let mut connection = gateway.connect();
        connection.send(Request::get("/").bytes());
        let arrived = eventually("the request somewhere", || match held.accept() {
            Ok((stream, _)) => Some(Some(stream)),
            Err(_) if quick.seen().len() > waiting.len() => Some(None),
            Err(_) => None,
        });
        stuck = arrived;
        waiting.push(connection);
    }
    let mut connection = gateway.connect();
    assert_eq!(counted(times(50, || connection.get("/").text()))["quick"], 50);
}

#[test]
fn a_hash_keeps_a_key_at_its_target_and_moves_few_when_one_goes() {
    let origins = three();
    let [a, b, c] = &origins;
    let document = |targets: &str| {
        format!(
            "pools: {{ app: {{ targets: [{targets}], balance: 'hash(header.x-user)' }} }}\nroutes:\n  all: {{ match: '/*', to: app }}\n"
        )
    };
    let mut gateway = Gateway::start(document(&format!("\"{a}\", \"{b}\", \"{c}\"")));
    let places = |gateway: &Gateway| -> Vec<String> {
        let mut connection = gateway.connect();
        (0..120).map(|user| connection.ask(&Request::get("/").with("X-User", user)).text()).collect()
    };
    let before = places(&gateway);
    assert_eq!(before, places(&gateway));
    assert!(counted(before.clone()).values().all(|count| *count > 10), "{:?}", counted(before.clone()));
    gateway.reload(document(&format!("\"{a}\", \"{b}\"")));
    let moved = before.iter().zip(places(&gateway)).filter(|(before, after)| *before != after);
    assert!(moved.clone().all(|(before, _)| before == "c"), "a key moved that need not: {}", moved.count());
}

#[test]
fn a_hash_takes_its_key_from_cookie_path_or_client() {
    for (key, request) in [
        ("cookie.user", Request::get("/").with("Cookie", "user=7")),
        ("path.id", Request::get("/users/7")),
        ("client.ip", Request::get("/")),
    ] {
        let [a, b, c] = three();
        let gateway = pooled(&format!("{{ targets: [\"{a}\", \"{b}\", \"{c}\"], balance: 'hash({key})' }}"));
        let places = counted(times(20, || gateway.ask(request.clone()).text()));
        assert_eq!(places.len(), 1, "{key}: {places:?}");
    }
    let [a, b, c] = three();
    let gateway = pooled(&format!("{{ targets: [\"{a}\", \"{b}\", \"{c}\"], balance: 'hash(path.id)' }}"));
    let places = counted((0..60).map(|user| gateway.get(&format!("/users/{user}")).text()));
    assert_eq!(places.len(), 3, "{places:?}");
}

#[test]
fn a_sick_target_gets_no_requests_until_it_is_well_again() {
    let (sick, well, _) = switched("sick");
    let (sound, _, _) = switched("sound");
    let gateway = pooled(&format!(
        "{{ targets: [\"{sick}\", \"{sound}\"], health: {{ http: /healthz, every: 100ms, timeout: 2s, down_after: 2, up_after: 2 }} }}"
    ));
    eventually("both serve", || (counted(times(4, || gateway.get("/").text())).len() == 2).then_some(()));
    well.store(false, Ordering::SeqCst);
    eventually("the sick one is left out", || {
        (counted(times(10, || gateway.get("/").text())).len() == 1).then_some(())
    });
    assert_eq!(counted(times(20, || gateway.get("/").text()))["sound"], 20);
    let up =
        |target: &Origin| gateway.metrics().sum("yumen_target_up", &[("pool", "app"), ("target", &target.to_string())]);
    assert!(up(&sick) < 0.5 && up(&sound) > 0.5);
    well.store(true, Ordering::SeqCst);
    eventually("it is back", || (counted(times(10, || gateway.get("/").text())).len() == 2).then_some(()));
}

#[test]
fn without_a_healthy_target_the_answer_is_503_at_once_with_retry_after() {
    let (origin, well, _) = switched("only");
    let gateway =
        pooled(&format!("{{ targets: [\"{origin}\"], health: {{ http: /healthz, every: 100ms, down_after: 1 }} }}"));
    assert_eq!(gateway.get("/").status, 200, "at start it serves at once");
    well.store(false, Ordering::SeqCst);
    let refused = eventually("a refusal", || Some(gateway.get("/")).filter(|answer| answer.status == 503));
    assert_eq!(refused.code(), "pool.no_healthy");
    assert!(refused.field("retry-after").unwrap().parse::<u32>().unwrap() > 0);
    let before = Instant::now();
    assert_eq!(gateway.get("/").status, 503);
    assert!(before.elapsed() < Duration::from_secs(1));
}

#[test]
fn health_asks_for_status_body_and_host() {
    let origin = Origin::new(|seen, talk| match seen.target.as_str() {
        "/healthz" if seen.field("host") == Some("health.example") => talk.answer(204, "", ""),
        "/body" => talk.answer(200, "", "all is well here"),
        _ => talk.answer(503, "", "sick"),
    });
    for (health, up) in [
        ("http: /healthz, host: health.example, status: [204]", true),
        ("http: /healthz, host: health.example, status: [200]", false),
        ("http: /healthz, host: other.example", false),
        ("http: /healthz, host: health.example, status: ['200..299']", true),
        ("http: /body, body: is well", true),
        ("http: /body, body: is ill", false),
        ("http: /sick, status: [503]", true),
        ("tcp: true", true),
    ] {
        let gateway = pooled(&format!(
            "{{ targets: [\"{origin}\"], health: {{ {health}, every: 100ms, down_after: 1, up_after: 1 }} }}"
        ));
        let probed = origin.connections();
        eventually("some probes", || (origin.connections() > probed + 1).then_some(()));
        eventually("the verdict", || ((gateway.get("/sick").code() != "pool.no_healthy") == up).then_some(()));
    }
}

#[test]
fn a_slow_probe_is_a_failed_one() {
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = pooled(&format!(
        "{{ targets: [\"{}\"], timeout: {{ idle: 200ms }}, health: {{ http: /, every: 100ms, timeout: 100ms, down_after: 2 }} }}",
        deaf.local_addr().unwrap()
    ));
    eventually("it is down", || (gateway.get("/").code() == "pool.no_healthy").then_some(()));
}

#[test]
fn probes_come_as_often_as_the_document_says() {
    let (origin, _, probes) = switched("a");
    let _gateway = pooled(&format!("{{ targets: [\"{origin}\"], health: {{ http: /healthz, every: 200ms }} }}"));
    eventually("a first probe", || (probes.load(Ordering::SeqCst) > 0).then_some(()));
    let (first, start) = (probes.load(Ordering::SeqCst), Instant::now());
    eventually("ten more", || (probes.load(Ordering::SeqCst) >= first + 10).then_some(()));
    assert!(start.elapsed() > Duration::from_millis(1500), "ten probes in {:?}", start.elapsed());
}

#[test]
fn a_new_target_beside_others_is_probed_before_it_serves() {
    let (old, _, _) = switched("old");
    let (new, well, probes) = switched("new");
    well.store(false, Ordering::SeqCst);
    let document = |targets: &str| {
        format!(
            "pools: {{ app: {{ targets: [{targets}], health: {{ http: /healthz, every: 100ms, down_after: 50, up_after: 1 }} }} }}\nroutes:\n  all: {{ match: '/*', to: app }}\n"
        )
    };
    let mut gateway = Gateway::start(document(&format!("\"{old}\"")));
    eventually("the old one is known", || (gateway.get("/").text() == "old").then_some(()));
    gateway.reload(document(&format!("\"{old}\", \"{new}\"")));
    eventually("failed probes of the new one", || (probes.load(Ordering::SeqCst) > 3).then_some(()));
    assert_eq!(counted(times(20, || gateway.get("/").text())).get("new"), None);
    well.store(true, Ordering::SeqCst);
    eventually("it serves", || (gateway.get("/").text() == "new").then_some(()));
}

#[test]
fn a_silent_upstream_is_504() {
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = pooled(&format!("{{ targets: [\"{}\"], timeout: {{ idle: 300ms }} }}", deaf.local_addr().unwrap()));
    assert_eq!(gateway.get("/").verdict(), (504, "upstream.timeout.first_byte".into()));
}

#[test]
fn an_upstream_that_falls_silent_is_cut() {
    let origin = Origin::new(|_, talk| {
        talk.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n");
        talk.echo();
    });
    let gateway = pooled(&format!("{{ targets: [\"{origin}\"], timeout: {{ idle: 300ms }} }}"));
    let mut connection = gateway.connect();
    assert_eq!(connection.send(Request::get("/").bytes()).head().status, 200);
    connection.until("four");
    assert!(connection.ends());
    gateway.access_line(|line| line.to_string().contains("upstream.timeout.idle"));
}

#[test]
fn a_route_may_wait_longer_or_shorter_than_its_pool() {
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = Gateway::start(format!(
        "pools: {{ app: {{ targets: [\"{}\"], timeout: {{ idle: 60s }} }} }}\n\
         routes:\n  all: {{ match: '/*', to: app, timeout: {{ idle: 200ms }} }}\n",
        deaf.local_addr().unwrap()
    ));
    assert_eq!(gateway.get("/").status, 504);
}

#[test]
fn a_refused_connection_is_502_and_an_endless_one_504() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(pooled(&format!("[\"{gone}\"]")).get("/").verdict(), (502, "upstream.refused".into()));
    let (_full, address, _filling) = tools::unreachable();
    let gateway = pooled(&format!("{{ targets: [\"{address}\"], timeout: {{ connect: 300ms }} }}"));
    assert_eq!(gateway.get("/").verdict(), (504, "upstream.connect_timeout".into()));
}

#[test]
fn an_upstream_that_takes_nothing_is_cut_at_the_write_deadline() {
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = pooled(&format!(
        "{{ targets: [\"{}\"], timeout: {{ write: 300ms, idle: 300ms }} }}",
        deaf.local_addr().unwrap()
    ));
    let start = Instant::now();
    let answer = gateway.ask(Request::post("/", vec![b'x'; 32 << 20]));
    assert_eq!(answer.status, 504);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert!(answer.code().starts_with("upstream.timeout"), "{}", answer.text());
}

#[test]
fn an_idle_upstream_connection_is_closed_in_time() {
    let origin = Origin::answering("ok");
    let gateway = pooled(&format!("{{ targets: [\"{origin}\"], keep_alive: {{ idle: 200ms }} }}"));
    let mut connection = gateway.connect();
    connection.get("/");
    let before = Instant::now();
    eventually("a second upstream connection", || {
        thread::park_timeout(Duration::from_millis(400));
        connection.get("/");
        (origin.connections() > 1).then_some(())
    });
    assert!(before.elapsed() < Duration::from_secs(10));
}

#[test]
fn names_are_resolved() {
    let origin = Origin::answering("named");
    let gateway = pooled(&format!("[\"localhost:{}\"]", origin.address().port()));
    eventually("the name is resolved", || (gateway.get("/").text() == "named").then_some(()));
    let gateway = pooled("[\"nowhere.invalid:80\"]");
    assert_eq!(gateway.get("/").status, 503);
}

#[test]
fn a_target_may_be_a_unix_socket() {
    let setup = Setup::new();
    let listener = UnixListener::bind(setup.path().join("app.sock")).unwrap();
    thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let mut room = [0; 4096];
        let _ = stream.read(&mut room);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nunix").unwrap();
    });
    let gateway = setup.start("pools: { app: [\"unix:$DIR/app.sock\"] }\nroutes:\n  all: { match: '/*', to: app }\n");
    assert_eq!(gateway.get("/").text(), "unix");
}

#[test]
fn an_upstream_may_speak_h2c() {
    let origin = h2::Origin::plain(&[]);
    let gateway = pooled(&format!("{{ targets: [\"{origin}\"], protocol: h2c }}"));
    let answer = gateway.ask(Request::post("/x", "over h2c").with("Content-Type", "text/plain"));
    assert_eq!((answer.status, answer.text().as_str()), (200, "over h2c"));
    let asked = &origin.asked()[0].head;
    assert_eq!(asked.version, http::Version::HTTP_2);
    assert_eq!(asked.uri.path(), "/x");
}

#[test]
fn an_upstream_is_verified_under_tls() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let origin = h2::Origin::secured(&ours.issue(&["app.internal"]), &[]);
    let setup = |ca: &Authority| Setup::new().file("ca.pem", &ca.pem);
    let document = |tls: &str| {
        format!(
            "pools: {{ app: {{ targets: [\"{origin}\"], protocol: h2, tls: {tls} }} }}\nroutes:\n  all: {{ match: '/*', to: app }}\n"
        )
    };
    let right = "{ sni: app.internal, ca: \"$DIR/ca.pem\" }";
    assert_eq!(setup(&ours).start(document(right)).get("/").status, 200);
    let stranger = setup(&theirs).start(document(right)).get("/");
    assert_eq!(stranger.verdict(), (502, "upstream.tls".into()));
    let other = setup(&ours).start(document("{ sni: other.internal, ca: \"$DIR/ca.pem\" }")).get("/");
    assert_eq!(other.verdict(), (502, "upstream.tls".into()));
    let blind = setup(&theirs).start(document("{ sni: app.internal, verify: false }"));
    assert_eq!(blind.get("/").status, 200);
    assert!(blind.log.all().iter().any(|line| line.contains("verify")), "switched off without a warning");
}

#[test]
fn auto_speaks_what_tls_agrees_on() {
    let authority = Authority::new();
    let origin = h2::Origin::secured(&authority.issue(&["app.internal"]), &[]);
    let gateway = Setup::new().file("ca.pem", &authority.pem).start(format!(
        "pools: {{ app: {{ targets: [\"{origin}\"], tls: {{ sni: app.internal, ca: \"$DIR/ca.pem\" }} }} }}\n\
         routes:\n  all: {{ match: '/*', to: app }}\n"
    ));
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(origin.asked()[0].head.version, http::Version::HTTP_2);
}

#[test]
fn an_upstream_may_ask_for_our_certificate() {
    let authority = Authority::new();
    let server = Setup::new()
        .pair("server", &authority.issue(&["app.internal"]))
        .pair("client", &authority.issue(&["gateway"]))
        .file("ca.pem", &authority.pem);
    let upstream = server.start(
        "listeners:\n  edge:\n    bind: 127.0.0.1:0\n    tls:\n      certs: [{ cert: \"$DIR/server.pem\", key: \"$DIR/server.key\" }]\n      \
         client_ca: { file: \"$DIR/ca.pem\", mode: required }\nroutes:\n  all: { match: '/*', respond: { body: known } }\n",
    );
    let document = |identity: &str| {
        format!(
            "pools: {{ app: {{ targets: [\"{}\"], tls: {{ sni: app.internal, ca: \"{dir}/ca.pem\" {identity} }} }} }}\n\
             routes:\n  all: {{ match: '/*', to: app }}\n",
            upstream.edge(),
            dir = upstream.setup.path().display()
        )
    };
    let dir = upstream.setup.path().display();
    let known = Gateway::start(document(&format!(", cert: \"{dir}/client.pem\", key: \"{dir}/client.key\"")));
    assert_eq!(known.get("/").text(), "known");
    assert_eq!(Gateway::start(document("")).get("/").status, 502);
}

#[test]
fn like_takes_the_settings_of_another_pool() {
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = Gateway::start(format!(
        "defaults: {{ pool: {{ timeout: {{ connect: 900ms }} }} }}\n\
         pools:\n  slow: {{ targets: [\"127.0.0.1:1\"], timeout: {{ idle: 200ms }} }}\n  app: {{ like: slow, targets: [\"{}\"] }}\n\
         routes:\n  all: {{ match: '/*', to: app }}\n  slow: {{ match: /slow, to: slow }}\n",
        deaf.local_addr().unwrap()
    ));
    assert_eq!(gateway.get("/").status, 504);
}

#[test]
fn a_tls_handshake_that_stops_is_504() {
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = pooled(&format!(
        "{{ targets: [\"{}\"], tls: {{ sni: app.internal }}, timeout: {{ tls: 300ms, idle: 60s }} }}",
        deaf.local_addr().unwrap()
    ));
    assert_eq!(gateway.get("/").status, 504);
}

#[test]
fn a_route_shortens_each_timeout_of_its_pool() {
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = deaf.local_addr().unwrap();
    let (_full, unreachable, _filling) = tools::unreachable();
    let gateway = Gateway::start(format!(
        "defaults: {{ pool: {{ timeout: {{ connect: 60s, tls: 60s, idle: 60s, write: 60s }} }} }}\n\
         pools:\n  deaf: [\"{address}\"]\n  secure: {{ targets: [\"{address}\"], tls: {{ sni: app.internal }} }}\n  far: [\"{unreachable}\"]\n\
         routes:\n  connect: {{ match: /connect, to: far, timeout: {{ connect: 300ms }} }}\n  \
         tls: {{ match: /tls, to: secure, timeout: {{ tls: 300ms }} }}\n  \
         write: {{ match: /write, body: {{ max: none }}, to: deaf, timeout: {{ write: 300ms, idle: 300ms }} }}\n"
    ));
    let start = Instant::now();
    assert_eq!(gateway.get("/connect").status, 504);
    assert_eq!(gateway.get("/tls").status, 504);
    assert_eq!(gateway.ask(Request::post("/write", vec![b'x'; 32 << 20])).status, 504);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}
