use super::config::Sample;
use super::outlier::{erring, late};
use super::*;

fn config(yaml: &str) -> Result<Config, String> {
    serde_yaml::from_str(yaml).map_err(|why| why.to_string())
}

#[test]
fn what_is_written_is_read_and_printed_back() {
    for text in ["30% of 20 in 10s", "1% of 1 in 1s"] {
        assert_eq!(text.parse::<Above>().unwrap().to_string(), text);
    }
    for text in ["3x of 20 in 10s", "1.5x of 20 in 1m"] {
        assert_eq!(text.parse::<Slower>().unwrap().to_string(), text);
    }
    for text in ["30%", "30% of 20", "0% of 20 in 10s", "101% of 20 in 10s", "30% of 0 in 10s", "30% of 20 in 2h", ""] {
        assert!(text.parse::<Above>().is_err(), "{text}");
    }
    for text in
        ["3", "3x", "1.4x of 20 in 10s", "101x of 20 in 10s", "3.25x of 20 in 10s", "x of 20 in 10s", "-3x of 1 in 1s"]
    {
        assert!(text.parse::<Slower>().is_err(), "{text}");
    }
    let config =
        config("{ errors: 3, share: 30% of 20 in 10s, slow: 2.5x of 20 in 10s, for: 1m, mode: shadow }").unwrap();
    assert_eq!(self::config(&serde_yaml::to_string(&config).unwrap()).unwrap(), config);
}

#[test]
fn what_cannot_work_is_a_problem() {
    let mut problems = Problems::default();
    complain(&config("{ errors: 0, for: 1ms, on: [] }").unwrap(), &Path::of(["eject"]), &mut problems);
    let said: Vec<_> = problems.iter().map(|problem| problem.at.to_string()).collect();
    assert_eq!(said, ["eject.errors", "eject.for", "eject.on"]);
    assert_eq!(config("off").unwrap().at_most.percent(), 0);
    assert!(config("{ erors: 5 }").unwrap_err().contains("erors"));
}

fn sample(of: u32) -> Sample {
    Sample { of, within: crate::units::Duration::from_secs(10) }
}

/// Outcomes of each target: all, and bad ones.
fn bad(figures: &[(u64, u64)]) -> Vec<usize> {
    let figures: Vec<_> = figures.iter().map(|&(total, bad)| Figures { total, bad, ..Figures::default() }).collect();
    erring(&figures, Above { points: 30, sample: sample(20) }).into_iter().map(|(place, _)| place).collect()
}

#[test]
fn an_error_share_counts_against_that_of_the_others() {
    assert_eq!(bad(&[(100, 40), (100, 0), (100, 0)]), [0]);
    assert_eq!(bad(&[(100, 29), (100, 0)]), [0; 0], "29 points are not 30");
    assert_eq!(bad(&[(100, 90), (100, 80), (100, 90)]), [0; 0], "all are bad: that is not their own fault");
    assert_eq!(bad(&[(19, 19), (100, 0)]), [0; 0], "too few to tell");
    assert_eq!(bad(&[(100, 100), (19, 0)]), [0; 0], "nobody to compare with");
    assert_eq!(bad(&[(100, 50), (100, 0), (100, 90)]), [2], "the worst hides the next one until it is out");
    assert_eq!(bad(&[(100, 60), (900, 0), (100, 90)]), [2, 0], "the worst first");
    assert_eq!(bad(&[]), [0; 0]);
    let figures = [(40, 20), (60, 0)].map(|(total, bad)| Figures { total, bad, ..Figures::default() });
    let why = &erring(&figures, Above { points: 30, sample: sample(20) })[0].1;
    assert_eq!(why, "20 of 40 failed in 10s, 0% of the others'");
}

/// The mean of each target in milliseconds, of a hundred answers.
fn slow(means: &[u64]) -> Vec<usize> {
    let one = |&mean: &u64| Figures { answers: 100, mean: Duration::from_millis(mean), ..Figures::default() };
    let figures: Vec<_> = means.iter().map(one).collect();
    late(&figures, "3x of 20 in 10s".parse().unwrap()).into_iter().map(|(place, _)| place).collect()
}

#[test]
fn latency_counts_against_the_median_of_the_others() {
    assert_eq!(slow(&[20, 20, 60]), [2]);
    assert_eq!(slow(&[20, 20, 59]), [0; 0]);
    assert_eq!(slow(&[20, 100, 200, 20, 20]), [2, 1], "the slowest first");
    assert_eq!(slow(&[1, 1, 9]), [0; 0], "nobody notices");
    assert_eq!(slow(&[500]), [0; 0], "nobody to compare with");
    let figures = [(100, 50), (19, 500)].map(|(answers, mean)| Figures {
        answers,
        mean: Duration::from_millis(mean),
        ..Figures::default()
    });
    assert!(late(&figures, "3x of 20 in 10s".parse().unwrap()).is_empty(), "too few to tell");
}

#[test]
fn it_is_out_longer_each_time_and_that_is_forgotten() {
    let (first, mut now) = (Duration::from_secs(30), Instant::now());
    let mut machine = Machine::new(now);
    let mut lengths = Vec::new();
    for _ in 0..6 {
        assert!(machine.eject("why".into(), first, now) && machine.is_out(now));
        assert!(!machine.eject("again".into(), first, now), "out is out");
        lengths.push(machine.length().as_secs());
        assert!(!machine.let_in(false, now));
        now += machine.left(now).unwrap();
        assert!(!machine.is_out(now) && machine.let_in(false, now) && !machine.let_in(false, now));
    }
    assert_eq!((lengths, machine.times()), (vec![30, 60, 120, 240, 300, 300], 6));
    now += Duration::from_mins(11);
    machine.eject("why".into(), first, now);
    assert_eq!((machine.length(), machine.times()), (first, 1), "long ago is not soon");
    assert!(machine.let_in(true, now) && !machine.is_out(now), "the pool cannot do without it");
}
