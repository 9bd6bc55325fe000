use super::reference;
use crate::cases::{Host, both, check, run};
use crate::isa::Isa;
use crate::op::{AdamW, Hyper, Op};
use crate::ops::add::differences::check_gradients;

/// A sum over the rows of one id.
const TOLERANCE: f64 = 1e-6;

fn ids(n: usize, vocab: usize) -> Vec<u32> {
    (0..n).map(|i| ((i * i + 3 * i) % vocab) as u32).collect()
}

#[test]
fn kernels_equal_reference() {
    for (b, l, vocab, d) in [(1, 1, 1, 1), (2, 3, 5, 7), (1, 40, 3, 33), (4, 25, 200, 64), (3, 300, 1000, 20)] {
        let list = ids(b * l, vocab);
        let id = Host::u32(&[b, l], list.clone());
        // A copy and a sum in f32: rounded nowhere, whatever the type.
        for ([table, dy], _) in both([Host::normal(&[vocab, d], 1), Host::normal(&[b, l, d], 2)], TOLERANCE) {
            let y = reference::forward(d, &list, &table.f64());
            check(Op::Embedding, &[id.clone(), table], &[], &[y], 0.0);
            let dtable = reference::backward(vocab, &list, &dy.f64());
            check(Op::EmbeddingGrad { vocab: vocab as u32 }, &[id.clone(), dy], &[], &[dtable], TOLERANCE);
        }
    }
}

#[test]
fn ids_beyond_the_table_are_left_out() {
    let (list, dy) = (vec![1, 7, u32::MAX, 0, 3], Host::normal(&[1, 5, 70], 2));
    let kept: Vec<f64> =
        dy.f64().into_iter().enumerate().map(|(i, dy)| if list[i / 70] < 3 { dy } else { 0.0 }).collect();
    let truth = reference::backward(3, &[1, 0, 0, 0, 0], &kept);
    check(Op::EmbeddingGrad { vocab: 3 }, &[Host::u32(&[1, 5], list), dy], &[], &[truth], TOLERANCE);
}

#[test]
fn one_id_everywhere_collects_every_row() {
    let (n, d) = (500, 24);
    let (list, dy) = (vec![2; n], Host::normal(&[1, n, d], 2));
    let truth = reference::backward(4, &list, &dy.f64());
    check(Op::EmbeddingGrad { vocab: 4 }, &[Host::u32(&[1, n], list), dy], &[], &[truth], TOLERANCE);
}

#[test]
fn gradient_equals_finite_differences() {
    let (vocab, d, list) = (4, 3, [1, 3, 1, 0, 1]);
    let (table, dy) = (Host::normal(&[vocab, d], 1).f64(), Host::normal(&[list.len(), d], 2).f64());
    let gradient = reference::backward(vocab, &list, &dy);
    check_gradients(&[table], &dy, &[gradient], |x| reference::forward(d, &list, &x[0]));
}

#[test]
fn a_step_fused_with_its_gradient_has_the_bits_of_one_after_it() {
    let adamw = AdamW { beta_1: 0.9, beta_2: 0.99, eps: 1e-8, weight_decay: 0.1 };
    let mut hyper = vec![0.01; Hyper::LEN];
    (hyper[Hyper::MAX_NORM], hyper[Hyper::CORRECTION_1], hyper[Hyper::CORRECTION_2]) = (f32::INFINITY, 1.5, 2.5);
    let (hyper, one) = (Host::f32(&[Hyper::LEN], hyper), Host::f32(&[1], vec![1.0]));
    // Rows wider than a chunk, tables of several tasks, ids beyond the table, one id everywhere.
    let shapes: [(usize, usize, Vec<u32>); 6] = [
        (1, 1, vec![0]),
        (5, 7, vec![4, 0, 4, 4, 1]),
        (3, 2500, vec![2, 9, 2, u32::MAX]),
        (400, 330, ids(70, 450)),
        (4, 24, vec![2; 300]),
        (70_000, 1, ids(40, 70_000)),
    ];
    for (vocab, d, list) in shapes {
        let state = [3, 4, 5, 6].map(|row| {
            let positive = Host::normal(&[vocab, d], row).f64().iter().map(|x| x.abs() as f32).collect();
            Host::f32(&[vocab, d], positive)
        });
        let n = list.len();
        let id = Host::u32(&[1, n], list);
        for (isa, half) in Isa::available().flat_map(|isa| [(isa, false), (isa, true)]) {
            let dy = Host::normal(&[1, n, d], 1);
            let dy = if half { dy.bf16() } else { dy };
            let gradient = run(isa, 1, Op::EmbeddingGrad { vocab: vocab as u32 }, &[id.clone(), dy.clone()], &[]);
            let gradient = Host::f32(&[vocab * d], gradient[0].iter().map(|&g| g as f32).collect());
            for (ema, copy) in [(false, false), (true, false), (false, true), (true, true)] {
                let state = &state[..if ema { 4 } else { 3 }];
                let reads = [gradient.clone(), one.clone(), hyper.clone()];
                let apart = run(isa, 1, Op::AdamW { adamw, ema, copy }, &reads, state);
                let op = Op::EmbeddingAdamW { vocab: vocab as u32, adamw, ema, copy };
                for threads in [1, 3] {
                    let fused = run(isa, threads, op, &[id.clone(), dy.clone(), hyper.clone()], state);
                    assert_eq!(fused[..apart.len()], apart, "{isa:?} half {half} ema {ema} copy {copy} {vocab} {d}");
                }
            }
        }
    }
}
