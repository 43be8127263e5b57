//! References in a description: found, followed and renamed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// A part that others may refer to: `schemas` and `Order`.
pub(super) type Part = (String, String);

/// Keys under which the next keys are names that people chose, and mean nothing here.
const NAMED: [&str; 19] = [
    "$defs",
    "callbacks",
    "content",
    "definitions",
    "dependentSchemas",
    "encoding",
    "examples",
    "headers",
    "links",
    "parameters",
    "pathItems",
    "patternProperties",
    "properties",
    "requestBodies",
    "responses",
    "schemas",
    "securitySchemes",
    "variables",
    "webhooks",
];
/// Keys under which anything may stand: it only looks like a reference.
const FREE: [&str; 5] = ["const", "default", "enum", "example", "value"];
/// References that lead to references, at most.
const DEEPEST: usize = 16;

/// Shows every reference to `visit`, which may change it.
pub(super) fn each(value: &mut Value, visit: &mut dyn FnMut(&mut String)) {
    below(value, false, visit);
}

fn below(value: &mut Value, named: bool, visit: &mut dyn FnMut(&mut String)) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| below(item, false, visit)),
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                match (named, key.as_str(), &mut *value) {
                    (false, "$ref", Value::String(reference)) => visit(reference),
                    (false, "mapping", Value::Object(mapping)) => {
                        let said = mapping.values_mut().filter_map(|said| match said {
                            Value::String(said) => Some(said),
                            _ => None,
                        });
                        said.for_each(&mut *visit);
                    }
                    (false, "examples", Value::Array(_)) => {}
                    (false, key, _) if FREE.contains(&key) => {}
                    (false, key, Value::Object(_)) => below(value, NAMED.contains(&key), visit),
                    _ => below(value, false, visit),
                }
            }
        }
        _ => {}
    }
}

/// The part that a reference leads to or into, and the rest of the way.
pub(super) fn part(reference: &str) -> Option<(Part, &str)> {
    let rest = reference.strip_prefix("#/components/")?;
    let (kind, rest) = rest.split_once('/')?;
    let (name, more) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    Some(((kind.to_owned(), name.to_owned()), more))
}

/// The parts that a value refers to itself.
pub(super) fn parts_of(value: &Value) -> BTreeSet<Part> {
    let mut found = BTreeSet::new();
    each(&mut value.clone(), &mut |reference| found.extend(part(reference).map(|(part, _)| part)));
    found
}

/// Writes other names into the references. The error names one that leads nowhere in the components.
pub(super) fn rename(value: &mut Value, names: &BTreeMap<Part, String>) -> Result<(), String> {
    let mut lost = None;
    each(value, &mut |reference| {
        // A mapping may say the bare name of a schema.
        let bare = ("schemas".to_owned(), reference.clone());
        match part(reference) {
            Some((part, more)) => match names.get(&part) {
                Some(name) => *reference = format!("#/components/{}/{name}{more}", part.0),
                None => lost = Some(reference.clone()),
            },
            None if names.contains_key(&bare) => {
                *reference = format!("#/components/schemas/{}", names.get(&bare).unwrap_or(reference));
            }
            None => lost = Some(reference.clone()),
        }
    });
    lost.map_or(Ok(()), |reference| Err(format!("`{reference}` leads to nothing under `components`")))
}

/// Where a value leads that is nothing but a reference, or the value itself.
pub(super) fn follow<'d>(document: &'d Value, value: &'d Value) -> Option<&'d Value> {
    let mut at = value;
    for _ in 0..DEEPEST {
        let Some(reference) = at.get("$ref").and_then(Value::as_str) else { return Some(at) };
        at = document.pointer(&crate::canonical::unescape(reference.strip_prefix('#')?)?)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_a_reference_is_renamed() {
        let mut value = json!({
            "schema": { "$ref": "#/components/schemas/A" },
            "properties": { "$ref": { "$ref": "#/components/schemas/A/properties/x" }, "default": { "$ref": "#/components/schemas/A" } },
            "example": { "$ref": "#/components/schemas/A" },
            "discriminator": { "mapping": { "a": "A", "b": "#/components/schemas/A" } },
        });
        let names = [(("schemas".to_owned(), "A".to_owned()), "B".to_owned())].into();
        rename(&mut value, &names).unwrap();
        assert_eq!(
            value,
            json!({
                "schema": { "$ref": "#/components/schemas/B" },
                "properties": { "$ref": { "$ref": "#/components/schemas/B/properties/x" }, "default": { "$ref": "#/components/schemas/B" } },
                "example": { "$ref": "#/components/schemas/A" },
                "discriminator": { "mapping": { "a": "#/components/schemas/B", "b": "#/components/schemas/B" } },
            })
        );
        let mut lost = json!([{ "$ref": "#/components/schemas/C" }]);
        assert!(rename(&mut lost, &names).unwrap_err().contains("schemas/C"));
    }
}
