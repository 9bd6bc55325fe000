use super::reference;
use crate::cases::{Host, check, run};
use crate::isa::Isa;
use crate::op::Op;
use galatea_fixtures::derivative;
use proptest::prelude::*;

/// An exponential of 2e-7 and sums in sixteen lanes of f32.
const TOLERANCE: f64 = 1e-6;

struct Case {
    forbid: Option<u32>,
    logits: Host,
    target: Vec<u32>,
    w: Vec<f32>,
}

fn case(n: usize, v: usize, forbid: Option<u32>, scale: f32) -> Case {
    let mut logits: Vec<f32> = Host::normal(&[n, v], 1).f64().iter().map(|&x| scale * x as f32).collect();
    if let Some(f) = forbid {
        // What stands in the forbidden column must not matter.
        logits.chunks_mut(v).for_each(|row| row[f as usize] = 1e5);
    }
    let ids: Vec<u32> = (0..v as u32).filter(|&id| Some(id) != forbid).collect();
    Case {
        forbid,
        logits: Host::f32(&[n, v], logits),
        target: (0..n).map(|i| ids[(7 * i + 3) % ids.len()]).collect(),
        w: (0..n).map(|i| [1.0, 0.0, 0.25, 3.0][i % 4]).collect(),
    }
}

impl Case {
    fn compare(&self) {
        let (n, forbid) = (self.w.len(), self.forbid.map(|f| f as usize));
        let w64: Vec<f64> = self.w.iter().map(|&w| f64::from(w)).collect();
        let (loss, nll) = reference::forward(forbid, &self.logits.f64(), &self.target, &w64);
        let target = Host::u32(&[n], self.target.clone());
        let mut reads = vec![self.logits.clone(), target, Host::f32(&[n], self.w.clone())];
        check(Op::CrossEntropy { forbid: self.forbid }, &reads, &[], &[vec![loss], nll.clone()], TOLERANCE);

        let truth = reference::backward(forbid, &self.logits.f64(), &self.target, &w64, 0.5);
        reads.push(Host::f32(&[n], nll.iter().map(|&x| x as f32).collect()));
        reads.push(Host::f32(&[1], vec![0.5]));
        check(Op::CrossEntropyGrad { forbid: self.forbid }, &reads, &[], &[truth], TOLERANCE);
    }
}

#[test]
fn kernels_equal_reference() {
    for (n, v, forbid) in
        [(1, 1, None), (1, 2, Some(0)), (5, 7, None), (6, 33, Some(4)), (9, 100, Some(99)), (2, 5003, None)]
    {
        case(n, v, forbid, 2.0).compare();
    }
}

#[test]
fn logits_of_ten_thousand_lose_nothing() {
    case(8, 50, None, 1e4).compare();
    case(8, 50, Some(49), 1e4).compare();
    // Far from zero and close together.
    let mut shifted = case(8, 50, None, 1.0);
    let moved = shifted.logits.f64().iter().map(|&x| x as f32 + 1e4).collect();
    shifted.logits = Host::f32(&[8, 50], moved);
    shifted.compare();
}

#[test]
fn gradient_equals_finite_differences() {
    let (logits, w) = (Host::normal(&[3, 5], 1).f64(), [0.7, 0.0, 2.0]);
    let target = [1, 0, 4];
    for forbid in [None, Some(3)] {
        let gradient = reference::backward(forbid, &logits, &target, &w, 1.5);
        for i in 0..logits.len() {
            let along = |x: f64| {
                let mut logits = logits.clone();
                logits[i] = x;
                1.5 * reference::forward(forbid, &logits, &target, &w).0
            };
            let found = derivative(along, logits[i], 1e-3);
            assert!((found - gradient[i]).abs() < 1e-10, "{i}: {found} and {}", gradient[i]);
        }
    }
}

#[test]
fn impossible_targets_are_infinite_unless_their_weight_is_zero() {
    let logits = Host::f32(&[3, 2], vec![0.0; 6]);
    let target = Host::u32(&[3], vec![0, 1, 77]);
    let loss = |w: Vec<f32>| {
        let reads = [logits.clone(), target.clone(), Host::f32(&[3], w)];
        run(Isa::detect(), 1, Op::CrossEntropy { forbid: Some(1) }, &reads, &[])
    };
    let writes = loss(vec![2.0, 0.0, 0.0]);
    assert_eq!(writes, [vec![0.0], vec![0.0, f64::INFINITY, f64::INFINITY]]);
    assert_eq!(loss(vec![2.0, 0.0, 1.0])[0], [f64::INFINITY]);
    assert_eq!(loss(vec![2.0, 1.0, 0.0])[0], [f64::INFINITY]);
}

#[test]
fn rows_of_weight_zero_may_hold_anything() {
    let logits = Host::f32(&[2, 2], vec![f32::NAN, 1.0, 3.0, 3.0]);
    let (target, w) = (Host::u32(&[2], vec![0, 1]), Host::f32(&[2], vec![0.0, 2.0]));
    let mut reads = vec![logits, target, w];
    check(Op::CrossEntropy { forbid: None }, &reads, &[], &[vec![2.0 * 2f64.ln()]], TOLERANCE);
    reads.extend([Host::f32(&[2], vec![f32::NAN, 0.7]), Host::f32(&[1], vec![1.0])]);
    check(Op::CrossEntropyGrad { forbid: None }, &reads, &[], &[vec![0.0, 0.0, 1.0, -1.0]], TOLERANCE);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Moving every logit of a row moves no probability: the gradient has no component along it.
    #[test]
    fn gradient_rows_sum_to_zero(logits in prop::collection::vec(-50f32..50.0, 2..200), target in 0usize..1000) {
        let v = logits.len();
        let reads = [
            Host::f32(&[1, v], logits),
            Host::u32(&[1], vec![(target % v) as u32]),
            Host::f32(&[1], vec![1.0]),
            Host::f32(&[1], vec![0.0]),
            Host::f32(&[1], vec![1.0]),
        ];
        let dlogits = run(Isa::detect(), 1, Op::CrossEntropyGrad { forbid: None }, &reads, &[]).remove(0);
        prop_assert!(dlogits.iter().sum::<f64>().abs() < 1e-6);
        let only_the_target_rises = |(j, &g): (usize, &f64)| (j == target % v) == (g < 0.0) || g == 0.0;
        prop_assert!(dlogits.iter().enumerate().all(only_the_target_rises));
    }
}
