use super::reference;
use crate::cases::{Host, check, run};
use crate::isa::Isa;
use crate::op::{AdamW, Hyper, Op};
use crate::ops::ema::reference as ema;

/// A quotient of two averages: a few roundings a step, relative to parameters of order one.
const TOLERANCE: f64 = 1e-6;

const ADAMW: AdamW = AdamW { beta_1: 0.9, beta_2: 0.99, eps: 1e-8, weight_decay: 0.1 };

const PLAIN: Op = Op::AdamW { adamw: ADAMW, ema: false, copy: false };

fn hyper(step: i32, max_norm: f32) -> Host {
    let mut hyper = vec![0.0; Hyper::LEN];
    hyper[Hyper::LR] = 0.01;
    hyper[Hyper::MAX_NORM] = max_norm;
    hyper[Hyper::EMA_DECAY] = 0.75;
    hyper[Hyper::CORRECTION_1] = 1.0 / (1.0 - ADAMW.beta_1.powi(step));
    hyper[Hyper::CORRECTION_2] = 1.0 / (1.0 - ADAMW.beta_2.powi(step));
    Host::f32(&[Hyper::LEN], hyper)
}

#[test]
fn several_steps_equal_the_algorithm() {
    for (len, max_norm) in [(1, f32::INFINITY), (77, 1.0), (16_384 + 3, 2.0)] {
        let mut state = [Host::normal(&[len], 1), Host::f32(&[len], vec![0.0; len]), Host::f32(&[len], vec![0.0; len])];
        let mut truth: Vec<Vec<f64>> = state.iter().map(Host::f64).collect();
        for step in 1..=5 {
            let (g, norm) = (Host::normal(&[len], 10 + step as u32), [0.5, 4.0][step as usize % 2]);
            let hyper = hyper(step, max_norm);
            let [param, m, v] = &mut truth[..] else { unreachable!("three tensors") };
            reference::step(ADAMW, &g.f64(), norm, &hyper.f64(), param, m, v);
            let reads = [g, Host::f32(&[1], vec![norm as f32]), hyper];
            check(PLAIN, &reads, &state, &truth, TOLERANCE);
            let writes = run(Isa::detect(), 1, PLAIN, &reads, &state);
            state = [0, 1, 2].map(|i| Host::f32(&[len], writes[i].iter().map(|&x| x as f32).collect()));
        }
    }
}

/// Both extras in every combination; several pieces of a task and a rest.
#[test]
fn the_average_and_the_copy_are_of_the_new_parameters() {
    let len = 2 * 16_384 + 1029;
    let state = [1, 2, 3, 4].map(|row| Host::normal(&[len], row));
    let square = Host::f32(&[len], state[2].f64().iter().map(|v| (v * v) as f32).collect());
    let state = [state[0].clone(), state[1].clone(), square, state[3].clone()];
    let reads = [Host::normal(&[len], 9), Host::f32(&[1], vec![2.0]), hyper(3, 1.0)];
    let [mut param, mut m, mut v, mut average] = [0, 1, 2, 3].map(|i: usize| state[i].f64());
    reference::step(ADAMW, &reads[0].f64(), 2.0, &reads[2].f64(), &mut param, &mut m, &mut v);
    ema::step(0.75, &param, &mut average);
    for (ema, copy) in [(false, false), (true, false), (false, true), (true, true)] {
        let op = Op::AdamW { adamw: ADAMW, ema, copy };
        let mut truth = vec![param.clone(), m.clone(), v.clone()];
        truth.extend(ema.then(|| average.clone()));
        check(op, &reads, &state[..if ema { 4 } else { 3 }], &truth, TOLERANCE);
        let writes = run(Isa::detect(), 2, op, &reads, &state[..if ema { 4 } else { 3 }]);
        if copy {
            let param = Host::f32(&[len], writes[0].iter().map(|&x| x as f32).collect());
            assert_eq!(writes[writes.len() - 1], param.bf16().f64());
        }
    }
}

#[test]
fn the_first_step_moves_by_the_learning_rate() {
    let adamw = AdamW { weight_decay: 0.0, ..ADAMW };
    let zero = Host::f32(&[3], vec![0.0; 3]);
    let reads = [Host::f32(&[3], vec![1e-3, -5.0, 2e4]), Host::f32(&[1], vec![1.0]), hyper(1, f32::INFINITY)];
    let param = run(
        Isa::detect(),
        1,
        Op::AdamW { adamw, ema: false, copy: false },
        &reads,
        &[zero.clone(), zero.clone(), zero],
    )
    .remove(0);
    for (param, expected) in param.iter().zip([-0.01, 0.01, -0.01]) {
        assert!((param - expected).abs() < 1e-6, "{param}");
    }
}

#[test]
fn a_norm_that_is_not_a_number_poisons_every_parameter() {
    let ones = Host::f32(&[40], vec![1.0; 40]);
    let reads = [ones.clone(), Host::f32(&[1], vec![f32::NAN]), hyper(1, 1.0)];
    let writes = run(Isa::detect(), 2, PLAIN, &reads, &[ones.clone(), ones.clone(), ones]);
    assert!(writes[0].iter().all(|x| x.is_nan()));
}
