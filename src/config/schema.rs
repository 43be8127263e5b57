//! The JSON schema of the document, made from the same types that read it.

use serde_json::{Value, json};

use super::Document;
use super::inherit::{Kind, LISTENERS, POOLS, ROUTES};
use super::reload::{HANDOVER, Reload};

/// The key of a key's schema that says whether a change is taken up in place.
const CLASS: &str = "x-reload";

/// The schema; editors complete and check with it.
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(Document).to_value();
    for kind in [LISTENERS, POOLS, ROUTES] {
        partial(&mut schema, kind);
    }
    reload_classes(&mut schema);
    schema
}

/// Of every key, when a change of it takes effect.
fn reload_classes(schema: &mut Value) {
    hot(schema);
    for keys in HANDOVER {
        if let Some(at) = pointer(schema, keys)
            && let Some(field) = schema.pointer_mut(&at).and_then(Value::as_object_mut)
        {
            field.insert(CLASS.to_owned(), json!(Reload::Handover));
        }
    }
}

fn hot(schema: &mut Value) {
    if let Some(fields) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for field in fields.values_mut().filter_map(Value::as_object_mut) {
            field.insert(CLASS.to_owned(), json!(Reload::Hot));
        }
    }
    match schema {
        Value::Object(fields) => fields.values_mut().for_each(hot),
        Value::Array(items) => items.iter_mut().for_each(hot),
        _ => {}
    }
}

/// Where the schema of a key stands.
fn pointer(schema: &Value, keys: &[&str]) -> Option<String> {
    let mut at = String::new();
    for key in keys {
        while let Some(reference) = schema.pointer(&at)?.get("$ref").and_then(Value::as_str) {
            at = reference.strip_prefix('#')?.to_owned();
        }
        at = format!("{at}/properties/{key}");
    }
    Some(at)
}

/// In `defaults`, nothing is required and what belongs to each object is not there.
fn partial(schema: &mut Value, kind: Kind) {
    let name = format!("{}Defaults", kind.one);
    let at = format!("/$defs/Defaults/properties/{}", kind.one);
    let Some(whole) = schema.pointer(&at).and_then(|field| definition(schema, field)) else { return };
    let mut part = whole.clone();
    if let Some(part) = part.as_object_mut() {
        part.remove("required");
        if let Some(properties) = part.get_mut("properties").and_then(Value::as_object_mut) {
            kind.own.iter().for_each(|own| drop(properties.remove(*own)));
        }
    }
    if let Some(field) = schema.pointer_mut(&at).and_then(Value::as_object_mut) {
        field.retain(|key, _| key == "description");
        field.insert("$ref".to_owned(), json!(format!("#/$defs/{name}")));
    }
    if let Some(definitions) = schema.pointer_mut("/$defs").and_then(Value::as_object_mut) {
        definitions.insert(name, part);
    }
}

/// The map that a field's schema leads to, behind references and choices.
fn definition<'a>(schema: &'a Value, field: &'a Value) -> Option<&'a Value> {
    if field.get("properties").is_some() {
        return Some(field);
    }
    if let Some(reference) = field.get("$ref").and_then(Value::as_str) {
        return definition(schema, schema.pointer(reference.strip_prefix('#')?)?);
    }
    field.get("anyOf")?.as_array()?.iter().find_map(|choice| definition(schema, choice))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn undescribed(at: &str, schema: &Value, found: &mut Vec<String>) {
        let Some(object) = schema.as_object() else { return };
        for (name, field) in object.get("properties").and_then(Value::as_object).into_iter().flatten() {
            if field.get("description").and_then(Value::as_str).is_none_or(str::is_empty) {
                found.push(format!("{at}.{name}"));
            }
        }
        for (key, value) in object {
            undescribed(&format!("{at}/{key}"), value, found);
            for (index, value) in value.as_array().into_iter().flatten().enumerate() {
                undescribed(&format!("{at}/{key}/{index}"), value, found);
            }
        }
    }

    #[test]
    fn every_key_is_described() {
        let schema = schema();
        let mut found = Vec::new();
        undescribed("", &schema, &mut found);
        assert_eq!(found, Vec::<String>::new());
        for key in ["listeners", "pools", "routes"] {
            assert!(schema["properties"][key].is_object(), "{key}");
        }
    }

    #[test]
    fn every_key_says_when_a_change_of_it_takes_effect() {
        let schema = schema();
        for keys in HANDOVER {
            let at = pointer(&schema, keys).unwrap();
            assert_eq!(schema.pointer(&at).unwrap()[CLASS], "handover", "{keys:?}");
        }
        let drain = pointer(&schema, &["runtime", "drain", "requests"]).unwrap();
        assert_eq!(schema.pointer(&drain).unwrap()[CLASS], "hot");
        assert_eq!(schema["properties"]["routes"][CLASS], "hot");
    }

    #[test]
    fn defaults_have_the_keys_of_the_thing_but_not_its_own() {
        let schema = schema();
        for (one, own, other) in
            [("listener", "bind", "timeout"), ("pool", "targets", "health"), ("route", "match", "timeout")]
        {
            let part = &schema["$defs"][format!("{one}Defaults")];
            assert!(part["properties"][own].is_null() && part["properties"]["like"].is_null(), "{one}");
            assert!(part["properties"][other].is_object(), "{one}");
            assert!(part["required"].is_null(), "{one}");
        }
    }

    #[test]
    fn objects_can_be_like_others() {
        let schema = schema();
        for section in ["listeners", "pools", "routes"] {
            let object = definition(&schema, &schema["properties"][section]["additionalProperties"]).unwrap();
            assert!(object["properties"]["like"]["description"].is_string(), "{section}");
        }
    }
}
