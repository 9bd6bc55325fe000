use super::cpu::log_excess;
use super::reference;
use crate::cases::{Host, check, run};
use crate::isa::Isa;
use crate::op::Op;
use galatea_fixtures::derivative;
use proptest::prelude::*;

/// Exponentials of 2e-7, logarithms of 2e-7, sums in sixteen lanes of f32.
const TOLERANCE: f64 = 3e-6;

struct Case {
    logits: Host,
    x_0: Vec<u32>,
    x_t: Vec<u32>,
    alpha_bar: Vec<f32>,
    w: Vec<f32>,
}

/// `b` sequences of four tokens: the second and the fourth are as they were.
fn case(b: usize, v: usize, alpha_bar: f32, scale: f32) -> Case {
    let x_0: Vec<u32> = (0..4 * b).map(|n| (5 * n % v) as u32).collect();
    let moved = |(n, &x): (usize, &u32)| if n % 2 == 1 { x } else { (x + 1 + n as u32 % (v as u32 - 1)) % v as u32 };
    Case {
        logits: Host::f32(&[b, 4, v], Host::normal(&[b, 4, v], 1).f64().iter().map(|&x| scale * x as f32).collect()),
        x_t: x_0.iter().enumerate().map(moved).collect(),
        x_0,
        alpha_bar: vec![alpha_bar; b],
        w: (0..b).map(|i| [0.7, 0.0, 2.0][i % 3]).collect(),
    }
}

impl Case {
    fn reads(&self) -> Vec<Host> {
        let b = self.w.len();
        let ids = |x: &[u32]| Host::u32(&[b, x.len() / b], x.to_vec());
        let per_row = |x: &[f32]| Host::f32(&[b], x.to_vec());
        vec![self.logits.clone(), ids(&self.x_0), ids(&self.x_t), per_row(&self.alpha_bar), per_row(&self.w)]
    }

    fn compare(&self) {
        let [alpha_bar, w] = [&self.alpha_bar, &self.w].map(|x| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
        let (loss, nelbo, lse) = reference::forward(&self.logits.f64(), &self.x_0, &self.x_t, &alpha_bar, &w);
        let mut reads = self.reads();
        check(Op::UniformNelbo, &reads, &[], &[vec![loss], nelbo, lse.clone()], TOLERANCE);
        let truth = reference::backward(&self.logits.f64(), &self.x_0, &self.x_t, &alpha_bar, &w, 0.5);
        reads.push(Host::f32(&[w.len(), 4], lse.iter().map(|&x| x as f32).collect()));
        reads.push(Host::f32(&[1], vec![0.5]));
        check(Op::UniformNelboGrad, &reads, &[], &[truth], TOLERANCE);
    }
}

#[test]
fn kernels_equal_reference() {
    for (b, v) in [(1, 2), (2, 3), (3, 27), (1, 64), (2, 1000), (1, 5003)] {
        for alpha_bar in [1e-3, 0.1, 0.5, 0.9, 0.999] {
            case(b, v, alpha_bar, 1.0).compare();
            case(b, v, alpha_bar, 6.0).compare();
        }
    }
}

#[test]
fn the_ends_of_time_stay_finite() {
    for alpha_bar in [1.0 - f32::EPSILON, 1.0] {
        case(2, 27, alpha_bar, 1.0).compare();
    }
    // At alpha_bar = 0 nothing is known of x_0, and nothing is lost.
    let nelbo = run(Isa::detect(), 1, Op::UniformNelbo, &case(2, 27, 0.0, 1.0).reads(), &[]).remove(1);
    assert!(nelbo.iter().all(|&x| (0.0..1e-15).contains(&x)), "{nelbo:?}");
}

#[test]
fn logits_of_ten_thousand_lose_nothing() {
    case(2, 27, 0.5, 1e4).compare();
    let mut shifted = case(2, 27, 0.5, 1.0);
    let moved = shifted.logits.f64().iter().map(|&x| x as f32 - 1e4).collect();
    shifted.logits = Host::f32(&[2, 4, 27], moved);
    shifted.compare();
}

#[test]
fn a_model_that_knows_x_0_loses_nothing() {
    for alpha_bar in [1e-3, 0.5, 0.999] {
        let mut known = case(2, 27, alpha_bar, 1.0);
        let mut logits = vec![0.0; 2 * 4 * 27];
        logits.chunks_mut(27).zip(&known.x_0).for_each(|(row, &x_0)| row[x_0 as usize] = 200.0);
        known.logits = Host::f32(&[2, 4, 27], logits);
        let writes = run(Isa::detect(), 1, Op::UniformNelbo, &known.reads(), &[]);
        assert_eq!(writes[..2], [vec![0.0], vec![0.0; 8]]);
    }
}

#[test]
fn small_bounds_keep_their_digits() {
    // A model almost sure of x_0: the bound is a hundred-thousandth of a nat and smaller.
    for (alpha_bar, gap) in [(0.1f32, 12.0f32), (0.5, 14.0), (0.5, 9.0), (0.95, 12.0)] {
        let mut sure = case(2, 27, alpha_bar, 0.5);
        let mut logits: Vec<f32> = sure.logits.f64().iter().map(|&x| x as f32).collect();
        logits.chunks_mut(27).zip(&sure.x_0).for_each(|(row, &x_0)| row[x_0 as usize] = gap);
        sure.logits = Host::f32(&[2, 4, 27], logits);
        let nelbo = run(Isa::detect(), 1, Op::UniformNelbo, &sure.reads(), &[]).remove(1);
        for (n, nelbo) in nelbo.iter().enumerate() {
            let p = reference::softmax(&sure.logits.f64()[n * 27..][..27]);
            let truth = reference::udlm(f64::from(alpha_bar), &p, sure.x_0[n] as usize, sure.x_t[n] as usize);
            assert!((nelbo - truth).abs() < 2e-5 * truth + 1e-14, "{alpha_bar}, {gap}: {nelbo} instead of {truth}");
        }
    }
}

#[test]
fn rows_of_weight_zero_may_hold_anything() {
    let mut blind = case(2, 3, 0.5, 1.0);
    let mut logits: Vec<f32> = blind.logits.f64().iter().map(|&x| x as f32).collect();
    logits[12..].fill(f32::NAN);
    blind.logits = Host::f32(&[2, 4, 3], logits);
    assert_eq!(blind.w[1], 0.0);
    let writes = run(Isa::detect(), 1, Op::UniformNelbo, &blind.reads(), &[]);
    let sum: f64 = writes[1][..4].iter().map(|nelbo| nelbo * f64::from(blind.w[0])).sum();
    assert!((writes[0][0] - sum).abs() < 1e-6);
    let mut reads = blind.reads();
    reads.extend([Host::f32(&[2, 4], writes[2].iter().map(|&x| x as f32).collect()), Host::f32(&[1], vec![1.0])]);
    let dlogits = run(Isa::detect(), 1, Op::UniformNelboGrad, &reads, &[]).remove(0);
    assert!(dlogits[..12].iter().all(|d| d.is_finite()) && dlogits[12..].iter().all(|&d| d == 0.0));
}

#[test]
fn gradient_equals_finite_differences() {
    for (seed, alpha_bar) in [(1, 0.02), (2, 0.5), (3, 0.97)] {
        let logits = Host::normal(&[2, 2, 5], seed).f64();
        let (x_0, x_t, alpha_bar, w) = ([0, 3, 2, 4], [0, 1, 2, 0], [alpha_bar, 0.4], [1.3, 0.6]);
        let gradient = reference::backward(&logits, &x_0, &x_t, &alpha_bar, &w, 2.0);
        for i in 0..logits.len() {
            let along = |x: f64| {
                let mut logits = logits.clone();
                logits[i] = x;
                2.0 * reference::forward(&logits, &x_0, &x_t, &alpha_bar, &w).0
            };
            let found = derivative(along, logits[i], 1e-3);
            assert!((found - gradient[i]).abs() < 1e-9, "{i}: {found} and {}", gradient[i]);
        }
    }
}

#[test]
fn log_excess_keeps_relative_precision() {
    let mut e = 1e-12f64;
    while e < 1e12 {
        for e in [e, -e] {
            let e = e as f32;
            if e <= -1.0 {
                continue;
            }
            let u = 1.0 + f64::from(e);
            let truth = f64::from(e) - f64::from(e).ln_1p();
            // Below 1e-5 the subtraction above loses what it is to judge: the series takes over.
            let truth = if e.abs() < 1e-5 { f64::from(e).powi(2) * (0.5 - f64::from(e) / 3.0) } else { truth };
            let found = f64::from(log_excess(u as f32, e));
            assert!((found - truth).abs() <= 1e-6 * truth, "e = {e}: {found} instead of {truth}");
        }
        e *= 1.01;
    }
    // u near zero, where 1 + e would have lost it.
    for u in [1e-3f32, 1e-10, 1e-30] {
        let truth = -1.0 + f64::from(u) - f64::from(u).ln();
        assert!((f64::from(log_excess(u, u - 1.0)) - truth).abs() <= 3e-7 * truth, "{u}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// The three forms are one number: UDLM's sum, Duo's closed form and the divergence of two jump processes.
    #[test]
    fn the_forms_agree(
        logits in prop::collection::vec(-4f64..4.0, 2..40),
        ids in (0usize..1000, 0usize..1000),
        alpha_bar in 0.01f64..0.99,
    ) {
        let (v, p) = (logits.len(), reference::softmax(&logits));
        let (x_0, z) = (ids.0 % v, ids.1 % v);
        let udlm = reference::udlm(alpha_bar, &p, x_0, z);
        let duo = reference::duo(alpha_bar, &p, x_0, z);
        let bar = |p: f64| v as f64 * alpha_bar * p + 1.0 - alpha_bar;
        let truth = |j: usize| if j == x_0 { 1.0 } else { 0.0 };
        let jumps: f64 = (0..v)
            .map(|j| {
                let (r, s) = (bar(truth(j)) / bar(truth(z)), bar(p[j]) / bar(p[z]));
                r * (r / s).ln() - r + s
            })
            .sum::<f64>()
            / (v as f64 * alpha_bar);
        prop_assert!(udlm >= -1e-12);
        prop_assert!((udlm - duo).abs() <= 1e-10 * (1.0 + udlm), "{udlm} and {duo}");
        prop_assert!((udlm - jumps).abs() <= 1e-10 * (1.0 + udlm), "{udlm} and {jumps}");
    }
}
