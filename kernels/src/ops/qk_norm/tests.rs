use super::{Dims, reference};
use crate::cases::{Host, both, check, run};
use crate::isa::Isa;
use crate::op::Op;
use crate::ops::add::differences::check_gradients;

/// A sum in sixteen lanes of f32, then a root, a quotient and two products.
const TOLERANCE: f64 = 2e-6;

const EPS: f32 = 1e-6;
const GAIN: f32 = 1.5;

fn compare([b, l, width]: [usize; 3], (heads, kv_heads): (u32, u32), qkv: Host, dy: Host, tolerance: f64) {
    let dims = Dims::new(width, heads, kv_heads);
    let gains = Host::normal(&[2 * dims.d_head], 3);
    for learned in [false, true] {
        let (reads, g) = (if learned { std::slice::from_ref(&gains) } else { &[] }, gains.f64());
        let g = learned.then_some(&g[..]);
        let (y, stats) = reference::forward(dims, EPS.into(), GAIN.into(), &qkv.f64(), g);
        let (dqkv, dgains) = reference::backward(dims, GAIN.into(), &qkv.f64(), &stats, &dy.f64(), g);
        let kept = Host::f32(&[b * l, dims.normed], stats.iter().map(|&s| s as f32).collect());
        let forward = Op::QkNorm { heads, kv_heads, eps: EPS, gain: GAIN, learned };
        check(forward, &[std::slice::from_ref(&qkv), reads].concat(), &[], &[y, stats], tolerance);
        let truth = if learned { vec![dqkv, dgains] } else { vec![dqkv] };
        let backward = Op::QkNormGrad { heads, kv_heads, gain: GAIN, learned };
        check(backward, &[&[qkv.clone(), kept, dy.clone()], reads].concat(), &[], &truth, tolerance);
    }
}

#[test]
fn kernels_equal_reference() {
    for (b, l, heads, kv_heads, d_head) in [
        (1, 1, 1, 1, 2),
        (2, 3, 2, 2, 5),
        (1, 7, 3, 1, 18),
        (3, 50, 4, 4, 32),
        (2, 9, 8, 2, 20),
        (1, 40, 6, 3, 64),
        (4, 300, 4, 2, 16),
        // More than a warp for a head, and more than a block holds.
        (1, 5, 2, 1, 260),
        (1, 2, 1, 1, 2056),
    ] {
        let dims = [b, l, (heads + 2 * kv_heads) as usize * d_head];
        for ([qkv, dy], tolerance) in both([1, 2].map(|row| Host::normal(&dims, row)), TOLERANCE) {
            compare(dims, (heads, kv_heads), qkv, dy, tolerance);
        }
    }
}

#[test]
fn heads_of_keys_are_as_long_as_those_of_queries_and_values_are_copied() {
    let (n, heads, kv_heads, d_head) = (5, 4, 2, 16);
    let qkv = Host::normal(&[1, n, 8 * d_head], 1);
    let op = Op::QkNorm { heads, kv_heads, eps: 0.0, gain: GAIN, learned: false };
    let y = run(Isa::detect(), 1, op, std::slice::from_ref(&qkv), &[]).remove(0);
    for (i, (y, x)) in y.chunks(d_head).zip(qkv.f64().chunks(d_head)).enumerate() {
        if i % 8 < 6 {
            let square = y.iter().map(|y| y * y).sum::<f64>() / d_head as f64;
            assert!((square.sqrt() - f64::from(GAIN)).abs() < 1e-5, "head {i}");
        } else {
            assert_eq!(y, x, "head {i}");
        }
    }
}

#[test]
fn large_heads_are_finite() {
    let dims = [1, 4, 3 * 2 * 20];
    let large = Host::normal(&dims, 1).f64().iter().map(|&x| 1e15 * x as f32).collect();
    compare(dims, (2, 2), Host::f32(&dims, large), Host::normal(&dims, 2), TOLERANCE);
}

#[test]
fn gradient_equals_finite_differences() {
    let (n, eps) = (2, 0.1);
    for (heads, kv_heads) in [(2, 2), (4, 1)] {
        let width = 18;
        let dims = Dims::new(width, heads, kv_heads);
        let [qkv, dy] = [1, 2].map(|row| Host::normal(&[n, width], row).f64());
        let gains = Host::normal(&[2 * dims.d_head], 3).f64();
        let stats = reference::forward(dims, eps, 1.7, &qkv, None).1;
        let (dqkv, _) = reference::backward(dims, 1.7, &qkv, &stats, &dy, None);
        check_gradients(std::slice::from_ref(&qkv), &dy, &[dqkv], |x| {
            reference::forward(dims, eps, 1.7, &x[0], None).0
        });
        let (dqkv, dgains) = reference::backward(dims, 1.7, &qkv, &stats, &dy, Some(&gains));
        check_gradients(&[qkv, gains], &dy, &[dqkv, dgains], |x| {
            reference::forward(dims, eps, 1.7, &x[0], Some(&x[1])).0
        });
    }
}
