//! What a process has learned is known to the one that takes over.

use crate::harness::tls::{Authority, handshake};
use crate::harness::{Connection, Gateway, Origin, Request, Setup, eventually};

fn document(origin: &Origin) -> String {
    format!(
        "admin: {{ bind: 127.0.0.1:0, control: \"unix:$DIR/control.sock\" }}
runtime: {{ drain: {{ idle: 100ms }}, state: $DIR }}
listeners:
  edge: {{ bind: 127.0.0.1:0 }}
  safe: {{ bind: 127.0.0.1:0, tls: {{ certs: [{{ cert: \"$DIR/a.pem\", key: \"$DIR/a.key\" }}] }} }}
limits:
  rate: {{ rate: 4/h, key: client.ip }}
  month: {{ quota: 4/year, key: client.ip }}
pools:
  app: ['{origin}']
  held: {{ targets: ['{origin}'], breaker: {{ open_after: 5 }} }}
  broken: {{ targets: ['{origin}'], breaker: {{ open_after: 1, open_for: 1h, on: ['500'] }}, retry: off }}
routes:
  rate: {{ match: /rate, to: app, limit: rate }}
  month: {{ match: /month, to: app, limit: month }}
  held: {{ match: /held, to: held }}
  broken: {{ match: '/broken/*', to: broken }}
"
    )
}

fn started(origin: &Origin, authority: &Authority) -> Gateway {
    Setup::new().pair("a", &authority.issue(&["a.example"])).start(document(origin))
}

fn admitted(gateway: &Gateway, path: &str, times: usize) -> usize {
    (0..times).filter(|_| gateway.get(path).status == 200).count()
}

#[test]
fn counts_breakers_holds_and_tls_sessions_go_over_to_each_successor() {
    let origin = Origin::new(|seen, talk| talk.answer(if seen.target == "/broken/1" { 500 } else { 200 }, "", ""));
    let authority = Authority::new();
    let mut gateway = started(&origin, &authority);
    assert_eq!((admitted(&gateway, "/rate", 2), admitted(&gateway, "/month", 2)), (2, 2));
    assert_eq!(gateway.get("/broken/1").status, 500);
    assert_eq!(gateway.get("/broken/2").verdict(), (503, "breaker.open".to_owned()));
    let admin = gateway.admin_address().to_owned();
    assert_eq!(gateway.yumen("breaker", &["held", "open", "--for", "1h", "--admin", &admin]).code, 0);
    let config = authority.client().config();
    let resumes = |gateway: &Gateway| {
        let mut secured = handshake(&config, &gateway.listener("safe"), "a.example").unwrap();
        secured.connection.ask(&Request::get("/held").host("a.example"));
        secured.resumed
    };
    assert!(!resumes(&gateway) && resumes(&gateway));

    for left in [2, 0] {
        gateway.upgrade();
        assert_eq!((admitted(&gateway, "/rate", 2), admitted(&gateway, "/month", 2)), (left, left));
        assert_eq!(gateway.get("/broken/2").verdict(), (503, "breaker.open".to_owned()));
        assert_eq!(gateway.get("/held").verdict(), (503, "breaker.open".to_owned()));
        assert!(resumes(&gateway));
    }
    assert!(!gateway.log.all().iter().any(|line| line.contains("taking over:")), "nothing was left cold");
}

#[test]
fn where_no_successor_comes_to_serve_counts_go_on_and_quotas_are_written() {
    let (origin, authority) = (Origin::answering("hello"), Authority::new());
    let gateway = started(&origin, &authority);
    assert_eq!((admitted(&gateway, "/rate", 1), admitted(&gateway, "/month", 1)), (1, 1));
    let file = "quotas/limits.month.year";
    eventually("the quota is written", || gateway.setup.path().join(file).exists().then_some(()));
    assert_eq!(gateway.yumen("upgrade", &["/bin/true"]).code, 75);
    let before = std::fs::read(gateway.setup.path().join(file)).unwrap();
    assert_eq!((admitted(&gateway, "/rate", 9), admitted(&gateway, "/month", 9)), (3, 3));
    eventually("the quota is written again", || {
        (std::fs::read(gateway.setup.path().join(file)).unwrap() != before).then_some(())
    });
    let mut kept = Connection::to(&gateway.edge());
    assert_eq!(kept.get("/rate").verdict(), (429, "limit.rate".to_owned()));
}
