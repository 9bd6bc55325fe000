use super::reference;
use crate::cases::{Host, both, check, run};
use crate::isa::Isa;
use crate::op::Op;
use galatea_fixtures::derivative;

/// The angle of a Box-Muller pair is rounded at 2 pi (2.4e-7), times a radius of at most 5.8.
const TOLERANCE: f64 = 1.5e-6;

const RNG: [u32; 4] = [1, 2, 3, 0];

fn level(b: usize) -> Host {
    Host::f32(&[b, 2], (0..2 * b).map(|i| [0.8, 0.6, 0.0, 1.0, 1.0, 0.0, 1.0, 30.0][i % 8]).collect())
}

#[test]
fn kernel_equals_reference() {
    for (b, l, d) in [(1, 1, 1), (4, 3, 5), (2, 7, 64), (3, 1, 130)] {
        let noise = reference::noise(b * l, d, &RNG, 9);
        for ([x_0, dy], tolerance) in both([1, 2].map(|row| Host::normal(&[b, l, d], row)), TOLERANCE) {
            let truth = [reference::forward(&x_0.f64(), &level(b).f64(), &noise), noise.clone()];
            let reads = [x_0, level(b), Host::u32(&[4], RNG.to_vec())];
            check(Op::CorruptGaussian { stream: 9 }, &reads, &[], &truth, tolerance);
            let truth = reference::backward(&level(b).f64(), &dy.f64());
            check(Op::CorruptGaussianGrad, &[level(b), dy], &[], &[truth], tolerance);
        }
    }
}

#[test]
fn gradient_equals_finite_differences() {
    let (x_0, level) = (Host::normal(&[2, 2, 3], 1).f64(), level(2).f64());
    let (noise, dy) = (Host::normal(&[2, 2, 3], 2).f64(), Host::normal(&[2, 2, 3], 3).f64());
    let gradient = reference::backward(&level, &dy);
    for i in 0..x_0.len() {
        let along = |x: f64| {
            let mut x_0 = x_0.clone();
            x_0[i] = x;
            reference::forward(&x_0, &level, &noise).iter().zip(&dy).map(|(x, dy)| x * dy).sum()
        };
        assert!((derivative(along, x_0[i], 1e-2) - gradient[i]).abs() < 1e-11);
    }
}

#[test]
fn noise_is_standard_normal() {
    let (l, d) = (1000, 100);
    let reads = [Host::f32(&[1, l, d], vec![0.0; l * d]), level(1), Host::u32(&[4], RNG.to_vec())];
    let noise = run(Isa::detect(), 2, Op::CorruptGaussian { stream: 0 }, &reads, &[]).remove(1);
    let moment = |k: i32| noise.iter().map(|z| z.powi(k)).sum::<f64>() / noise.len() as f64;
    // Four standard errors for 1e5 numbers: sqrt(1, 2, 15, 96 / n).
    for (k, expected, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0f64)] {
        let bound = 4.0 * (variance / noise.len() as f64).sqrt();
        assert!((moment(k) - expected).abs() < bound, "moment {k}: {}", moment(k));
    }
    let neighbours = noise.windows(2).map(|z| z[0] * z[1]).sum::<f64>() / noise.len() as f64;
    assert!(neighbours.abs() < 0.013, "{neighbours}");
}
