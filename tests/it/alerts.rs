//! The shipped alerts fire on what the program really shows, by promtool.

use std::fs;
use std::path::Path;

use crate::harness::tools::run;
use crate::harness::{Gateway, Request, eventually};

fn saying(word: &str) -> String {
    format!("routes:\n  all: {{ match: '/*', respond: {{ body: {word} }} }}\n")
}

fn success(gateway: &Gateway) -> u32 {
    let page = gateway.metrics().0;
    let line = page.lines().find(|line| line.starts_with("yumen_config_last_reload_success ")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// What is shown before, while and after a reload by `way` is refused.
fn shown(gateway: &Gateway, way: &str, order: impl Fn()) -> [u32; 3] {
    let before = success(gateway);
    gateway.write(saying(way).replace("match", "mtach"));
    order();
    gateway.log.wait(&format!("reload ({way}) refused"));
    let refused = success(gateway);
    gateway.write(saying(way));
    eventually("the right document serves", || (gateway.get("/").text() == way).then_some(()));
    eventually("and is told", || (success(gateway) == 1).then_some(()));
    [before, refused, success(gateway)]
}

/// Rules for promtool: each sample of `shown` lasts for two minutes, and the alert fires for the middle one alone.
fn rules(shown: [u32; 3]) -> String {
    let alerts = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/prometheus/alerts.yaml");
    let values = shown.map(|value| format!("{value}x3")).join(" ");
    format!(
        r#"
rule_files: ["{}"]
evaluation_interval: 30s
tests:
  - interval: 30s
    input_series: [{{ series: 'yumen_config_last_reload_success{{instance="edge"}}', values: '{values}' }}]
    alert_rule_test:
      - {{ eval_time: 90s, alertname: YumenReloadFailed, exp_alerts: [] }}
      - eval_time: 210s
        alertname: YumenReloadFailed
        exp_alerts:
          - exp_labels: {{ instance: edge, severity: warning }}
            exp_annotations:
              summary: edge refused its changed configuration
              description: The last good configuration serves on. `yumen check` names the line; so does the log.
      - {{ eval_time: 330s, alertname: YumenReloadFailed, exp_alerts: [] }}
"#,
        alerts.display()
    )
}

#[test]
fn a_refused_reload_fires_the_shipped_alert_whoever_ordered_it() {
    let gateway = Gateway::start(saying("first"));
    let dir = tempfile::tempdir().unwrap();
    let fires = |way: &str, order: &dyn Fn()| {
        let shown = shown(&gateway, way, order);
        assert_eq!(shown, [1, 0, 1], "{way}");
        let file = dir.path().join(way);
        fs::write(&file, rules(shown)).unwrap();
        let said = run("promtool", &["test", "rules", file.to_str().unwrap()]);
        assert_eq!(said.code, 0, "{way}: {said:?}");
    };
    fires("file", &|| {});
    fires("signal", &|| gateway.signal("HUP"));
    fires("admin", &|| drop(gateway.admin_ask(Request::post("/reload?wait", ""))));
    let file = dir.path().join("never");
    fs::write(&file, rules([1, 1, 1])).unwrap();
    assert_ne!(run("promtool", &["test", "rules", file.to_str().unwrap()]).code, 0, "the rules can fail");
}
