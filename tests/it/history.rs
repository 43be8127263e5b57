//! What served before is known and comes back, also after a restart, and never in secret.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{Gateway, Request, Setup, eventually};
use crate::house::files_below;

const STATE: &str = "runtime: { state: $DIR/state }\n";

fn saying(word: &str) -> String {
    format!("{STATE}routes:\n  all: {{ match: '/*', respond: {{ body: {word} }} }}\n")
}

fn setup() -> Setup {
    Setup::new().file("state/here", "")
}

/// Writes a document and orders it to be read; who comes first does it.
fn serve(gateway: &Gateway, word: &str) {
    gateway.write(saying(word));
    eventually(word, || (gateway.get("/").text() == word).then_some(()));
}

fn same(mut command: Command) -> Command {
    command.stdin(Stdio::null());
    command
}

fn last_good(command: Command) -> Command {
    let mut command = same(command);
    command.env("YUMEN_BOOT", "last_good");
    command
}

fn admin(gateway: &Gateway) -> Vec<String> {
    vec!["--admin".to_owned(), gateway.admin_address().to_owned()]
}

fn yumen(gateway: &Gateway, verb: &str, more: &[&str]) -> crate::harness::tools::Ended {
    let admin = admin(gateway);
    let all: Vec<&str> = admin.iter().map(String::as_str).chain(more.iter().copied()).collect();
    gateway.yumen(verb, &all)
}

fn instead(gateway: &Gateway, why: &str) -> bool {
    gateway.metrics().sum("yumen_config_not_on_disk", &[("why", why)]) > 0.5
}

#[test]
fn a_process_that_took_over_says_as_what_it_serves() {
    let document = format!("admin: {{ bind: 127.0.0.1:0, control: unix:$DIR/control.sock }}\n{}", saying("one"));
    let mut gateway = setup().start(document);
    gateway.upgrade();
    let now = gateway.status()["generation"].clone();
    let told = yumen(&gateway, "history", &[]).out;
    assert!(
        told.lines().next().unwrap().ends_with(&format!("  serves, as generation {now} since a take-over")),
        "{told}"
    );
}

#[test]
fn generations_are_listed_and_brought_back_until_the_file_changes() {
    let gateway = setup().start(saying("one"));
    serve(&gateway, "two");
    serve(&gateway, "three");
    let told = yumen(&gateway, "history", &[]);
    let lines: Vec<&str> = told.out.lines().collect();
    assert!(lines[0].starts_with("   3  20") && lines[0].ends_with("  file  serves"), "{told:?}");
    assert_eq!(lines[1], "        hot  route all: respond.body two -> three");
    assert!(lines[4].starts_with("   1  20") && lines[4].ends_with("  start"), "{told:?}");
    let back = yumen(&gateway, "rollback", &["1"]);
    assert_eq!(back.code, 0, "{back:?}");
    assert!(back.out.starts_with("hot        route all: respond.body three -> one\napplied: generation 4"), "{back:?}");
    assert_eq!(gateway.get("/").text(), "one");
    let status = gateway.status();
    assert_eq!((&status["up_to_date"], &status["rolled_back_to"]), (&Value::Bool(false), &Value::from(1)));
    assert!(instead(&gateway, "rollback"));
    // Without a number: what served before and was something else.
    assert_eq!(yumen(&gateway, "rollback", &[]).code, 0);
    assert_eq!(gateway.get("/").text(), "three");
    assert_eq!(gateway.status()["rolled_back_to"], Value::Null, "that is what the file says");
    assert_eq!(yumen(&gateway, "rollback", &["2"]).code, 0);
    serve(&gateway, "four");
    assert_eq!(gateway.status()["rolled_back_to"], Value::Null);
    assert!(!instead(&gateway, "rollback"));
    let unknown = yumen(&gateway, "rollback", &["99"]);
    assert_eq!(unknown.code, 78, "{unknown:?}");
    assert!(unknown.err.contains("there is no generation 99"), "{unknown:?}");
    assert_eq!(gateway.status()["last_reload"]["result"], "applied", "nobody's reload has failed");
    assert!(gateway.metrics().sum("yumen_config_last_reload_success", &[]) > 0.5);
    assert_eq!(gateway.admin_ask(Request::post("/rollback?to=x", "")).status, 400);
    assert_eq!(gateway.admin("/rollback").status, 405);
}

#[test]
fn what_was_brought_back_outlives_a_restart_and_ends_with_an_order() {
    let gateway = setup().start(saying("one"));
    serve(&gateway, "two");
    assert_eq!(yumen(&gateway, "rollback", &[]).code, 0);
    let gateway = gateway.restart(same);
    assert_eq!(gateway.get("/").text(), "one");
    assert_eq!(gateway.status()["rolled_back_to"], 1);
    assert!(instead(&gateway, "rollback"));
    assert_eq!(yumen(&gateway, "reload", &["--wait"]).code, 0);
    assert_eq!(gateway.get("/").text(), "two", "an order to read the file is one");
    assert_eq!(gateway.status()["up_to_date"], true);
    let generation = gateway.generation();
    let gateway = gateway.restart(same);
    assert_eq!((gateway.get("/").text().as_str(), gateway.generation()), ("two", generation));
}

#[test]
fn included_files_come_back_and_others_must_be_what_they_were() {
    let route = |word: &str, deny: &str| {
        format!("routes:\n  all: {{ match: '/*', ip: {{ deny: 'file:$DIR/{deny}' }}, respond: {{ body: {word} }} }}\n")
    };
    let setup = setup().file("conf.d/a.yaml", route("one", "bad")).file("bad", "10.0.0.0/8\n");
    let gateway = setup.start(format!("{STATE}include: [conf.d/*.yaml]\n"));
    let dir = gateway.setup.path().to_owned();
    let new = route("two", "bad").replace("$DIR", dir.to_str().unwrap());
    fs::write(dir.join("conf.d/b.yaml"), new.replace("all:", "more:").replace("'/*'", "/more")).unwrap();
    fs::remove_file(dir.join("conf.d/a.yaml")).unwrap();
    eventually("the other file", || (gateway.get("/more").text() == "two").then_some(()));
    eventually("it is known", || (gateway.admin("/history").json()["generations"][0]["serves"] == true).then_some(()));
    assert_eq!(yumen(&gateway, "rollback", &["1"]).code, 0);
    assert_eq!((gateway.get("/").text().as_str(), gateway.get("/more").text().as_str()), ("one", "one"));
    fs::write(dir.join("bad"), "10.0.0.0/9\n").unwrap();
    assert_eq!(yumen(&gateway, "reload", &["--wait"]).code, 0);
    let refused = yumen(&gateway, "rollback", &["1"]);
    assert_eq!(refused.code, 78, "{refused:?}");
    assert!(refused.err.contains("with another") && refused.err.contains("/bad than there is now"), "{refused:?}");
    assert_eq!(gateway.get("/more").text(), "two");
    assert_eq!(yumen(&gateway, "rollback", &["1", "--as-they-are"]).code, 0);
    assert_eq!(gateway.get("/").text(), "one");
}

#[test]
fn a_broken_document_stops_a_start_unless_the_last_good_one_may_serve() {
    let gateway = setup().start(saying("good"));
    let broken = saying("bad").replace("match", "mtach");
    gateway.write(&broken);
    gateway.log.wait("mtach");
    let refused = gateway.yumen("run", &[]);
    assert_eq!(refused.code, 78, "{refused:?}");
    let mut gateway = gateway.restart(last_good);
    assert_eq!(gateway.get("/").text(), "good");
    gateway.log.wait("start with the last good configuration: the document on disk was refused");
    gateway.log.wait("mtach");
    let status = gateway.status();
    assert_eq!((&status["last_good"], &status["up_to_date"]), (&Value::Bool(true), &Value::Bool(false)));
    assert_eq!(status["last_reload"]["result"], "refused");
    assert!(instead(&gateway, "boot"));
    assert!(gateway.metrics().sum("yumen_config_last_reload_success", &[]) < 0.5);
    serve(&gateway, "better");
    assert_eq!(gateway.status()["last_good"], false);
    assert!(!instead(&gateway, "boot") && gateway.is_running());
}

#[test]
fn a_document_that_cannot_even_be_parsed_is_stood_in_for_by_the_state_of_the_service() {
    let gateway = setup().start(saying("good"));
    let dir = gateway.setup.path().to_owned();
    fs::write(dir.join("yumen.yaml"), "version: 1\nroutes: { all: {\n").unwrap();
    gateway.log.wait("refused");
    let without = gateway.yumen("run", &["--boot", "last_good"]);
    assert_eq!(without.code, 78, "{without:?}");
    assert!(without.err.contains("no last good configuration: nothing is known"), "{without:?}");
    let gateway = gateway.restart(|command| {
        let mut command = last_good(command);
        command.env("STATE_DIRECTORY", dir.join("state"));
        command
    });
    assert_eq!(gateway.get("/").text(), "good");
}

#[test]
fn the_history_is_ours_alone_and_bounded() {
    let gateway = setup().start(saying("n0"));
    for n in 1..=55 {
        gateway.write(saying(&format!("n{n}")));
        let answer = gateway.admin_ask(Request::post("/reload?wait", ""));
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    eventually("the last", || (gateway.get("/").text() == "n55").then_some(()));
    let history = gateway.admin("/history").json();
    assert_eq!(history["generations"].as_array().unwrap().len(), 50);
    let files = files_below(&gateway.setup.path().join("state/history"));
    assert_eq!(files.len(), 51, "{files:?}");
    for file in files {
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
    let gone = yumen(&gateway, "rollback", &["2"]);
    assert!(gone.err.contains("generation 2 is no longer known"), "{gone:?}");
}
