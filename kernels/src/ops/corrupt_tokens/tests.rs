use super::reference;
use crate::cases::{Host, check, run};
use crate::isa::Isa;
use crate::op::{Limit, Op};

fn rng(step: u32) -> Host {
    Host::u32(&[4], vec![11, 22, step, 0])
}

fn corrupt(limit: Limit, x_0: &Host, alpha_bar: &[f32], step: u32) -> Vec<f64> {
    corrupt_blocks(limit, x_0, &Host::f32(&[alpha_bar.len()], alpha_bar.to_vec()), step)
}

fn corrupt_blocks(limit: Limit, x_0: &Host, alpha_bar: &Host, step: u32) -> Vec<f64> {
    let reads = [x_0.clone(), alpha_bar.clone(), rng(step)];
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
    for (limit, vocab, quantile) in [(Limit::Mask(6), 7, 10.83), (Limit::Uniform(7), 7, 22.46)] {
        let x_t = corrupt(limit, &x_0, &[0.3, 0.8], 1);
        for (x_t, alpha_bar) in x_t.chunks(len).zip([0.3f32, 0.8]) {
            let found = chi_square(x_t, &reference::law(limit, vocab, id, f64::from(alpha_bar)));
            assert!(found < quantile, "{limit:?} at {alpha_bar}: {found}");
        }
    }
}

#[test]
fn the_ends_keep_all_or_nothing() {
    let ids: Vec<u32> = (0..15).collect();
    let x_0 = Host::u32(&[3, 5], ids.clone());
    let kept: Vec<f64> = ids.iter().map(|&x| f64::from(x)).collect();
    for limit in [Limit::Mask(99), Limit::Uniform(15)] {
        assert_eq!(corrupt(limit, &x_0, &[1.0; 3], 0), kept);
    }
    assert_eq!(corrupt(Limit::Mask(99), &x_0, &[0.0; 3], 0), vec![99.0; 15]);
    assert_eq!(corrupt(Limit::Uniform(1), &x_0, &[0.0; 3], 0), vec![0.0; 15]);
}

/// What block diffusion trains on: a row twice, its first half with a level for each block, its second half clean.
#[test]
fn a_block_has_a_level_of_its_own() {
    let ids: Vec<u32> = (0..2 * 24).map(|i| i % 12).collect();
    let x_0 = Host::u32(&[2, 24], ids.clone());
    let levels = Host::f32(&[2, 6], vec![0.0, 0.6, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.6, 1.0, 1.0, 1.0]);
    let x_t = corrupt_blocks(Limit::Mask(99), &x_0, &levels, 3);
    let truth: Vec<f64> = ids.iter().map(|&x| f64::from(x)).collect();
    assert_eq!([&x_t[..4], &x_t[28..32]].concat(), vec![99.0; 8]);
    assert_eq!([&x_t[8..28], &x_t[36..]].concat(), [&truth[8..28], &truth[36..]].concat());
    // A level for every block is the level of the row where all agree.
    let even = Host::f32(&[2, 3], vec![0.4; 6]);
    assert_eq!(corrupt_blocks(Limit::Uniform(12), &x_0, &even, 3), corrupt(Limit::Uniform(12), &x_0, &[0.4; 2], 3));
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
