//! Under pressure: no descriptors, no disk, nobody who reads the logs, no memory, and a clock that jumps.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::auth::{SECRET, signed};
use crate::harness::tools::{self, signal};
use crate::harness::{Connection, Gateway, Origin, Request, Setup, eventually, h2};

const SERVED: &str = "routes: { all: { match: /*, respond: { body: served } } }\n";

/// The program, started by a shell that does this first.
fn after(script: &str) -> impl FnOnce(Command) -> Command + use<> {
    by(&format!("{script}; exec \"$@\""))
}

/// The program and its arguments, started by a shell as it likes.
fn by(script: &str) -> impl FnOnce(Command) -> Command + use<> {
    let script = script.to_owned();
    move |program| {
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, "sh"]).arg(program.get_program()).args(program.get_args());
        shell.current_dir(program.get_current_dir().unwrap()).env_remove("RUST_LOG").env_remove("JOURNAL_STREAM");
        shell.stdin(Stdio::null());
        shell
    }
}

/// Seconds of processors that the gateway has used.
fn worked(gateway: &Gateway) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", gateway.pid())).unwrap();
    let fields: Vec<f64> =
        stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(2).map(|n| n.parse().unwrap()).collect();
    fields.iter().sum::<f64>() / 100.0
}

#[test]
fn without_descriptors_connections_that_are_there_are_served_and_others_wait() {
    let text = format!("runtime: {{ workers: 1 }}\n{SERVED}");
    let gateway = Setup::new().start_by(text, after("ulimit -n 64"));
    let mut here = gateway.connect();
    assert_eq!(here.get("/").text(), "served");
    let waiting: Vec<_> = (0..80).map(|_| TcpStream::connect(gateway.edge()).unwrap()).collect();
    gateway.log.wait("cannot accept");
    let (began, before) = (Instant::now(), worked(&gateway));
    while began.elapsed() < Duration::from_secs(1) {
        assert_eq!(here.get("/").text(), "served");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let busy = worked(&gateway) - before;
    assert!(busy < 0.4, "{busy} s of work in a second of waiting");
    let (began, told) =
        (Instant::now(), gateway.log.all().iter().filter(|line| line.contains("cannot accept")).count());
    assert!(told <= 2, "told {told} times in a second");
    drop(waiting);
    assert_eq!(gateway.connect().get("/").text(), "served");
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(gateway.metrics().sum("yumen_accept_failures_total", &[("listener", "edge")]) > 0.0);
}

#[test]
fn the_process_takes_as_many_descriptors_as_it_may_have() {
    let gateway = Setup::new().start_by(SERVED, after("ulimit -Sn 100; ulimit -Hn 4000"));
    assert!((gateway.metrics().sum("process_max_fds", &[]) - 4000.0).abs() < 1.0);
}

#[test]
fn a_full_disk_costs_lines_and_no_request() {
    let log = "observe: { access_log: { to: \"file:/dev/full\" } }";
    let gateway = Gateway::start(format!("{log}\n{SERVED}"));
    for _ in 0..50 {
        assert_eq!(gateway.get("/").text(), "served");
    }
    let dropped = || gateway.metrics().sum("yumen_access_log_dropped_total", &[]);
    eventually("all lines are counted", || (dropped() > 49.0).then_some(()));
    assert!(gateway.log.wait("access lines to").contains("No space left"), "{:?}", gateway.log.all());
    assert_eq!(gateway.log.all().iter().filter(|line| line.contains("access lines to")).count(), 1, "said once");
}

#[test]
fn a_full_state_directory_is_told_once_and_quotas_hold() {
    let text = "runtime: { state: $DIR/state }\n\
                routes: { all: { match: /*, limit: { quota: 3/year, key: client.ip }, respond: { body: served } } }\n";
    // A file system of its own, in a room of its own, which ends with the process.
    let full = "mount -t tmpfs -o size=4k none state && head -c 4096 /dev/zero > state/ballast";
    let way = by(&format!("exec unshare -rm sh -c '{full}; exec \"$@\"' sh \"$@\""));
    let may = tools::run("unshare", &["-rm", "mount", "-t", "tmpfs", "none", "/mnt"]);
    if may.code != 0 {
        return eprintln!("LEFT OUT: no user namespaces here: {}", may.err);
    }
    let gateway = Setup::new().file("state/.keep", "").start_by(text, way);
    assert_eq!([200, 200, 200, 429, 429].to_vec(), (0..5).map(|_| gateway.get("/").status).collect::<Vec<_>>());
    gateway.log.wait("are not kept for a restart");
    let failed = || gateway.metrics().sum("yumen_quota_writes_total", &[("result", "failed")]);
    eventually("it is tried again", || (failed() > 1.0).then_some(()));
    assert_eq!(gateway.log.all().iter().filter(|line| line.contains("are not kept")).count(), 1, "said once");
    assert_eq!(gateway.get("/").status, 429);
}

#[test]
fn an_access_log_that_nobody_reads_costs_lines_and_no_request() {
    let log = "observe: { access_log: { to: stdout } }";
    let gateway = Setup::new()
        .start_by(format!("{log}\n{SERVED}"), after("mkfifo stuck; exec 3<>stuck; exec >&3 3>&-; exec 3<stuck"));
    let target = format!("/{}", "x".repeat(6000));
    let mut connection = gateway.connect();
    let dropped = || gateway.metrics().sum("yumen_access_log_dropped_total", &[]);
    eventually("lines are dropped", || {
        for _ in 0..100 {
            assert_eq!(connection.get(&target).text(), "served");
        }
        (dropped() > 0.0).then_some(())
    });
    assert_eq!(gateway.get("/").text(), "served");
}

#[test]
fn a_program_log_that_nobody_reads_costs_lines_and_no_request() {
    // Somebody reads until the gateway serves, and then holds the pipe.
    let reader = "mkfifo stuck; gateway=$$; \
                  (while read -r line; do echo \"$line\" >&2; case $line in *'listening on admin'*) \
                  while kill -0 $gateway 2>/dev/null; do sleep 0.1; done;; esac; done <stuck) & exec 2>stuck";
    let gateway = Setup::new().start_by(format!("observe: {{ log: {{ level: trace }} }}\n{SERVED}"), after(reader));
    let dropped = || gateway.metrics().sum("yumen_program_log_dropped_total", &[]);
    let mut connection = gateway.connect();
    eventually("lines are dropped", || {
        for _ in 0..200 {
            assert_eq!(connection.get("/").text(), "served");
        }
        (dropped() > 0.0).then_some(())
    });
    assert_eq!(gateway.get("/").text(), "served");
    signal(gateway.pid(), "TERM");
}

#[test]
fn where_memory_runs_short_new_requests_are_refused_until_there_is_some_again() {
    let origin = Origin::answering("hello");
    let document = |memory: &str| {
        format!(
            "runtime: {{ workers: 1, memory: {memory} }}
pools: {{ app: ['{origin}'] }}
routes:
  in: {{ match: /in, body: {{ max: 64MiB }}, validate: {{ body: {{ schema: {{ type: string }}, max: 64MiB }} }}, to: app }}
  all: {{ match: /*, respond: {{ body: served }} }}
"
        )
    };
    let mut gateway = Gateway::start(document("{ limit: off }"));
    assert_eq!(gateway.get("/").text(), "served");
    let limit = (gateway.memory() >> 20) + 200;
    gateway.reload(document(&format!("{{ limit: {limit}MiB, shed_at: 80% }}")));
    let size = 24 << 20;
    let mut large: Vec<_> = (0..16)
        .map(|_| {
            let mut connection = gateway.connect();
            connection.send(format!(
                "POST /in HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {size}\r\n\r\n\""
            ));
            connection
        })
        .collect();
    let short = || gateway.metrics().sum("yumen_memory_short", &[]) > 0.5;
    let piece = vec![b'x'; 4 << 20];
    for connection in &mut large {
        if short() {
            break;
        }
        for _ in 0..5 {
            connection.send(&piece);
        }
    }
    eventually("memory runs short", || short().then_some(()));
    let refused = gateway.get("/");
    assert_eq!(refused.verdict(), (503, "shed.memory".to_owned()));
    assert!(refused.field("retry-after").is_some());
    let over_h2 = http::Request::get("http://a/").body(()).unwrap();
    assert_eq!(h2::ask(&gateway.edge(), over_h2, b"").unwrap().status, 503);
    assert_eq!(gateway.admin("/livez").status, 200, "the admin door is open");
    gateway.log.wait("memory runs short");
    drop(large);
    eventually("there is memory again", || (gateway.get("/").status == 200).then_some(()));
    gateway.log.wait("memory is there again");
    let metrics = gateway.metrics();
    assert!(metrics.sum("yumen_faults_total", &[("reason", "shed.memory"), ("route", "all")]) > 0.0);
    assert!(metrics.sum("yumen_memory_limit_bytes", &[]) > 0.0 && metrics.sum("yumen_memory_used_bytes", &[]) > 0.0);
}

/// The library that tells a process another time, and the file that says which.
fn clockwork() -> Option<&'static str> {
    let libraries = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];
    let found =
        libraries.map(|at| format!("{at}/faketime/libfaketimeMT.so.1")).into_iter().find(|at| Path::new(at).exists());
    if found.is_none() {
        eprintln!("LEFT OUT: no faketime; `tests/run` installs it");
    }
    found.map(|at| &*at.leak())
}

#[test]
fn clocks_that_jump_lock_nobody_out_and_set_nobody_free() {
    let Some(library) = clockwork() else { return };
    let text = "runtime: { state: $DIR }
auth: { idp: { jwt: { issuer: iss, audience: aud, secret: \"file:$DIR/secret\" } } }
routes:
  rate: { match: /rate, limit: { rate: 3/h, key: header.x-who, else: client.ip }, respond: { body: served } }
  slide: { match: /slide, limit: { rate: 3/h, algorithm: sliding_window, key: header.x-who, else: client.ip }, respond: 204 }
  year: { match: /year, limit: { quota: 3/year, key: header.x-who, else: client.ip }, respond: { body: served } }
  who: { match: /who, auth: idp, respond: { body: served } }
";
    let setup = Setup::new().file("secret", SECRET).file("now", "+0\n");
    let clock = setup.path().join("now");
    let set = |jump: &str| fs::write(&clock, format!("{jump}\n")).unwrap();
    let gateway = setup.start_by(text, |mut command| {
        command.stdin(Stdio::null()).env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", &clock);
        // Only the wall clock jumps, as it does when somebody sets it.
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
        command
    });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let token = signed(&json!({ "iss": "iss", "aud": "aud", "sub": "u", "exp": now + 600 }), SECRET);
    let who = || gateway.ask(Request::get("/who").with("authorization", format!("Bearer {token}")));
    let asks = |path: &str, name: &str, times: usize| {
        (0..times).filter(|_| gateway.ask(Request::get(path).with("x-who", name)).status < 300).count()
    };
    for path in ["/rate", "/slide", "/year"] {
        assert_eq!(asks(path, "old", 5), 3, "{path}");
    }
    assert_eq!(who().status, 200);
    for (at, (jump, valid)) in
        [("+2h", false), ("-2h", true), ("+0", true), ("-30d", true), ("+0", true)].into_iter().enumerate()
    {
        set(jump);
        eventually("the clock has jumped", || {
            let seen = gateway.get("/rate").field("date").map(str::to_owned).unwrap();
            let seen = httpdate::parse_http_date(&seen).unwrap().duration_since(UNIX_EPOCH).unwrap().as_secs();
            let hours = i64::try_from(seen).unwrap() - i64::try_from(now).unwrap();
            let meant = match jump {
                "+2h" => 7200,
                "-2h" => -7200,
                "-30d" => -30 * 86_400,
                _ => 0,
            };
            (hours - meant).abs().lt(&60).then_some(())
        });
        for path in ["/rate", "/slide", "/year"] {
            assert_eq!(asks(path, "old", 2), 0, "{path} after {jump}: nobody is set free");
            assert_eq!(asks(path, &format!("new{at}"), 5), 3, "{path} after {jump}: nobody is locked out");
        }
        let seen = who();
        assert_eq!(seen.status, if valid { 200 } else { 401 }, "{jump}: {}", seen.text());
    }
    assert_eq!(Connection::to(&gateway.edge()).get("/rate").status, 429, "what was asked for here counts too");
}
