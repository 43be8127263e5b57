//! Schemas of `OpenAPI` in the words of JSON Schema.
//!
//! Version 3.0 has `nullable`, which is a type of its own in JSON Schema. In both versions a property that is `readOnly`
//! is never required of a request.

use serde_json::{Map, Value, json};

/// Keys whose value is a schema.
const SCHEMA: [&str; 12] = [
    "schema",
    "items",
    "additionalProperties",
    "not",
    "if",
    "then",
    "else",
    "contains",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "additionalItems",
];
/// Keys whose value is a list of schemas.
const SCHEMAS: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];
/// Keys whose value is a map with schemas under names.
const NAMED: [&str; 6] = ["properties", "patternProperties", "schemas", "$defs", "definitions", "dependentSchemas"];
/// Keys whose value is data.
const DATA: [&str; 6] = ["example", "examples", "default", "enum", "const", "required"];

/// Translates every schema of a document.
pub(super) fn translate(document: &mut Value, nullable: bool) {
    match document {
        Value::Array(items) => items.iter_mut().for_each(|item| translate(item, nullable)),
        Value::Object(map) => {
            for (name, value) in map.iter_mut() {
                match name.as_str() {
                    "schema" => schema(value, nullable),
                    "schemas" => named(value, nullable),
                    name if DATA.contains(&name) => {}
                    _ => translate(value, nullable),
                }
            }
        }
        _ => {}
    }
}

fn named(schemas: &mut Value, nullable: bool) {
    for value in schemas.as_object_mut().into_iter().flat_map(Map::values_mut) {
        schema(value, nullable);
    }
}

fn schema(value: &mut Value, nullable: bool) {
    let Value::Object(map) = value else { return };
    for (name, inner) in map.iter_mut() {
        match name.as_str() {
            name if NAMED.contains(&name) => named(inner, nullable),
            name if SCHEMAS.contains(&name) => {
                inner.as_array_mut().into_iter().flatten().for_each(|one| schema(one, nullable));
            }
            name if SCHEMA.contains(&name) => schema(inner, nullable),
            _ => {}
        }
    }
    leave_out_read_only(map);
    if nullable && map.remove("nullable") == Some(Value::Bool(true)) {
        allow_null(map);
    }
}

fn leave_out_read_only(map: &mut Map<String, Value>) {
    let is_read_only = |name: &Value| {
        let property = map.get("properties").zip(name.as_str()).and_then(|(properties, name)| properties.get(name));
        property.and_then(|property| property.get("readOnly")).is_some_and(|word| *word == Value::Bool(true))
    };
    let Some(Value::Array(required)) = map.get("required") else { return };
    let kept: Vec<_> = required.iter().filter(|name| !is_read_only(name)).cloned().collect();
    if kept.is_empty() {
        // Draft 4 wants at least one.
        map.remove("required");
    } else {
        map.insert("required".to_owned(), kept.into());
    }
}

fn allow_null(map: &mut Map<String, Value>) {
    if let Some(kind @ Value::String(_)) = map.get("type").cloned() {
        map.insert("type".to_owned(), json!([kind, "null"]));
    }
    if let Some(Value::Array(values)) = map.get_mut("enum")
        && !values.contains(&Value::Null)
    {
        values.push(Value::Null);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(mut value: Value, nullable: bool) -> Value {
        translate(&mut value, nullable);
        value
    }

    #[test]
    fn null_is_a_type_and_what_is_read_only_is_not_required() {
        let order = json!({ "components": { "schemas": { "Order": {
            "type": "object", "required": ["id", "note"],
            "properties": {
                "id": { "type": "integer", "readOnly": true },
                "note": { "type": "string", "nullable": true, "enum": ["a"] },
                "nullable": { "type": "boolean" },
                "default": { "items": { "type": "string", "nullable": true } },
            },
            "example": { "type": "string", "nullable": true },
        } } } });
        let said = translated(order.clone(), true);
        let schema = &said["components"]["schemas"]["Order"];
        assert_eq!(schema["required"], json!(["note"]));
        assert_eq!(schema["properties"]["note"], json!({ "type": ["string", "null"], "enum": ["a", null] }));
        assert_eq!(schema["properties"]["nullable"], json!({ "type": "boolean" }));
        assert_eq!(schema["properties"]["default"]["items"]["type"], json!(["string", "null"]));
        assert_eq!(schema["example"]["nullable"], true);
        assert_eq!(translated(order, false)["components"]["schemas"]["Order"]["properties"]["note"]["type"], "string");
        let only = json!({ "schema": { "required": ["id"], "properties": { "id": { "readOnly": true } } } });
        assert_eq!(translated(only, true)["schema"].get("required"), None);
    }
}
