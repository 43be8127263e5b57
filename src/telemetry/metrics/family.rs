//! A metric with labels whose series come and go with those who use them, and never outgrow a ceiling.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::{CounterVec, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

/// The most series of one metric; what comes later is counted under the label `other`.
pub const CEILING: usize = 10_000;

/// The label value of what is beyond the ceiling.
pub(super) const OTHER: &str = "other";

/// What the list says of one metric.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub name: &'static str,
    pub help: &'static str,
    pub labels: &'static [&'static str],
    /// Upper bounds of a histogram, in its unit; empty for other kinds.
    pub buckets: &'static [f64],
}

/// A metric of one kind before its labels have values.
pub(super) trait Vector: Collector + Clone + 'static {
    type Child: Clone;
    fn make(row: &Row) -> prometheus::Result<Self>;
    fn child(&self, labels: &[&str]) -> prometheus::Result<Self::Child>;
    fn remove(&self, labels: &[&str]);
}

/// How each kind is made from its row; what it does afterwards is the same for all.
trait Make: Sized {
    fn new(row: &Row) -> prometheus::Result<Self>;
}

macro_rules! make {
    ($($vector:ty: $options:expr;)*) => {
        $(impl Make for $vector {
            fn new(row: &Row) -> prometheus::Result<Self> {
                Self::new($options(row), row.labels)
            }
        })*
    };
}
make! {
    IntCounterVec: |row: &Row| Opts::new(row.name, row.help);
    CounterVec: |row: &Row| Opts::new(row.name, row.help);
    IntGaugeVec: |row: &Row| Opts::new(row.name, row.help);
    GaugeVec: |row: &Row| Opts::new(row.name, row.help);
    HistogramVec: |row: &Row| HistogramOpts::new(row.name, row.help).buckets(row.buckets.to_vec());
}

impl<B: MetricVecBuilder + 'static> Vector for MetricVec<B>
where
    Self: Make,
{
    type Child = B::M;

    fn make(row: &Row) -> prometheus::Result<Self> {
        Make::new(row)
    }
    fn child(&self, labels: &[&str]) -> prometheus::Result<B::M> {
        self.get_metric_with_label_values(labels)
    }
    fn remove(&self, labels: &[&str]) {
        // The only error is that there is no such series, which is what was asked for.
        let _ = self.remove_label_values(labels);
    }
}

/// A registered metric and the number of its series.
pub(super) struct Family<V: Vector> {
    row: Row,
    vector: V,
    series: Arc<AtomicUsize>,
    warned: AtomicBool,
    /// Counted into, but never shown: the answer to an error that the list rules out.
    spare: V::Child,
}

impl<V: Vector> Family<V> {
    pub(super) fn new(row: Row, registry: &Registry) -> prometheus::Result<Self> {
        let vector = V::make(&row)?;
        let others = vec![OTHER; row.labels.len()];
        let spare = vector.child(&others)?;
        vector.remove(&others);
        registry.register(Box::new(vector.clone()))?;
        Ok(Self { row, vector, series: Arc::default(), warned: AtomicBool::new(false), spare })
    }

    /// A series that stays as long as the process: for labels with a closed list of values.
    pub(super) fn fixed(&self, labels: &[&str]) -> V::Child {
        self.vector.child(labels).unwrap_or_else(|_| self.spare.clone())
    }

    /// Takes a series off the page.
    pub(super) fn remove(&self, labels: &[&str]) {
        self.vector.remove(labels);
    }

    fn has_room(&self) -> bool {
        if self.series.load(Ordering::Relaxed) < CEILING {
            return true;
        }
        if !self.warned.swap(true, Ordering::Relaxed) {
            log::warn!("metric {} has {CEILING} series: the rest is counted under `{OTHER}`", self.row.name);
        }
        false
    }
}

/// What one owner of series (a route, a pool, a target) has put on the page.
#[derive(Default)]
struct Entry {
    users: usize,
    series: HashMap<(&'static str, String), Box<dyn FnOnce() + Send>>,
}

/// Whose series are on the page. An owner's series stay while anyone holds its lease, so that counters survive
/// a reload, and go with the last one, so that removed routes do not stay on the page for ever.
#[derive(Default)]
pub(super) struct Book(Mutex<HashMap<Box<str>, Entry>>);

impl Book {
    /// A hold on the series of `owner`.
    pub(super) fn lease(self: &Arc<Self>, owner: String) -> Lease {
        let owner = owner.into_boxed_str();
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.entry(owner.clone()).or_default().users += 1;
        Lease { book: Arc::clone(self), owner }
    }
}

/// A hold on the series of one owner.
pub(super) struct Lease {
    book: Arc<Book>,
    owner: Box<str>,
}

impl Lease {
    /// One more hold on the same series, which may outlast this one.
    pub(super) fn again(&self) -> Self {
        self.book.lease(self.owner.to_string())
    }

    /// A hold on the series of another owner.
    pub(super) fn other(&self, owner: String) -> Self {
        self.book.lease(owner)
    }

    /// The series of these label values, put on the page for as long as the owner has a lease.
    pub(super) fn child<V: Vector>(&self, family: &Family<V>, labels: &[&str]) -> V::Child {
        let mut entries = self.book.0.lock().unwrap_or_else(PoisonError::into_inner);
        let series = &mut entries.entry(self.owner.clone()).or_default().series;
        let key = (family.row.name, labels.join("\0"));
        if series.contains_key(&key) {
            return family.fixed(labels);
        }
        if !family.has_room() {
            return family.fixed(&vec![OTHER; labels.len()]);
        }
        let (vector, count) = (family.vector.clone(), Arc::clone(&family.series));
        let values: Vec<String> = labels.iter().map(ToString::to_string).collect();
        let forget = move || {
            vector.remove(&values.iter().map(String::as_str).collect::<Vec<_>>());
            count.fetch_sub(1, Ordering::Relaxed);
        };
        family.series.fetch_add(1, Ordering::Relaxed);
        series.insert(key, Box::new(forget));
        family.fixed(labels)
    }
}

impl Drop for Lease {
    /// Under the same lock as `child`, so that an owner who returns at this moment keeps its series.
    fn drop(&mut self) {
        let mut entries = self.book.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = entries.get_mut(&self.owner) else { return };
        entry.users = entry.users.saturating_sub(1);
        if entry.users == 0 {
            let gone = entries.remove(&self.owner);
            gone.into_iter().flat_map(|entry| entry.series.into_values()).for_each(|forget| forget());
        }
    }
}
