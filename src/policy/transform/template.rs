//! A template (minijinja) that makes a body of a request or an answer; what it may cost is bounded.

use std::collections::BTreeMap;

use http::HeaderMap;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value, context};
use serde::de::IgnoredAny;

use super::Facts;

/// Instructions of one run and the memory that they take, at most; see `Environment::set_fuel`.
const FUEL: u64 = 200_000;
/// How deeply parts of it may call each other.
const DEEPEST: usize = 64;
/// Bytes of a template, at most.
const LONGEST: usize = 256 << 10;
/// The only name in its environment.
const NAME: &str = "template";

/// A template, compiled.
pub(super) struct Template {
    env: Environment<'static>,
    /// What it makes is JSON.
    json: bool,
}

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Template")
    }
}

impl Template {
    /// `kind` is the media type of what it makes.
    pub(super) fn compile(text: &str, kind: &str) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("a template has at most {} KiB", LONGEST >> 10));
        }
        let json = super::is_json(kind);
        let escape = if json {
            AutoEscape::Json
        } else if kind.contains("html") || kind.contains("xml") {
            AutoEscape::Html
        } else {
            AutoEscape::None
        };
        let mut env = Environment::new();
        env.set_auto_escape_callback(move |_| escape.clone());
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        env.set_recursion_limit(DEEPEST);
        env.set_fuel(Some(FUEL));
        env.add_template_owned(NAME, text.to_owned()).map_err(|why| format!("is not a template: {}", told(&why)))?;
        Ok(Self { env, json })
    }

    /// The error is a sentence without what was sent.
    pub(super) fn render(&self, body: &serde_json::Value, facts: &Facts<'_>) -> Result<String, String> {
        let template = self.env.get_template(NAME).map_err(|why| told(&why))?;
        let made = template.render(variables(body, facts)).map_err(|why| told(&why))?;
        if self.json && serde_json::from_str::<IgnoredAny>(&made).is_err() {
            return Err("what the template makes is not JSON".to_owned());
        }
        Ok(made)
    }
}

/// What a template may look at.
fn variables(body: &serde_json::Value, facts: &Facts<'_>) -> Value {
    let request = facts.request;
    let pairs = request.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let decoded = |text: &str| crate::canonical::unescape(&text.replace('+', " ")).unwrap_or_else(|| text.to_owned());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut query = BTreeMap::new();
    for (name, value) in pairs {
        query.entry(decoded(name)).or_insert_with(|| decoded(value));
    }
    let params: BTreeMap<String, String> =
        facts.params.iter().map(|(name, value)| (name.clone(), (*value).to_owned())).collect();
    let identity = facts.identity;
    context! {
        body => Value::from(Serde(body)),
        request => context! {
            method => request.method().as_str(),
            path => request.path(),
            host => request.host(),
            client => request.client().to_string(),
            query => query,
            headers => fields(request.headers()),
            params => params,
        },
        claims => identity.and_then(|identity| identity.claims.as_deref()).map(|claims| Value::from(Serde(claims))),
        consumer => identity.and_then(|identity| identity.consumer.as_deref()),
        status => facts.status,
    }
}

/// The first value of each field that is text, but for what shows who the client is.
fn fields(headers: &HeaderMap) -> BTreeMap<String, String> {
    let secret = ["authorization", "cookie", "proxy-authorization"];
    let shown = headers.keys().map(http::HeaderName::as_str).filter(|name| !secret.contains(name));
    shown.filter_map(|name| Some((name.to_owned(), headers.get(name)?.to_str().ok()?.to_owned()))).collect()
}

/// What went wrong where, without a value.
fn told(why: &Error) -> String {
    let line = why.line().map(|line| format!(", line {line}")).unwrap_or_default();
    match why.kind() {
        ErrorKind::SyntaxError | ErrorKind::UnknownFilter | ErrorKind::UnknownTest | ErrorKind::UnknownFunction => {
            format!("{}{line}", why.detail().unwrap_or("a mistake in the template"))
        }
        ErrorKind::OutOfFuel => format!("the template takes too long{line}"),
        ErrorKind::UndefinedError => format!("the template asks for what is not there{line}"),
        kind => format!("the template fails ({kind}){line}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::json;

    use super::*;
    use crate::exchange::asked::Asked;

    fn made(text: &str, kind: &str, body: &serde_json::Value) -> Result<String, String> {
        let asked = Asked { query: Some("page=a%20b"), ..Asked::new().with("x-tenant", "acme").with("cookie", "s=1") };
        let params = [("id".to_owned(), "7")];
        let facts = Facts { request: &asked, identity: None, params: &params, route: "r", status: Some(200) };
        Template::compile(text, kind)?.render(body, &facts)
    }

    const JSON: &str = "application/json";

    #[test]
    fn it_sees_the_body_and_the_request() {
        let text = r#"{"n": {{ body.name }}, "i": [{% for item in body.items %}{{ item.id }}{% if not loop.last %},{% endif %}{% endfor %}],
            "q": {{ request.query.page }}, "t": {{ request.headers["x-tenant"] }}, "p": {{ request.params.id }}, "s": {{ status }}}"#;
        let body = json!({ "name": "a\"},{</script>", "items": [{ "id": 1 }, { "id": 2.5 }] });
        let value: serde_json::Value = serde_json::from_str(&made(text, JSON, &body).unwrap()).unwrap();
        let wanted = json!({ "n": "a\"},{</script>", "i": [1, 2.5], "q": "a b", "t": "acme", "p": "7", "s": 200 });
        assert_eq!(value, wanted);
        assert_eq!(made("{{ body.a }}", "text/plain", &json!({ "a": "<&\"" })).unwrap(), "<&\"");
        assert_eq!(made("<a>{{ body.a }}</a>", "application/xml", &json!({ "a": "<" })).unwrap(), "<a>&lt;</a>");
    }

    #[test]
    fn what_is_missing_is_said_and_what_shows_who_it_is_is_missing() {
        for text in ["{{ body.none }}", "{{ nothing }}", "{{ request.headers.cookie }}"] {
            assert_eq!(
                made(text, JSON, &json!({})).unwrap_err(),
                "the template asks for what is not there, line 1",
                "{text}"
            );
        }
        assert_eq!(made("{{ body.none | default(1) }}", JSON, &json!({})).unwrap(), "1");
        assert_eq!(
            made("{ {{ body.a }}", JSON, &json!({ "a": 1 })).unwrap_err(),
            "what the template makes is not JSON"
        );
        assert!(Template::compile("{% if %}", JSON).unwrap_err().starts_with("is not a template: "));
        assert!(Template::compile("{{ 1 | nope }}", JSON).is_ok(), "it is said when it runs");
    }

    #[test]
    fn what_would_never_end_ends() {
        let start = Instant::now();
        let many = "{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}";
        assert!(made(many, "text/plain", &json!({})).unwrap_err().starts_with("the template takes too long"));
        let deep = "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}";
        assert!(made(deep, "text/plain", &json!({})).is_err());
        let long = "{{ body.a * 1000000000 }}";
        assert!(made(long, "text/plain", &json!({ "a": "x".repeat(1000) })).is_err());
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
}
