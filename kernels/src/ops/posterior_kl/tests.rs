use super::reference::Token;
use crate::cases::{Host, check, run};
use crate::isa::Isa;
use crate::op::Op;
use galatea_fixtures::derivative;
use galatea_random::Philox;

/// Sums of a few hundred terms in f32.
const TOLERANCE: f64 = 5e-6;
const LEN: usize = 5;

struct Case {
    lambda: f32,
    logits: Host,
    x_0: Vec<u32>,
    x_t: Vec<u32>,
    chain: Host,
    w: Vec<f32>,
}

/// Rows that sum to 1, near the identity for a small `spread`; with `zeros` only neighbours are reached.
fn matrix(rng: &mut Philox, v: usize, spread: f64, zeros: bool) -> Vec<f64> {
    let mut rows = vec![0.0; v * v];
    for (i, row) in rows.chunks_mut(v).enumerate() {
        for (k, q) in row.iter_mut().enumerate() {
            let near = !zeros || i.abs_diff(k) <= 1;
            *q = if i == k {
                1.0
            } else if near {
                spread * rng.uniform()
            } else {
                0.0
            };
        }
        let total: f64 = row.iter().sum();
        row.iter_mut().for_each(|q| *q /= total);
    }
    rows
}

fn case(b: usize, v: usize, scale: f32, spread: f64, zeros: bool, lambda: f32) -> Case {
    let mut rng = Philox::new(9, v as u32, b as u32, u32::from(zeros));
    let mut chain = Vec::new();
    for _ in 0..b {
        chain.extend(matrix(&mut rng, v, spread, zeros));
        let q = matrix(&mut rng, v, spread, zeros);
        chain.extend((0..v * v).map(|i| q[i % v * v + i / v]));
    }
    let ids = |k: usize| -> Vec<u32> { (0..b * LEN).map(|n| ((k * n + n / 2) % v) as u32).collect() };
    let logits: Vec<f32> = Host::normal(&[b, LEN, v], 1).f64().iter().map(|&x| scale * x as f32).collect();
    Case {
        lambda,
        logits: Host::f32(&[b, LEN, v], logits),
        x_0: ids(3),
        // Near x_0, so that the matrices with zeros can lead there, and not always.
        x_t: ids(3).iter().enumerate().map(|(n, &x)| (x + (n % 3) as u32) % v as u32).collect(),
        chain: Host::f32(&[b, 2, v, v], chain.iter().map(|&x| x as f32).collect()),
        w: (0..b * LEN).map(|n| [0.7, 2.0, 0.0, 1.0][n % 4]).collect(),
    }
}

impl Case {
    fn reads(&self) -> Vec<Host> {
        let b = self.w.len() / LEN;
        let ids = |x: &[u32]| Host::u32(&[b, LEN], x.to_vec());
        vec![
            self.logits.clone(),
            ids(&self.x_0),
            ids(&self.x_t),
            self.chain.clone(),
            Host::f32(&[b, LEN], self.w.clone()),
        ]
    }

    /// What `of` says of every token, and 0 of those without weight.
    fn truth<T: Clone>(&self, none: T, of: impl Fn(Token<'_>) -> T) -> Vec<T> {
        let (logits, chain) = (self.logits.f64(), self.chain.f64());
        let v = self.logits.shape.cols();
        let token = |n: usize| {
            if self.w[n] == 0.0 {
                return none.clone();
            }
            let (q_bar, q) = chain[n / LEN * 2 * v * v..][..2 * v * v].split_at(v * v);
            let (x_0, x_t) = (self.x_0[n] as usize, self.x_t[n] as usize);
            of(Token { logits: &logits[n * v..][..v], q_bar, q, x_0, x_t, lambda: f64::from(self.lambda) })
        };
        (0..self.w.len()).map(token).collect()
    }

    fn compare(&self) {
        let (op, v) = (Op::PosteriorKl { lambda: self.lambda }, self.logits.shape.cols());
        let d = self.truth(0.0, |token| token.divergence());
        let loss = d.iter().zip(&self.w).map(|(d, &w)| d * f64::from(w)).sum();
        check(op, &self.reads(), &[], &[vec![loss], d, vec![], vec![]], TOLERANCE);
        let found = run(Isa::detect(), 1, op, &self.reads(), &[]);
        let saved = |i: usize| Host::f32(&[self.w.len() / LEN, LEN, v], found[i].iter().map(|&x| x as f32).collect());
        let reads = self.reads();
        let reads = [saved(2), saved(3), reads[1].clone(), reads[2].clone(), reads[3].clone(), reads[4].clone()];
        let dlogits = self.truth(vec![0.0; v], |token| token.gradient());
        let scaled = dlogits.iter().zip(&self.w).flat_map(|(d, &w)| d.iter().map(move |d| 0.5 * f64::from(w) * d));
        let op = Op::PosteriorKlGrad { lambda: self.lambda };
        let reads: Vec<Host> = reads.into_iter().chain([Host::f32(&[1], vec![0.5])]).collect();
        check(op, &reads, &[], &[scaled.collect(), vec![]], TOLERANCE);
    }
}

#[test]
fn kernels_equal_reference() {
    for (b, v) in [(1, 2), (2, 3), (3, 17), (2, 64), (1, 131)] {
        for (spread, zeros) in [(0.05, false), (1.0, false), (0.3, true)] {
            for lambda in [0.0, 0.01] {
                case(b, v, 1.5, spread, zeros, lambda).compare();
            }
        }
    }
}

#[test]
fn gradient_equals_finite_differences() {
    let case = case(2, 6, 1.0, 0.4, false, 0.3);
    let differences = case.truth(vec![0.0; 6], |token| {
        let at = |k: usize, x: f64| {
            let mut logits = token.logits.to_vec();
            logits[k] = x;
            Token { logits: &logits, ..token }.divergence()
        };
        (0..6).map(|k| derivative(|x| at(k, x), token.logits[k], 1e-3)).collect()
    });
    let gradients = case.truth(vec![0.0; 6], |token| token.gradient());
    for (found, truth) in gradients.iter().flatten().zip(differences.iter().flatten()) {
        assert!((found - truth).abs() < 1e-7, "{found} instead of {truth}");
    }
}

/// With Q_bar the identity and a likelihood of ones the KL is the cross-entropy: the step into the data.
#[test]
fn the_step_into_the_data_is_the_cross_entropy() {
    let (v, mut case) = (7, case(1, 7, 1.0, 0.4, false, 0.0));
    let identity = (0..v * v).map(|i| if i / v == i % v { 1.0 } else { 0.0 });
    case.chain = Host::f32(&[1, 2, v, v], identity.chain(vec![1.0; v * v]).collect());
    let found = run(Isa::detect(), 1, Op::PosteriorKl { lambda: 0.0 }, &case.reads(), &[]).remove(1);
    case.lambda = 1.0;
    let with = case.truth(0.0, |token| token.divergence());
    case.lambda = 0.0;
    let without = case.truth(0.0, |token| token.divergence());
    for ((found, with), without) in found.iter().zip(with).zip(without) {
        assert!((found - (with - without)).abs() < 1e-5, "{found} instead of {}", with - without);
    }
}

#[test]
fn rows_of_weight_zero_may_hold_anything_and_a_sure_model_loses_nothing() {
    let mut case = case(2, 5, 1.0, 0.4, false, 0.0);
    let mut logits: Vec<f32> = case.logits.f64().iter().map(|&x| x as f32).collect();
    for (n, row) in logits.chunks_mut(5).enumerate() {
        row.fill(if case.w[n] == 0.0 { f32::NAN } else { 0.0 });
        row[case.x_0[n] as usize] = 200.0;
        if case.w[n] == 0.0 {
            case.x_0[n] = 99;
        }
    }
    case.logits = Host::f32(&[2, LEN, 5], logits);
    let writes = run(Isa::detect(), 1, Op::PosteriorKl { lambda: 0.0 }, &case.reads(), &[]);
    assert!(writes[1].iter().all(|d| d.abs() < 1e-12), "{:?}", writes[1]);
    assert!(writes.iter().flatten().all(|x| x.is_finite()));
}
