//! One team's mistake stops nobody else, and is never silent.

use std::fs;
use std::process::{Command, Stdio};

use crate::harness::tools::{Ended, yumen};
use crate::harness::{Gateway, Setup, eventually};

const MAIN: &str = "runtime: { state: $DIR/state }\ninclude: [{ files: teams/*.yaml, on_error: keep_last }]\n";

fn team(name: &str, word: &str) -> String {
    format!("routes:\n  {name}: {{ match: /{name}, respond: {{ body: {word} }} }}\n")
}

fn setup() -> Setup {
    Setup::new().file("state/here", "").file("teams/a.yaml", team("a", "a1")).file("teams/b.yaml", team("b", "b1"))
}

fn write(gateway: &Gateway, file: &str, text: &str) {
    fs::write(gateway.setup.path().join(file), text).unwrap();
}

fn says(gateway: &Gateway, path: &str, word: &str) {
    eventually(word, || (gateway.get(path).text() == word).then_some(()));
}

fn reload(gateway: &Gateway) -> Ended {
    gateway.yumen("reload", &["--wait", "--admin", gateway.admin_address()])
}

fn held_back(gateway: &Gateway) -> f64 {
    gateway.metrics().sum("yumen_config_not_on_disk", &[("why", "include")])
}

#[test]
fn a_broken_file_is_read_as_it_was_while_the_others_land() {
    let gateway = setup().start(MAIN);
    let document = gateway.setup.path().join("yumen.yaml");
    let check = || yumen(&["check", "--config", document.to_str().unwrap()]);
    assert_eq!(check().code, 0, "{:?}", check());
    for broken in [team("b", "b2").replace("match", "mtach"), "routes: { b: {\n".to_owned(), team("a", "twice")] {
        write(&gateway, "teams/b.yaml", &broken);
        eventually("it is held back", || (held_back(&gateway) > 0.5).then_some(()));
        assert_eq!(check().code, 78, "{:?}", check());
        write(&gateway, "teams/a.yaml", &team("a", &format!("a{}", broken.len())));
        says(&gateway, "/a", &format!("a{}", broken.len()));
        assert_eq!(gateway.get("/b").text(), "b1", "{broken}");
        let told = reload(&gateway);
        assert_eq!(told.code, 0, "{told:?}");
        assert!(
            told.err.contains("b.yaml:")
                && told.err.contains("held back, read as before or left out: ")
                && !told.err.contains("not applied"),
            "{told:?}"
        );
        let status = gateway.status();
        assert_eq!((status["up_to_date"].as_bool(), status["held_back"].as_object().unwrap().len()), (Some(false), 1));
        gateway.log.wait("teams/b.yaml is wrong and held back since ");
        write(&gateway, "teams/b.yaml", &team("b", "b1"));
        eventually("it lands", || (held_back(&gateway) < 0.5).then_some(()));
    }
    gateway.log.wait("teams/b.yaml is no longer held back");
    assert_eq!(gateway.status()["up_to_date"], true);
}

#[test]
fn a_new_file_that_is_wrong_is_left_out_and_the_main_file_is_never_held_back() {
    let gateway = setup().start(MAIN);
    write(&gateway, "teams/c.yaml", "routes: { c: { match: /c, respnd: 204 } }\n");
    eventually("it is held back", || (held_back(&gateway) > 0.5).then_some(()));
    write(&gateway, "teams/a.yaml", &team("a", "a2"));
    says(&gateway, "/a", "a2");
    assert_eq!(gateway.get("/c").status, 404);
    let generation = gateway.generation();
    gateway.write(format!("{MAIN}routs: {{}}\n"));
    gateway.log.wait("routs");
    assert_eq!((gateway.generation(), gateway.get("/a").text().as_str()), (generation, "a2"));
    assert_eq!(reload(&gateway).code, 78);
}

#[test]
fn what_was_good_is_known_after_a_restart_and_without_it_there_is_no_start() {
    let same = |mut command: Command| {
        command.stdin(Stdio::null());
        command
    };
    let gateway = setup().start(MAIN);
    let broken = team("b", "b2").replace("match", "mtach");
    write(&gateway, "teams/b.yaml", &broken);
    eventually("it is held back", || (held_back(&gateway) > 0.5).then_some(()));
    let gateway = gateway.restart(same);
    assert_eq!((gateway.get("/b").text().as_str(), held_back(&gateway) > 0.5), ("b1", true));
    gateway.log.wait("mtach");
    fs::remove_dir_all(gateway.setup.path().join("state/history")).unwrap();
    let refused = gateway.yumen("run", &[]);
    assert_eq!(refused.code, 78, "{refused:?}");
    assert!(refused.err.contains("mtach"), "{refused:?}");
}
