//! How things went lately: totals taken now and then, for the curves of the overview.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::snapshot::Live;
use crate::telemetry::metrics::Totals;

/// How often totals are taken, and how many are kept: a quarter of an hour.
const EVERY: Duration = Duration::from_secs(5);
const KEPT: usize = 181;
/// Samples that the present figures span: a minute.
const PRESENT: usize = 12;
/// The room for a curve.
const WIDE: f64 = 180.0;
const HIGH: f64 = 36.0;

/// What was counted, lately.
#[derive(Default)]
pub(in crate::gateway::admin) struct History(Mutex<VecDeque<(Instant, Totals)>>);

impl History {
    /// Takes totals for as long as the process lives.
    pub(in crate::gateway::admin) async fn follow(self: Arc<Self>, live: Arc<Live>) {
        loop {
            self.take(Instant::now(), totals(&live));
            tokio::time::sleep(EVERY).await;
        }
    }

    fn take(&self, now: Instant, totals: Totals) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((now, totals));
    }

    /// The figures of the last minute, with `now` as their end, and the curves behind them.
    pub(super) fn figures(&self, now: Instant, totals: Totals) -> Value {
        let mut kept: Vec<_> = self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        kept.push((now, totals));
        let between = |(before, after): (&(Instant, Totals), &(Instant, Totals))| {
            let seconds = after.0.saturating_duration_since(before.0).as_secs_f64().max(1e-3);
            Stretch { seconds, totals: after.1.since(&before.1) }
        };
        let steps: Vec<_> = kept.iter().zip(kept.iter().skip(1)).map(between).collect();
        // The stretch since the last sample may be too short to tell anything.
        let steps = steps.get(..steps.len().saturating_sub(1)).unwrap_or_default();
        let first = kept.get(kept.len().saturating_sub(1 + PRESENT)).or(kept.first());
        let present = first.zip(kept.last()).map(between);
        let (present, curve) = (present.unwrap_or_default(), |of: fn(&Stretch) -> f64| curve(steps, of));
        json!({
            "seconds": present.seconds.round(),
            "rate": short(present.rate()),
            "failed": percent(present.totals.failed, present.totals.requests),
            "refused": percent(present.totals.refused, present.totals.requests),
            "half_ms": present.totals.seconds(0.5).map(|seconds| seconds * 1e3),
            "most_ms": present.totals.seconds(0.99).map(|seconds| seconds * 1e3),
            "minutes": steps.iter().map(|step| step.seconds).sum::<f64>().round() / 60.0,
            "curves": {
                "rate": curve(Stretch::rate),
                "failed": curve(|step| share(step.totals.failed, step.totals.requests)),
                "most": curve(|step| step.totals.seconds(0.99).unwrap_or_default()),
            },
        })
    }
}

/// What came to pass between two samples.
#[derive(Default)]
struct Stretch {
    seconds: f64,
    totals: Totals,
}

impl Stretch {
    #[allow(clippy::cast_precision_loss)]
    fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.totals.requests as f64 / self.seconds } else { 0.0 }
    }
}

/// What all routes have counted so far, and who found none.
pub(super) fn totals(live: &Live) -> Totals {
    let snapshot = live.load_full();
    let mut totals = Totals::default();
    for counted in snapshot.routes.iter().map(|route| &route.counted).chain([&snapshot.nowhere]) {
        counted.add_to(&mut totals);
    }
    totals
}

/// A line through what each step has, from the left; nothing where there is too little of it.
fn curve(steps: &[Stretch], of: fn(&Stretch) -> f64) -> Option<String> {
    let values: Vec<f64> = steps.iter().map(of).collect();
    let most = values.iter().copied().fold(0.0, f64::max);
    if values.len() < 2 {
        return None;
    }
    #[allow(clippy::cast_precision_loss)]
    let step = WIDE / (values.len() - 1) as f64;
    let mut line = String::new();
    let mut x = 0.0;
    for value in values {
        let y = if most > 0.0 { HIGH - 2.0 - value / most * (HIGH - 4.0) } else { HIGH - 2.0 };
        // Writing to a String cannot fail.
        let _ = write!(line, "{x:.1},{y:.1} ");
        x += step;
    }
    line.pop();
    Some(line)
}

#[allow(clippy::cast_precision_loss)]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn percent(part: u64, whole: u64) -> String {
    let percent = share(part, whole) * 100.0;
    match percent {
        0.0 => "0 %".to_owned(),
        ..0.1 => "< 0.1 %".to_owned(),
        ..10.0 => format!("{percent:.1} %"),
        _ => format!("{percent:.0} %"),
    }
}

/// Three digits are enough.
fn short(number: f64) -> String {
    if number < 10.0 && number > 0.0 { format!("{number:.1}") } else { format!("{number:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;

    #[test]
    fn the_present_is_the_last_minute_and_the_curve_all_that_is_kept() {
        let (history, metrics, begin) = (History::default(), Metrics::new().unwrap(), Instant::now());
        let route = metrics.route("edge", "orders");
        let now = || {
            let mut totals = Totals::default();
            route.add_to(&mut totals);
            route.add_times_to(&mut totals);
            totals
        };
        assert_eq!(history.figures(begin, now())["rate"], "0");
        for step in 0..40 {
            // Ten a second at first, then two, one of four of them failing.
            for number in 0..if step < 20 { 50 } else { 10 } {
                route.count(&http::Method::GET, if number % 4 == 0 && step >= 20 { 503 } else { 200 }, 0.02, 0.0);
            }
            history.take(begin + EVERY * step, now());
        }
        let figures = history.figures(begin + EVERY * 39 + Duration::from_millis(1), now());
        assert_eq!(
            (&figures["rate"], &figures["failed"], &figures["refused"]),
            (&"2.0".into(), &"30 %".into(), &"0 %".into())
        );
        assert!((figures["half_ms"].as_f64().unwrap() - 17.0).abs() < 8.0, "{figures:#}");
        let line = figures["curves"]["rate"].as_str().unwrap();
        assert_eq!(line.split(' ').count(), 39, "{line}");
        assert!(line.starts_with("0.0,2.0 ") && line.ends_with("180.0,27.6"), "{line}");
    }
}
