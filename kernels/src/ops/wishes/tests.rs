use super::reference;
use crate::cases::{Host, check, run};
use crate::isa::Isa;
use crate::op::{Op, Wish};
use galatea_fixtures::derivative;

/// Normalisers in f32 behind differences of logits.
const TOLERANCE: f64 = 2e-6;

fn words(wishes: &[[u32; 3]]) -> Host {
    Host::u32(&[wishes.len(), 3], wishes.concat())
}

#[test]
fn kernels_equal_reference_and_finite_differences() {
    for (b, l, v) in [(1, 1, 2), (2, 3, 5), (3, 7, 40), (2, 1, 131)] {
        let (last, token) = (l as u32 - 1, v as u32 - 1);
        let wishes = [
            [0, last, 0],
            [token, last, 1],
            [1, Wish::ANY, 0],
            [0, Wish::ANY, 1],
            [token, Wish::ALL, 0],
            [1, Wish::ALL, 1],
        ];
        let weight = Host::f32(&[6], vec![2.0, 0.5, 1.0, 3.0, 0.25, 1.5]);
        let logits = Host::normal(&[b, l, v], 1);
        let (loss, lse) = reference::forward(l, v, &logits.f64(), &wishes, &weight.f64());
        let reads = [logits.clone(), words(&wishes), weight.clone()];
        check(Op::Wishes, &reads, &[], &[vec![loss], lse.clone()], TOLERANCE);
        let lse = Host::f32(&[b, l], lse.iter().map(|&x| x as f32).collect());
        let along = |i: usize| {
            let moved = |x: f64| {
                let mut logits = logits.f64();
                logits[i] = x;
                0.75 * reference::forward(l, v, &logits, &wishes, &weight.f64()).0
            };
            derivative(moved, logits.f64()[i], 1e-3)
        };
        let truth = (0..b * l * v).map(along).collect();
        let reads = [logits, words(&wishes), weight, lse, Host::f32(&[1], vec![0.75])];
        check(Op::WishesGrad, &reads, &[], &[truth], TOLERANCE);
    }
}

#[test]
fn what_is_certain_or_out_of_reach_gives_no_infinity() {
    let logits = Host::f32(&[1, 2, 2], vec![90.0, -90.0, 90.0, -90.0]);
    let wishes = words(&[[0, 0, 1], [0, Wish::ALL, 1], [7, 0, 0], [0, 9, 0]]);
    let weight = Host::f32(&[4], vec![1.0; 4]);
    let out = run(Isa::detect(), 1, Op::Wishes, &[logits.clone(), wishes.clone(), weight.clone()], &[]);
    assert!(out[0][0].is_finite() && out[0][0] < -40.0, "{:?}", out[0]);
    let lse = Host::f32(&[1, 2], out[1].iter().map(|&x| x as f32).collect());
    let reads = [logits, wishes, weight, lse, Host::f32(&[1], vec![1.0])];
    let dlogits = run(Isa::detect(), 1, Op::WishesGrad, &reads, &[]).remove(0);
    assert!(dlogits.iter().all(|x| x.is_finite()), "{dlogits:?}");
}
