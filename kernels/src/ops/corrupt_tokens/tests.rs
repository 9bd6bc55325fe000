use super::reference;
use crate::cases::{Host, check, run};
use crate::isa::Isa;
use crate::op::{Limit, Op};

fn rng(step: u32) -> Host {
    Host::u32(&[4], vec![11, 22, step, 0])
}

/// One level a row; for the hybrid a quarter of what is corrupted becomes the mask.
fn corrupt(limit: Limit, x_0: &Host, alpha_bar: &[f32], step: u32) -> Vec<f64> {
    let level = match limit {
        Limit::Mask(_) | Limit::Uniform(_) => Host::f32(&[alpha_bar.len(), 1], alpha_bar.to_vec()),
        Limit::Hybrid { .. } => {
            Host::f32(&[alpha_bar.len(), 1, 2], alpha_bar.iter().flat_map(|&a| [a, (1.0 - a) / 4.0]).collect())
        }
    };
    grouped(limit, x_0, level, step)
}

fn grouped(limit: Limit, x_0: &Host, level: Host, step: u32) -> Vec<f64> {
    let reads = [x_0.clone(), level, rng(step)];
    let op = Op::CorruptTokens { limit, stream: 5 };
    check(op, &reads, &[], &[vec![]], 0.0);
    run(Isa::detect(), 2, op, &reads, &[]).remove(0)
}

/// sum (count - n q)^2 / (n q) over the ids that can occur; ids that cannot must not.
fn chi_square(x_t: &[f64], q: &[f64]) -> f64 {
    let mut counts = vec![0.0; q.len()];
    x_t.iter().for_each(|&x| counts[x as usize] += 1.0);
    let n = x_t.len() as f64;
    counts
        .iter()
        .zip(q)
        .map(|(&c, &q)| if q > 0.0 { (c - n * q).powi(2) / (n * q) } else { c * f64::INFINITY.min(1e9) })
        .sum()
}

#[test]
fn frequencies_follow_the_law() {
    let (len, id) = (20_000, 3);
    let x_0 = Host::u32(&[2, len], vec![id; 2 * len]);
    // Quantiles of 0.1 % for one and six degrees of freedom.
    let hybrid = Limit::Hybrid { ids: 6, mask: 2 };
    for (limit, vocab, quantile) in [(Limit::Mask(6), 7, 10.83), (Limit::Uniform(7), 7, 22.46), (hybrid, 7, 22.46)] {
        let x_t = corrupt(limit, &x_0, &[0.3, 0.8], 1);
        for (x_t, alpha_bar) in x_t.chunks(len).zip([0.3f32, 0.8]) {
            let found = chi_square(
                x_t,
                &reference::law(limit, vocab, id, f64::from(alpha_bar), (1.0 - f64::from(alpha_bar)) / 4.0),
            );
            assert!(found < quantile, "{limit:?} at {alpha_bar}: {found}");
        }
    }
}

#[test]
fn the_ends_keep_all_or_nothing() {
    let ids: Vec<u32> = (0..15).collect();
    let x_0 = Host::u32(&[3, 5], ids.clone());
    let kept: Vec<f64> = ids.iter().map(|&x| f64::from(x)).collect();
    for limit in [Limit::Mask(99), Limit::Uniform(15), Limit::Hybrid { ids: 14, mask: 14 }] {
        assert_eq!(corrupt(limit, &x_0, &[1.0; 3], 0), kept);
    }
    assert_eq!(corrupt(Limit::Mask(99), &x_0, &[0.0; 3], 0), vec![99.0; 15]);
    assert_eq!(corrupt(Limit::Uniform(1), &x_0, &[0.0; 3], 0), vec![0.0; 15]);
    let all = corrupt(Limit::Hybrid { ids: 1, mask: 0 }, &x_0, &[0.0; 3], 0);
    assert!(all.iter().all(|&x| x == 0.0 || x == 1.0));
}

/// Positions of a group have its level: where alpha_bar is 1 nothing is corrupted, beside a group where everything is.
#[test]
fn every_group_has_its_level() {
    let x_0 = Host::u32(&[2, 6], (0..12).collect());
    let found = grouped(Limit::Mask(99), &x_0, Host::f32(&[2, 3], vec![1.0, 0.0, 1.0, 0.0, 1.0, 0.0]), 3);
    let m = 99.0;
    assert_eq!(found, [0.0, 1.0, m, m, 4.0, 5.0, m, m, 8.0, 9.0, m, m]);
    // Groups of one level each draw as one group does.
    let many = grouped(Limit::Uniform(50), &x_0, Host::f32(&[2, 3], vec![0.5; 6]), 4);
    assert_eq!(many, corrupt(Limit::Uniform(50), &x_0, &[0.5; 2], 4));
}

/// What block diffusion trains on: a row twice, its first half with a level for each block, its second half clean.
#[test]
fn a_block_has_a_level_of_its_own() {
    let ids: Vec<u32> = (0..2 * 24).map(|i| i % 12).collect();
    let x_0 = Host::u32(&[2, 24], ids.clone());
    let levels = Host::f32(&[2, 6], vec![0.0, 0.6, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.6, 1.0, 1.0, 1.0]);
    let x_t = grouped(Limit::Mask(99), &x_0, levels, 3);
    let truth: Vec<f64> = ids.iter().map(|&x| f64::from(x)).collect();
    assert_eq!([&x_t[..4], &x_t[28..32]].concat(), vec![99.0; 8]);
    assert_eq!([&x_t[8..28], &x_t[36..]].concat(), [&truth[8..28], &truth[36..]].concat());
}

#[test]
fn a_row_does_not_know_its_batch() {
    let x_0 = |b: usize| Host::u32(&[b, 37], vec![1; b * 37]);
    let two = corrupt(Limit::Uniform(50), &x_0(2), &[0.5, 0.5], 4);
    let one = corrupt(Limit::Uniform(50), &x_0(1), &[0.5], 4);
    assert_eq!(two[..37], one);
    assert_ne!(two[37..], one, "another row draws other numbers");
    assert_ne!(corrupt(Limit::Uniform(50), &x_0(1), &[0.5], 5), one, "another step draws other numbers");
}
