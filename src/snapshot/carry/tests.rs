//! A whole process hands over to a whole process.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::config::Loaded;
use crate::exchange::asked::Asked;
use crate::exchange::{Exchange, Found};
use crate::pool::breaker::Held;
use crate::snapshot::{Tools, compile};

const LIMITS: &str = "
  burst: { rate: 5/h, key: client.ip }
  slide: { rate: 4/h, algorithm: sliding_window, key: client.ip }
  window: { rate: 3/h, algorithm: fixed_window, key: client.ip }
  queue: { rate: 1/min, algorithm: leaky_bucket, queue: 1, key: client.ip }
  year: { quota: 2/year, key: client.ip }
  month: { quota: 9/month, key: client.ip }";
const POOLS: &str = "
  app: { targets: ['127.0.0.1:1', '127.0.0.1:2'], breaker: { open_after: 1, open_for: 1h }, eject: { errors: 9 } }
  held: ['127.0.0.1:1']";
const NAMES: [&str; 6] = ["burst", "slide", "window", "queue", "year", "month"];

fn document(limits: &str, pools: &str) -> String {
    let route = |line: &str| {
        let name = line.trim().split(':').next().unwrap();
        format!("  {name}: {{ match: '/{name}', to: app, limit: {name} }}\n")
    };
    let routes: String = limits.lines().filter(|line| !line.trim().is_empty()).map(route).collect();
    format!(
        "version: 1\nlisteners: {{ http: {{ bind: '127.0.0.1:0' }} }}\nlimits:{limits}\npools:{pools}\nroutes:\n{routes}"
    )
}

fn live(text: &str) -> Live {
    let (mut loaded, tools) = (Loaded::from_text("y.yaml", text), Tools::new().unwrap());
    let compiled = compile(&mut loaded, &tools, None);
    let snapshot = compiled.snapshot.unwrap_or_else(|| panic!("{:?}", compiled.problems));
    let live = Live::new(snapshot, tools);
    live.connect(&Arc::new(Connections::new(8)));
    live
}

/// Whether a request of this client gets through the limit of this route, and what its answer says of it.
fn asks(live: &Live, route: &str, client: &str) -> (bool, String) {
    let snapshot = live.load_full();
    let route = snapshot.routes.iter().find(|one| one.name.as_str() == route).unwrap();
    let (request, mut found) = (Asked::from_client(client), Found::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let guards = route.guards.as_ref().unwrap();
    let admitted = runtime.block_on(async {
        let mut exchange = Exchange { request: &request, found: &mut found };
        tokio::time::timeout(Duration::from_millis(50), guards.admit(crate::policy::guard::Half::Both, &mut exchange))
            .await
    });
    // Who waits in a queue was admitted.
    let may = admitted.as_ref().map_or(true, Result::is_ok);
    (may, if may { String::new() } else { format!("{:?}", admitted.unwrap().err()) })
}

fn used() -> Live {
    let live = live(&document(LIMITS, POOLS));
    for name in NAMES {
        for times in 0..2 {
            asks(&live, name, "10.0.0.1");
            asks(&live, name, ["10.0.0.2", "2001:db8::1"][times]);
        }
    }
    let snapshot = live.load_full();
    let pools: Vec<_> = snapshot.pools.values().collect();
    pools[0].pick(&Asked::new(), &[]).unwrap().record(Some(crate::fault::Fault::UpstreamReset), 502);
    pools[1].hold(Some((Held::Open, Duration::from_secs(100))));
    live
}

#[test]
fn a_successor_goes_on_where_its_predecessor_was() {
    let (old, new) = (used(), live(&document(LIMITS, POOLS)));
    let parcel = pack(&old);
    assert_eq!(unpack(&new, &parcel), Vec::<String>::new());
    let shown = |live: &Live| serde_json::to_value(live.load().pool_states()).unwrap();
    assert_eq!(shown(&new), shown(&old));
    for client in ["10.0.0.1", "10.0.0.2", "2001:db8::1", "10.0.0.9"] {
        for name in NAMES {
            let told: Vec<_> = (0..6).map(|_| (asks(&new, name, client).0, asks(&old, name, client).0)).collect();
            assert!(told.iter().all(|(new, old)| new == old), "{name} {client} {told:?}");
        }
    }
    assert!(!asks(&new, "year", "10.0.0.1").0);
    let status = new.load().pool_states();
    assert_eq!((status[0].healthy, status[1].whole.by_hand.is_some()), (1, true));
}

#[test]
fn what_is_gone_or_cannot_be_read_is_cold_and_said() {
    let old = used();
    let parcel = pack(&old);
    let less = live(&document(
        LIMITS.split("  year").next().unwrap(),
        &POOLS.replace("'127.0.0.1:1', ", "").replace("held:", "kept:"),
    ));
    let mut cold = unpack(&less, &parcel);
    cold.sort();
    assert_eq!(
        cold,
        [
            "limit/limits.month/quotamonth is gone",
            "limit/limits.year/quotayear is gone",
            "pool app: target 127.0.0.1:1 is gone",
            "pool/held is gone"
        ]
    );
    assert_eq!((0..9).filter(|_| asks(&less, "burst", "10.0.0.1").0).count(), 3, "the others go on");
    let mut more = parcel.clone();
    more.extend_from_slice(&[4, 0]);
    more.extend_from_slice(b"news");
    more.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, b'7']);
    assert_eq!(unpack(&live(&document(LIMITS, POOLS)), &more), ["news: this program knows no such thing"]);
    let cut = unpack(&live(&document(LIMITS, POOLS)), &parcel[..parcel.len() - 1]);
    assert_eq!(cut, ["what was handed over is not whole"]);
    assert_eq!(unpack(&live(&document(LIMITS, POOLS)), b""), ["what was handed over is not whole"]);
}

#[test]
fn time_that_passes_on_the_way_has_passed() {
    let (old, new) = (used(), live(&document(LIMITS, POOLS)));
    let (now, clock) = (Instant::now(), Duration::from_secs(1000));
    let parcel = pack_at(&old, now, clock);
    let late = Duration::from_mins(1);
    assert_eq!(unpack_at(&new, &parcel, now + late, clock + late), Vec::<String>::new());
    let held = |live: &Live, at: Instant| {
        let packed: Value = live.load().pools.values().nth(1).unwrap().pack(at);
        packed["hand"]["left"].as_u64().unwrap() / 1_000_000_000
    };
    assert!(held(&old, now + late).abs_diff(held(&new, now + late)) <= 1);
    let elsewhere = unpack_at(&live(&document(LIMITS, POOLS)), &parcel, now, Duration::from_secs(1));
    assert_eq!(elsewhere, ["nobody knows when it was packed; it counts as packed just now"]);
}

#[test]
fn who_goes_on_after_all_takes_everything_back() {
    let old = used();
    let parcel = pack(&old);
    assert!(asks(&old, "burst", "10.0.0.1").0, "connections that stay are served meanwhile");
    let kept = keep(&parcel);
    assert_eq!(parts(&kept).0.iter().map(|part| part.name).collect::<Vec<_>>(), ["moment"], "nothing is shared here");
    take_back(&old, &kept);
    let admitted = (0..2).filter(|_| asks(&old, "burst", "10.0.0.1").0).count();
    assert_eq!(admitted, 2);
    assert_eq!(unpack(&old, &parcel), Vec::<String>::new(), "the whole parcel changes nothing more");
    assert!(!asks(&old, "burst", "10.0.0.1").0, "what came meanwhile was counted");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_bytes_are_too_strange(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..40),
        end in any::<prop::sample::Index>(),
        random in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut parcel = pack(&used());
        for (at, byte) in changes {
            let at = at.index(parcel.len());
            parcel[at] = byte;
        }
        let cut = end.index(parcel.len() + 1);
        for bytes in [&parcel[..], &parcel[..cut], &random] {
            let new = live(&document(LIMITS, POOLS));
            unpack(&new, bytes);
            for name in NAMES {
                asks(&new, name, "10.0.0.1");
            }
            pack(&new);
        }
    }
}
