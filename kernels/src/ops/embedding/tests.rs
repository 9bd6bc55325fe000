use super::reference;
use crate::cases::{Host, check};
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
        let (table, dy) = (Host::normal(&[vocab, d], 1), Host::normal(&[b, l, d], 2));
        let (y, id) = (reference::forward(d, &list, &table.f64()), Host::u32(&[b, l], list.clone()));
        check(Op::Embedding, &[id.clone(), table], &[], &[y], 0.0);
        let dtable = reference::backward(vocab, &list, &dy.f64());
        check(Op::EmbeddingGrad { vocab: vocab as u32 }, &[id, dy], &[], &[dtable], TOLERANCE);
    }
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
