use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::exchange::ClientCertificate;
use crate::exchange::asked::Asked;

fn ask() -> Asked {
    let certificate = ClientCertificate {
        subject: "CN=orders-1, O=Example".into(),
        fingerprint: "ab12".into(),
        ..Default::default()
    };
    Asked {
        path: "/tenants/acme%20inc",
        query: Some("unit=b+c&twice=1&twice=2"),
        params: &[("tenant", "acme%20inc"), ("number", "7")],
        certificate: Some(certificate),
        ..Asked::from_client("192.0.2.1").with("x-tenant", "acme inc")
    }
}

fn someone() -> Identity {
    let map = |value: Value| Some(Arc::new(value.as_object().unwrap().clone()));
    Identity {
        consumer: Some("shop".into()),
        attributes: map(json!({ "plan": "gold", "seats": 12 })),
        claims: map(json!({
            "sub": "u1", "tenant": "acme inc", "account": 7, "level": 3, "active": true,
            "scope": "orders:read orders:list", "scp": ["files"], "roles": ["admin", "ops"],
            "groups": ["a", "b"], "realm": { "access": { "roles": ["x"] } }, "https://e.com/plan": "gold",
        })),
        ..Identity::default()
    }
}

fn require(yaml: &str) -> Result<Require, String> {
    let mut problems = Problems::default();
    let place = |_: &Path| "y:1:1".to_owned();
    let auth = std::collections::BTreeMap::new();
    let tools = Tools::alone(&place, &auth);
    let config: Config = serde_yaml::from_str(yaml).map_err(|e| e.to_string())?;
    let again = serde_yaml::to_string(&config).unwrap();
    assert_eq!(serde_yaml::from_str::<Config>(&again).unwrap(), config, "{again}");
    let made = Require::compile(&config, &Path::of(["require"]), &tools, &mut problems);
    made.ok_or_else(|| problems.iter().map(|p| format!("{}: {}", p.at, p.sentence)).collect::<Vec<_>>().join("; "))
}

fn verdict(yaml: &str, request: &Asked, identity: &Identity) -> String {
    let require = require(yaml).unwrap_or_else(|why| panic!("{yaml}: {why}"));
    match require.check(request, identity) {
        Ok(()) => "in".to_owned(),
        Err(refusal) => {
            assert_eq!(refusal.fault, Fault::RequireRefused);
            refusal.why.into()
        }
    }
}

#[test]
fn what_holds_lets_in() {
    for yaml in [
        "{ scope: orders:read }",
        "{ scope: files }",
        "{ scope: [other, orders:list], role: ops }",
        "{ claim.tenant: $path.tenant }",
        "{ claim.tenant: $header.x-tenant }",
        "{ claim.account: $path.number }",
        "{ claim.account: [1, 7.0] }",
        "{ claim.active: true, claim.groups: b, claim.realm.access.roles: x, claim.https://e.com/plan: gold }",
        "{ claim.level: { min: 3 }, consumer.seats: { min: 10, max: 12 } }",
        "{ claim.sub: { regex: 'u[0-9]' } }",
        "{ consumer: shop, consumer.plan: [silver, gold] }",
        "{ certificate.subject: { regex: 'CN=orders-.*' }, certificate.fingerprint: ab12 }",
        "{ any: [{ role: nobody }, { role: ops, scope: files }] }",
        "{ any: [{ claim.tenant: $path.missing }, { role: ops }] }",
        "{ all: [{ role: ops }, { role: admin }] }",
        "{ not: { role: banned } }",
        "{ not: { claim.banned: true } }",
        "'jwt.level > 2 && jwt.roles.exists(r, r == \"ops\") && request.method in [\"GET\", \"HEAD\"]'",
        "'has(jwt.sub) && !has(jwt.plan) && consumer.plan == \"gold\" && consumer.name == \"shop\"'",
        "{ role: ops, expression: 'request.path.startsWith(\"/tenants/\") && request.headers[\"x-tenant\"] == jwt.tenant' }",
        "'certificate.subject.contains(\"O=Example\") && request.client == \"192.0.2.1\"'",
    ] {
        assert_eq!(verdict(yaml, &ask(), &someone()), "in", "{yaml}");
    }
}

#[test]
fn what_does_not_hold_is_named() {
    for (yaml, why) in [
        ("{ scope: orders:write }", "`scope` does not hold"),
        ("{ scope: orders }", "`scope` does not hold"),
        ("{ role: ops, claim.tenant: acme }", "`claim.tenant` does not hold"),
        ("{ claim.level: '3' }", "`claim.level` does not hold"),
        ("{ claim.level: { min: 4 } }", "`claim.level` does not hold"),
        ("{ claim.missing: { max: 4 } }", "`claim.missing` does not hold"),
        ("{ claim.tenant: $path.missing }", "`claim.tenant` cannot be told"),
        ("{ claim.tenant: $query.twice }", "`claim.tenant` cannot be told"),
        ("{ any: [{ role: nobody }, { role: nobody }] }", "`any` does not hold"),
        ("{ all: [{ role: ops }, { role: nobody }] }", "`all` does not hold"),
        ("{ not: { role: ops } }", "`not` does not hold"),
        ("{ not: { claim.tenant: $path.missing } }", "`not` cannot be told"),
        ("'jwt.level > 3'", "`expression` does not hold"),
        ("'jwt.plan == \"gold\"'", "`expression` cannot be told"),
        ("'jwt.level'", "`expression` cannot be told"),
        ("'jwt.level / 0 == 1'", "`expression` cannot be told"),
        ("'jwt.sub > 3'", "`expression` cannot be told"),
    ] {
        assert_eq!(verdict(yaml, &ask(), &someone()), why, "{yaml}");
    }
}

#[test]
fn without_an_identity_nobody_gets_in_under_not_either() {
    let nobody = Identity::default();
    let request = Asked { certificate: None, ..ask() };
    for yaml in [
        "{ scope: a }",
        "{ role: a }",
        "{ claim.a: b }",
        "{ consumer: a }",
        "{ consumer.plan: a }",
        "{ certificate.subject: a }",
        "{ certificate.fingerprint: a }",
        "{ not: { role: banned } }",
        "{ not: { certificate.subject: banned } }",
        "{ any: [{ not: { role: a } }, { consumer: b }] }",
        "'!has(jwt.banned)'",
        "'consumer.name != \"banned\"'",
        "'certificate.subject != \"banned\"'",
    ] {
        assert!(verdict(yaml, &request, &nobody).ends_with("cannot be told"), "{yaml}");
    }
    assert_eq!(verdict("'request.method == \"GET\"'", &request, &nobody), "in");
}

#[test]
fn mistakes_are_told_where_they_stand() {
    for (yaml, said) in [
        ("{}", "require: takes at least one of scope"),
        ("{ mode: shadow }", "require: takes at least one of scope"),
        ("{ claim.a: $pth.x }", "require.claim.a: `$pth.x` is no part of a request"),
        ("{ claim.a: [] }", "require.claim.a: needs at least one value"),
        ("{ any: [] }", "require.any: needs at least one map"),
        ("{ any: [{ not: { claim.a: $x } }] }", "require.any[0].not.claim.a: `$x`"),
        ("'jwt.plan =='", "require.expression: `jwt.plan ==` is not an expression"),
        ("'jtw.plan == 1'", "require.expression: unknown name `jtw`: did you mean `jwt`?"),
        ("'jwt.a.startWith(\"x\")'", "require.expression: unknown function `startWith`: did you mean `startsWith`?"),
        ("'jwt.a.matches(jwt.b)'", "require.expression: unknown function `matches`"),
        ("'jwt.a.all(x, jwt.a.all(y, x == y))'", "require.expression: a loop within a loop"),
    ] {
        let why = require(yaml).unwrap_err();
        assert!(why.starts_with(said), "{yaml}: {why}");
    }
    for (yaml, said) in [
        ("{ scop: a }", "unknown field `scop`"),
        ("{ claim.: a }", "unknown field `claim.`"),
        ("{ claim.a: { is: b } }", "unknown field `is`"),
        ("{ claim.a: { min: 1, regex: b } }", "takes `regex`, or `min` and `max`"),
        ("{ claim.a: [[a]] }", ""),
        ("{ not: {} }", "at least one clause"),
    ] {
        assert!(require(yaml).is_ok_and(|_| said.is_empty()) || require(yaml).unwrap_err().contains(said), "{yaml}");
    }
    let deep = format!("'{}1{} == 1'", "(".repeat(400), ")".repeat(400));
    assert!(require(&deep).unwrap_err().contains("is not an expression"));
    assert!(require(&format!("'{}'", "a".repeat(3000))).unwrap_err().contains("at most 2048"));
}
