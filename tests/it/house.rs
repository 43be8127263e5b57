//! The rules of the house, checked over `src/`: floors, lengths, names, settings, spawning, examples.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The floors from the ground up; `main` and `lib` stand outside. The ground's rooms may look at each other.
const FLOORS: [&[&str]; 10] = [
    &[
        "allocator",
        "answer",
        "broken",
        "canonical",
        "chore",
        "deadline",
        "exchange",
        "fault",
        "messages",
        "problem",
        "state",
        "telemetry",
        "units",
    ],
    &["client"],
    &["pool"],
    &["cache", "policy"],
    &["forward", "listener", "route"],
    &["config"],
    &["snapshot"],
    &["proxy"],
    &["gateway"],
    &["cli"],
];

/// Who may spawn: the keeper and the accept loops; the writer thread of the access log, so that a slow disk stops no
/// request; hashes of passwords, which would hold up a whole worker; the counts of quotas and messages on disk, which a slow
/// disk takes; the demo, which brings its own origins.
const SPAWNERS: [&str; 6] = [
    "gateway/",
    "telemetry/access/writer.rs",
    "policy/auth/password.rs",
    "policy/limit/ledger.rs",
    "forward/",
    "cli/demo.rs",
];

/// Who may be unsafe: the allocator, whose contract is.
const UNSAFE: [&str; 1] = ["allocator.rs"];

const REFUSED_WORDS: [&str; 6] = ["Manager", "Provider", "Handler", "Helper", "Util", "Common"];

/// One source file: where it lies, what it says, and the same without comments, texts and tests.
struct Source {
    path: PathBuf,
    text: String,
    code: String,
}

impl Source {
    /// The room that the file belongs to: `pool` for `src/pool/target.rs`.
    fn room(&self) -> &str {
        self.path.components().next().and_then(|first| first.as_os_str().to_str()).unwrap().trim_end_matches(".rs")
    }
    fn said(&self, line: usize, complaint: &str) -> String {
        format!("src/{}:{}: {complaint}", self.path.display(), line + 1)
    }
}

fn sources() -> Vec<Source> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = files_below(&top);
    files.retain(|file| file.extension().is_some_and(|end| end == "rs") && !is_tests(file.strip_prefix(&top).unwrap()));
    let read = |file: PathBuf| {
        let text = fs::read_to_string(&file).unwrap();
        let code = without_tests(&without_words(&text));
        Source { path: file.strip_prefix(&top).unwrap().to_owned(), text, code }
    };
    files.into_iter().map(read).collect()
}

fn is_tests(file: &Path) -> bool {
    file.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "tests.rs")))
}

pub fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { dirs.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    files
}

/// Blanks comments and texts, so that braces and names in them count for nothing; lines stay where they are.
fn without_words(text: &str) -> String {
    let words = r##"(?s)//[^\n]*|/\*.*?\*/|b?r#".*?"#|b?r"[^"]*"|b?"(?:\\.|[^"\\])*"|b?'(?:\\[^\n]{1,8}?|[^'\\\n])'"##;
    let words = regex::Regex::new(words).unwrap();
    let blank = |found: &regex::Captures<'_>| {
        let kept = |byte: u8| if byte == b'\n' { '\n' } else { ' ' };
        found[0].bytes().map(kept).collect::<String>()
    };
    words.replace_all(text, blank).into_owned()
}

fn without_tests(code: &str) -> String {
    let tests =
        regex::Regex::new(r"(?m)^#\[cfg\(test\)\]\s*\n(?:#\[[^\n]*\n)*(?:pub(?:\([a-z]+\))? )?mod [a-z_]+ \{").unwrap();
    match tests.find(code) {
        Some(start) => code[..start.start()].to_owned(),
        None => code.to_owned(),
    }
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

/// Each match of `pattern` in the code of each file: the file, the line, the first group.
fn each_match<'s>(sources: &'s [Source], pattern: &str) -> Vec<(&'s Source, usize, &'s str)> {
    let pattern = regex::Regex::new(pattern).unwrap();
    let mut found = Vec::new();
    for source in sources {
        for captures in pattern.captures_iter(&source.code) {
            let (whole, group) = (captures.get(0).unwrap(), captures.get(1).unwrap());
            found.push((source, line_of(&source.code, whole.start()), group.as_str()));
        }
    }
    found
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count()
}

fn nothing(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// The end of the block that opens at or after `at`; where it has none (`fn f();`), `at` itself.
fn end_of_block(code: &str, at: usize) -> usize {
    let mut depth = 0_usize;
    for (here, letter) in code[at..].char_indices() {
        match letter {
            ';' if depth == 0 => return at,
            '{' => depth += 1,
            '}' if depth == 1 => return at + here,
            '}' => depth -= 1,
            _ => {}
        }
    }
    at
}

#[test]
fn a_module_looks_only_at_lower_floors() {
    let sources = sources();
    let mut complaints = Vec::new();
    let groups = each_match(&sources, r"\bcrate::(\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}|[a-z_]+)");
    for (source, line, seen) in groups {
        let room = source.room();
        if room == "lib" || room == "main" {
            continue;
        }
        let Some(mine) = floor(room) else {
            complaints.push(source.said(0, &format!("`{room}` stands on no floor: give it one in tests/it/house.rs")));
            continue;
        };
        for other in first_names(seen) {
            let Some(theirs) = floor(&other) else { continue };
            if other != room && (theirs > mine || (theirs == mine && mine > 0)) {
                complaints.push(source.said(line, &format!("`{room}` looks at `{other}`, which is not below it")));
            }
        }
    }
    for (source, line, climb) in each_match(&sources, r"\b((?:super::){2,}[a-z_]+)") {
        let depth = source.path.components().count() - usize::from(source.path.ends_with("mod.rs"));
        if climb.matches("super::").count() >= depth {
            complaints.push(source.said(line, "say `crate::`, so that the floor can be seen"));
        }
    }
    nothing(&complaints);
}

/// The first names of a use tree: `{a::{b, c}, d}` has `a` and `d`.
fn first_names(tree: &str) -> BTreeSet<String> {
    let Some(inner) = tree.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        return [tree.to_owned()].into();
    };
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for letter in inner.chars() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => parts.push(String::new()),
            _ if depth == 0 => parts.last_mut().unwrap().push(letter),
            _ => {}
        }
    }
    parts.iter().filter_map(|part| part.trim().split("::").next()).map(str::to_owned).collect()
}

#[test]
fn every_file_starts_with_a_sentence() {
    let starts = |source: &Source| {
        let paragraph: Vec<_> = source.text.lines().map_while(|line| line.strip_prefix("//! ")).collect();
        paragraph.last().is_some_and(|last| last.ends_with(['.', ':', '?']))
    };
    let sources = sources();
    let silent = sources.iter().filter(|source| !starts(source));
    nothing(&silent.map(|source| source.said(0, "starts with `//!` and one sentence")).collect::<Vec<_>>());
}

#[test]
fn files_and_functions_are_short() {
    let sources = sources();
    let long_file = |source: &&Source| source.code.trim_end().lines().count() > 400;
    let mut complaints: Vec<_> =
        sources.iter().filter(long_file).map(|source| source.said(400, "more than 400 lines")).collect();
    let function = regex::Regex::new(r"\bfn ([a-z_0-9]+)").unwrap();
    for source in &sources {
        for found in function.captures_iter(&source.code) {
            let start = found.get(0).unwrap().start();
            let lines = line_of(&source.code[start..], end_of_block(&source.code, start) - start) + 1;
            if lines > 60 {
                let complaint = format!("`{}` has {lines} lines, more than 60", &found[1]);
                complaints.push(source.said(line_of(&source.code, start), &complaint));
            }
        }
    }
    nothing(&complaints);
}

#[test]
fn only_the_gateway_and_five_others_spawn() {
    let sources = sources();
    let spawns = each_match(&sources, r"\b(spawn|spawn_blocking|spawn_local)\(");
    let elsewhere = spawns
        .into_iter()
        .filter(|(source, ..)| !SPAWNERS.iter().any(|place| source.path.to_str().unwrap().starts_with(place)));
    nothing(
        &elsewhere
            .map(|(source, line, word)| source.said(line, &format!("`{word}` by none of {SPAWNERS:?}")))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn only_the_allocator_is_unsafe() {
    let sources = sources();
    let unsafes = each_match(&sources, r"\b(unsafe(?:_code)?)\b");
    let elsewhere = unsafes.into_iter().filter(|(source, ..)| !UNSAFE.contains(&source.path.to_str().unwrap()));
    nothing(&elsewhere.map(|(source, line, _)| source.said(line, "`unsafe`")).collect::<Vec<_>>());
}

#[test]
fn settings_deny_unknown_keys_and_explain_each_key() {
    let settings = regex::Regex::new(
        r"(?m)^((?:[ \t]*(?:///[^\n]*|#\[[^\n]*)\n)*)[ \t]*(?:pub(?:\([a-z]+\))? )?struct ([A-Za-z]+)(?:<[^>]*>)? \{([^}]*)\}",
    );
    let settings = settings.unwrap();
    let mut complaints = Vec::new();
    for source in &sources() {
        let body = &source.text[..source.code.len()];
        for found in settings.captures_iter(body) {
            let (attributes, name, fields) = (&found[1], &found[2], &found[3]);
            let line = line_of(body, found.get(2).unwrap().start());
            let reads = attributes.lines().any(|line| line.contains("derive(") && line.contains("Deserialize"));
            if name == "Config" && !reads && !body.contains("Deserialize<'de> for Config") {
                complaints.push(source.said(line, "a `Config` that nothing reads"));
            }
            if !reads {
                continue;
            }
            if !attributes.contains("deny_unknown_fields") {
                complaints.push(source.said(line, &format!("`{name}` accepts unknown keys")));
            }
            let mut explained = false;
            for (below, field) in fields.lines().enumerate() {
                let field = field.trim();
                if field.starts_with("///") {
                    explained = true;
                } else if field.contains(':') && !field.starts_with('#') && !field.starts_with("//") {
                    if !explained {
                        complaints.push(source.said(line + below, &format!("`{name}`: no line explains `{field}`")));
                    }
                    explained = false;
                }
            }
        }
    }
    nothing(&complaints);
}

#[test]
fn every_policy_shows_an_example() {
    let sources = sources();
    let is_policy = |source: &&Source| source.room() == "policy" && source.code.contains("struct Config");
    let header = |source: &Source| {
        source.text.lines().take_while(|line| line.starts_with("//!")).any(|line| line == "//! ```yaml")
    };
    let bare = sources.iter().filter(is_policy).filter(|source| !header(source));
    nothing(&bare.map(|source| source.said(0, "a policy without a ```yaml example")).collect::<Vec<_>>());
}

#[test]
fn no_type_bears_a_refused_word() {
    let sources = sources();
    let named = each_match(&sources, r"\b(?:struct|enum|trait|type|union) ([A-Z][A-Za-z0-9]*)");
    let refused = |name: &str| REFUSED_WORDS.iter().find(|word| name.contains(*word));
    let bad = named.iter().filter_map(|(source, line, name)| Some((source, line, name, refused(name)?)));
    nothing(
        &bad.map(|(source, line, name, word)| source.said(*line, &format!("`{name}`: not `{word}`")))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn the_rules_see_what_they_forbid() {
    let code = without_words("let a = \"fn {\"; // fn }\nlet c = '{'; let r = r#\"{\"#; fn<'a> x(&'a self) {}");
    assert_eq!(code.matches(['{', '}']).count(), 2, "{code}");
    assert_eq!(code.matches('\n').count(), 1);
    assert_eq!(first_names("{pool::{self, x}, fault::Fault}"), ["fault", "pool"].map(str::to_owned).into());
    let function = "fn a() {\n if x { y }\n}\nfn b();";
    assert_eq!(line_of(function, end_of_block(function, 0)), 2);
}
