//! Quotas against a plain model, over clocks that go forth and back.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// 2026-11-21 10:00 in UTC.
const NOW: Duration = Duration::from_hours(498_682);
const DAY: Duration = Duration::from_hours(24);

fn quota(text: &str, book: &Arc<Book>) -> Quota {
    Quota::new(text.parse().unwrap(), 1000, Arc::clone(book), None)
}

fn alone(text: &str) -> Quota {
    quota(text, &Arc::default())
}

/// How many of so many are admitted.
fn admitted(quota: &Quota, number: u64, now: Duration) -> u64 {
    (0..number).filter(|_| quota.take(7, now).is_ok()).count() as u64
}

proptest! {
    #[test]
    fn it_is_the_plain_count_by_period(
        number in 1_u64..20,
        unit in 0_usize..5,
        steps in prop::collection::vec((0_u64..3, 0_u64..40_000_000), 1..300),
    ) {
        let unit = ["h", "day", "week", "month", "year"][unit];
        let quota = alone(&format!("{number}/{unit}"));
        let (mut now, mut counts) = (NOW, HashMap::<(u64, u32), u64>::new());
        for (key, step) in steps {
            now += Duration::from_secs(step / 20);
            let span = span(quota.per, now);
            let count = counts.entry((key, span.begins)).or_default();
            let may = *count < number;
            *count += u64::from(may);
            prop_assert_eq!(quota.peek(key + 1, now).is_ok(), may);
            let got = quota.take(key + 1, now);
            prop_assert_eq!(got.is_ok(), may);
            let (Ok(left) | Err(left)) = got;
            prop_assert_eq!(left.requests, number - *count);
            prop_assert_eq!(now + left.reset, Duration::from_secs(u64::from(span.ends) * 3600));
            prop_assert_eq!(quota.used(key + 1, now), *count);
        }
    }

    #[test]
    fn a_clock_that_is_set_back_a_little_admits_nobody_twice(
        number in 1_u64..20,
        steps in prop::collection::vec((0_u64..20_000, 0_u64..3600), 1..300),
    ) {
        let quota = alone(&format!("{number}/day"));
        let (mut real, mut admitted) = (NOW, HashMap::<u32, u64>::new());
        for (step, wrong) in steps {
            real += Duration::from_secs(step);
            // The period that counts is that of the latest time seen.
            let said = real.saturating_sub(Duration::from_secs(wrong));
            if quota.take(7, said).is_ok() {
                *admitted.entry(quota.known(7, said).unwrap().ends).or_default() += 1;
            }
        }
        prop_assert!(admitted.values().all(|count| *count <= number), "{:?}", admitted);
    }
}

#[test]
fn a_period_ends_and_the_next_one_begins() {
    let month = alone("3/month");
    assert_eq!(admitted(&month, 5, NOW), 3);
    assert_eq!(month.take(7, NOW).unwrap_err().seconds(), 9 * 86_400 + 14 * 3600, "until the first of December");
    assert_eq!(admitted(&month, 5, NOW + 9 * DAY), 0);
    assert_eq!(admitted(&month, 5, NOW + 10 * DAY), 3);
}

#[test]
fn changed_numbers_keep_the_count() {
    let book = Arc::default();
    let (few, many) = (quota("2/month", &book), quota("5/month", &book));
    assert_eq!((admitted(&few, 3, NOW), admitted(&many, 9, NOW), admitted(&few, 3, NOW)), (2, 3, 0));
    many.give_back(7);
    assert_eq!((admitted(&many, 9, NOW), many.used(7, NOW)), (1, 5));
    many.give_back(8);
}

#[test]
fn a_clock_that_was_wrong_for_a_while_frees_nobody_and_locks_nobody_out() {
    let month = alone("10/month");
    assert_eq!(admitted(&month, 6, NOW), 6);
    assert_eq!(admitted(&month, 3, NOW + 400 * DAY), 3, "a period of its own");
    assert_eq!(admitted(&month, 9, NOW), 1, "and now all of it counts");
    assert_eq!(month.take(7, NOW).unwrap_err().seconds(), 9 * 86_400 + 14 * 3600);
    assert_eq!(admitted(&month, 11, NOW + 10 * DAY), 10);
}

#[test]
fn of_a_flood_of_keys_the_least_used_are_forgotten_and_none_that_is_refused() {
    let quota = Quota::new("100/month".parse().unwrap(), 64 * 4, Arc::default(), None);
    // Keys of one part, which has room for four.
    let key = |at: u64| (at << 32) * 64 + 7;
    let take = |at: u64, times: u64| (0..times).filter(|_| quota.take(key(at), NOW).is_ok()).count();
    assert_eq!((take(1, 200), take(2, 50), take(3, 40), take(4, 30)), (100, 50, 40, 30));
    for at in 5..1000 {
        take(at, 1);
    }
    let used = |at: u64| quota.used(key(at), NOW);
    assert_eq!((used(1), used(2), used(3), used(4)), (100, 50, 40, 0));
    assert!(take(1, 1) == 0 && quota.cells().len() <= 64 * 4);
    let top = quota.top(2, NOW);
    assert_eq!(top, [(key(1), 100), (key(2), 50)]);
}

#[test]
fn a_host_knows_what_the_store_has_said() {
    let quota = alone("90/month");
    let mine = quota.divided(3);
    mine.learn(7, NOW, &Left { requests: 45, reset: Duration::ZERO }, 90);
    assert_eq!(admitted(&mine, 99, NOW), 15);
    assert_eq!(admitted(&alone("2/month").divided(99), 9, NOW), 1, "at least one");
}

#[test]
fn what_was_counted_is_read_back_and_keys_have_the_same_numbers() {
    use std::hash::Hasher;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("quotas/limits.a.month");
    let before = alone("9/month");
    let number = |quota: &Quota| {
        let mut hasher = quota.hasher();
        hasher.write(b"acme");
        hasher.finish()
    };
    for _ in 0..4 {
        before.take(number(&before), NOW).unwrap();
    }
    disk::write(&file, &before.book, NOW).unwrap();
    let after = quota("9/month", &Arc::new(Book::open(Some(&file), 1000)));
    assert_eq!((number(&after), after.used(number(&after), NOW)), (number(&before), 4));
    std::fs::write(&file, "nonsense").unwrap();
    assert_eq!(Book::open(Some(&file), 1000).cells.len(), 0, "begins anew");
}
