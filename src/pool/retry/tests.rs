//! Which failures of which requests are followed by another try, as tables.

use proptest::prelude::*;

use super::*;

fn config(yaml: &str) -> Config {
    serde_yaml::from_str(yaml).unwrap()
}

fn verdict(rule: Rule<'_>, end: End, asked: Asked<'_>) -> Result<&'static str, Option<Not>> {
    rule.again(&Failed { end, refused: false, wait: None }, &asked).map(Trouble::word)
}

const GET: Asked<'static> = Asked { method: &Method::GET, keyed: false, whole: true, begun: false, tries: 1 };
const POST: Asked<'static> = Asked { method: &Method::POST, ..GET };

const fn answered(status: u16) -> End {
    End::Answered { status, grpc: None }
}

#[test]
fn by_default_what_was_lost_before_its_answer_and_may_be_repeated() {
    let pool = Config::default();
    let rule = Rule { pool: &pool, route: None };
    let table = [
        (End::Lost(Fault::UpstreamRefused), GET, Ok("connect")),
        (End::Lost(Fault::UpstreamTls), POST, Ok("connect")),
        (End::Lost(Fault::UpstreamReset), GET, Ok("reset")),
        (End::Lost(Fault::UpstreamResetReused), GET, Ok("reset")),
        (End::Lost(Fault::UpstreamProtocol), GET, Ok("reset")),
        (End::Lost(Fault::UpstreamReset), POST, Err(Some(Not::Method))),
        (End::Lost(Fault::UpstreamReset), Asked { keyed: true, ..POST }, Ok("reset")),
        (End::Lost(Fault::UpstreamReset), Asked { tries: 2, ..GET }, Ok("reset")),
        (End::Lost(Fault::UpstreamReset), Asked { tries: 3, ..GET }, Err(Some(Not::Attempts))),
        (End::Lost(Fault::UpstreamReset), Asked { whole: false, ..GET }, Err(Some(Not::Body))),
        (End::Lost(Fault::UpstreamReset), Asked { begun: true, ..GET }, Err(Some(Not::Begun))),
        (End::Lost(Fault::UpstreamTimeoutFirstByte), GET, Ok("timeout")),
        (End::Lost(Fault::UpstreamTimeoutFirstByte), POST, Err(Some(Not::Method))),
        (End::Lost(Fault::UpstreamTimeoutIdle), GET, Err(None)),
        (End::Lost(Fault::UpstreamHeaderTooLarge), GET, Err(None)),
        (End::Lost(Fault::ClientGone), GET, Err(None)),
        (answered(503), GET, Err(None)),
    ];
    for (end, asked, expected) in table {
        assert_eq!(verdict(rule, end, asked), expected, "{end:?} {asked:?}");
    }
    let refused = Failed { refused: true, ..Failed::lost(Fault::UpstreamProtocol) };
    assert_eq!(rule.again(&refused, &POST), Ok(Trouble::Reset), "the target has done nothing with it");
}

#[test]
fn statuses_and_calls_where_the_document_says_so() {
    let pool = config("{ on: [timeout, 503, '500..501', unavailable], methods: [GET, PATCH], attempts: 1 }");
    let rule = Rule { pool: &pool, route: None };
    let grpc = |code| End::Answered { status: 200, grpc: Some(code) };
    let table = [
        (answered(503), GET, Ok("status")),
        (answered(501), GET, Ok("status")),
        (answered(502), GET, Err(None)),
        (answered(503), POST, Err(Some(Not::Method))),
        (answered(503), Asked { keyed: true, ..POST }, Err(Some(Not::Method))),
        (answered(503), Asked { method: &Method::PATCH, ..GET }, Ok("status")),
        (answered(503), Asked { tries: 2, ..GET }, Err(Some(Not::Attempts))),
        (grpc(14), GET, Ok("grpc")),
        (grpc(8), GET, Err(None)),
        (End::Lost(Fault::UpstreamTimeoutFirstByte), GET, Ok("timeout")),
        (End::Lost(Fault::UpstreamRefused), GET, Err(None)),
    ];
    for (end, asked, expected) in table {
        assert_eq!(verdict(rule, end, asked), expected, "{end:?} {asked:?}");
    }
}

#[test]
fn a_route_says_what_holds_instead() {
    let pool = config("{ attempts: 3, on: [503] }");
    let route: Retry = serde_yaml::from_str("{ on: [404], methods: all }").unwrap();
    let rule = Rule { pool: &pool, route: Some(&route) };
    assert_eq!(rule.attempts(), 3);
    assert_eq!(verdict(rule, answered(404), POST), Ok("status"));
    assert_eq!(verdict(rule, answered(503), GET), Err(None));
    let off: Retry = serde_yaml::from_str("'off'").unwrap();
    assert_eq!(verdict(Rule { pool: &pool, route: Some(&off) }, answered(503), GET), Err(None), "and without a word");
}

#[test]
fn a_wait_that_is_longer_than_the_longest_pause_is_the_clients() {
    let pool = config("{ on: [503], backoff: 10ms..2s }");
    let rule = Rule { pool: &pool, route: None };
    let failed = |seconds| Failed { end: answered(503), refused: false, wait: Some(Duration::from_secs(seconds)) };
    assert_eq!(rule.again(&failed(2), &GET).map(Trouble::word), Ok("status"));
    assert_eq!(rule.again(&failed(3), &GET), Err(Some(Not::Wait)));
    assert_eq!(rule.pause(1, Some(Duration::from_secs(2)), 0.5), Duration::from_secs(2));
}

#[test]
fn pauses_double_up_to_the_longest_and_vary_down_to_nothing() {
    let pool = config("{ backoff: 50ms..1s }");
    let rule = Rule { pool: &pool, route: None };
    let longest: Vec<_> = (1..8).map(|number| rule.pause(number, None, 1.0).as_millis()).collect();
    assert_eq!(longest, [50, 100, 200, 400, 800, 1000, 1000]);
    assert_eq!(rule.pause(3, None, 0.0), Duration::ZERO);
    assert_eq!(rule.pause(u32::MAX, None, 0.5), Duration::from_millis(500));
}

#[test]
fn short_and_long_forms_are_the_same() {
    assert_eq!(config("'off'"), config("{ attempts: 0 }"));
    assert_eq!(config("3"), config("{ attempts: 3 }"));
    assert_eq!(config("{}"), Config::default());
    let long = config(
        "{ attempts: 2, on: [connect, reset, 502, '500..599', resource-exhausted], backoff: 50ms..1s, budget: 20%, methods: [PUT] }",
    );
    assert_eq!(config(&serde_yaml::to_string(&long).unwrap()), long);
    let refused = |yaml: &str, with: &str| {
        let why = serde_yaml::from_str::<Config>(yaml).unwrap_err().to_string();
        assert!(why.contains(with), "{why}");
    };
    refused("{ on: [conect] }", "Did you mean `connect`?");
    refused("{ on: [200] }", "from 400 to 599");
    refused("{ backoff: 1s }", "e.g. 50ms..1s");
    refused("{ backoff: 2s..1s }", "the shorter one comes first");
    refused("{ backoff: 1s..2h }", "1m");
    refused("{ budget: 20 }", "20%");
    refused("{ methods: [get] }", "Did you mean `GET`?");
    refused("{ methods: [] }", "names no method");
    refused("{ methods: some }", "`all`");
    refused("{ attempt: 2 }", "attempt");
    refused("never", "`off`");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_tried_more_often_than_allowed_or_after_its_answer_began(
        attempts in 0_u32..=10, tries in 1_u32..20, begun: bool, whole: bool, fault in 0..Fault::ALL.len(),
    ) {
        let pool = Config { attempts, methods: Methods::All, ..Config::default() };
        let asked = Asked { whole, begun, tries, ..GET };
        let verdict = Rule { pool: &pool, route: None }.again(&Failed::lost(Fault::ALL[fault]), &asked);
        prop_assert!(verdict.is_err() || (tries <= attempts && whole && !begun));
    }
}
