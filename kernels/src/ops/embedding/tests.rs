use super::reference;
use crate::cases::{Host, both, check};
use crate::op::Op;
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
