//! What a receiver is told of this gateway.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;

use crate::telemetry::spans::attribute;

/// Its name, version and host, and what the document says beside or instead.
pub(super) fn of(said: &BTreeMap<String, String>) -> Resource {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim_end().to_owned();
    let ours = [
        ("service.name", "yumen".to_owned()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("host.name", host),
    ];
    let mut all: BTreeMap<&str, Value> =
        ours.into_iter().map(|(name, value)| (name, Value::StringValue(value))).collect();
    all.insert("process.pid", Value::IntValue(std::process::id().into()));
    all.extend(said.iter().map(|(name, value)| (name.as_str(), Value::StringValue(value.clone()))));
    let attributes = all.into_iter().map(|(name, value)| attribute(name, value)).collect();
    Resource { attributes, ..Resource::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_adds_and_replaces() {
        let said = [("service.name", "edge"), ("deployment.environment.name", "test")];
        let resource = of(&said.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        let value = |name: &str| {
            let found = resource.attributes.iter().find(|attribute| attribute.key == name).unwrap();
            found.value.clone().unwrap().value.unwrap()
        };
        let text = |text: &str| Value::StringValue(text.to_owned());
        assert_eq!(value("service.name"), text("edge"));
        assert_eq!(value("deployment.environment.name"), text("test"));
        assert_eq!(value("service.version"), text(env!("CARGO_PKG_VERSION")));
        assert_ne!(value("host.name"), text(""));
    }
}
