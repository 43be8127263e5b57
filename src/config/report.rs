//! Complaints for people, each with its place, its line and what would be right; or as JSON for programs.

use std::collections::HashMap;
use std::fmt::Write;

use serde_json::{Value, json};

use super::place::{Places, Spot};
use super::secret;
use crate::problem::{Level, Problem, Problems};

/// Characters of a line that an excerpt shows.
const WIDTH: usize = 100;
/// Bytes of a line of which one is shown at all: a document on a single line would be walked for each complaint.
const LINE: usize = 10_000;

/// Every complaint with its excerpt, in the order of the files, and the closing line.
pub fn human(problems: &Problems, places: &Places) -> String {
    let mut text = complaints(problems, places);
    // Where nothing could be read, the reason says it all.
    if !places.is_empty() {
        text.push_str(&closing(problems, places));
        text.push('\n');
    }
    text
}

/// Every complaint with its excerpt, in the order of the files; nothing when there is none.
pub fn complaints(problems: &Problems, places: &Places) -> String {
    let sorted = sorted(problems, places);
    let width = sorted.iter().map(|(spot, _)| spot.to_string().chars().count()).max().unwrap_or_default();
    let mut lines = Lines::new(places);
    let mut text = String::new();
    for (spot, problem) in &sorted {
        // Writing to a String cannot fail.
        let _ = match spot.to_string() {
            none if none.is_empty() => writeln!(text, "{:<5}  {}", word(problem.level), sentence(problem)),
            spot => writeln!(text, "{spot:width$}  {:<5}  {}", word(problem.level), sentence(problem)),
        };
        if let Some(excerpt) = lines.excerpt(spot) {
            text.push_str(&excerpt);
        }
    }
    text
}

/// One line: `3 errors, 2 warnings: not applied`, or what the document holds.
pub fn closing(problems: &Problems, places: &Places) -> String {
    let (errors, warnings) = count(problems);
    if errors > 0 {
        return format!("{}, {}: not applied", plural(errors, "error"), plural(warnings, "warning"));
    }
    let of = |section: &str, one: &str| plural(places.count(section), one);
    let (listeners, routes, pools) = (of("listeners", "listener"), of("routes", "route"), of("pools", "pool"));
    format!("ok: {listeners}, {routes}, {pools}, {}", plural(warnings, "warning"))
}

/// The same as JSON: `{ problems: [{ file, line, column, level, path, message }], errors, warnings }`.
pub fn json(problems: &Problems, places: &Places) -> Value {
    let (errors, warnings) = count(problems);
    let sorted = sorted(problems, places);
    let list: Vec<Value> = sorted
        .iter()
        .map(|(spot, problem)| {
            json!({
                "file": spot.file, "line": spot.line, "column": spot.column, "level": word(problem.level),
                "path": problem.at.to_string(), "message": problem.sentence,
            })
        })
        .collect();
    json!({ "problems": list, "errors": errors, "warnings": warnings })
}

/// One complaint in one line, for logs: `yumen.yaml:24:5 pools.orders.brekaer: unknown key`.
pub fn line(problem: &Problem, places: &Places) -> String {
    format!("{} {}", places.of(problem), sentence(problem))
}

fn sorted<'a>(problems: &'a Problems, places: &'a Places) -> Vec<(Spot<'a>, &'a Problem)> {
    let mut sorted: Vec<_> = problems.iter().map(|problem| (places.of(problem), problem)).collect();
    sorted.sort_by_key(|(spot, _)| *spot);
    sorted
}

fn count(problems: &Problems) -> (usize, usize) {
    let errors = problems.errors();
    (errors, problems.iter().filter(|problem| problem.level == Level::Warn).count())
}

fn plural(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Note => "note",
    }
}

fn sentence(problem: &Problem) -> String {
    let path = problem.at.to_string();
    let said = path.is_empty() || problem.sentence.starts_with(&path);
    let text = if said { problem.sentence.clone() } else { format!("{path}: {}", problem.sentence) };
    // Texts of the document must not speak to the terminal.
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The lines of the files, found once for each file that is shown.
struct Lines<'a> {
    places: &'a Places,
    files: HashMap<u32, Vec<&'a str>>,
}

impl<'a> Lines<'a> {
    fn new(places: &'a Places) -> Self {
        Self { places, files: HashMap::new() }
    }

    /// The line with its number, and a caret under the place.
    fn excerpt(&mut self, spot: &Spot<'_>) -> Option<String> {
        let places = self.places;
        let source = places.source(spot.order)?;
        let lines = self.files.entry(spot.order).or_insert_with(|| split(&source.text));
        let line = lines.get((spot.line as usize).checked_sub(1)?)?;
        let column = (spot.column as usize).checked_sub(1).filter(|_| line.len() <= LINE)?;
        let hidden = places.is_hidden(spot.order, spot.line);
        let shown = if hidden { "(hidden)".to_owned() } else { secret::redact(line) };
        let chars: Vec<char> = shown.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        // A long line is cut around the place.
        let from = if chars.len() > WIDTH { column.saturating_sub(WIDTH / 2) } else { 0 };
        let cut: String = chars.iter().skip(from).take(WIDTH).collect();
        let dots = |more: bool| if more { "..." } else { "" };
        let (before, after) = (dots(from > 0), dots(chars.len() > from + WIDTH));
        let caret = (column - from + before.len()).min(cut.chars().count() + before.len());
        let (number, gap) = (spot.line, " ".repeat(caret));
        Some(format!("  {number:>5} | {before}{}{after}\n        | {gap}^\n", cut.trim_end()))
    }
}

/// The lines of a text as YAML counts them.
fn split(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    for line in text.split('\n') {
        let line = line.strip_suffix('\r').unwrap_or(line);
        lines.extend(line.split('\r'));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::Loaded;
    use super::*;
    use crate::problem::Path;

    #[test]
    fn a_report_shows_the_place_and_what_would_be_right() {
        let text = "version: 1\nlisteners: { web: { bind: 80 } }\npools:\n  orders:\n    targets: [10.0.0.1:80]\n    brekaer: {}\n";
        let loaded = Loaded::from_text("yumen.yaml", text);
        let report = human(&loaded.problems, &loaded.places);
        println!("{report}");
        let expected = "\
yumen.yaml:1:1  warn   there is no route, so every request is answered 404
      1 | version: 1
        | ^
yumen.yaml:4:3  warn   pools.orders: no route uses this pool
      4 |   orders:
        |   ^
yumen.yaml:6:5  error  pools.orders.brekaer: unknown key. Did you mean `breaker`?
      6 |     brekaer: {}
        |     ^
1 error, 2 warnings: not applied
";
        assert_eq!(report, expected);
        let json = json(&loaded.problems, &loaded.places);
        assert_eq!(json["errors"], 1);
        assert_eq!(json["problems"][2]["line"], 6);
        assert_eq!(json["problems"][2]["path"], "pools.orders.brekaer");
    }

    #[test]
    fn a_complaint_of_a_later_stage_finds_its_place() {
        let mut loaded = Loaded::from_text("y", "version: 1\nlisteners:\n  web: { bind: 80 }\n");
        loaded.problems.error(Path::of(["listeners", "web", "tls", "certs"]).index(0), "no such file");
        assert_eq!(
            line(loaded.problems.iter().last().unwrap(), &loaded.places),
            "y:3:8 listeners.web.tls.certs[0]: no such file"
        );
    }

    #[test]
    fn no_secret_is_shown() {
        let text = "version: 1\nroutes:\n  a:\n    match: /\n    request: { set: { authorization: Bearer-abc }, st: 1 }\n    response:\n      set:\n        x-token: |\n          abc\n          abd\n";
        let loaded = Loaded::from_text("y", text);
        let report = human(&loaded.problems, &loaded.places);
        assert!(report.contains("authorization: (hidden)"), "{report}");
        assert!(!report.contains("abc"), "{report}");
        assert!(loaded.places.is_hidden(0, 9));
    }

    #[test]
    fn long_lines_are_cut_around_the_place() {
        let text = format!(
            "version: 1\nlisteners: {{ web: {{ bind: 80 }} }}\nroutes: {{ a: {{ match: /{}, respnd: 200 }} }}\n",
            "x".repeat(300)
        );
        let loaded = Loaded::from_text("y", &text);
        let report = human(&loaded.problems, &loaded.places);
        let lines: Vec<_> = report.lines().collect();
        let at = lines.iter().position(|line| line.contains("respnd:  ") || line.contains("| ...")).unwrap();
        let caret = lines[at + 1].find('^').unwrap();
        assert!(lines[at][caret..].starts_with("respnd"), "{report}");
    }
}
