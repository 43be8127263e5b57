//! Names of files in the document: what does not begin with `/` lies beside the file that says so.

use std::path::Path;

use super::node::{Node, Value};

/// Where the document names files; `*` is any name or element.
const FILES: &[&[&str]] = &[
    &["listeners", "*", "tls", "certs", "*", "cert"],
    &["listeners", "*", "tls", "certs", "*", "key"],
    &["listeners", "*", "tls", "client_ca", "file"],
    &["pools", "*", "discover", "ca"],
    &["pools", "*", "tls", "ca"],
    &["pools", "*", "tls", "cert"],
    &["pools", "*", "tls", "key"],
    &["defaults", "listener", "tls", "certs", "*", "cert"],
    &["defaults", "listener", "tls", "certs", "*", "key"],
    &["defaults", "listener", "tls", "client_ca", "file"],
    &["defaults", "pool", "discover", "ca"],
    &["defaults", "pool", "tls", "ca"],
    &["defaults", "pool", "tls", "cert"],
    &["defaults", "pool", "tls", "key"],
    &["routes", "*", "validate", "body", "schema"],
    &["defaults", "route", "validate", "body", "schema"],
    &["routes", "*", "validate", "openapi"],
    &["routes", "*", "validate", "openapi", "file"],
    &["defaults", "route", "validate", "openapi"],
    &["defaults", "route", "validate", "openapi", "file"],
    &["routes", "*", "graphql", "operations"],
    &["defaults", "route", "graphql", "operations"],
    &["routes", "*", "transform", "*", "template"],
    &["defaults", "route", "transform", "*", "template"],
    &["routes", "*", "transcode", "proto", "*"],
    &["routes", "*", "transcode", "import", "*"],
    &["routes", "*", "transcode", "descriptors"],
    &["defaults", "route", "transcode", "proto", "*"],
    &["defaults", "route", "transcode", "import", "*"],
    &["defaults", "route", "transcode", "descriptors"],
    &["stores", "*", "tls", "ca"],
    &["stores", "*", "tls", "cert"],
    &["stores", "*", "tls", "key"],
    &["observe", "traces", "ca"],
    &["errors", "messages"],
    &["runtime", "state"],
];

/// Where it names them as `file:NAME`.
const REFERENCES: &[&[&str]] = &[
    &["pools", "*", "targets"],
    &["routes", "*", "ip", "allow"],
    &["routes", "*", "ip", "deny"],
    &["defaults", "route", "ip", "allow"],
    &["defaults", "route", "ip", "deny"],
];

/// Where a scheme of `auth` may stand.
const SCHEMES: [&[&str]; 3] = [&["auth", "*"], &["routes", "*", "auth"], &["defaults", "route", "auth"]];

/// Where it names files.
const FILES_OF_SCHEMES: &[&[&str]] = &[
    &["jwt", "key"],
    &["jwt", "jwks"],
    &["jwt", "jwks", "file"],
    &["jwt", "jwks", "ca"],
    &["key", "file"],
    &["basic", "file"],
    &["ext", "ca"],
    &["introspection", "ca"],
];

/// Puts `directory` before every relative name of a file.
pub(super) fn resolve(root: &mut Node, directory: &Path) {
    let change = |node: &mut Node| beside(node, directory);
    for steps in FILES {
        each(root, steps, &change);
    }
    for steps in REFERENCES {
        each(root, steps, &|node| beside_reference(node, directory));
    }
    for scheme in SCHEMES {
        each(root, scheme, &|node| FILES_OF_SCHEMES.iter().for_each(|steps| each(node, steps, &change)));
    }
}

fn beside(node: &mut Node, directory: &Path) {
    let name = match &mut node.value {
        Value::Text(name) if !name.starts_with('/') && !name.contains("://") && **name != *"discover" => name,
        _ => return,
    };
    let plain = name.strip_prefix("./").unwrap_or(name);
    *name = directory.join(plain).to_string_lossy().into();
}

/// The same for `file:NAME`, where a text without that mark is no file.
fn beside_reference(node: &mut Node, directory: &Path) {
    let Value::Text(text) = &mut node.value else { return };
    let Some(name) = text.strip_prefix("file:").filter(|name| !name.is_empty() && !name.starts_with('/')) else {
        return;
    };
    let plain = name.strip_prefix("./").unwrap_or(name);
    *text = format!("file:{}", directory.join(plain).display()).into();
}

fn each(node: &mut Node, steps: &[&str], change: &dyn Fn(&mut Node)) {
    let Some((step, rest)) = steps.split_first() else { return change(node) };
    match &mut node.value {
        Value::Map(map) if *step == "*" => map.iter_mut().for_each(|entry| each(&mut entry.node, rest, change)),
        Value::List(items) if *step == "*" => items.iter_mut().for_each(|item| each(item, rest, change)),
        Value::Map(map) => {
            if let Some(entry) = map.get_mut(step) {
                each(&mut entry.node, rest, change);
            }
        }
        _ => {}
    }
}
