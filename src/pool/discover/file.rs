//! Targets in a file of their own, which another program may write.
//!
//! `targets: file:/etc/yumen/orders.targets` names a file that holds either one address a line, with comments behind `#`,
//! or a YAML list of targets as it stands in the document. The file belongs to the document: when it changes, it is read
//! again, and while something is wrong with it, what was read before serves on.

use std::fmt;
use std::path::{Path as File, PathBuf};

use schemars::JsonSchema;
use serde::de::value::SeqAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::pool::target::Config;
use crate::problem::{Path, Problems};
use crate::units::Address;

/// Bytes of a file, at most.
const MOST: u64 = 4 << 20;

/// The targets of a pool: here, or in a file.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    Here(Vec<Config>),
    File(PathBuf),
}

impl Default for Targets {
    fn default() -> Self {
        Self::Here(Vec::new())
    }
}

impl Targets {
    pub fn file(&self) -> Option<&PathBuf> {
        match self {
            Self::Here(_) => None,
            Self::File(file) => Some(file),
        }
    }

    /// Whether nothing is said of targets.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Here(list) if list.is_empty())
    }
}

impl<'de> Deserialize<'de> for Targets {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Targets;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of addresses, e.g. [10.0.0.5:8080], or file:/path of one")
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<Targets, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Targets::Here)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Targets, E> {
                match text.strip_prefix("file:") {
                    Some(path) if !path.is_empty() => Ok(Targets::File(path.into())),
                    _ => Err(E::custom(format!("`{text}` is no list; write [{text}], or file:/path for a file"))),
                }
            }
        }
        from.deserialize_any(Visitor)
    }
}

impl Serialize for Targets {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Here(list) => list.serialize(to),
            Self::File(file) => to.collect_str(&format_args!("file:{}", file.display())),
        }
    }
}

impl JsonSchema for Targets {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PoolTargets".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let item = generator.subschema_for::<Config>();
        let file = serde_json::json!({ "type": "string", "pattern": "^file:.", "examples": ["file:/etc/yumen/orders.targets"] });
        schemars::json_schema!({
            "description": "A list of addresses, each with an optional weight, or `file:/path` of such a list.",
            "anyOf": [{ "type": "array", "items": item }, file],
        })
    }
}

/// What a file holds, each target with the place that complaints of it name.
pub(in crate::pool) fn read(file: &File, at: &Path, problems: &mut Problems) -> Vec<(Config, String)> {
    let show = file.display();
    let read = || -> Result<Vec<(Config, String)>, String> {
        let about = std::fs::metadata(file).map_err(|why| format!("cannot read {show}: {why}"))?;
        if !about.is_file() || about.len() > MOST {
            return Err(format!("{show} is no file of at most {} MiB", MOST >> 20));
        }
        let text = std::fs::read_to_string(file).map_err(|why| format!("cannot read {show}: {why}"))?;
        let targets = if is_yaml(&text) { list(&text, file) } else { lines(&text, file) }?;
        if targets.is_empty() { Err(format!("{show} names no target")) } else { Ok(targets) }
    };
    read().map_err(|why| problems.error(at.clone(), why)).unwrap_or_default()
}

fn is_comment(line: &&str) -> bool {
    line.is_empty() || line.starts_with('#')
}

fn is_yaml(text: &str) -> bool {
    let first = text.lines().map(str::trim).find(|line| !is_comment(line) && *line != "---");
    first.is_some_and(|line| line.starts_with(['-', '[']) && !line.starts_with("[:") && !is_address(line))
}

/// `[::1]:80` is one, and no list.
fn is_address(line: &str) -> bool {
    line.split('#').next().is_some_and(|line| line.trim().parse::<Address>().is_ok())
}

fn lines(text: &str, file: &File) -> Result<Vec<(Config, String)>, String> {
    let one = |(number, line): (usize, &str)| {
        let place = format!("{}:{}", file.display(), number + 1);
        let address = line.split('#').next().unwrap_or_default().trim();
        let at: Address = address.parse().map_err(|why| format!("{place}: {why}"))?;
        Ok((Config::from(at), place))
    };
    text.lines().map(str::trim).enumerate().filter(|(_, line)| !is_comment(line)).map(one).collect()
}

fn list(text: &str, file: &File) -> Result<Vec<(Config, String)>, String> {
    let show = file.display();
    let targets: Vec<Config> = serde_yaml::from_str(text).map_err(|why| {
        let line = why.location().map(|place| format!(":{}", place.line())).unwrap_or_default();
        let why = why.to_string();
        format!("{show}{line}: {}", why.split(" at line ").next().unwrap_or(&why))
    })?;
    let dashes: Vec<_> = text.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with("- ")).collect();
    let place = |index: usize| match dashes.get(index) {
        Some((number, _)) if dashes.len() == targets.len() => format!("{show}:{}", number + 1),
        _ => format!("{show}, target {}", index + 1),
    };
    let places: Vec<_> = (0..targets.len()).map(place).collect();
    Ok(targets.into_iter().zip(places).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Result<Vec<String>, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("orders.targets");
        std::fs::write(&file, text).unwrap();
        let mut problems = Problems::default();
        let shown = |text: &str| text.replace(&format!("{}/", dir.path().display()), "");
        let targets = read(&file, &Path::default(), &mut problems);
        match problems.iter().next() {
            Some(problem) => Err(shown(&problem.sentence)),
            None => Ok(targets.iter().map(|(one, at)| format!("{} {} {}", one.at, one.weight, shown(at))).collect()),
        }
    }

    #[test]
    fn an_address_a_line_or_a_list_as_in_the_document() {
        let plain = said("# ours\n10.0.0.1:80\n\n  app.internal:8080  # the new one\n[::1]:80\n").unwrap();
        assert_eq!(
            plain,
            ["10.0.0.1:80 1 orders.targets:2", "app.internal:8080 1 orders.targets:4", "[::1]:80 1 orders.targets:5"]
        );
        let block = said("---\n# ours\n- 10.0.0.1:80\n- at: 10.0.0.2:80\n  weight: 3\n").unwrap();
        assert_eq!(block, ["10.0.0.1:80 1 orders.targets:3", "10.0.0.2:80 3 orders.targets:4"]);
        let flow = said("[10.0.0.1:80, { at: 10.0.0.2:80, weight: 3 }]").unwrap();
        assert_eq!(flow, ["10.0.0.1:80 1 orders.targets, target 1", "10.0.0.2:80 3 orders.targets, target 2"]);
        assert_eq!(said("[::1]:80\n").unwrap(), ["[::1]:80 1 orders.targets:1"]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let wrong = |text: &str| said(text).unwrap_err();
        assert_eq!(wrong(""), "orders.targets names no target");
        assert_eq!(wrong("# nobody\n"), "orders.targets names no target");
        assert!(wrong("10.0.0.1:80\n10.0.0.2\n").starts_with("orders.targets:2: `10.0.0.2` needs a port"));
        assert!(wrong("- 10.0.0.1:80\n- 10.0.0.2\n").starts_with("orders.targets:2: "), "{}", wrong("- a:1\n- b\n"));
        assert!(wrong("- 10.0.0.1:80\n- { at: 10.0.0.2:80, wieght: 1 }\n").contains("wieght"));
        assert!(wrong("[10.0.0.1:80, ").starts_with("orders.targets"), "half a list");
    }
}
