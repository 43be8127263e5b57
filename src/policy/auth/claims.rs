//! What a token must say: by whom, for whom, from when, until when.

use serde_json::{Map, Value};

use super::Denial;
use crate::fault::Fault;

/// What is asked of the claims of a verified token.
#[derive(Debug, Default)]
pub struct Claims {
    pub issuer: Option<Box<str>>,
    /// Any of them.
    pub audience: Vec<Box<str>>,
    pub required: Vec<Box<str>>,
    /// Seconds by which clocks may differ.
    pub leeway: f64,
    /// Whether `exp` may be missing.
    pub endless: bool,
}

/// The last second that a date may have: the year 9999.
const LAST: f64 = 253_402_300_799.0;

impl Claims {
    /// When the token ends, in seconds since 1970, with the leeway in it; or why it is refused now.
    pub fn check(&self, claims: &Map<String, Value>, now: f64) -> Result<f64, Denial> {
        let wrong = |why: &'static str| Denial::new(Fault::AuthClaims, why);
        let ends = date(claims, "exp")?.or(self.endless.then_some(f64::INFINITY));
        let ends = ends.ok_or_else(|| wrong("no `exp`"))? + self.leeway;
        if now >= ends {
            return Err(Denial::new(Fault::AuthExpired, "the token has expired"));
        }
        for name in ["nbf", "iat"] {
            if date(claims, name)?.is_some_and(|begins| now + self.leeway < begins) {
                return Err(Denial::new(Fault::AuthNotYet, format!("`{name}` lies in the future")));
            }
        }
        if let Some(issuer) = &self.issuer
            && claims.get("iss").and_then(Value::as_str) != Some(issuer)
        {
            return Err(Denial::new(Fault::AuthIssuer, "another issuer, or none"));
        }
        if !self.audience.is_empty() && !self.is_for_us(claims.get("aud")) {
            return Err(Denial::new(Fault::AuthAudience, "for another audience, or for none"));
        }
        if claims.get("sub").is_some_and(|sub| !sub.is_string()) {
            return Err(wrong("a `sub` that is no text"));
        }
        match self.required.iter().find(|name| claims.get(&***name).is_none_or(Value::is_null)) {
            Some(name) => Err(Denial::new(Fault::AuthClaims, format!("no `{name}`"))),
            None => Ok(ends),
        }
    }

    fn is_for_us(&self, said: Option<&Value>) -> bool {
        let ours = |said: &Value| said.as_str().is_some_and(|said| self.audience.iter().any(|one| **one == *said));
        match said {
            Some(Value::Array(list)) => list.iter().all(Value::is_string) && list.iter().any(ours),
            Some(one) => ours(one),
            None => false,
        }
    }
}

/// Seconds since 1970, if they are that.
fn date(claims: &Map<String, Value>, name: &str) -> Result<Option<f64>, Denial> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_f64().filter(|seconds| (0.0..=LAST).contains(seconds));
    let wrong = || Denial::new(Fault::AuthClaims, format!("an `{name}` that is no date"));
    seconds.map(Some).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(rules: &Claims, claims: &Value) -> Result<f64, Fault> {
        let Value::Object(claims) = claims else { panic!("an object") };
        rules.check(claims, 1000.0).map_err(|denial| denial.fault)
    }

    #[test]
    fn dates_hold_to_the_second_and_nothing_else_is_a_date() {
        let rules = Claims { leeway: 5.0, ..Claims::default() };
        assert_eq!(said(&rules, &json!({ "exp": 996 })), Ok(1001.0));
        assert_eq!(said(&rules, &json!({ "exp": 995 })), Err(Fault::AuthExpired));
        assert_eq!(said(&rules, &json!({ "exp": 995.5 })), Ok(1000.5));
        assert_eq!(said(&rules, &json!({})), Err(Fault::AuthClaims));
        for odd in [json!("2000"), json!(1e300), json!(-1), json!(null), json!([2000]), json!(true)] {
            assert_eq!(said(&rules, &json!({ "exp": odd })), Err(Fault::AuthClaims), "{odd}");
            assert_eq!(said(&rules, &json!({ "exp": 2000, "nbf": odd })), Err(Fault::AuthClaims), "{odd}");
            assert_eq!(said(&rules, &json!({ "exp": 2000, "iat": odd })), Err(Fault::AuthClaims), "{odd}");
        }
        assert_eq!(said(&rules, &json!({ "exp": 2000, "nbf": 1005 })), Ok(2005.0));
        assert_eq!(said(&rules, &json!({ "exp": 2000, "nbf": 1006 })), Err(Fault::AuthNotYet));
        assert_eq!(said(&rules, &json!({ "exp": 2000, "iat": 1006 })), Err(Fault::AuthNotYet));
    }

    #[test]
    fn issuer_audience_and_required_claims_are_compared_whole() {
        let rules = Claims {
            issuer: Some("https://id/".into()),
            audience: vec!["orders".into(), "admin".into()],
            required: vec!["tenant".into()],
            leeway: 0.0,
            endless: false,
        };
        let with = |iss: Value, aud: Value| json!({ "exp": 2000, "iss": iss, "aud": aud, "tenant": "t" });
        assert_eq!(said(&rules, &with(json!("https://id/"), json!("orders"))), Ok(2000.0));
        assert_eq!(said(&rules, &with(json!("https://id/"), json!(["x", "admin"]))), Ok(2000.0));
        for iss in [json!("https://id"), json!("https://id/x"), json!(["https://id/"]), json!(null)] {
            assert_eq!(said(&rules, &with(iss.clone(), json!("orders"))), Err(Fault::AuthIssuer), "{iss}");
        }
        for aud in [json!("order"), json!("orders2"), json!([]), json!([["orders"]]), json!(null), json!(["orders", 1])]
        {
            assert_eq!(said(&rules, &with(json!("https://id/"), aud.clone())), Err(Fault::AuthAudience), "{aud}");
        }
        let without = json!({ "exp": 2000, "iss": "https://id/", "aud": "orders", "tenant": null });
        assert_eq!(said(&rules, &without), Err(Fault::AuthClaims));
        assert_eq!(said(&Claims::default(), &json!({ "exp": 2000, "sub": 7 })), Err(Fault::AuthClaims));
    }
}
