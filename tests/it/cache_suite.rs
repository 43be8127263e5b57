//! The tests for HTTP caches that others run too (cache-tests.fyi, npm `http-cache-tests`), through the gateway.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Gateway, tools};

/// Groups in which a failure would be an answer that a client must not get.
const SAFETY: [&str; 12] = [
    "age-parse",
    "auth",
    "cc-freshness",
    "cc-parse",
    "cc-response",
    "expires",
    "heuristic",
    "stale",
    "status",
    "vary",
    "vary-parse",
    "pragma",
];

/// The suite's origin, ended when dropped.
struct Suite {
    packages: PathBuf,
    child: Child,
    port: String,
}

impl Suite {
    /// Nothing where the suite is not installed; `tests/run` does it.
    fn start() -> Option<Self> {
        let packages = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/tests-node");
        if !packages.join("node_modules/http-cache-tests").exists() {
            eprintln!("not run: http-cache-tests is not installed (tests/run)");
            return None;
        }
        let mut command = Self::script(&packages);
        let mut child = command.arg("origin").stdout(Stdio::piped()).spawn().unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Some(Self { packages, child, port: port.trim().to_owned() })
    }
    fn script(packages: &PathBuf) -> Command {
        let mut command = Command::new("node");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/outside/cache_suite.mjs");
        command.arg("--no-warnings").arg(script).arg(packages);
        command
    }
    /// What came of each test through this cache.
    fn run(&self, base: &str) -> Vec<Value> {
        let ended = tools::finish_within(Self::script(&self.packages).args(["client", base]), Duration::from_mins(3));
        assert_eq!(ended.code, 0, "{}", ended.err);
        ended.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Suite {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_cache_tests_find_nothing_unsafe_and_most_of_what_is_required() {
    let Some(suite) = Suite::start() else { return };
    let gateway = Gateway::start(format!(
        "pools: {{ app: ['127.0.0.1:{}'] }}\nroutes: {{ all: {{ match: /*, to: app, cache: {{}} }} }}\n",
        suite.port
    ));
    let results = suite.run(&format!("http://{}", gateway.edge()));
    let of = |kind: &str| results.iter().filter(|test| test["kind"] == kind).collect::<Vec<_>>();
    let passed =
        |tests: &[&Value]| tests.iter().filter(|test| test["passed"] == true && test["rests"] == false).count();
    for test in results.iter().filter(|test| test["passed"] == false && test["kind"] != "check") {
        println!("{:10} {:20} {}: {}", test["kind"], test["group"], test["id"], test["why"]);
    }
    let (required, optional) = (of("required"), of("optimal"));
    println!(
        "required {} of {}, optimal {} of {}",
        passed(&required),
        required.len(),
        passed(&optional),
        optional.len()
    );
    let unsafe_ones: Vec<_> = required
        .iter()
        .filter(|test| {
            test["passed"] == false && test["rests"] == false && SAFETY.iter().any(|group| test["group"] == *group)
        })
        // What is fetched where it could have been reused costs a fetch, and nothing else.
        .filter(|test| !test["why"].as_str().unwrap_or_default().contains("does not come from cache"))
        .map(|test| format!("{}: {}", test["id"], test["why"]))
        .collect();
    assert!(unsafe_ones.is_empty(), "{unsafe_ones:#?}");
    assert!(passed(&required) >= 125, "{} of {}", passed(&required), required.len());
}
