use super::reference;
use crate::cases::{Host, check};
use crate::op::{Activation, Op};
use crate::ops::activation::reference::derivative;
use crate::ops::add::differences::check_gradients;

/// Sums of up to four hundred products, rounded one by one: relative to the largest, the root of their number in units.
const TOLERANCE: f64 = 3e-6;

const ALL: [Activation; 4] = [Activation::None, Activation::Relu, Activation::Silu, Activation::Gelu];

/// Leading dimensions, inputs, outputs: rows of one, the edges of the register tile and more than one task.
const SIZES: [(&[usize], usize, usize); 6] =
    [(&[1], 1, 1), (&[1], 7, 5), (&[2, 3], 16, 48), (&[3, 3], 33, 49), (&[2, 100], 30, 193), (&[9], 385, 17)];

fn dims(lead: &[usize], last: usize) -> Vec<usize> {
    lead.iter().copied().chain([last]).collect()
}

#[test]
fn forward_equals_reference() {
    for (lead, i, o) in SIZES {
        let (x, w, b) = (Host::normal(&dims(lead, i), 1), Host::normal(&[o, i], 2), Host::normal(&[o], 3));
        for activation in ALL {
            for bias in [false, true] {
                let b64 = bias.then(|| b.f64());
                let (y, u) = reference::forward(activation, i, &x.f64(), &w.f64(), b64.as_deref());
                let reads = [x.clone(), w.clone(), b.clone()];
                let truth = if activation == Activation::None { vec![y] } else { vec![y, u] };
                check(Op::Linear { bias, activation }, &reads[..2 + usize::from(bias)], &[], &truth, TOLERANCE);
            }
        }
    }
}

#[test]
fn gradients_equal_reference() {
    for (lead, i, o) in SIZES {
        let (x, w) = (Host::normal(&dims(lead, i), 1), Host::normal(&[o, i], 2));
        let dy = Host::normal(&dims(lead, o), 4);
        let dx = reference::dx(o, &dy.f64(), &w.f64());
        check(Op::LinearDx, &[dy.clone(), w], &[], &[dx], TOLERANCE);
        let (dw, db) = reference::dw(o, i, &dy.f64(), &x.f64());
        check(Op::LinearDw { bias: false }, &[dy.clone(), x.clone()], &[], std::slice::from_ref(&dw), TOLERANCE);
        check(Op::LinearDw { bias: true }, &[dy, x], &[], &[dw, db], TOLERANCE);
    }
}

#[test]
fn gradient_equals_finite_differences() {
    let (n, i, o) = (3, 4, 5);
    let [x, w, b] = [(&[n, i][..], 1), (&[o, i], 2), (&[o], 3)].map(|(dims, row)| Host::normal(dims, row).f64());
    let dy = Host::normal(&[n, o], 4).f64();
    for activation in ALL {
        let forward = |x: &[Vec<f64>]| reference::forward(activation, i, &x[0], &x[1], Some(&x[2]));
        let inputs = [x.clone(), w.clone(), b.clone()];
        let du: Vec<f64> = forward(&inputs).1.iter().zip(&dy).map(|(&u, dy)| derivative(activation, u) * dy).collect();
        let (dw, db) = reference::dw(o, i, &du, &x);
        check_gradients(&inputs, &dy, &[reference::dx(o, &du, &w), dw, db], |x| forward(x).0);
    }
}

#[test]
fn packed_weights_change_no_bit() {
    use crate::cases::run;
    use crate::gemm::{pack_weights, packed_words};
    use crate::isa::Isa;
    use galatea_tensor::bf16;
    // Fewer rows are multiplied by weights as they lie, in another order.
    for (lead, i, o) in SIZES.into_iter().filter(|(lead, ..)| lead.iter().product::<usize>() > 4) {
        let (x, w, b) =
            (Host::normal(&dims(lead, i), 1).bf16(), Host::normal(&[o, i], 2).bf16(), Host::normal(&[o], 3));
        let weights: Vec<bf16> = w.f64().iter().map(|&w| bf16::from_f64(w)).collect();
        for (isa, activation) in Isa::available().flat_map(|isa| ALL.map(|activation| (isa, activation))) {
            let mut words = vec![0; packed_words(o, i)];
            pack_weights(isa, (o, i), &weights, &mut words);
            let words = Host::u32(&[words.len()], words);
            let plain = run(isa, 2, Op::Linear { bias: true, activation }, &[x.clone(), w.clone(), b.clone()], &[]);
            let op = Op::LinearPacked { bias: true, activation, outputs: o as u32 };
            let packed = run(isa, 2, op, &[x.clone(), words, b.clone()], &[]);
            assert_eq!(plain[0], packed[0], "{isa:?} {activation:?} {lead:?} {i} {o}");
        }
    }
}

#[test]
fn a_step_fused_with_its_gradient_has_the_bits_of_one_after_it() {
    use crate::cases::run;
    use crate::isa::Isa;
    use crate::op::{AdamW, Hyper};
    let adamw = AdamW { beta_1: 0.9, beta_2: 0.99, eps: 1e-8, weight_decay: 0.1 };
    let mut hyper = vec![0.01; Hyper::LEN];
    (hyper[Hyper::MAX_NORM], hyper[Hyper::CORRECTION_1], hyper[Hyper::CORRECTION_2]) = (f32::INFINITY, 1.5, 2.5);
    let (hyper, one) = (Host::f32(&[Hyper::LEN], hyper), Host::f32(&[1], vec![1.0]));
    for (n, o, i) in [(1, 1, 1), (9, 50, 97), (70, 130, 33)] {
        let state = [3, 4, 5, 6]
            .map(|row| Host::f32(&[o * i], Host::normal(&[o * i], row).f64().iter().map(|x| x.abs() as f32).collect()));
        for (isa, half) in Isa::available().flat_map(|isa| [(isa, false), (isa, true)]) {
            let [dy, x] = [Host::normal(&[n, o], 1), Host::normal(&[n, i], 2)].map(|x| if half { x.bf16() } else { x });
            let grads = run(isa, 1, Op::LinearDw { bias: true }, &[dy.clone(), x.clone()], &[]);
            let g = Host::f32(&[o * i], grads[0].iter().map(|&g| g as f32).collect());
            let apart =
                run(isa, 1, Op::AdamW { adamw, ema: true, copy: true }, &[g, one.clone(), hyper.clone()], &state);
            let op = Op::LinearDwAdamW { bias: true, adamw, ema: true, copy: true };
            for threads in [1, 3] {
                let fused = run(isa, threads, op, &[dy.clone(), x.clone(), hyper.clone()], &state);
                assert_eq!((&fused[..5], &fused[5]), (&apart[..], &grads[1]), "{isa:?} half {half} {n} {o} {i}");
            }
        }
    }
}
