//! Programs that others wrote: h2load, slowhttptest, gRPC in Python, a real application as upstream.

use std::path::PathBuf;
use std::process::Command;

use crate::harness::tls::Authority;
use crate::harness::tools::{self, finish};
use crate::harness::{Gateway, Origin, Setup};

/// Python with the packages of `tests/run`, or why the test is left out.
pub fn python(package: &str) -> Option<PathBuf> {
    let venv = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/tests-venv/bin/python");
    let python = if venv.exists() { venv } else { "python3".into() };
    if finish(Command::new(&python).args(["-c", &format!("import {package}")])).code == 0 {
        return Some(python);
    }
    eprintln!("LEFT OUT: no Python package {package}; `tests/run` installs it");
    None
}

#[test]
fn h2load_loses_nothing_over_any_protocol() {
    let authority = Authority::new();
    let origin = Origin::answering("ok");
    let routes = Gateway::document(&origin, "all: { match: /*, to: app }");
    let gateway = Setup::new().pair("a", &authority.issue(&["localhost"])).start(format!(
        "listeners:\n  edge: {{ bind: 127.0.0.1:0 }}\n  \
         tls: {{ bind: 127.0.0.1:0, tls: {{ certs: [{{ cert: \"$DIR/a.pem\", key: \"$DIR/a.key\" }}] }} }}\n{routes}"
    ));
    for (scheme, listener, more) in
        [("http", "edge", "--h1"), ("http", "edge", "-v"), ("https", "tls", "--h1"), ("https", "tls", "-v")]
    {
        let url = format!("{scheme}://{}/", gateway.listener(listener).replace("127.0.0.1", "localhost"));
        let ended = tools::run("h2load", &["-n", "2000", "-c", "8", "-m", "8", more, &url]);
        assert!(ended.out.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"), "{url} {more}: {}", ended.out);
    }
}

#[test]
fn slowhttptest_is_cut_within_the_limits() {
    let origin = Origin::answering("ok");
    let routes = Gateway::document(&origin, "all: { match: /*, to: app }");
    let gateway = Gateway::start(format!(
        "listeners: {{ edge: {{ bind: 127.0.0.1:0, timeout: {{ head: 2s, idle: 2s, write: 2s }}, limits: {{ body_rate: 1MiB/s }} }} }}\n{routes}"
    ));
    let url = format!("http://{}/", gateway.edge());
    let colours = regex::Regex::new("\x1b\\[[0-9;]*m").unwrap();
    for mode in ["-H", "-B"] {
        let ended = tools::run(
            "slowhttptest",
            &["-c", "100", mode, "-i", "1", "-r", "100", "-s", "1000000", "-l", "20", "-u", &url, "-p", "3"],
        );
        let plain = colours.replace_all(&ended.out, "").into_owned();
        assert!(plain.contains("No open connections left"), "{mode}: {plain}");
        assert!(!plain.contains("service available:   NO"), "{mode}: others were not served: {plain}");
    }
    assert_eq!(gateway.get("/").status, 200);
}

#[test]
fn grpc_of_python_calls_through_a_route() {
    let Some(python) = python("grpc") else { return };
    let script = include_str!("outside/grpc_echo.py");
    let setup = Setup::new().file("echo.py", script);
    let path = setup.path().join("echo.py");
    let mut server =
        Command::new(&python).arg(&path).arg("serve").stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(server.stdout.take().unwrap()), &mut line).unwrap();
    let gateway = setup.start(format!(
        "pools: {{ app: {{ targets: [\"127.0.0.1:{}\"], protocol: h2c }} }}\nroutes:\n  echo: {{ match: POST /echo.Echo/*, to: app }}\n",
        line.trim()
    ));
    let ended = finish(Command::new(&python).arg(&path).arg("call").arg(gateway.edge()));
    let _ = server.kill();
    let _ = server.wait();
    assert_eq!(ended.out.lines().last(), Some("all calls passed"), "{}{}", ended.out, ended.err);
}

#[test]
fn a_real_application_works_behind_it() {
    let Some(python) = python("httpbin") else { return };
    let serve = "from wsgiref.simple_server import make_server as m; import httpbin; s=m('127.0.0.1',0,httpbin.app); print(s.server_port,flush=True); s.serve_forever()";
    let mut command = Command::new(&python);
    command.args(["-c", serve]).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
    let mut server = command.spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(server.stdout.take().unwrap()), &mut line).unwrap();
    let gateway = Gateway::start(format!(
        "pools: {{ app: [\"127.0.0.1:{}\"] }}\nroutes:\n  all: {{ match: '/bin/*', to: app, rewrite: {{ strip: /bin }}, host: pass }}\n",
        line.trim()
    ));
    let url = |path: &str| format!("http://{}/bin{path}", gateway.edge());
    let curl = |arguments: &[&str]| tools::run("curl", &[&["-sS", "--noproxy", "*"], arguments].concat()).out;
    let json =
        |text: String| serde_json::from_str::<serde_json::Value>(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert_eq!(json(curl(&[&url("/get?a=1")]))["args"]["a"], "1");
    assert_eq!(json(curl(&["-d", "x=y", &url("/post")]))["form"]["x"], "y");
    assert_eq!(json(curl(&["-X", "DELETE", &url("/delete")]))["data"], "");
    assert_eq!(curl(&["-o", "/dev/null", "-w", "%{http_code}", &url("/status/418")]), "418");
    assert!(!curl(&[&url("/bytes/100000?seed=1")]).is_empty());
    assert!(curl(&["--compressed", &url("/gzip")]).contains("\"gzipped\": true"));
    assert_eq!(curl(&[&url("/stream/20")]).lines().count(), 20);
    let _ = server.kill();
    let _ = server.wait();
}
