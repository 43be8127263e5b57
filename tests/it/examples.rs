//! Every document and example that we ship passes `check`: under `conf/`, in the guides, at the top of each policy.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::harness::Setup;
use crate::harness::tls::Authority;
use crate::house::files_below;

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Checks a document with the files and variables that it names laid out for it.
fn check(name: &str, text: &str) -> String {
    let paths = regex::Regex::new(
        r"(?P<lead>file:|[ \[\x22])(?P<path>[\w./-]*/[\w.-]+\.(?:crt|pem|key|proto)|/(?:run|etc|var|tmp)/[\w./-]+)",
    )
    .unwrap();
    let authority = Authority::new();
    let setup = Setup::new().file("ca.pem", &authority.pem);
    let setup = setup.file("operations.json", r#"{ "cart": "query Cart { cart { id } }" }"#);
    let (mut setup, mut pairs) = (setup, BTreeMap::new());
    for found in paths.captures_iter(text) {
        let path = found["path"].trim_start_matches('/').to_owned();
        let stem = path.rsplit_once('.').map_or(path.as_str(), |(stem, _)| stem).to_owned();
        let pair = pairs.entry(stem).or_insert_with(|| authority.issue(&["api.example.com"]));
        setup = match path.rsplit('.').next() {
            _ if path.contains("-keys") => setup.file(&path, "acme: { plan: gold, hash: [] }"),
            _ if path.ends_with("/users") => setup.file(&path, format!("acme:$2y$12${}", ".".repeat(53))),
            _ if path.contains("ca.") => setup.file(&path, &authority.pem),
            Some("proto") => setup.file(&path, fs::read_to_string(top().join("conf/examples/shop.proto")).unwrap()),
            Some("key") => setup.file(&path, &pair.key),
            Some("crt" | "pem") => setup.file(&path, &pair.cert),
            _ => setup.file(&path, "secret"),
        };
    }
    let text = paths.replace_all(text, |found: &regex::Captures<'_>| {
        format!("{}$DIR/{}", &found["lead"], found["path"].trim_start_matches('/'))
    });
    let variables = regex::Regex::new(r"env:\w+").unwrap();
    let text =
        variables.replace_all(&text, "env:PATH").replace("./messages", top().join("conf/messages").to_str().unwrap());
    let ended = setup.run(&text, "check", &[]);
    assert_eq!(ended.code, 0, "{name}\n{text}\n{}{}", ended.out, ended.err);
    ended.out + &ended.err
}

/// The fenced YAML of a text, each block without its marks.
fn fenced(text: &str) -> Vec<String> {
    let block = regex::Regex::new(r"(?ms)^```yaml[^\n]*\n(.*?)^```").unwrap();
    block.captures_iter(text).map(|found| found[1].to_owned()).collect()
}

/// A fragment as a whole document: what it leaves out is filled in with the least that passes.
fn whole(fragment: &str) -> String {
    let says = |key: &str| fragment.lines().any(|line| line.starts_with(key));
    let mut text = fragment.to_owned();
    for (key, least) in [
        (
            "pools:",
            "pools: { orders: [\"127.0.0.1:1\"], catalog: [\"127.0.0.1:2\"], calls: { targets: [\"127.0.0.1:3\"], protocol: h2c } }",
        ),
        ("stores:", "stores: { plant: { mqtt: 10.0.0.7:1883 }, shared: 10.0.0.5:6379 }"),
        ("routes:", "routes: { all: { match: /*, respond: 204 } }"),
    ] {
        if !says(key) {
            text = format!("{text}\n{least}\n");
        }
    }
    text
}

#[test]
fn every_document_under_conf_passes() {
    let mut checked = 0;
    for file in files_below(&top().join("conf")) {
        let text = fs::read_to_string(&file).unwrap_or_default();
        if file.extension().is_some_and(|end| end == "yaml") && text.lines().any(|line| line == "version: 1") {
            let said = check(&file.display().to_string(), &text);
            // In a container the admin listener is for others; who only looks has no directory for what waits; and whether
            // one `when` is the opposite of another nobody can tell.
            let known = ["admin.bind: other machines", "see runtime.state", "every one has a `when`"];
            let may_stand = |line: &&str| known.iter().any(|known| line.contains(known));
            let warned = said.lines().find(|line| line.contains("  warn  ") && !may_stand(line));
            assert_eq!(warned, None, "{}", file.display());
            checked += 1;
        }
    }
    assert!(checked > 3, "only {checked} documents under conf/");
}

#[test]
fn every_example_in_the_guides_passes() {
    let guides = files_below(&top().join(".github")).into_iter().chain([top().join("README.md")]);
    for guide in guides.filter(|file| file.extension().is_some_and(|end| end == "md")) {
        for block in fenced(&fs::read_to_string(&guide).unwrap()) {
            check(&guide.display().to_string(), &whole(&block));
        }
    }
}

#[test]
fn every_example_of_a_policy_passes() {
    for file in files_below(&top().join("src/policy")) {
        let header: String = fs::read_to_string(&file)
            .unwrap()
            .lines()
            .map_while(|line| line.strip_prefix("//!"))
            .map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line)))
            .collect();
        for example in fenced(&header).iter().flat_map(|block| alternatives(block)) {
            let mut route = "  example:\n".to_owned();
            if !example.contains("match:") {
                route +=
                    if example.contains("strip: /api") { "    match: /api/*\n" } else { "    match: /orders/:id/*\n" };
            }
            let calls = ["grpc_web:", "transcode:"].iter().any(|key| example.starts_with(key));
            let actions = ["to:", "redirect:", "respond:", "gather:", "batch:", "publish:", "subscribe:"];
            let answers = |line: &str| actions.iter().any(|key| line.starts_with(key));
            if !example.lines().any(answers) {
                route += if calls { "    to: calls\n" } else { "    to: orders\n" };
            }
            route.extend(example.lines().map(|line| format!("    {line}\n")));
            check(&file.display().to_string(), &whole(&format!("routes:\n{route}")));
        }
    }
}

#[test]
fn every_example_of_a_pool_passes() {
    let mut checked = 0;
    for file in
        files_below(&top().join("src/pool")).into_iter().filter(|file| file.extension().is_some_and(|end| end == "rs"))
    {
        let text = fs::read_to_string(&file).unwrap();
        let header = text.lines().map_while(|line| line.strip_prefix("//!"));
        let header: String = header.map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line))).collect();
        for example in fenced(&header).iter().flat_map(|block| alternatives(block)) {
            let document = if example.starts_with("pools:") {
                whole(&example)
            } else {
                let targets = if example.starts_with("targets:") { "" } else { "    targets: [10.0.0.1:80]\n" };
                let lines: String = example.lines().map(|line| format!("    {line}\n")).collect();
                let pools = format!("pools:\n  orders-elsewhere: [10.0.0.9:80]\n  orders:\n{targets}{lines}");
                whole(&format!("{pools}routes: {{ all: {{ match: /*, to: orders }} }}\n"))
            };
            check(&file.display().to_string(), &document);
            checked += 1;
        }
    }
    assert!(checked > 10, "only {checked} examples");
}

/// A block that says a key twice shows alternatives: each is an example of its own.
fn alternatives(block: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    for line in block.lines() {
        let key = line.split(':').next().unwrap();
        let said = |example: &String| example.lines().any(|line| line.split(':').next() == Some(key));
        if !line.starts_with(' ') && said(found.last().unwrap()) {
            found.push(String::new());
        }
        let last = found.last_mut().unwrap();
        *last += line;
        last.push('\n');
    }
    found
}
