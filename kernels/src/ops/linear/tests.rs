use super::reference;
use crate::cases::{BF16, Host, check, run};
use crate::gemm::{pack_weights, packed_words};
use crate::isa::Isa;
use crate::op::{Activation, Op};
use crate::ops::activation::reference::derivative;
use crate::ops::add::differences::check_gradients;
use crate::ops::swiglu;
use galatea_tensor::bf16;

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
                let (reads, mut truth) = ([x.clone(), w.clone(), b.clone()], vec![y, u]);
                for keep in [true, false] {
                    truth.truncate(1 + usize::from(keep));
                    let op = Op::Linear { bias, activation, keep };
                    check(op, &reads[..2 + usize::from(bias)], &[], &truth, TOLERANCE);
                }
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

/// In bf16, and with factors of both types: the weights, or x for their gradient, say what is multiplied.
#[test]
fn half_precision_equals_reference() {
    let sizes: [(&[usize], usize, usize); 4] = [(&[1], 8, 8), (&[2, 33], 72, 40), (&[3], 7, 5), (&[2, 70], 136, 200)];
    for (lead, i, o) in sizes {
        let (x, w, b) = (Host::normal(&dims(lead, i), 1), Host::normal(&[o, i], 2), Host::normal(&[o], 3));
        let dy = Host::normal(&dims(lead, o), 4);
        let (x16, w16, dy16) = (x.bf16(), w.bf16(), dy.bf16());
        for activation in [Activation::None, Activation::Gelu] {
            let (y, u) = reference::forward(activation, i, &x16.f64(), &w16.f64(), Some(&b.f64()));
            let (op, truth) = (Op::Linear { bias: true, activation, keep: true }, [y, u]);
            check(op, &[x16.clone(), w16.clone(), b.clone()], &[], &truth, BF16);
            check(op, &[x.clone(), w16.clone(), b.clone()], &[], &truth, BF16);
        }
        let (y, _) = reference::forward(Activation::None, i, &x16.f64(), &w.f64(), None);
        let op = Op::Linear { bias: false, activation: Activation::None, keep: false };
        check(op, &[x16.clone(), w.clone()], &[], &[y], TOLERANCE);
        check(Op::LinearDx, &[dy16.clone(), w16.clone()], &[], &[reference::dx(o, &dy16.f64(), &w16.f64())], BF16);
        let (dw, db) = reference::dw(o, i, &dy16.f64(), &x16.f64());
        check(Op::LinearDw { bias: true }, &[dy16, x16], &[], &[dw, db], TOLERANCE);
    }
}

#[test]
fn a_fused_step_equals_the_algorithm() {
    use crate::op::{AdamW, Hyper};
    use crate::ops::{adamw, ema};
    let adamw = AdamW { beta_1: 0.9, beta_2: 0.99, eps: 1e-8, weight_decay: 0.1 };
    let mut hyper = vec![0.01; Hyper::LEN];
    (hyper[Hyper::CORRECTION_1], hyper[Hyper::CORRECTION_2], hyper[Hyper::EMA_DECAY]) = (1.5, 2.5, 0.75);
    // What clips a step of its own does not clip this one.
    hyper[Hyper::MAX_NORM] = f32::INFINITY;
    let hyper = Host::f32(&[Hyper::LEN], hyper);
    for (n, o, i) in [(1, 1, 1), (9, 50, 97), (70, 136, 40), (40, 128, 128)] {
        let state = [3, 4, 5, 6]
            .map(|row| Host::f32(&[o * i], Host::normal(&[o * i], row).f64().iter().map(|x| x.abs() as f32).collect()));
        for half in [false, true] {
            let [dy, x] = [Host::normal(&[n, o], 1), Host::normal(&[n, i], 2)].map(|x| if half { x.bf16() } else { x });
            let (g, db) = reference::dw(o, i, &dy.f64(), &x.f64());
            let [mut param, mut m, mut v, mut average] = [0, 1, 2, 3].map(|i: usize| state[i].f64());
            adamw::reference::step(adamw, &g, 1.0, &hyper.f64(), &mut param, &mut m, &mut v);
            ema::reference::step(0.75, &param, &mut average);
            let reads = [dy, x, hyper.clone()];
            let op = |ema, copy| Op::LinearDwAdamW { bias: true, adamw, ema, copy };
            let whole = vec![param.clone(), m.clone(), v.clone(), average, vec![], db.clone()];
            check(op(true, true), &reads, &state, &whole, TOLERANCE);
            check(op(false, false), &reads, &state[..3], &[param, m, v, db], TOLERANCE);
        }
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

/// As [`SIZES`], with the width of the gate; one position of every text, several blocks of k in either type, and a gate that is
/// not whole panels.
const GATES: [(&[usize], usize, usize); 7] = [
    (&[1], 1, 1),
    (&[3, 1], 33, 50),
    (&[2, 3], 16, 48),
    (&[2, 100], 30, 193),
    (&[9], 1000, 17),
    (&[3, 90], 70, 64),
    (&[5, 60], 400, 32),
];

#[test]
fn a_gate_in_the_layer_equals_the_layer_and_then_the_gate() {
    for (lead, i, f) in GATES {
        let (x, w, b) = (Host::normal(&dims(lead, i), 1), Host::normal(&[2 * f, i], 2), Host::normal(&[2 * f], 3));
        for (half, bias) in [(false, false), (false, true), (true, false), (true, true)] {
            let [x, w] = [&x, &w].map(|host| if half { host.bf16() } else { host.clone() });
            let b64 = bias.then(|| b.f64());
            let (_, u) = reference::forward(Activation::None, i, &x.f64(), &w.f64(), b64.as_deref());
            let mut truth = vec![swiglu::reference::forward(f, &u), u];
            // The largest of y is a product of two columns of u; the rounding of each stands beside it.
            let tolerance = if half { BF16 } else { 2.0 * TOLERANCE };
            for keep in [true, false] {
                truth.truncate(1 + usize::from(keep));
                let op = Op::Linear { bias, activation: Activation::SwiGlu, keep };
                check(op, &[x.clone(), w.clone(), b.clone()][..2 + usize::from(bias)], &[], &truth, tolerance);
            }
        }
    }
}

#[test]
fn a_gate_of_packed_halves_changes_no_bit() {
    for (lead, i, f) in GATES.into_iter().filter(|(lead, ..)| lead.last() != Some(&1)) {
        let [x, w] = [(dims(lead, i), 1), (vec![2 * f, i], 2)].map(|(dims, row)| Host::normal(&dims, row).bf16());
        let (b, activation) = (Host::normal(&[2 * f], 3), Activation::SwiGlu);
        let weights: Vec<bf16> = w.f64().iter().map(|&w| bf16::from_f64(w)).collect();
        for isa in Isa::available() {
            let size = packed_words(f, i);
            let mut words = vec![0; 2 * size];
            for (w, words) in weights.chunks(f * i).zip(words.chunks_mut(size)) {
                pack_weights(isa, (f, i), w, words);
            }
            let words = Host::u32(&[words.len()], words);
            let op = Op::Linear { bias: true, activation, keep: false };
            let plain = run(isa, 2, op, &[x.clone(), w.clone(), b.clone()], &[]);
            let op = Op::LinearPacked { bias: true, activation, outputs: 2 * f as u32 };
            let packed = run(isa, 2, op, &[x.clone(), words, b.clone()], &[]);
            assert_eq!(plain[0], packed[0], "{isa:?} {lead:?} {i} {f}");
        }
    }
}

#[test]
fn packed_weights_change_no_bit() {
    // Fewer rows are multiplied by weights as they lie, in another order.
    for (lead, i, o) in SIZES.into_iter().filter(|(lead, ..)| lead.iter().product::<usize>() > 4) {
        let (x, w, b) =
            (Host::normal(&dims(lead, i), 1).bf16(), Host::normal(&[o, i], 2).bf16(), Host::normal(&[o], 3));
        let weights: Vec<bf16> = w.f64().iter().map(|&w| bf16::from_f64(w)).collect();
        for (isa, activation) in Isa::available().flat_map(|isa| ALL.map(|activation| (isa, activation))) {
            let mut words = vec![0; packed_words(o, i)];
            pack_weights(isa, (o, i), &weights, &mut words);
            let words = Host::u32(&[words.len()], words);
            let op = Op::Linear { bias: true, activation, keep: false };
            let plain = run(isa, 2, op, &[x.clone(), w.clone(), b.clone()], &[]);
            let op = Op::LinearPacked { bias: true, activation, outputs: o as u32 };
            let packed = run(isa, 2, op, &[x.clone(), words, b.clone()], &[]);
            assert_eq!(plain[0], packed[0], "{isa:?} {activation:?} {lead:?} {i} {o}");
        }
    }
}

#[test]
fn a_step_fused_with_its_gradient_has_the_bits_of_one_after_it() {
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
