use super::{Dims, reference};
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
    let sizes = [(1, 1, 1, 1, 2), (2, 3, 2, 2, 6), (1, 7, 3, 3, 34), (3, 48, 4, 4, 32), (2, 5, 6, 2, 8)];
    for (b, l, heads, kv_heads, d_head) in sizes {
        let dims = Dims { turned: heads + kv_heads, heads: heads + 2 * kv_heads, d_head, len: l };
        let qkv = Host::normal(&[b, l, dims.heads * d_head], 1);
        for ([qkv], tolerance) in both([qkv], TOLERANCE) {
            for (inverse, past) in [(false, None), (true, None), (false, Some(0)), (true, Some(9))] {
                let table = table(l + past.map_or(0, |past| past + 2), d_head);
                let y = reference::forward(dims, inverse, past.unwrap_or(0), &qkv.f64(), &table.f64());
                let op = Op::Rotary { heads: heads as u32, kv_heads: kv_heads as u32, inverse, past: past.is_some() };
                let reads: Vec<Host> = [qkv.clone(), table]
                    .into_iter()
                    .chain(past.map(|past| Host::u32(&[1], vec![past as u32])))
                    .collect();
                check(op, &reads, &[], &[y], tolerance);
            }
        }
    }
}

#[test]
#[should_panic(expected = "rotary: 3 positions and 2 more, of 4 in the table")]
fn positions_beyond_the_table_are_refused() {
    let op = Op::Rotary { heads: 1, kv_heads: 1, inverse: false, past: true };
    run(Isa::detect(), 1, op, &[Host::normal(&[1, 2, 6], 1), table(4, 2), Host::u32(&[1], vec![3])], &[]);
}

#[test]
fn the_inverse_turns_back() {
    let (qkv, table) = (Host::normal(&[2, 9, 3 * 2 * 16], 1), table(9, 16));
    let turn = |x: Vec<f64>, inverse| {
        let x = Host::f32(&[2, 9, 96], x.into_iter().map(|x| x as f32).collect());
        run(Isa::detect(), 2, Op::Rotary { heads: 2, kv_heads: 2, inverse, past: false }, &[x, table.clone()], &[])
            .remove(0)
    };
    let back = turn(turn(qkv.f64(), false), true);
    assert!(galatea_fixtures::relative_to_max(&back, &qkv.f64()) < 1e-6);
}

/// What the rotation is for: q_i . k_j depends on the positions through i - j alone.
#[test]
fn scores_depend_on_the_distance_alone() {
    let (len, d) = (12, 8);
    let [q, k] = [1, 2].map(|row| Host::normal(&[d], row).f64());
    let row: Vec<f64> = [q, k, vec![0.0; d]].concat();
    let y = reference::forward(
        Dims { turned: 2, heads: 3, d_head: d, len },
        false,
        0,
        &row.repeat(len),
        &table(len, d).f64(),
    );
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
    let dims = Dims { turned: 2 * heads, heads: 3 * heads, d_head: d / heads, len: l };
    let gradient = reference::forward(dims, true, 0, &dy, &table);
    check_gradients(&[qkv], &dy, &[gradient], |x| reference::forward(dims, false, 0, &x[0], &table));
}
