//! One `OpenAPI` document of all routes: what clients see, nothing that they do not, and nothing that leads nowhere.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::Setup;
use crate::outside::python;

const ORDERS: &str = r##"
openapi: 3.0.3
info: { title: Orders, version: "1.4" }
servers: [{ url: /v1 }]
paths:
  /orders/{id}:
    parameters: [{ name: id, in: path, required: true, schema: { type: integer } }]
    get: { operationId: read, responses: { "200": { description: one, content: { application/json: { schema: { $ref: "#/components/schemas/Order" } } } } } }
    delete: { operationId: drop, responses: { "204": { $ref: "#/components/responses/Gone" } } }
  /internal/dump:
    get: { responses: { "200": { description: all, content: { application/json: { schema: { $ref: "#/components/schemas/Secret" } } } } } }
components:
  schemas:
    Order: { type: object, properties: { id: { type: integer }, note: { type: string, nullable: true }, item: { $ref: "#/components/schemas/Item" } } }
    Item: { type: object, properties: { default: { type: string } } }
    Secret: { type: string }
  responses: { Gone: { description: gone } }
"##;

const STOCK: &str = r##"
openapi: 3.1.0
info: { title: Stock, version: "2" }
security: [{ token: [] }]
paths:
  /stock/{name}:
    get:
      operationId: read
      parameters: [{ name: name, in: path, required: true, schema: { type: string } }]
      responses: { "200": { description: how many, content: { application/json: { schema: { $ref: "#/components/schemas/Order" } } } } }
  /orders/{id}:
    get:
      parameters: [{ name: id, in: path, required: true, schema: { type: string } }]
      responses: { "200": { description: another one } }
components:
  securitySchemes: { token: { type: http, scheme: bearer } }
  schemas:
    Order: { type: array, items: { $ref: "#/components/schemas/Item" } }
    Item: { type: object, properties: { default: { type: string } } }
"##;

fn setup() -> Setup {
    let hash = "a: { hash: [] }";
    Setup::new().file("orders.yaml", ORDERS).file("stock.yaml", STOCK).file("keys.yaml", hash)
}

const DOCUMENT: &str = "
pools: { app: ['127.0.0.1:1'] }
auth:
  partners: { key: { in: [header.x-api-key], file: ./keys.yaml } }
  staff: { jwt: { issuer: 'https://id.example.com/', audience: a, secret: 'file:$DIR/secret' } }
  either: { any: [partners, staff] }
routes:
  orders:
    match: GET api.example.com/v1/orders/*
    auth: either
    validate: { openapi: ./orders.yaml }
    rewrite: { strip: /v1 }
    to: app
  stock:
    match: ['GET *.example.org/warehouse/*', 'GET api.example.com/warehouse/orders/:id']
    validate: { openapi: { file: ./stock.yaml, base: /warehouse } }
    to: app
  plain: { match: /plain, respond: 204 }
";

/// Every reference leads somewhere, every scheme and tag is there, and what has to be unique is.
fn is_sound(document: &Value) {
    fn references<'d>(value: &'d Value, found: &mut Vec<&'d str>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str));
                map.values().for_each(|value| references(value, found));
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    references(document, &mut found);
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap_or_else(|| panic!("{reference}"));
        assert!(document.pointer(pointer).is_some(), "{reference}:\n{document:#}");
    }
    for key in ["openapi", "info", "paths"] {
        assert!(document.get(key).is_some(), "{key}");
    }
    assert!(document["info"]["title"].is_string() && document["info"]["version"].is_string());
    let tags: Vec<_> = document["tags"].as_array().unwrap().iter().map(|tag| &tag["name"]).collect();
    let mut ids = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        assert!(path.starts_with('/'), "{path}");
        for (method, operation) in item.as_object().unwrap() {
            assert!(["get", "put", "post", "delete", "patch"].contains(&method.as_str()), "{path}: {method}");
            assert!(operation["responses"].as_object().is_some_and(|all| !all.is_empty()), "{path}");
            assert!(operation["tags"].as_array().unwrap().iter().all(|tag| tags.contains(&tag)), "{path}");
            let named: Vec<_> =
                operation["parameters"].as_array().into_iter().flatten().map(|one| &one["name"]).collect();
            for name in path.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()) {
                assert!(named.contains(&&json!(name)), "{path} does not describe {name}");
            }
            let ways = operation["security"].as_array().into_iter().flatten();
            for scheme in ways.flat_map(|way| way.as_object().unwrap().keys()) {
                assert!(document["components"]["securitySchemes"].get(scheme).is_some(), "{path}: {scheme}");
            }
            ids.extend(operation["operationId"].as_str());
        }
    }
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "operation ids are unique: {ids:?}");
    others_agree(document);
}

/// It is what the schema of its version of `OpenAPI` allows, as a tool that others use finds.
fn others_agree(document: &Value) {
    const CHECK: &str = "import json, sys; from openapi_spec_validator import validate; validate(json.load(sys.stdin))";
    let Some(python) = python("openapi_spec_validator") else { return };
    let mut command = Command::new(python);
    command.args(["-c", CHECK]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut tool = command.spawn().unwrap();
    tool.stdin.take().unwrap().write_all(document.to_string().as_bytes()).unwrap();
    let ended = tool.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}\n{document:#}", String::from_utf8_lossy(&ended.stderr));
}

#[test]
fn one_document_says_what_clients_see_of_all_routes() {
    let setup = setup().file("secret", "a-secret-that-is-long-enough-for-a-key");
    let ended = setup.run(DOCUMENT, "openapi", &[]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let document: Value = serde_json::from_str(&ended.out).unwrap();
    is_sound(&document);
    assert_eq!(document["openapi"], "3.1.0", "one of them needs it");
    assert_eq!(document["info"], json!({ "title": "Orders, Stock", "version": "1.4, 2" }));
    let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    assert_eq!(paths, ["/v1/orders/{id}", "/warehouse/orders/{id}", "/warehouse/stock/{name}"]);
    let order = &document["paths"]["/v1/orders/{id}"];
    assert!(order.get("delete").is_none(), "the route takes GET only");
    let read = &order["get"];
    assert_eq!((&read["operationId"], &read["tags"]), (&json!("read"), &json!(["orders"])));
    assert_eq!(read["servers"], json!([{ "url": "http://api.example.com" }]));
    assert_eq!(read["security"], json!([{ "partners": [] }, { "staff": [] }]));
    let credentials = &document["components"]["securitySchemes"];
    assert_eq!(credentials["partners"], json!({ "type": "apiKey", "in": "header", "name": "x-api-key" }));
    assert_eq!(credentials["staff"], json!({ "type": "http", "scheme": "bearer", "bearerFormat": "JWT" }));
    let stock = &document["paths"]["/warehouse/stock/{name}"]["get"];
    assert_eq!((&stock["operationId"], &stock["security"]), (&json!("stock.read"), &json!([{ "token": [] }])));
    let anywhere = json!([{ "url": "http://{name}.example.org", "variables": { "name": { "default": "www" } } }]);
    assert_eq!(stock["servers"], anywhere);
    // Two things that are both called Order; one Item, which both mean.
    let schemas = &document["components"]["schemas"];
    let names: Vec<&String> = schemas.as_object().unwrap().keys().collect();
    assert_eq!(names, ["Item", "Order", "stock_Order"]);
    assert_eq!(schemas["stock_Order"]["items"]["$ref"], "#/components/schemas/Item");
    assert_eq!(schemas["Order"]["properties"]["note"]["type"], json!(["string", "null"]), "as 3.1 says it");
    let said = &stock["responses"]["200"]["content"]["application/json"]["schema"]["$ref"];
    assert_eq!(said, "#/components/schemas/stock_Order");
    assert!(!ended.out.contains("Secret") && !ended.out.contains("internal"), "what nobody reaches is not told");
}

#[test]
fn what_two_routes_say_of_the_same_path_is_told_and_the_first_holds() {
    let document = "
pools: { app: ['127.0.0.1:1'] }
routes:
  a: { match: a.example.com/*, validate: { openapi: { file: ./orders.yaml, base: '' } }, to: app }
  b: { match: b.example.com/*, validate: { openapi: ./stock.yaml }, to: app }
";
    let ended = setup().run(document, "openapi", &[]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(ended.err.trim(), "routes.b: GET /orders/{id} is left out: route a has it already");
    let document: Value = serde_json::from_str(&ended.out).unwrap();
    is_sound(&document);
    assert_eq!(document["paths"]["/orders/{id}"]["get"]["tags"], json!(["a"]));
    assert_eq!(document["paths"]["/stock/{name}"]["get"]["servers"], json!([{ "url": "http://b.example.com" }]));
}

#[test]
fn the_admin_door_serves_it_and_a_reload_changes_it() {
    let mut gateway = setup().start(
        "pools: { app: ['127.0.0.1:1'] }\nroutes: { a: { match: /v1/*, validate: { openapi: ./orders.yaml }, to: app } }\n",
    );
    let served = gateway.admin("/openapi.json");
    assert_eq!((served.status, served.field("content-type")), (200, Some("application/json")));
    let document = served.json();
    is_sound(&document);
    assert_eq!((&document["openapi"], &document["servers"]), (&json!("3.0.3"), &json!([{ "url": "/" }])));
    assert_eq!(document["paths"].as_object().unwrap().len(), 2);
    assert_eq!(document["components"]["schemas"]["Order"]["properties"]["note"]["nullable"], true);
    gateway.reload("routes: { a: { match: /v1/*, respond: 204 } }\n");
    let none = gateway.admin("/openapi.json").json();
    assert_eq!((&none["paths"], none.get("components")), (&json!({}), None));
    let wrong =
        setup().run("routes: { a: { match: /, validate: { openapi: ./none.yaml }, to: app } }\n", "openapi", &[]);
    assert_eq!(wrong.code, 78, "{}{}", wrong.out, wrong.err);
}
