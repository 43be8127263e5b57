//! Names and passwords: lines as htpasswd knows them, what they cost, and who is told what.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::json;
use yumen::policy::auth::password::Hash;

use crate::harness::tools::yumen;
use crate::harness::wire::Response;
use crate::harness::{Gateway, Origin, Request, Setup, eventually};

/// The line that `yumen password` prints.
fn line(name: &str, password: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_yumen"));
    let command = command.args(["password", name]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success());
    String::from_utf8(ended.stdout).unwrap()
}

/// Of `geheim`, by libxcrypt.
const BCRYPT: &str = "acme:$2y$10$LXh5YGIRVvOJDzpKM2EHkOepyk.CxOuh4RW.HpTDDXssfLedMwEky\n";

fn shown(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

fn ask(gateway: &Gateway, name: &str, password: &str) -> Response {
    gateway.ask(Request::get("/").with("Authorization", shown(name, password)))
}

fn document(origin: &Origin) -> String {
    "auth:\n  partners: { basic: { file: users }, strip: true, forward: { x-user: consumer } }\n".to_owned()
        + &Gateway::document(
            origin,
            "all: { match: /*, auth: partners, to: app }\nopen: { match: /open, respond: 204 }",
        )
}

#[test]
fn who_shows_the_same_at_the_same_time_waits_for_one_look() {
    let origin = Origin::answering("in");
    let gateway = Setup::new().file("users", BCRYPT).start(document(&origin));
    // More than would find a place in the queue, where each was looked at.
    let statuses: Vec<u16> = thread::scope(|scope| {
        let all: Vec<_> = (0..50).map(|_| scope.spawn(|| ask(&gateway, "acme", "geheim").status)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(statuses, [200; 50]);
    let statuses: Vec<u16> = thread::scope(|scope| {
        let all: Vec<_> = (0..50).map(|_| scope.spawn(|| ask(&gateway, "acme", "wrong").status)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(statuses, [401; 50]);
}

#[test]
fn a_name_and_a_password_open_the_door_and_the_file_holds_only_hashes() {
    let origin = Origin::answering("in");
    let (grace, again) = (line("grace@example.com", "pässword: 1"), line("grace@example.com", "pässword: 1"));
    assert!(grace.starts_with("grace@example.com:$argon2id$v=19$m=19456,t=2,p=1$") && grace != again);
    let setup = Setup::new().file("users", format!("# partners\n\n{BCRYPT}{grace}"));
    let file = setup.path().join("users");
    let gateway = setup.start(document(&origin));
    for _ in 0..2 {
        assert_eq!(ask(&gateway, "acme", "geheim").status, 200);
        let seen = origin.last();
        assert_eq!((seen.field("x-user"), seen.field("authorization")), (Some("acme"), None));
    }
    assert_eq!(ask(&gateway, "grace@example.com", "pässword: 1").status, 200);
    gateway.access_line(|line| line["consumer"] == "grace@example.com");
    origin.forget();

    let missing = gateway.get("/");
    assert_eq!((missing.status, &missing.json()["code"]), (401, &json!("auth.missing")));
    assert_eq!(missing.field("www-authenticate"), Some("Basic realm=\"partners\", charset=\"UTF-8\""));
    for (name, password) in [("acme", "Geheim"), ("acme", ""), ("nobody", "geheim"), ("grace@example.com", "geheim")] {
        let refused = ask(&gateway, name, password);
        assert_eq!((refused.status, &refused.json()["code"]), (401, &json!("auth.invalid")), "{name}:{password}");
        let line = gateway.access_line(|line| line["request_id"] == refused.field("x-request-id").unwrap());
        assert_eq!(
            (&line["reason"], &line["detail"]),
            (&json!("auth.password"), &json!("no such name, or another password"))
        );
    }
    for odd in
        ["Basic", "Basic !", "Basic YWNtZQ==", "Basic YQo6YQ==", "Basic /zr/", &format!("Basic {}", "A".repeat(4000))]
    {
        let refused = gateway.ask(Request::get("/").with("Authorization", odd));
        assert_eq!(refused.status, 401, "{odd}");
    }
    gateway.access_line(|line| line["reason"] == "auth.malformed");
    let twice = Request::get("/").with("Authorization", shown("acme", "geheim"));
    assert_eq!(gateway.ask(twice.with("Authorization", shown("acme", "geheim"))).status, 401);
    assert_eq!(origin.seen().len(), 0, "nobody reached the target");
    for secret in ["geheim", "Z2VoZWlt", &shown("acme", "geheim")["Basic ".len()..]] {
        assert!(!gateway.read("access.log").contains(secret) && !gateway.log.all().join(" ").contains(secret));
    }
    // The file changes: who was found good before has to be found good again.
    std::fs::write(&file, line("acme", "another")).unwrap();
    eventually("the new password", || (ask(&gateway, "acme", "another").status == 200).then_some(()));
    assert_eq!(ask(&gateway, "acme", "geheim").status, 401);
    std::fs::write(&file, "acme:$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/\n").unwrap();
    eventually("the reload is refused", || {
        (gateway.metrics().sum("yumen_config_last_reload_success", &[]) < 0.5).then_some(())
    });
    assert_eq!(ask(&gateway, "acme", "another").status, 200);
    let counted = [("method", "basic"), ("result", "admitted")];
    assert!(gateway.metrics().sum("yumen_auth_decisions_total", &counted) > 3.5);
}

#[test]
fn a_password_is_looked_at_once_and_a_name_that_is_not_there_costs_the_same() {
    let origin = Origin::answering("in");
    let gateway = Setup::new().file("users", BCRYPT).start(document(&origin));
    let took = |name: &str, password: &str| {
        let started = Instant::now();
        ask(&gateway, name, password);
        started.elapsed()
    };
    let (mut wrong, mut unknown) = (Duration::MAX, Duration::MAX);
    for at in 0..6 {
        wrong = wrong.min(took("acme", &format!("wrong-{at}")));
        unknown = unknown.min(took("nobody", &format!("wrong-{at}")));
    }
    assert!(unknown > wrong / 3 && unknown < wrong * 3, "known {wrong:?}, unknown {unknown:?}");
    let first = took("acme", "geheim");
    let known = (0..20).map(|_| took("acme", "geheim")).min().unwrap();
    assert!(known < first / 4 && known < wrong / 4, "first {first:?}, then {known:?}");
}

#[test]
fn a_flood_of_wrong_passwords_is_cut_and_who_is_known_gets_through() {
    let origin = Origin::answering("in");
    // Dearer than the others, so that the line is full for a while.
    let dear = "dear:$2y$12$.....................................................\n";
    let gateway = Setup::new().file("users", format!("{BCRYPT}{dear}")).start(document(&origin));
    assert_eq!(ask(&gateway, "acme", "geheim").status, 200);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let flood = cores * 9 * 2;
    let (answers, beside) = thread::scope(|scope| {
        let asked: Vec<_> = (0..flood)
            .map(|at| {
                scope.spawn({
                    let gateway = &gateway;
                    move || ask(gateway, "dear", &format!("{at}"))
                })
            })
            .collect();
        let beside: Vec<_> = (0..20)
            .map(|_| {
                let started = Instant::now();
                (ask(&gateway, "acme", "geheim").status, gateway.get("/open").status, started.elapsed())
            })
            .collect();
        (asked.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>(), beside)
    });
    let cut: Vec<_> = answers.iter().filter(|answer| answer.status == 503).collect();
    assert!(!cut.is_empty() && cut.len() < flood, "{} of {flood}", cut.len());
    assert!(answers.iter().all(|answer| [401, 503].contains(&answer.status)));
    assert_eq!(cut[0].json()["code"], "auth.unavailable");
    assert!(cut[0].field("retry-after").is_some());
    assert!(
        beside.iter().all(|(known, open, took)| (*known, *open) == (200, 204) && *took < Duration::from_secs(5)),
        "{beside:?}"
    );
}

proptest! {
    #[test]
    fn any_line_is_read_without_harm(text in ".{0,120}", at in 0_usize..120, byte in 32_u8..127) {
        let _ = Hash::read(&text);
        for good in [BCRYPT.trim_end().trim_start_matches("acme:"), "$argon2id$v=19$m=7168,t=5,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
            let mut bytes = good.as_bytes().to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = Hash::read(&String::from_utf8(bytes).unwrap());
            let _ = Hash::read(&good[..at]);
        }
    }
}

#[test]
fn a_password_is_not_taken_from_the_command_line_nor_when_it_is_none() {
    assert_eq!(yumen(&["password", "acme"]).code, 64, "nothing to read");
    assert_eq!(yumen(&["password", "ac:me"]).code, 64);
    assert_eq!(yumen(&["password", "acme", "geheim"]).code, 64);
}
