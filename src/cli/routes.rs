//! `yumen routes`: which requests the running gateway takes, where each route stands, where it leads, and who guards it.

use serde_json::Value;

use super::Exit;
use super::door::{View, word};
use super::table::Table;

pub(super) fn run(view: &View) -> Exit {
    view.show("/routes", told)
}

fn told(routes: &Value) -> String {
    let mut table = Table::new(["route", "match", "to", "guards", "place"]);
    for (name, route) in routes.as_object().into_iter().flatten() {
        let list = |key: &str| {
            let all = route.get(key).and_then(Value::as_array).into_iter().flatten();
            all.map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned)).collect::<Vec<_>>().join(", ")
        };
        let to = match word(route, "does") {
            "" => list("pools"),
            does => does.to_owned(),
        };
        let dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        table.row([name.clone(), list("takes"), dash(to), dash(list("guards")), word(route, "place").to_owned()]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_route_is_a_line() {
        let routes = json!({
            "all": { "place": "y:4:3", "match": ["/*"], "takes": ["/*"], "pools": ["app"], "guards": ["ip", "auth.staff"] },
            "gone": { "place": "y:5:3", "match": ["/x"], "takes": ["GET /x", "/y"], "pools": [], "does": "answers 410" },
        });
        let expected = "ROUTE  MATCH       TO           GUARDS          PLACE
all    /*          app          ip, auth.staff  y:4:3
gone   GET /x, /y  answers 410  -               y:5:3
";
        assert_eq!(told(&routes), expected);
    }
}
