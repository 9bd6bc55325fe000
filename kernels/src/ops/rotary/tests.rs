use super::reference;
use crate::cases::{Host, both, check, run};
use crate::isa::Isa;
use crate::op::Op;
use crate::ops::add::differences::check_gradients;

/// Two products and their sum.
const TOLERANCE: f64 = 3e-7;

/// The angles position * 10000^(-i / half), as cosines then sines a row.
fn table(len: usize, d_head: usize) -> Host {
    let half = d_head / 2;
    let angle = |l: usize, i: usize| l as f64 * 10_000f64.powf(-(i as f64) / half as f64);
    let row = |l: usize| (0..half).map(move |i| angle(l, i).cos()).chain((0..half).map(move |i| angle(l, i).sin()));
    Host::f32(&[len, d_head], (0..len).flat_map(row).map(|x| x as f32).collect())
}

#[test]
fn kernel_equals_reference() {
    for (b, l, heads, d_head) in [(1, 1, 1, 2), (2, 3, 2, 6), (1, 7, 3, 34), (3, 48, 4, 32)] {
        let (qkv, table) = (Host::normal(&[b, l, 3 * heads * d_head], 1), table(l, d_head));
        for ([qkv], tolerance) in both([qkv], TOLERANCE) {
            for inverse in [false, true] {
                let y = reference::forward(heads, inverse, l, heads * d_head, &qkv.f64(), &table.f64());
                let op = Op::Rotary { heads: heads as u32, inverse };
                check(op, &[qkv.clone(), table.clone()], &[], &[y], tolerance);
            }
        }
    }
}

#[test]
fn the_inverse_turns_back() {
    let (qkv, table) = (Host::normal(&[2, 9, 3 * 2 * 16], 1), table(9, 16));
    let turn = |x: Vec<f64>, inverse| {
        let x = Host::f32(&[2, 9, 96], x.into_iter().map(|x| x as f32).collect());
        run(Isa::detect(), 2, Op::Rotary { heads: 2, inverse }, &[x, table.clone()], &[]).remove(0)
    };
    let back = turn(turn(qkv.f64(), false), true);
    assert!(galatea_testkit::relative_to_max(&back, &qkv.f64()) < 1e-6);
}

/// What the rotation is for: q_i . k_j depends on the positions through i - j alone.
#[test]
fn scores_depend_on_the_distance_alone() {
    let (len, d) = (12, 8);
    let [q, k] = [1, 2].map(|row| Host::normal(&[d], row).f64());
    let row: Vec<f64> = [q, k, vec![0.0; d]].concat();
    let y = reference::forward(1, false, len, d, &row.repeat(len), &table(len, d).f64());
    let score = |i: usize, j: usize| (0..d).map(|c| y[i * 3 * d + c] * y[j * 3 * d + d + c]).sum::<f64>();
    for i in 0..len - 1 {
        for j in 0..len - 1 {
            assert!((score(i, j) - score(i + 1, j + 1)).abs() < 1e-5, "{i} {j}");
        }
    }
}

#[test]
fn gradient_equals_finite_differences() {
    let (l, heads, d) = (3, 2, 8);
    let [qkv, dy] = [1, 2].map(|row| Host::normal(&[2, l, 3 * d], row).f64());
    let table = table(l, d / heads).f64();
    let gradient = reference::forward(heads, true, l, d, &dy, &table);
    check_gradients(&[qkv], &dy, &[gradient], |x| reference::forward(heads, false, l, d, &x[0], &table));
}
