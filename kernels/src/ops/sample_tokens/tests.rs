use super::reference;
use crate::cases::{Host, check, run};
use crate::isa::Isa;
use crate::op::Op;

/// An exponential of 2e-7 and sums in sixteen lanes of f32, over an entropy of up to ten.
const TOLERANCE: f64 = 1e-6;

const RNG: [u32; 4] = [5, 6, 7, 0];

fn rng() -> Host {
    Host::u32(&[4], RNG.to_vec())
}

fn uniform(row: usize, stream: u32) -> f64 {
    let words = galatea_random::block(5 | 6 << 32, stream, 7, row as u32, 0);
    galatea_random::unit_f64([words[0], words[1]])
}

fn compare(v: usize, logits: Host, temperature: f32, forbid: Option<u32>) {
    let mut truth = vec![vec![], vec![], vec![]];
    for (n, row) in logits.f64().chunks(v).enumerate() {
        let u = uniform(n, 2);
        let (id, log_p, entropy) = reference::row(row, f64::from(temperature), forbid.map(|f| f as usize), u);
        truth[0].push(id as f64);
        truth[1].push(log_p);
        truth[2].push(entropy);
    }
    check(Op::SampleTokens { stream: 2, temperature, forbid }, &[logits, rng()], &[], &truth, TOLERANCE);
}

#[test]
fn kernel_equals_reference() {
    for (n, v, forbid) in [
        (1, 1, None),
        (3, 2, Some(1)),
        (9, 7, None),
        (20, 65, Some(0)),
        (20, 65, Some(64)),
        (20, 130, Some(70)),
        (3, 20_011, Some(9)),
        (3, 20_011, None),
    ] {
        for temperature in [0.0, 0.3, 1.0, 2.5] {
            compare(v, Host::normal(&[n, v], 1), temperature, forbid);
        }
    }
}

#[test]
fn large_and_infinite_logits_draw_what_is_left() {
    let logits = Host::normal(&[6, 40], 1).f64().iter().map(|&x| 1e4 * x as f32).collect();
    compare(40, Host::f32(&[6, 40], logits), 1.0, Some(3));
    let mut logits = vec![f32::NEG_INFINITY; 3 * 300];
    for (row, j) in [(0, 0), (1, 171), (2, 299)] {
        logits[row * 300 + j] = -5.0;
    }
    for temperature in [0.0, 1.0] {
        let op = Op::SampleTokens { stream: 0, temperature, forbid: Some(8) };
        let truth = [vec![0.0, 171.0, 299.0], vec![0.0; 3], vec![0.0; 3]];
        check(op, &[Host::f32(&[3, 300], logits.clone()), rng()], &[], &truth, 0.0);
    }
}

#[test]
fn ties_at_temperature_zero_take_the_lowest_id() {
    let logits = Host::f32(&[2, 5], vec![1.0, 3.0, 3.0, 2.0, 3.0, 9.0, 0.0, 0.0, 0.0, 0.0]);
    let draw = |forbid| {
        run(Isa::detect(), 1, Op::SampleTokens { stream: 0, temperature: 0.0, forbid }, &[logits.clone(), rng()], &[])
            .remove(0)
    };
    assert_eq!(draw(None), [1.0, 0.0]);
    assert_eq!(draw(Some(1)), [2.0, 0.0]);
    assert_eq!(draw(Some(0)), [1.0, 1.0]);
}

#[test]
fn frequencies_follow_the_softmax() {
    let n = 40_000;
    let row = [0.0f32, 1.0, -1.0, 7.0, 0.5, 0.7, -2.0];
    let logits = Host::f32(&[n, 7], row.repeat(n));
    for temperature in [0.5f32, 1.0, 3.0] {
        let op = Op::SampleTokens { stream: 1, temperature, forbid: Some(3) };
        let ids = run(Isa::detect(), 2, op, &[logits.clone(), rng()], &[]).remove(0);
        let mut counts = [0.0; 7];
        ids.iter().for_each(|&id| counts[id as usize] += 1.0);
        let weight = |j: usize| if j == 3 { 0.0 } else { f64::from(row[j] / temperature).exp() };
        let total: f64 = (0..7).map(weight).sum();
        assert_eq!(counts[3], 0.0, "the forbidden column");
        let expected = |j: usize| n as f64 * weight(j) / total;
        let chi_square: f64 = (0..7).filter(|&j| j != 3).map(|j| (counts[j] - expected(j)).powi(2) / expected(j)).sum();
        assert!(chi_square < 20.52, "five degrees of freedom, 0.1 %: {chi_square} at {temperature}");
    }
}
