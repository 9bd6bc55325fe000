use super::TERMS;
use super::exp::exp_excess;
use super::reference::{self, Reads};
use super::softmax::log_excess;
use crate::cases::{Host, check, run};
use crate::isa::Isa;
use crate::op::{Link, Op};
use galatea_fixtures::derivative;
use proptest::prelude::*;

/// Exponentials of 2e-7, logarithms of 2e-7, sums in sixteen lanes of f32.
const TOLERANCE: f64 = 3e-6;

/// Terms that no bound has and that keep every promise of the op: a mask, a hit and a miss over `ids` allowed columns.
fn any(ids: usize) -> [[f64; TERMS]; 3] {
    let k = ids as f64;
    let (n, rho, rho_0, s_0, rho_z, h, ce) = (0.75, 0.4, 1.6, 0.3, 0.9, 0.2, 0.35);
    let a = rho_0 * s_0;
    let hit = a + rho * n * (k - 1.0) - rho_z * h;
    let miss = a + rho * n * (k - 2.0) + rho_0 * n - rho_z * h;
    [
        [0.0, rho, 2.5, 1.2, 0.8, 0.2, 0.0, 0.0, 0.0, 0.0, 0.0, ce],
        [n, rho, a, 0.0, 0.0, 0.0, rho_z, h, 1.0 - h, 0.0, hit, ce],
        [n, rho, a, rho_0, s_0, 1.0 - s_0, rho_z, h, 1.0, 0.0, miss, ce],
    ]
}

/// As GIDD's: N is 1 and z has both divergences.
fn two_sided() -> [[f64; TERMS]; 3] {
    let (alpha, own) = (0.6, 0.05);
    let (high, s) = (alpha + own, alpha / (alpha + own));
    [
        [0.0, own, alpha, high, s, 1.0 - s, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, own, alpha, 0.0, 0.0, 0.0, high, s, 1.0 - s, 1.0, 0.0, 0.0],
        [0.0, own, alpha, high, s, 1.0 - s, own, alpha / own, 1.0, 1.0, 0.0, 0.0],
    ]
}

/// As flow matching's: the truth goes to x_0 alone.
fn flow() -> [[f64; TERMS]; 3] {
    let away = [0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0];
    [away, [0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0], away]
}

fn uniform(v: usize, alpha_bar: f64) -> [[f64; TERMS]; 3] {
    let [hit, miss] = reference::uniform(v, alpha_bar);
    [[0.0; TERMS], hit, miss]
}

#[derive(Clone)]
struct Case {
    link: Link,
    forbid: Option<u32>,
    logits: Host,
    x_0: Vec<u32>,
    x_t: Vec<u32>,
    terms: Host,
    w: Vec<f32>,
}

/// `b` texts of six tokens in two groups: masks where there is one, hits and misses, and one token of no weight.
fn case(b: usize, v: usize, forbid: Option<u32>, scale: f32, terms: [[f64; TERMS]; 3]) -> Case {
    let ids: Vec<u32> = (0..v as u32).filter(|&id| Some(id) != forbid).collect();
    let x_0: Vec<u32> = (0..6 * b).map(|n| ids[5 * n % ids.len()]).collect();
    let noisy = |(n, &x): (usize, &u32)| match (n % 3, forbid) {
        (0, Some(mask)) => mask,
        (1, _) => x,
        (_, _) => ids[(5 * n + 1 + n % (ids.len() - 1).max(1)) % ids.len()],
    };
    let mut logits: Vec<f32> = Host::normal(&[b, 6, v], 1).f64().iter().map(|&x| scale * x as f32).collect();
    if let Some(f) = forbid {
        // What stands in the forbidden column must not matter.
        logits.chunks_mut(v).for_each(|row| row[f as usize] = 1e5);
    }
    // The second group has other numbers where that keeps the promises: all rates doubled.
    let doubled = terms.map(|class| {
        let scaled = [1, 2, 3, 6, 9, 10, 11];
        std::array::from_fn::<f64, TERMS, _>(|i| if scaled.contains(&i) { 2.0 * class[i] } else { class[i] })
    });
    let terms = [terms, doubled].as_flattened().as_flattened().repeat(b).iter().map(|&x| x as f32).collect();
    Case {
        link: Link::Softmax,
        forbid,
        logits: Host::f32(&[b, 6, v], logits),
        x_t: x_0.iter().enumerate().map(noisy).collect(),
        x_0,
        terms: Host::f32(&[b, 2, 3, TERMS], terms),
        w: (0..6 * b).map(|i| [0.7, 2.0, 1.0, 0.0, 0.3][i % 5]).collect(),
    }
}

impl Case {
    fn reads(&self) -> Vec<Host> {
        let b = self.w.len() / 6;
        let ids = |x: &[u32]| Host::u32(&[b, 6], x.to_vec());
        let w = Host::f32(&[b, 6], self.w.clone());
        vec![self.logits.clone(), ids(&self.x_0), ids(&self.x_t), self.terms.clone(), w]
    }

    fn op(&self) -> Op {
        Op::Divergence { link: self.link, forbid: self.forbid }
    }

    fn truth(&self, at: impl FnOnce(Reads<'_>)) {
        let (logits, terms) = (self.logits.f64(), self.terms.f64());
        let w: Vec<f64> = self.w.iter().map(|&w| f64::from(w)).collect();
        at(Reads {
            link: self.link,
            forbid: self.forbid,
            logits: &logits,
            x_0: &self.x_0,
            x_t: &self.x_t,
            terms: &terms,
            rows: w.len() / 6,
            w: &w,
        });
    }

    #[track_caller]
    fn compare(&self) {
        self.truth(|truth| {
            let (loss, d) = truth.forward();
            check(self.op(), &self.reads(), &[], &[vec![loss], d, vec![]], TOLERANCE);
            let mut reads = self.reads();
            let lse = run(Isa::detect(), 1, self.op(), &reads, &[]).remove(2);
            reads.push(Host::f32(&[self.w.len() / 6, 6], lse.iter().map(|&x| x as f32).collect()));
            reads.push(Host::f32(&[1], vec![0.5]));
            let op = Op::DivergenceGrad { link: self.link, forbid: self.forbid };
            check(op, &reads, &[], &[truth.backward(0.5)], TOLERANCE);
        });
    }
}

#[test]
fn kernels_equal_reference() {
    for (b, v, forbid) in
        [(1, 2, None), (1, 3, Some(1)), (2, 7, None), (1, 33, Some(32)), (2, 100, Some(0)), (1, 5003, None)]
    {
        let ids = v - usize::from(forbid.is_some());
        for terms in [any(ids), two_sided(), flow()] {
            case(b, v, forbid, 2.0, terms).compare();
        }
        if forbid.is_none() {
            for alpha_bar in [1e-4, 0.3, 0.99] {
                case(b, v, None, 2.0, uniform(v, alpha_bar)).compare();
            }
        }
        let mut rates = case(b, v, forbid, 1.0, any(ids));
        rates.link = Link::Exp;
        rates.compare();
        let mut absorbing = case(b, v, forbid, 1.0, flow());
        absorbing.link = Link::Exp;
        absorbing.compare();
    }
}

#[test]
fn a_vocabulary_of_one_has_nothing_to_lose() {
    let one = Case { x_t: vec![0; 6], ..case(1, 1, None, 1.0, uniform(1, 0.5)) };
    assert_eq!(run(Isa::detect(), 1, one.op(), &one.reads(), &[])[..2], [vec![0.0], vec![0.0; 6]]);
}

#[test]
fn the_ends_of_time_stay_finite() {
    for low in [2f64.powi(-24), 2f64.powi(-20), 1e-3] {
        case(2, 27, None, 1.0, uniform(27, 1.0 - low)).compare();
    }
    // At alpha_bar = 0 nothing is known of x_0, and nothing is lost.
    let nothing = case(2, 27, None, 1.0, uniform(27, 2f64.powi(-60)));
    let d = run(Isa::detect(), 1, nothing.op(), &nothing.reads(), &[]).remove(1);
    assert!(d.iter().all(|&x| (0.0..1e-30).contains(&x)), "{d:?}");
}

#[test]
fn logits_of_ten_thousand_lose_nothing() {
    // The reference takes the logarithm of p, which f64 has down to e^-745.
    for (terms, forbid, large) in
        [(uniform(27, 0.5), None, 1e4), (flow(), Some(26), 150.0), (two_sided(), Some(3), 1e4)]
    {
        case(2, 27, forbid, large, terms).compare();
        let mut shifted = case(2, 27, forbid, 1.0, terms);
        let moved = shifted.logits.f64().iter().map(|&x| x as f32 - 1e4).collect();
        shifted.logits = Host::f32(&[2, 6, 27], moved);
        shifted.compare();
    }
}

/// `case` with the logit of x_0 raised to `gap`.
fn sure(mut case: Case, gap: f32) -> Case {
    let v = case.logits.shape.cols();
    let mut logits: Vec<f32> = case.logits.f64().iter().map(|&x| x as f32).collect();
    logits.chunks_mut(v).zip(&case.x_0).for_each(|(row, &x_0)| row[x_0 as usize] = gap);
    case.logits = Host::f32(&[logits.len() / (6 * v), 6, v], logits);
    case
}

#[test]
fn a_model_that_knows_x_0_loses_nothing() {
    for terms in [uniform(27, 1e-3), uniform(27, 0.5), uniform(27, 0.999), two_sided(), flow(), any(27)] {
        let known = sure(case(2, 27, None, 0.1, terms), 200.0);
        let writes = run(Isa::detect(), 1, known.op(), &known.reads(), &[]);
        assert_eq!(writes[..2], [vec![0.0], vec![0.0; 12]]);
    }
}

#[test]
fn small_bounds_keep_their_digits() {
    // A model almost sure of x_0: the bound is a hundred-thousandth of a nat and smaller.
    for (alpha_bar, gap) in [(0.1, 12.0), (0.5, 14.0), (0.5, 9.0), (0.95, 12.0)] {
        let sure = sure(case(2, 27, None, 0.5, uniform(27, alpha_bar)), gap);
        let found = run(Isa::detect(), 1, sure.op(), &sure.reads(), &[]).remove(1);
        for (n, found) in found.iter().enumerate().filter(|(n, _)| sure.w[*n] != 0.0) {
            let p = reference::softmax(&sure.logits.f64()[n * 27..][..27], None);
            // The second group's rates are twice the first's.
            let twice = if n % 6 < 3 { 1.0 } else { 2.0 };
            let truth = twice * reference::udlm(alpha_bar, &p, sure.x_0[n] as usize, sure.x_t[n] as usize);
            assert!((found - truth).abs() < 2e-5 * truth + 1e-13, "{alpha_bar}, {gap}: {found} instead of {truth}");
        }
    }
}

#[test]
fn rows_of_weight_zero_may_hold_anything() {
    let mut blind = case(2, 5, Some(4), 1.0, two_sided());
    let mut logits: Vec<f32> = blind.logits.f64().iter().map(|&x| x as f32).collect();
    for n in (0..12).filter(|&n| blind.w[n] == 0.0) {
        logits[5 * n..5 * n + 5].fill(f32::NAN);
        (blind.x_0[n], blind.x_t[n]) = (77, 4);
    }
    blind.logits = Host::f32(&[2, 6, 5], logits);
    let writes = run(Isa::detect(), 1, blind.op(), &blind.reads(), &[]);
    assert!(writes.iter().flatten().all(|x| x.is_finite()), "{writes:?}");
    let mut reads = blind.reads();
    reads.extend([Host::f32(&[2, 6], vec![f32::NAN; 12]), Host::f32(&[1], vec![1.0])]);
    let op = Op::DivergenceGrad { link: Link::Softmax, forbid: Some(4) };
    let silent = [3, 8].map(|n| (15 * n / 3, 15 * n / 3 + 5));
    let dlogits = run(Isa::detect(), 1, op, &reads, &[]).remove(0);
    for (from, to) in silent {
        assert!(dlogits[from..to].iter().all(|&g| g == 0.0), "{dlogits:?}");
    }
}

#[test]
fn impossible_tokens_are_infinite() {
    for x_0 in [4, 77] {
        let mut wrong = case(1, 5, Some(4), 1.0, two_sided());
        wrong.x_0[0] = x_0;
        let writes = run(Isa::detect(), 1, wrong.op(), &wrong.reads(), &[]);
        assert_eq!((writes[0][0], writes[1][0]), (f64::INFINITY, f64::INFINITY));
    }
}

#[test]
fn gradient_equals_finite_differences() {
    let settings = [
        (uniform(5, 1e-3), None, Link::Softmax),
        (uniform(5, 0.4), None, Link::Softmax),
        (uniform(5, 0.97), None, Link::Softmax),
        (any(5), None, Link::Softmax),
        (any(4), Some(2), Link::Softmax),
        (two_sided(), Some(4), Link::Softmax),
        (flow(), None, Link::Softmax),
        (any(4), Some(0), Link::Exp),
    ];
    for (terms, forbid, link) in settings {
        let case = Case { link, ..case(2, 5, forbid, 1.0, terms) };
        case.truth(|truth| {
            let gradient = truth.backward(2.0);
            for i in 0..truth.logits.len() {
                if forbid == Some(i as u32 % 5) {
                    assert_eq!(gradient[i], 0.0);
                    continue;
                }
                let along = |x: f64| {
                    let mut logits = truth.logits.to_vec();
                    logits[i] = x;
                    2.0 * Reads { logits: &logits, ..truth }.forward().0
                };
                let found = derivative(along, truth.logits[i], 1e-3);
                // Terms reach the op rounded to f32, and the promises hold as nearly.
                let scale = 1.0 + gradient[i].abs();
                assert!((found - gradient[i]).abs() < 1e-5 * scale, "{i}: {found} and {}", gradient[i]);
            }
        });
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

#[test]
fn exp_excess_keeps_relative_precision() {
    for i in -8000..8000i32 {
        let x = i as f32 * 1e-2 * (1.0 + (i % 7) as f32 * 1e-3);
        let wide = f64::from(x);
        let truth = if wide.abs() < 1e-3 { wide * wide * (0.5 + wide / 6.0) } else { wide.exp_m1() - wide };
        assert!((f64::from(exp_excess(x)) - truth).abs() <= 2e-6 * truth, "{x}: {}", exp_excess(x));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// The three forms of the uniform bound are one number: UDLM's sum, Duo's closed form and the divergence.
    #[test]
    fn the_forms_agree(
        logits in prop::collection::vec(-4f64..4.0, 2..40),
        ids in (0usize..1000, 0usize..1000),
        alpha_bar in 0.01f64..0.99,
    ) {
        let (v, p) = (logits.len(), reference::softmax(&logits, None));
        let (x_0, z) = (ids.0 % v, ids.1 % v);
        let udlm = reference::udlm(alpha_bar, &p, x_0, z);
        let duo = reference::duo(alpha_bar, &p, x_0, z);
        let terms: Vec<f64> = uniform(v, alpha_bar).concat();
        let (x_0, x_t) = ([x_0 as u32], [z as u32]);
        let reads = Reads {
            link: Link::Softmax, forbid: None, logits: &logits, x_0: &x_0, x_t: &x_t, terms: &terms, rows: 1, w: &[1.0],
        };
        let (divergence, _) = reads.forward();
        prop_assert!(udlm >= -1e-12);
        prop_assert!((udlm - duo).abs() <= 1e-10 * (1.0 + udlm), "{udlm} and {duo}");
        prop_assert!((udlm - divergence).abs() <= 1e-10 * (1.0 + udlm), "{udlm} and {divergence}");
    }
}
