//! Calls as the document says them, and the requests that become of them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::call::Unmade;
use super::known::Known;
use super::*;
use crate::exchange::Identity;
use crate::exchange::asked::Asked;
use crate::pool::{Observer, Shelves, Tools};

fn compile(yaml: &str) -> Result<Gather, Vec<String>> {
    let mut problems = Problems::default();
    let offers = [Offer { names: vec!["id".into()], rest: false, literal: None }];
    let (shelves, observer) = (Shelves::default(), Arc::new(()) as Arc<dyn Observer>);
    let mut find = |name: &Name, at: &Path, problems: &mut Problems| {
        let tools = Tools { shelves: &shelves, observer: &observer, listeners: &[], counted: None };
        let config = serde_yaml::from_str("[10.0.0.1:80]").unwrap();
        Pool::compile(name, &config, at, &tools, problems)
    };
    let config: Config = serde_yaml::from_str(yaml).map_err(|why| vec![why.to_string()])?;
    let around = Around { offers: &offers, has_auth: true, counted: None };
    let made = Gather::compile(&config, around, &mut find, &Path::of(["gather"]), &mut problems);
    made.ok_or_else(|| problems.iter().map(|one| format!("{}: {}", one.at, one.sentence)).collect())
}

/// The target of the call of this path, for a request that the test knows.
fn target(path: &str, request: &Asked, claims: &Value, result: Option<Value>) -> Result<String, Unmade> {
    let yaml = format!("{{ one: {{ pool: a, path: '{path}' }}, r: {{ pool: a, path: /r }} }}");
    let gather = compile(&yaml).unwrap();
    let claims: Option<Arc<Map<String, Value>>> = claims.as_object().cloned().map(Arc::new);
    let identity = Identity { claims, ..Identity::default() };
    let result = result.map(|result| result.to_string().into());
    let known = Known { request, identity: &identity, body: None, results: &[None, result] };
    gather.calls[0].make(&known).map(|(head, _)| head.uri.to_string())
}

#[test]
fn settings_read_and_print_back() {
    let yaml = "{ a: { pool: a, path: /a, on_error: null }, b: { pool: a, path: /b, errors: [500..599] }, as: merge, max: 1MiB }";
    let config: Config = serde_yaml::from_str(yaml).unwrap();
    assert_eq!(serde_yaml::from_str::<Config>(&serde_yaml::to_string(&config).unwrap()).unwrap(), config);
    let names: BTreeMap<_, _> = config.calls.iter().map(|(name, call)| (name.as_str(), call.on_error)).collect();
    assert_eq!(names, [("a", call::OnError::Null), ("b", call::OnError::Fail)].into());
    assert!(serde_yaml::from_str::<Config>("{ a: { pool: a, path: /a, pth: /b } }").is_err());
    assert!(serde_yaml::from_str::<Config>("{ as: marge }").is_err());
}

#[test]
fn a_value_stays_where_it_stands() {
    let asked = Asked { query: Some("q=a%26b&two=1&two=2&empty="), ..Asked::new() };
    let claims =
        json!({ "sub": "auth0|x y", "deep": { "n": 7, "list": ["z"] }, "dots": "..", "slash": "a/b", "none": null });
    let result = Some(json!({ "id": "r&1", "many": [1] }));
    let told = |path: &str| target(path, &asked, &claims, result.clone());
    for (path, is) in [
        ("/u/$jwt.sub", "/u/auth0%7Cx%20y"),
        ("/u/$jwt.deep.n/$jwt.deep.list.0?a=$query.q", "/u/7/z?a=a%26b"),
        ("/p/$path.id?none=$query.none&two=$query.two&e=$query.empty", "/p/7?e="),
        ("/r?x=$r.id&y=$r.none&z=$r.many", "/r?x=r%261"),
        ("/a?x=1", "/a?x=1"),
    ] {
        assert_eq!(told(path).as_deref(), Ok(is), "{path}");
    }
    for path in ["/u/$jwt.dots", "/u/$jwt.slash/x", "/u/$query.empty", "/u/.$query.empty"] {
        assert_eq!(told(path), Err(Unmade::Unfit), "{path}");
    }
    for path in ["/u/$jwt.none", "/u/$jwt.deep", "/u/$query.two", "/u/$r.none"] {
        assert!(matches!(told(path), Err(Unmade::Missing(_))), "{path}");
    }
}

#[test]
fn calls_know_what_they_need() {
    let gather = compile(
        "{ a: { pool: a, path: '/$c.x', headers: { x-b: $b.y } }, b: { pool: b, path: /b }, c: { pool: a, method: POST, path: /c, body: [{ n: $b }] } }",
    )
    .unwrap();
    let needs: Vec<&[usize]> = gather.calls().iter().map(Call::needs).collect();
    assert_eq!(needs, [&[2, 1][..], &[], &[1]]);
    assert_eq!((gather.pools().len(), gather.wants_body()), (3, false), "each compiles to a pool of its own here");
    let circle =
        compile("{ a: { pool: a, path: '/$b.x' }, b: { pool: a, path: '/$c.x' }, c: { pool: a, path: '/$a.x' } }");
    assert_eq!(circle.unwrap_err(), ["gather.a: `a` needs `b` needs `c` needs `a`: each would wait for the other"]);
    let own = compile("{ a: { pool: a, path: '/$a.x' } }");
    assert_eq!(own.unwrap_err(), ["gather.a: `a` needs `a`: each would wait for the other"]);
}
