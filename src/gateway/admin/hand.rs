//! What is ordered by hand for a while: the breakers of a pool, the weight of a target, how much the log says.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use super::hold::Hold;
use super::page::{Answer, page, wrong};
use super::said::Said;
use crate::gateway::reload::Reloader;
use crate::pool::Pool;
use crate::snapshot::Live;
use crate::telemetry::program::{self, Level};
use crate::units::Duration;

/// Holds the breakers of a pool: `pool=orders&to=open&for=10m`, or `to=auto` to let go of them.
pub(super) fn hold(live: &Live, query: &str) -> Answer {
    let asked = match Hold::of(Said(query)) {
        Ok(asked) => asked,
        Err(why) => return wrong(StatusCode::BAD_REQUEST, &why),
    };
    let Some(pool) = pool(live, asked.pool.as_str()) else { return no_pool(asked.pool.as_str()) };
    pool.hold(asked.held);
    done(&asked.to_string())
}

/// Weighs a target: `pool=orders&target=10.0.0.1:80&to=drain&for=10m`, `to=5`, or `to=auto` to let go of it.
pub(super) fn weigh(live: &Arc<Live>, reloader: &Reloader, query: &str) -> Answer {
    let said = Said(query);
    let asked = said.need("pool").and_then(|pool| Ok((pool, said.need("target")?, weight(said)?)));
    let (name, target, weighed) = match asked {
        Ok(asked) => asked,
        Err(why) => return wrong(StatusCode::BAD_REQUEST, &why),
    };
    let Some(pool) = pool(live, &name) else { return no_pool(&name) };
    let target = match pool.weigh(&target, weighed) {
        Ok(target) => target,
        Err(why) => return wrong(StatusCode::NOT_FOUND, &why),
    };
    let Some((weight, length)) = weighed else {
        return done(&format!("pool {name}: {target} has its own weight again"));
    };
    look_again(live, reloader, &name, length);
    let length = Duration::from(length);
    done(&match weight {
        0 => format!("pool {name}: {target} gets no new requests for {length}"),
        _ => format!("pool {name}: {target} has weight {weight} for {length}"),
    })
}

/// Looks at the weights of a pool when some time is over.
fn look_again(live: &Arc<Live>, reloader: &Reloader, name: &str, after: std::time::Duration) {
    let (live, name) = (live.clone(), name.to_owned());
    reloader.keeper().once(async move {
        tokio::time::sleep(after).await;
        if let Some(pool) = pool(&live, &name) {
            pool.look_again();
        }
    });
}

/// What a predecessor was told by hand ends here when it was to end there.
pub(in crate::gateway) fn take_over(live: &Arc<Live>, reloader: &Reloader) {
    for pool in live.load().pool_states() {
        for hand in pool.targets.iter().filter_map(|target| target.by_hand) {
            let after = std::time::Duration::from_secs(hand.ends_in_seconds);
            look_again(live, reloader, pool.name.as_str(), after);
        }
    }
}

/// A number, `drain` for 0, or nothing for `auto`; and how long.
fn weight(said: Said<'_>) -> Result<Option<(u16, std::time::Duration)>, String> {
    let weight = match said.need("to")?.as_str() {
        "auto" => return Ok(None),
        "drain" => 0,
        number => number.parse().map_err(|_| format!("`{number}` is not drain, auto or a weight"))?,
    };
    Ok(Some((weight, said.length()?)))
}

/// How much the log says: `level=debug&for=60s`, of one part of the program with `module=yumen::gateway::listen`; `level=auto`.
pub(super) fn log_level(reloader: &Reloader, query: &str) -> Answer {
    let said = Said(query);
    let level = match said.need("level").map(|level| (level.parse::<Level>(), level)) {
        Ok((_, auto)) if auto == "auto" => {
            program::let_go();
            return done("the log says what the document says");
        }
        Ok((Ok(level), _)) => level,
        Ok((Err(why), _)) | Err(why) => return wrong(StatusCode::BAD_REQUEST, &why),
    };
    let length = match said.length() {
        Ok(length) => length,
        Err(why) => return wrong(StatusCode::BAD_REQUEST, &why),
    };
    let module = said.get("module");
    if let Err(why) = program::hold(level, module.as_deref(), length) {
        return wrong(StatusCode::CONFLICT, why);
    }
    reloader.keeper().once(async move {
        tokio::time::sleep(length).await;
        program::settle();
    });
    let of = module.map(|module| format!(" of {module}")).unwrap_or_default();
    done(&format!("the log{of} says {level} for {}", Duration::from(length)))
}

/// Everything that is held now, and until when.
pub(super) fn held(live: &Live) -> Value {
    let pools = live.load().pool_states();
    let breakers = pools.iter().filter_map(|pool| {
        let hand = pool.whole.by_hand.as_ref()?;
        Some(json!({ "pool": pool.name, "breakers": hand.held, "ends_in_seconds": hand.ends_in_seconds }))
    });
    let targets = pools.iter().flat_map(|pool| {
        pool.targets.iter().filter_map(|target| {
            let hand = target.by_hand?;
            let (weight, ends) = (hand.weight, hand.ends_in_seconds);
            Some(json!({ "pool": pool.name, "target": target.address, "weight": weight, "ends_in_seconds": ends }))
        })
    });
    let log = program::held().map(
        |held| json!({ "log_level": held.level, "module": held.module, "ends_in_seconds": held.left.as_secs() + 1 }),
    );
    breakers.chain(targets).chain(log).collect()
}

fn pool(live: &Live, name: &str) -> Option<Arc<Pool>> {
    live.load().pools.iter().find(|(known, _)| known.as_str() == name).map(|(_, pool)| pool.clone())
}

fn no_pool(name: &str) -> Answer {
    wrong(StatusCode::NOT_FOUND, &format!("there is no pool `{name}`"))
}

fn done(sentence: &str) -> Answer {
    log::warn!("{sentence}, said by hand");
    page(StatusCode::OK, &json!({ "result": sentence }))
}
