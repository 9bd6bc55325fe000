use crate::times::{Times, quantise};
use galatea_random::Philox;

const RULES: [Times; 4] = [Times::Independent, Times::Antithetic, Times::Stratified, Times::Lattice];

fn draw(rule: Times, n: usize, t_min: f64, row: u32) -> Vec<f64> {
    let mut times = vec![f64::NAN; n];
    rule.draw(t_min, &mut Philox::new(9, 0, 0, row), &mut times);
    times
}

#[test]
fn every_time_is_uniform_and_in_range() {
    for rule in RULES {
        for n in [1, 2, 7] {
            // Each place of the batch on its own, where the rule has no strata; else all places together.
            let all: Vec<f64> = (0..4000).flat_map(|row| draw(rule, n, 0.2, row)).collect();
            assert!(all.iter().all(|t| (0.2..1.0).contains(t)), "{rule:?}");
            let mean = all.iter().sum::<f64>() / all.len() as f64;
            let square = all.iter().map(|t| (t - 0.6).powi(2)).sum::<f64>() / all.len() as f64;
            assert!(
                (mean - 0.6).abs() < 0.015 && (square - 0.64 / 12.0).abs() < 0.003,
                "{rule:?} {n}: {mean} {square}"
            );
        }
    }
}

#[test]
fn clipped_times_are_uniform_within_their_bounds() {
    let bounds = crate::Bounds::new(0.45, 0.95).unwrap();
    for rule in RULES {
        let all: Vec<f64> = (0..4000)
            .flat_map(|row| {
                let mut times = vec![f64::NAN; 6];
                rule.draw_within(bounds, &mut Philox::new(9, 0, 0, row), &mut times);
                times
            })
            .collect();
        assert!(all.iter().all(|t| (0.45..=0.95).contains(t)), "{rule:?}");
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let square = all.iter().map(|t| (t - 0.7).powi(2)).sum::<f64>() / all.len() as f64;
        assert!((mean - 0.7).abs() < 0.005 && (square - 0.25 / 12.0).abs() < 0.001, "{rule:?}: {mean} {square}");
    }
}

#[test]
fn strata_hold_one_time_each() {
    for rule in [Times::Stratified, Times::Lattice] {
        for row in 0..100 {
            let mut strata: Vec<usize> = draw(rule, 8, 0.0, row).iter().map(|t| (t * 8.0) as usize).collect();
            strata.sort_unstable();
            assert!(strata.into_iter().eq(0..8), "{rule:?}");
        }
    }
    let pair = draw(Times::Antithetic, 3, 0.0, 1);
    assert!((pair[0] + pair[1] - 1.0).abs() < 1e-15 && pair[2] < 1.0);
}

#[test]
fn repelling_times_lower_the_variance_of_a_mean() {
    let variance = |rule| {
        let means: Vec<f64> =
            (0..2000).map(|row| draw(rule, 8, 0.0, row).iter().map(|t| t.exp()).sum::<f64>() / 8.0).collect();
        let mean = means.iter().sum::<f64>() / 2000.0;
        means.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / 2000.0
    };
    let plain = variance(Times::Independent);
    assert!(variance(Times::Antithetic) < 0.2 * plain);
    assert!(variance(Times::Stratified) < 0.1 * plain && variance(Times::Lattice) < 0.2 * plain);
}

#[test]
fn quantised_times_are_the_ends_of_steps() {
    assert_eq!(quantise(0.0, 4), 0.25);
    assert_eq!(quantise(0.26, 4), 0.5);
    assert_eq!(quantise(0.999, 4), 1.0);
    assert_eq!(quantise(1.0, 4), 1.0);
}
