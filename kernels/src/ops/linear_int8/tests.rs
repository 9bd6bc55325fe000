use super::{dequantise_weights, quantise_weights, reference, relative_error};
use crate::cases::{BF16, Host, check, run};
use crate::isa::Isa;
use crate::op::{Activation, Op};
use crate::ops::activation::reference::forward as act;
use crate::ops::{linear, swiglu};
use galatea_random::Philox;
use proptest::prelude::*;

/// Leading dimensions, inputs, outputs: one element, a tail of a word, the edges of the register tile, two blocks of k, more
/// than one task.
const SIZES: [(&[usize], usize, usize); 7] = [
    (&[1], 1, 1),
    (&[1], 7, 5),
    (&[2, 3], 16, 48),
    (&[3, 3], 33, 49),
    (&[2, 100], 30, 193),
    (&[9], 386, 17),
    (&[9], 1600, 50),
];

fn dims(lead: &[usize], last: usize) -> Vec<usize> {
    lead.iter().copied().chain([last]).collect()
}

fn f32s(host: &Host) -> Vec<f32> {
    host.f64().into_iter().map(|x| x as f32).collect()
}

/// x, q, the scales, b, and the weights before they were quantised.
fn operands(lead: &[usize], i: usize, o: usize) -> (Host, Vec<i8>, Vec<f32>, Host, Host) {
    let (x, w, b) = (Host::normal(&dims(lead, i), 1), Host::normal(&[o, i], 2), Host::normal(&[o], 3));
    let (mut q, mut scales) = (vec![0; o * i], vec![0.0; o]);
    quantise_weights(i, &f32s(&w), &mut q, &mut scales);
    (x, q, scales, b, w)
}

#[test]
fn forward_is_the_integer_product_bit_for_bit() {
    for (lead, i, o) in SIZES {
        let (x, q, scales, b, _) = operands(lead, i, o);
        for bias in [false, true] {
            let op = Op::LinearInt8 { bias, activation: Activation::None };
            let reads = [x.clone(), Host::i8(&[o, i], q.clone()), Host::f32(&[o], scales.clone()), b.clone()];
            let b = f32s(&b);
            let u = reference::forward(i, &f32s(&x), &q, &scales, bias.then_some(&b[..]));
            let truth: Vec<f64> = u.iter().map(|&u| f64::from(u)).collect();
            check(op, &reads[..3 + usize::from(bias)], &[], &[truth], 0.0);
        }
    }
}

#[test]
fn activations_and_bf16_follow_the_integers() {
    for (lead, i, o) in SIZES {
        let (x, q, scales, b, _) = operands(lead, i, o);
        // Rounding of the activation's own arithmetic, or of a bf16 output.
        for (x, tolerance) in [(x.clone(), 1e-6), (x.bf16(), BF16)] {
            for activation in [Activation::Relu, Activation::Silu, Activation::Gelu] {
                let u = reference::forward(i, &f32s(&x), &q, &scales, Some(&f32s(&b)));
                let truth = u.iter().map(|&u| act(activation, f64::from(u))).collect();
                let reads = [x.clone(), Host::i8(&[o, i], q.clone()), Host::f32(&[o], scales.clone()), b.clone()];
                check(Op::LinearInt8 { bias: true, activation }, &reads, &[], &[truth], tolerance);
            }
        }
    }
}

#[test]
fn a_gate_follows_the_integers() {
    for (lead, i, f) in [(&[1][..], 7, 5), (&[2, 100], 30, 97), (&[9], 386, 17), (&[9], 1600, 50)] {
        let (x, q, scales, b, _) = operands(lead, i, 2 * f);
        let u = reference::forward(i, &f32s(&x), &q, &scales, Some(&f32s(&b)));
        let truth = swiglu::reference::forward(f, &u.iter().map(|&u| f64::from(u)).collect::<Vec<_>>());
        let reads = [x, Host::i8(&[2 * f, i], q), Host::f32(&[2 * f], scales), b];
        let op = Op::LinearInt8 { bias: true, activation: Activation::SwiGlu };
        check(op, &reads, &[], &[truth], 1e-6);
    }
}

#[test]
fn the_error_of_the_product_is_what_the_documentation_says() {
    for (lead, i, o) in [(&[64][..], 384, 96), (&[32], 768, 64), (&[16], 2048, 64)] {
        let (x, q, scales, _, w) = operands(lead, i, o);
        let (x64, w64) = (x.f64(), w.f64());
        let (truth, _) = linear::reference::forward(Activation::None, i, &x64, &w64, None);
        let reads = [x.clone(), Host::i8(&[o, i], q), Host::f32(&[o], scales.clone())];
        let op = Op::LinearInt8 { bias: false, activation: Activation::None };
        let found = &run(Isa::detect(), 1, op, &reads, &[])[0];
        let one = |row: &[f64]| row.iter().map(|x| x.abs()).sum::<f64>();
        let largest = |row: &[f64]| row.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        let (mut squares, mut differences) = (0.0, 0.0);
        for (n, x) in x64.chunks(i).enumerate() {
            for (c, w) in w64.chunks(i).enumerate() {
                let (found, truth) = (found[n * o + c], truth[n * o + c]);
                let (s, t) = (largest(x) / 127.0, f64::from(scales[c]));
                let bound = t / 2.0 * one(x) + s / 2.0 * one(w) + i as f64 * s * t / 4.0;
                assert!((found - truth).abs() <= bound * (1.0 + 1e-5), "{found} and {truth}, bound {bound}");
                squares += truth * truth;
                differences += (found - truth) * (found - truth);
            }
        }
        let relative = f64::sqrt(differences / squares);
        // Each side adds max / 127 / sqrt(12) of about three deviations.
        assert!((0.005..0.015).contains(&relative), "relative error {relative} of {i} columns");
    }
}

#[test]
fn rows_of_zeros_and_rows_that_are_not_finite_reach_their_outputs_alone() {
    let (i, o) = (40, 50);
    let (x, q, mut scales, _, _) = operands(&[5], i, o);
    let mut x = f32s(&x);
    x[..i].fill(0.0);
    x[i..2 * i].fill(1e-44);
    (x[2 * i + 7], x[3 * i + 9]) = (f32::NAN, f32::INFINITY);
    scales[11] = f32::NAN;
    let reads = [Host::f32(&[5, i], x), Host::i8(&[o, i], q), Host::f32(&[o], scales)];
    for isa in Isa::available() {
        let y = &run(isa, 2, Op::LinearInt8 { bias: false, activation: Activation::None }, &reads, &[])[0];
        for (at, y) in y.iter().enumerate() {
            let (row, column) = (at / o, at % o);
            assert_eq!(y.is_nan(), column == 11 || row == 2 || row == 3, "{isa:?}: {row}, {column}");
            assert!(row > 1 || column == 11 || *y == 0.0, "{isa:?}: {y}");
        }
    }
}

#[test]
fn weights_are_within_half_a_scale() {
    let (i, o) = (300, 20);
    let mut rng = Philox::new(4, 0, 0, 0);
    let w: Vec<f32> = (0..i * o).map(|at| (rng.normal() * 10f64.powi(at as i32 / i as i32 - 10)) as f32).collect();
    let (mut q, mut scales, mut back) = (vec![0; i * o], vec![0.0; o], vec![0.0; i * o]);
    quantise_weights(i, &w, &mut q, &mut scales);
    dequantise_weights(i, &q, &scales, &mut back);
    for (at, (w, back)) in w.iter().zip(&back).enumerate() {
        let scale = f64::from(scales[at / i]);
        // The product of two f32 is rounded once more.
        assert!((f64::from(*w) - f64::from(*back)).abs() <= scale * (0.5 + 1e-5), "{w} became {back}");
    }
    let error = relative_error(i, &w, &q, &scales);
    assert!(error.max <= 0.5 / 127.0 * 1.00001 && (0.002..0.01).contains(&error.rms), "{error:?}");
}

proptest! {
    #[test]
    fn quantising_twice_changes_nothing_and_signs_mirror(w in proptest::collection::vec(-1e3f32..1e3, 1..40)) {
        let i = w.len();
        let quantised = |w: &[f32]| {
            let (mut q, mut scales) = (vec![0; i], vec![0.0; 1]);
            quantise_weights(i, w, &mut q, &mut scales);
            (q, scales)
        };
        let (q, scales) = quantised(&w);
        let mut back = vec![0.0; i];
        dequantise_weights(i, &q, &scales, &mut back);
        prop_assert_eq!(&quantised(&back).0, &q);
        let (negative, _) = quantised(&w.iter().map(|w| -w).collect::<Vec<_>>());
        prop_assert!(negative.iter().zip(&q).all(|(a, b)| *a == -b && *b >= -127));
    }
}

#[test]
fn weights_that_are_zero_tiny_or_not_finite() {
    let w = [0.0, 0.0, 1e-40, -1e-39, f32::INFINITY, 1.0, f32::NAN, -1.0];
    let (mut q, mut scales) = ([7; 8], [7.0; 4]);
    quantise_weights(2, &w, &mut q, &mut scales);
    assert_eq!((&q[..4], &scales[..2]), (&[0; 4][..], &[0.0; 2][..]));
    assert!(scales[2].is_nan() && scales[3].is_nan());
    assert_eq!(relative_error(2, &[0.0; 4], &[0; 4], &[0.0; 2]), super::RelativeError::default());
}
