//! What `conf/deploy` ships: every file can be read, every document in it passes `check`, and ports and paths agree.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::Setup;
use crate::harness::tools::run;

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/deploy").join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(shipped(name)).unwrap()
}

/// The documents of a YAML file.
fn yaml(text: &str) -> Vec<Value> {
    use serde::Deserialize;
    serde_yaml::Deserializer::from_str(text).map(|one| Value::deserialize(one).unwrap()).collect()
}

/// The port of an address that is written with one.
fn port(address: &Value) -> u64 {
    address.as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap()
}

/// A document that passes `check`.
fn checked(text: &str) -> Value {
    let ended = Setup::new().run(text, "check", &[]);
    assert_eq!(ended.code, 0, "{text}\n{}{}", ended.out, ended.err);
    yaml(text).remove(0)
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    objects.iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}

/// Of an object within others: `at(&object, "spec/template")`.
fn at<'a>(object: &'a Value, path: &str) -> &'a Value {
    object.pointer(&format!("/{path}")).unwrap_or_else(|| panic!("no {path} in {object}"))
}

fn seconds(text: &Value) -> u64 {
    text.as_str().unwrap().trim_end_matches('s').parse().unwrap()
}

#[test]
fn the_kubernetes_objects_fit_each_other_and_the_document() {
    let objects = yaml(&text("kubernetes.yaml"));
    let document = checked(at(of_kind(&objects, "ConfigMap"), "data/yumen.yaml").as_str().unwrap());
    let deployment = of_kind(&objects, "Deployment");
    assert_eq!(at(deployment, "spec/replicas"), 3);
    assert_eq!(at(deployment, "spec/strategy/rollingUpdate/maxUnavailable"), 0);
    let pod = at(deployment, "spec/template/spec");
    let container = at(pod, "containers/0");

    let ports = at(container, "ports").as_array().unwrap();
    let named = |name: &str| ports.iter().find(|port| port["name"] == name).unwrap()["containerPort"].as_u64().unwrap();
    assert_eq!(named("web"), port(at(&document, "listeners/web/bind")));
    assert_eq!(named("admin"), port(at(&document, "admin/bind")));
    assert_eq!(at(deployment, "spec/template/metadata/annotations/prometheus.io~1port"), &named("admin").to_string());
    for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz"), ("startupProbe", "/readyz")] {
        assert_eq!(at(container, probe)["httpGet"], serde_json::json!({ "path": path, "port": "admin" }));
    }

    // Changes of the map are seen only where its directory is mounted.
    let mounts = at(container, "volumeMounts").as_array().unwrap();
    let mounted = mounts.iter().find(|mount| mount["name"] == "document").unwrap();
    assert_eq!(mounted["mountPath"], "/etc/yumen");
    assert!(mounts.iter().all(|mount| mount.get("subPath").is_none()));
    assert_eq!(at(container, "args/2"), "/etc/yumen/yumen.yaml");

    let pause: u64 = at(container, "lifecycle/preStop/exec/command/1").as_str().unwrap().parse().unwrap();
    let drain = seconds(at(&document, "runtime/drain/requests"));
    assert!(at(pod, "terminationGracePeriodSeconds").as_u64().unwrap() >= pause + drain + 5);

    let label = at(deployment, "spec/template/metadata/labels");
    let service = of_kind(&objects, "Service");
    assert_eq!(at(service, "spec/selector"), label);
    assert_eq!(at(service, "spec/ports/0/targetPort"), "web");
    let budget = of_kind(&objects, "PodDisruptionBudget");
    assert_eq!(at(budget, "spec/selector/matchLabels"), label);
    assert_eq!(at(budget, "spec/minAvailable"), 2);
}

#[test]
fn the_kubernetes_objects_are_what_its_schemas_say() {
    let validator = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tests-venv/bin/kubernetes-validate");
    if !validator.exists() {
        eprintln!("LEFT OUT: no Python package kubernetes-validate; `tests/run` installs it");
        return;
    }
    let judged = |path: &Path| run(&validator, &["--strict", "--quiet", path.to_str().unwrap()]);
    let said = judged(&shipped("kubernetes.yaml"));
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    let dir = tempfile::tempdir().unwrap();
    let mistaken = dir.path().join("mistaken.yaml");
    fs::write(&mistaken, text("kubernetes.yaml").replace("replicas", "replica")).unwrap();
    assert_ne!(judged(&mistaken).code, 0, "it would say so");
}

#[test]
fn the_composition_names_what_is_there() {
    let compose = yaml(&text("compose/compose.yaml")).remove(0);
    let services = at(&compose, "services").as_object().unwrap();
    assert_eq!(services.keys().collect::<Vec<_>>(), ["app", "gateway", "grafana", "prometheus", "redis"]);
    for (name, service) in services {
        for volume in service.get("volumes").and_then(Value::as_array).into_iter().flatten() {
            let source = volume.as_str().unwrap().split(':').next().unwrap();
            let declared = compose["volumes"].get(source).is_some();
            assert!(declared || shipped("compose").join(source).exists(), "{name}: {source}");
        }
    }
    let gateway = checked(&text("compose/gateway/yumen.yaml"));
    let app = checked(&text("compose/app/yumen.yaml"));
    let published = at(&compose, "services/gateway/ports/0").as_str().unwrap();
    assert_eq!(published, format!("{0}:{0}", port(at(&gateway, "listeners/web/bind"))));
    assert_eq!(at(&gateway, "pools/app/targets/0"), &format!("app:{}", port(at(&app, "listeners/web/bind"))));
    assert_eq!(at(&gateway, "stores/shared/redis"), "redis:6379");
    let grace = seconds(at(&compose, "services/gateway/stop_grace_period"));
    assert!(grace > seconds(at(&gateway, "runtime/drain/requests")));

    let prometheus = yaml(&text("compose/prometheus.yml")).remove(0);
    let scraped = at(&prometheus, "scrape_configs/0/static_configs/0/targets/0");
    assert_eq!(scraped, &format!("gateway:{}", port(at(&gateway, "admin/bind"))));
    assert_eq!(at(&gateway, "admin/hosts/0"), "gateway", "Prometheus asks by this name");
    let grafana = yaml(&text("compose/grafana/datasources.yaml")).remove(0);
    assert_eq!(at(&grafana, "datasources/0/url"), "http://prometheus:9090");
    yaml(&text("compose/grafana/dashboards.yaml"));
}

#[test]
fn prometheus_takes_its_settings() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("prometheus.yml"), text("compose/prometheus.yml")).unwrap();
    fs::copy(shipped("../prometheus/alerts.yaml"), dir.path().join("alerts.yaml")).unwrap();
    let said = run("promtool", &["check", "config", dir.path().join("prometheus.yml").to_str().unwrap()]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
}

#[test]
fn consul_asks_where_the_default_document_answers() {
    let registered: Value = serde_json::from_str(&text("consul/yumen.json")).unwrap();
    let document = yaml(include_str!("../../conf/yumen.yaml")).remove(0);
    let service = at(&registered, "service");
    assert_eq!(service["port"], port(at(&document, "listeners/web/bind")));
    let admin = at(&document, "admin/bind").as_str().unwrap();
    assert_eq!(at(service, "checks/0/http"), &format!("http://{admin}/readyz"));
}

#[test]
fn the_container_is_built_of_files_that_are_there() {
    let text = text("Containerfile");
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own = text.lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|line| !line.starts_with("--from"));
    let mut copied = 0;
    for line in own {
        let (sources, _) = line.rsplit_once(' ').unwrap();
        for source in sources.split(' ') {
            assert!(top.join(source).exists(), "{source}");
            copied += 1;
        }
    }
    assert!(copied > 3);
    let toolchain = fs::read_to_string(top.join("Cargo.toml")).unwrap();
    let version = toolchain.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    assert!(text.contains(&format!("rust:{version}-")));
    let entry = text.lines().find(|line| line.starts_with("CMD")).unwrap();
    assert!(entry.contains("/etc/yumen/yumen.yaml") && text.contains("COPY conf/yumen.yaml /etc/yumen/yumen.yaml"));
}
