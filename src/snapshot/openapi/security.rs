//! What a route's `auth` asks of clients, in the words of `OpenAPI`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::config::Document;
use crate::policy::auth::source::Source;
use crate::policy::auth::{Config, Use};
use crate::policy::guard::Mode;
use crate::units::Name;

/// Ways to come in, each a list of schemes that are all asked for.
type Ways = Vec<Vec<String>>;

/// The schemes that routes ask for, by name.
pub(super) type Schemes = BTreeMap<String, Value>;

/// The `security` of a route, its schemes put to the others; nothing where that is not clear, or nobody is asked.
pub(super) fn of(route: &Name, auth: Option<&Use>, document: &Document, schemes: &mut Schemes) -> Option<Value> {
    let ways = match auth.filter(|auth| !auth.is_none())? {
        Use::Named(name) => named(name, document, schemes)?,
        Use::Here(config) => ways(route.as_str(), config, document, schemes)?,
    };
    let way = |names: &Vec<String>| {
        let names = names.iter().map(|name| (name.clone(), json!([])));
        Value::Object(names.collect::<Map<_, _>>())
    };
    Some(ways.iter().map(way).collect())
}

fn named(name: &Name, document: &Document, schemes: &mut Schemes) -> Option<Ways> {
    ways(name.as_str(), document.auth.get(name)?, document, schemes)
}

fn ways(name: &str, config: &Config, document: &Document, schemes: &mut Schemes) -> Option<Ways> {
    if config.mode == Mode::Shadow {
        return None;
    }
    if let Some(any) = &config.any {
        let each = any.iter().map(|name| named(name, document, schemes));
        return each.collect::<Option<Vec<_>>>().map(|all| all.concat());
    }
    if let Some(all) = &config.all {
        let mut together: Ways = vec![Vec::new()];
        for name in all {
            let more = named(name, document, schemes)?;
            let join = |before: &Vec<String>| more.iter().map(|way| [&before[..], way].concat()).collect::<Vec<_>>();
            together = together.iter().flat_map(join).collect();
        }
        return Some(together);
    }
    let places = |sources: &[Source], token: Value| sources.iter().map(|one| place(one, &token)).collect::<Vec<_>>();
    let found = match config {
        Config { jwt: Some(jwt), .. } => {
            places(&jwt.sources, json!({ "type": "http", "scheme": "bearer", "bearerFormat": "JWT" }))
        }
        Config { introspection: Some(asked), .. } => {
            places(&asked.sources, json!({ "type": "http", "scheme": "bearer" }))
        }
        Config { key: Some(key), .. } => places(&key.sources, json!({ "type": "http", "scheme": "apikey" })),
        Config { basic: Some(_), .. } => vec![json!({ "type": "http", "scheme": "basic" })],
        Config { certificate: Some(_), .. } => vec![json!({ "type": "mutualTLS" })],
        _ => return None,
    };
    let mut names = Vec::new();
    for (number, scheme) in found.into_iter().enumerate() {
        let name = if number == 0 { name.to_owned() } else { format!("{name}_{}", number + 1) };
        schemes.insert(name.clone(), scheme);
        names.push(vec![name]);
    }
    Some(names)
}

/// Where a credential lies; in its usual place it is `token`.
fn place(source: &Source, token: &Value) -> Value {
    let key = |place: &str, name: &str| json!({ "type": "apiKey", "in": place, "name": name });
    match source {
        Source::Header(name) if *name == http::header::AUTHORIZATION => token.clone(),
        Source::Header(name) => key("header", name.as_str()),
        Source::Cookie(name) => key("cookie", name),
        Source::Query(name) => key("query", name),
    }
}
