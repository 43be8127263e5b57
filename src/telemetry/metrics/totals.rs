//! What was counted so far, over routes and listeners: for a page that shows how things go.

use prometheus::Histogram;
use prometheus::core::Metric;

/// Requests that have ended, and how long they took.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Totals {
    pub requests: u64,
    /// Of these, those that were answered with a 4xx, and with a 5xx.
    pub refused: u64,
    pub failed: u64,
    /// Of how many it is known how long they took; what was refused before it was a request is none of them.
    timed: u64,
    /// So many took no longer than so many seconds, the shortest first.
    took: Vec<(f64, u64)>,
}

impl Totals {
    pub(super) fn add(&mut self, status: u32, number: u64) {
        self.requests += number;
        match status {
            400..=499 => self.refused += number,
            500..=599 => self.failed += number,
            _ => {}
        }
    }

    pub(super) fn add_times(&mut self, seconds: &Histogram) {
        let metric = seconds.metric();
        let took = metric.get_histogram().get_bucket().iter();
        let took = took.map(|bucket| (bucket.upper_bound(), bucket.cumulative_count())).collect();
        let timed = metric.get_histogram().get_sample_count();
        self.join(Self { timed, took, ..Self::default() });
    }

    /// Adds those of other routes.
    pub fn join(&mut self, other: Self) {
        self.requests += other.requests;
        self.refused += other.refused;
        self.failed += other.failed;
        self.timed += other.timed;
        if self.took.is_empty() {
            self.took = other.took;
            return;
        }
        for ((_, number), (_, more)) in self.took.iter_mut().zip(other.took) {
            *number += more;
        }
    }

    /// What has been added since.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let was = |at: usize| before.took.get(at).map_or(0, |(_, number)| *number);
        let took = self.took.iter().enumerate();
        Self {
            requests: self.requests.saturating_sub(before.requests),
            refused: self.refused.saturating_sub(before.refused),
            failed: self.failed.saturating_sub(before.failed),
            timed: self.timed.saturating_sub(before.timed),
            took: took.map(|(at, (bound, number))| (*bound, number.saturating_sub(was(at)))).collect(),
        }
    }

    /// In how many seconds this share of the requests was over, as well as the buckets know it; nothing where there were
    /// none, and the last bound where it took longer.
    pub fn seconds(&self, share: f64) -> Option<f64> {
        if self.timed == 0 {
            return None;
        }
        #[allow(clippy::cast_precision_loss)]
        let (float, wanted) = (|number: u64| number as f64, self.timed as f64 * share);
        let mut before = (0.0, 0);
        for (bound, number) in &self.took {
            if float(*number) >= wanted {
                let within = float(*number - before.1).max(1.0);
                return Some(before.0 + (bound - before.0) * (wanted - float(before.1)) / within);
            }
            before = (*bound, *number);
        }
        Some(before.0)
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use crate::fault::Fault;
    use crate::telemetry::metrics::{Metrics, Totals};

    #[test]
    fn totals_are_those_of_all_listeners_and_times_are_counted_once() {
        let metrics = Metrics::new().unwrap();
        let (edge, inner) = (metrics.route("edge", "orders"), metrics.route("inner", "orders"));
        for status in [200, 404, 404, 503] {
            edge.count(&Method::GET, status, 0.02, 0.0);
            inner.count(&Method::POST, status, 0.2, 0.0);
        }
        let mut totals = Totals::default();
        edge.add_to(&mut totals);
        inner.add_to(&mut totals);
        assert!(edge.add_times_to(&mut totals));
        assert_eq!((totals.requests, totals.refused, totals.failed), (8, 4, 2));
        let (half, most) = (totals.seconds(0.5).unwrap(), totals.seconds(0.99).unwrap());
        assert!((0.01..=0.025).contains(&half) && (0.1..=0.25).contains(&most), "{half} {most}");
        edge.count(&Method::GET, 200, 3.0, 0.0);
        edge.refuse(Fault::RequestMalformed);
        let mut now = Totals::default();
        edge.add_to(&mut now);
        inner.add_to(&mut now);
        edge.add_times_to(&mut now);
        let since = now.since(&totals);
        assert_eq!((since.requests, since.refused, since.failed), (2, 1, 0));
        assert!((2.5..=5.0).contains(&since.seconds(0.5).unwrap()), "{since:?}");
        assert!(since.seconds(0.99).unwrap() <= 5.0, "the refused one took no time that anyone knows: {since:?}");
        assert_eq!(Totals::default().seconds(0.5), None);
    }
}
