//! What products on a GPU have of their own: every tile, edge and form, and sums in parts.

use super::*;
use crate::cases::{BF16, Host, instruction, interpret, run_on};
use crate::cuda::{Emulated, launches};
use crate::op::Op;
use crate::ops::linear::reference;

/// The entries that an op launches.
fn entries(machine: Machine, op: Op, reads: &[Host]) -> Vec<&'static str> {
    let (inst, _) = instruction(op, reads);
    launches(&inst, machine).expect("a product has kernels").list.iter().map(|launch| launch.entry).collect()
}

/// What an op writes on a machine, its threads in the order of a schedule.
fn emulated(machine: Machine, schedule: u64, op: Op, reads: &[Host], in_place: &[Host]) -> Vec<Vec<f64>> {
    run_on(&mut Emulated::new(machine, interpret(schedule)), op, reads, in_place)
        .unwrap_or_else(|e| panic!("{op:?}: {e}"))
}

/// Checks a product on a machine with so many processors that it takes the tile `suffix`, under several schedules.
#[track_caller]
fn check(machine: Machine, form: Form, half: bool, (m, n, k): (usize, usize, usize), suffix: &str, schedules: u64) {
    let [(a, _), (b, _)] = form.lie((m, n, k));
    let operands = [Host::normal(&[a.0, a.1], 1), Host::normal(&[b.0, b.1], 2)];
    let reads = operands.map(|x| if half { x.bf16() } else { x });
    let [x, y] = [reads[0].f64(), reads[1].f64()];
    let (op, truth) = match form {
        Form::Nt => (
            Op::Linear { bias: false, activation: Activation::None, keep: false },
            reference::forward(Activation::None, k, &x, &y, None).0,
        ),
        Form::Nn => (Op::LinearDx, reference::dx(k, &x, &y)),
        Form::Tn => (Op::LinearDw { bias: false }, reference::dw(m, n, &x, &y).0),
    };
    let found = entries(machine, op, &reads);
    assert!(found[0].ends_with(suffix), "{form:?} {m} x {n} x {k} on {machine:?} takes {found:?}, not {suffix}");
    // Sums of k products of normals; a bf16 output is rounded once more.
    let tolerance = if half && form != Form::Tn { BF16 } else { 3e-6 };
    let scale = truth.iter().fold(1.0f64, |most, x| most.max(x.abs()));
    let first = emulated(machine, 0, op, &reads, &[]);
    for (i, (found, truth)) in first[0].iter().zip(&truth).enumerate() {
        assert!((found - truth).abs() <= tolerance * scale, "{suffix} {form:?} {m} x {n} x {k}: {i}: {found}, {truth}");
    }
    for schedule in 1..schedules {
        assert_eq!(first, emulated(machine, schedule, op, &reads, &[]), "{suffix} {form:?}: schedule {schedule}");
    }
}

const FORMS: [Form; 3] = [Form::Nt, Form::Nn, Form::Tn];

#[test]
fn every_tile_of_warps_multiplies_every_form() {
    let on = |processors| Machine { arch: Arch::Sm80, processors };
    for form in FORMS {
        check(on(1), form, true, (128, 128, 160), "128", 4);
        check(on(1), form, true, (120, 136, 72), "128", 3);
        check(on(4), form, true, (64, 64, 192), "64", 4);
        check(on(4), form, true, (72, 40, 328), "64", 3);
        // Rows that are not whole pieces of 16 bytes.
        check(on(4), form, true, (33, 67, 77), "any", 3);
        check(on(4), form, true, (1, 1, 1), "any", 2);
    }
}

#[test]
fn every_tile_of_single_precision_multiplies_every_form() {
    let on = |processors| Machine { arch: Arch::Sm90a, processors };
    for form in FORMS {
        check(on(1), form, false, (128, 128, 80), "128", 4);
        check(on(1), form, false, (120, 124, 36), "128", 3);
        check(on(4), form, false, (64, 64, 96), "64", 4);
        check(on(4), form, false, (72, 40, 164), "64", 3);
        check(on(4), form, false, (33, 67, 77), "any", 3);
        check(on(4), form, false, (1, 1, 1), "any", 2);
    }
}

#[test]
fn long_sums_are_split_and_joined() {
    for (arch, half) in [(Arch::Sm80, false), (Arch::Sm80, true), (Arch::Sm90a, true)] {
        let machine = Machine { arch, processors: 16 };
        for (shape, aligned) in [((64, 64, 4096), true), ((56, 40, 4104), true), ((37, 21, 4001), false)] {
            check(machine, Form::Tn, half, shape, if aligned { "64" } else { "any" }, 3);
            let [dy, x] = [shape.0, shape.1].map(|cols| Host::normal(&[shape.2, cols], 1));
            let reads = if half { [dy.bf16(), x.bf16()] } else { [dy, x] };
            let found = entries(machine, Op::LinearDw { bias: false }, &reads);
            assert_eq!(found[1..], ["join_parts"], "{shape:?} on {arch:?}");
        }
    }
}

/// A row's bits do not depend on the others: forward products and gradients of inputs are never split.
#[test]
fn a_row_has_the_same_bits_in_every_batch() {
    let (i, o) = (512, 128);
    let (x, w) = (Host::normal(&[200, i], 1).bf16(), Host::normal(&[o, i], 2).bf16());
    let op = Op::Linear { bias: false, activation: Activation::None, keep: false };
    for arch in [Arch::Sm80, Arch::Sm90a] {
        let machine = Machine { arch, processors: 2 };
        let all = emulated(machine, 0, op, &[x.clone(), w.clone()], &[]);
        assert_ne!(entries(machine, op, &[x.clone(), w.clone()]), entries(machine, op, &[x.rows(1), w.clone()]));
        let one = emulated(machine, 0, op, &[x.rows(1), w.clone()], &[]);
        assert_eq!(one[0], all[0][..o], "{arch:?}");
    }
}

#[test]
fn packed_weights_are_rows_as_they_are() {
    for (n, i, o) in [(5, 40, 24), (9, 7, 26)] {
        let (x, w, b) = (Host::normal(&[n, i], 1).bf16(), Host::normal(&[o, i], 2).bf16(), Host::normal(&[o], 3));
        let bits: Vec<u16> = w.f64().iter().map(|&w| galatea_tensor::bf16::from_f64(w).to_bits()).collect();
        // Rows in as many runs as the activation has columns of u, each with room for any machine's order.
        let words = |halves: usize| {
            let room = 2 * crate::gemm::packed_words(o / halves, i);
            let runs = bits.chunks(o / halves * i).flat_map(|run| {
                let padding = std::iter::repeat_n(0, room - run.len());
                run.iter().copied().chain(padding).collect::<Vec<u16>>()
            });
            let runs: Vec<u16> = runs.collect();
            let words: Vec<u32> = runs.chunks(2).map(|pair| u32::from(pair[0]) | u32::from(pair[1]) << 16).collect();
            Host::u32(&[words.len()], words)
        };
        for (arch, activation) in [
            (Arch::Sm80, Activation::Gelu),
            (Arch::Sm90a, Activation::None),
            (Arch::Sm80, Activation::SwiGlu),
            (Arch::Sm90a, Activation::SwiGlu),
        ] {
            let machine = Machine { arch, processors: 4 };
            let plain = Op::Linear { bias: true, activation, keep: false };
            let packed = Op::LinearPacked { bias: true, activation, outputs: o as u32 };
            let plain = emulated(machine, 1, plain, &[x.clone(), w.clone(), b.clone()], &[]);
            assert_eq!(
                plain[0],
                emulated(machine, 2, packed, &[x.clone(), words(activation.halves()), b.clone()], &[])[0]
            );
        }
    }
}

#[test]
fn every_tile_of_warpgroups_multiplies_every_form() {
    let on = |processors| Machine { arch: Arch::Sm90a, processors };
    for form in FORMS {
        // Whole tiles; edges of both sides and of k; two tiles for a block, so that the ring goes on.
        check(on(1), form, true, (128, 256, 320), "128x256", 4);
        check(on(1), form, true, (200, 504, 72), "128x256", 3);
        check(on(2), form, true, (128, 248, 456), "128x128", 4);
        check(on(1), form, true, (64, 120, 328), "64x128", 4);
        check(on(1), form, true, (64, 64, 64), "64x64", 4);
        check(on(1), form, true, (40, 200, 136), "64x128", 4);
    }
}
