//! `yumen certs`: the certificates that the running gateway shows, the one that ends first before the others.

use serde_json::Value;

use super::Exit;
use super::door::{View, each_of, word};
use super::table::Table;

pub(super) fn run(view: &View) -> Exit {
    view.show("/certs", told)
}

fn told(certs: &Value) -> String {
    let mut table = Table::new(["days left", "ends", "listener", "names", "file"]);
    for cert in each_of(certs) {
        let names: Vec<_> =
            cert.get("names").map(|names| each_of(names).filter_map(Value::as_str).collect()).unwrap_or_default();
        let days = cert.get("days_left").and_then(Value::as_i64).unwrap_or_default();
        let listener = word(cert, "listener");
        table.row([&days.to_string(), word(cert, "ends"), listener, &names.join(", "), word(cert, "file")]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_certificate_is_a_line() {
        let certs = json!([
            { "listener": "edge", "names": ["a.example", "*.a.example"], "file": "/a.pem", "ends": "2026-12-01T00:00:00Z", "days_left": 4 },
            { "listener": "edge", "names": ["b.example"], "file": "/b.pem", "ends": "2027-12-01T00:00:00Z", "days_left": 369 },
        ]);
        let expected = "DAYS LEFT  ENDS                  LISTENER  NAMES                   FILE
        4  2026-12-01T00:00:00Z  edge      a.example, *.a.example  /a.pem
      369  2027-12-01T00:00:00Z  edge      b.example               /b.pem
";
        assert_eq!(told(&certs), expected);
    }
}
