//! A description of version 3.0 in the words of 3.1, where both have to stand in one.

use serde_json::{Value, json};

/// Rewrites what 3.1 says otherwise: `nullable`, and bounds that a flag makes exclusive.
pub(super) fn upgrade(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(upgrade),
        Value::Object(map) => {
            if map.get("nullable").is_some_and(Value::is_boolean) && map.remove("nullable") == Some(Value::Bool(true)) {
                match map.get_mut("type") {
                    Some(kind) if kind.is_string() => *kind = json!([kind.clone(), "null"]),
                    _ => {}
                }
                if let Some(Value::Array(words)) = map.get_mut("enum")
                    && !words.contains(&Value::Null)
                {
                    words.push(Value::Null);
                }
            }
            for (flag, bound) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")] {
                if let Some(Value::Bool(exclusive)) = map.get(flag).cloned() {
                    map.remove(flag);
                    if exclusive && let Some(bound) = map.remove(bound) {
                        map.insert(flag.to_owned(), bound);
                    }
                }
            }
            map.values_mut().for_each(upgrade);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_old_version_become_those_of_the_new_one() {
        let mut old = json!({ "a": [
            { "type": "string", "nullable": true, "enum": ["x"] },
            { "type": "integer", "minimum": 1, "exclusiveMinimum": true },
            { "type": "integer", "maximum": 9, "exclusiveMaximum": false, "nullable": false },
        ] });
        upgrade(&mut old);
        assert_eq!(
            old,
            json!({ "a": [
                { "type": ["string", "null"], "enum": ["x", null] },
                { "type": "integer", "exclusiveMinimum": 1 },
                { "type": "integer", "maximum": 9 },
            ] })
        );
    }
}
