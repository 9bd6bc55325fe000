use crate::cases::{Host, both, check, emulated, run};
use crate::isa::Isa;
use crate::op::{Activation, Op};
use crate::ops::cross_entropy::reference as cross_entropy;
use crate::ops::linear::reference as linear;
use crate::ops::sample_tokens::reference as sample_tokens;
use galatea_random::{block, unit_f64};

/// A sum of products, then of exponentials: rounded as both are.
const TOLERANCE: f64 = 5e-6;

/// Rows, columns, width: one of each, edges of parts, several chunks of the backward pass.
const SIZES: [(usize, usize, usize); 5] = [(1, 1, 1), (5, 33, 7), (9, 97, 20), (3, 1537, 5), (40, 300, 64)];

struct Case {
    x: Host,
    w: Host,
    b: Host,
    target: Vec<u32>,
    weight: Host,
}

fn case(n: usize, v: usize, d: usize) -> Case {
    let target = (0..n).map(|i| ((7 * i + 3) % v) as u32).collect();
    // Every third row is left out.
    let weight = (0..n).map(|i| if i % 3 == 1 { 0.0 } else { 0.5 + i as f32 / n as f32 }).collect();
    let (x, w, b) = (Host::normal(&[n, d], 1), Host::normal(&[v, d], 2), Host::normal(&[v], 3));
    Case { x, w, b, target, weight: Host::f32(&[n], weight) }
}

/// Zero where the row is not live.
fn live(weight: &[f64], values: Vec<f64>) -> Vec<f64> {
    values.into_iter().zip(weight).map(|(x, &w)| if w == 0.0 { 0.0 } else { x }).collect()
}

fn check_loss(forbid: Option<u32>, bias: bool, (n, v, d): (usize, usize, usize)) {
    let Case { x, w, b, target, weight } = case(n, v, d);
    for ([x, w], tolerance) in both([x, w], TOLERANCE) {
        let b = bias.then(|| b.clone());
        let column = forbid.map(|f| f as usize);
        let (u, _) = linear::forward(Activation::None, d, &x.f64(), &w.f64(), b.as_ref().map(Host::f64).as_deref());
        let (loss, nll) = cross_entropy::forward(column, &u, &target, &weight.f64());
        let lse = (0..n).map(|i| u[i * v + target[i] as usize] + nll[i]).collect();
        let (nll, lse) = (live(&weight.f64(), nll), live(&weight.f64(), lse));
        let ids = Host::u32(&[n], target.clone());
        let reads: Vec<Host> =
            [x.clone(), w.clone()].into_iter().chain(b.clone()).chain([ids, weight.clone()]).collect();
        let op = Op::LinearCrossEntropy { bias, forbid };
        check(op, &reads, &[], &[vec![loss], nll, lse.clone()], TOLERANCE);

        let du = cross_entropy::backward(column, &u, &target, &weight.f64(), 0.7);
        let dx = linear::dx(v, &du, &w.f64());
        let (dw, db) = linear::dw(v, d, &du, &x.f64());
        let lse = Host::f32(&[n], lse.iter().map(|&x| x as f32).collect());
        let reads: Vec<Host> = reads.into_iter().chain([lse, Host::f32(&[1], vec![0.7])]).collect();
        let truth: Vec<Vec<f64>> = [dx, dw].into_iter().chain(bias.then_some(db)).collect();
        // In bf16 the gradient of the logits is rounded before it is multiplied.
        check(Op::LinearCrossEntropyGrad { bias, forbid }, &reads, &[], &truth, 2.0 * tolerance);
    }
}

#[test]
fn the_loss_and_its_gradients_equal_those_of_the_logits_in_memory() {
    for size in SIZES {
        check_loss(None, true, size);
        check_loss(None, false, size);
    }
    check_loss(Some(96), true, (9, 97, 20));
    check_loss(Some(0), false, (40, 300, 64));
}

#[test]
fn no_live_row_is_no_loss_and_no_gradient() {
    let (n, v, d) = (4, 50, 8);
    let Case { x, w, b, target, .. } = case(n, v, d);
    let (ids, weight) = (Host::u32(&[n], target), Host::f32(&[n], vec![0.0; n]));
    let reads = [x, w, b, ids, weight.clone(), weight, Host::f32(&[1], vec![1.0])];
    let op = Op::LinearCrossEntropy { bias: true, forbid: None };
    check(op, &reads[..5], &[], &[vec![0.0], vec![0.0; n], vec![0.0; n]], 0.0);
    let op = Op::LinearCrossEntropyGrad { bias: true, forbid: None };
    check(op, &reads, &[], &[vec![0.0; n * d], vec![0.0; v * d], vec![0.0; v]], 0.0);
}

#[test]
fn draws_equal_those_of_the_logits_in_memory() {
    let (n, v, d) = (60, 331, 16);
    let Case { x, w, b, .. } = case(n, v, d);
    let flags: Vec<u32> = (0..n).map(|i| u32::from(i % 4 != 2)).collect();
    for (temperature, forbid) in [(1.0, None), (0.7, Some(330)), (0.0, Some(5)), (1.0, Some(0))] {
        for ([x, w], _) in both([x.clone(), w.clone()], TOLERANCE) {
            let (u, _) = linear::forward(Activation::None, d, &x.f64(), &w.f64(), Some(&b.f64()));
            let op = Op::LinearSample { bias: true, stream: 9, temperature, forbid };
            let rng = Host::u32(&[4], vec![1, 2, 3, 0]);
            let reads = [x, w, b.clone(), Host::u32(&[n], flags.clone()), rng];
            let column = forbid.map(|f| f as usize);
            let truth = |i: usize| {
                let [first, second, ..] = block(1 | 2 << 32, 9, 3, i as u32, 0);
                sample_tokens::row(&u[i * v..][..v], f64::from(temperature), column, unit_f64([first, second]))
            };
            let expected = (0..n).map(|i| if flags[i] == 0 { (0, 0.0, 0.0) } else { truth(i) });
            let (mut ids, mut log_ps, mut entropies) = (Vec::new(), Vec::new(), Vec::new());
            for (id, log_p, entropy) in expected {
                ids.push(id as f64);
                log_ps.push(log_p);
                entropies.push(entropy);
            }
            // An id that is off by one is off by more than this.
            emulated(op, &reads, &[], &[ids, log_ps, entropies], 1e-6);
            for isa in Isa::available() {
                let found = run(isa, 2, op, &reads, &[]);
                for i in 0..n {
                    let (id, log_p, entropy) = if flags[i] == 0 { (0, 0.0, 0.0) } else { truth(i) };
                    assert_eq!(found[0][i], id as f64, "{isa:?} T {temperature}: row {i}");
                    assert!((found[1][i] - log_p).abs() < 1e-4, "{isa:?}: {} for {log_p}", found[1][i]);
                    assert!((found[2][i] - entropy).abs() < 1e-4, "{isa:?}: {} for {entropy}", found[2][i]);
                }
            }
        }
    }
}

#[test]
fn a_row_that_is_not_a_number_is_seen_and_stays_alone() {
    let (n, v, d) = (3, 100, 4);
    let Case { w, b, .. } = case(n, v, d);
    let mut x = vec![0.5; n * d];
    x[d] = f32::NAN;
    let (x, live, rng) = (Host::f32(&[n, d], x), Host::u32(&[n], vec![1; n]), Host::u32(&[4], vec![1, 2, 3, 0]));
    let op = Op::LinearSample { bias: true, stream: 1, temperature: 1.0, forbid: None };
    let found = run(Isa::detect(), 1, op, &[x, w, b, live, rng], &[]);
    assert!(found[0].iter().all(|&id| id < v as f64));
    assert!(found[1][1].is_nan() && found[2][1].is_nan());
    assert!(found[1][0].is_finite() && found[2][2].is_finite());
}
