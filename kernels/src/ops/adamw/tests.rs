use super::reference;
use crate::cases::{Host, check, run};
use crate::isa::Isa;
use crate::op::{AdamW, Hyper, Op};

/// A quotient of two averages: a few roundings a step, relative to parameters of order one.
const TOLERANCE: f64 = 1e-6;

const ADAMW: AdamW = AdamW { beta_1: 0.9, beta_2: 0.99, eps: 1e-8, weight_decay: 0.1 };

fn hyper(step: i32, max_norm: f32) -> Host {
    let mut hyper = vec![0.0; Hyper::LEN];
    hyper[Hyper::LR] = 0.01;
    hyper[Hyper::MAX_NORM] = max_norm;
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
            check(Op::AdamW(ADAMW), &reads, &state, &truth, TOLERANCE);
            let writes = run(Isa::detect(), 1, Op::AdamW(ADAMW), &reads, &state);
            state = [0, 1, 2].map(|i| Host::f32(&[len], writes[i].iter().map(|&x| x as f32).collect()));
        }
    }
}

#[test]
fn the_first_step_moves_by_the_learning_rate() {
    let adamw = AdamW { weight_decay: 0.0, ..ADAMW };
    let zero = Host::f32(&[3], vec![0.0; 3]);
    let reads = [Host::f32(&[3], vec![1e-3, -5.0, 2e4]), Host::f32(&[1], vec![1.0]), hyper(1, f32::INFINITY)];
    let param = run(Isa::detect(), 1, Op::AdamW(adamw), &reads, &[zero.clone(), zero.clone(), zero]).remove(0);
    for (param, expected) in param.iter().zip([-0.01, 0.01, -0.01]) {
        assert!((param - expected).abs() < 1e-6, "{param}");
    }
}

#[test]
fn a_norm_that_is_not_a_number_poisons_every_parameter() {
    let ones = Host::f32(&[40], vec![1.0; 40]);
    let reads = [ones.clone(), Host::f32(&[1], vec![f32::NAN]), hyper(1, 1.0)];
    let writes = run(Isa::detect(), 2, Op::AdamW(ADAMW), &reads, &[ones.clone(), ones.clone(), ones]);
    assert!(writes[0].iter().all(|x| x.is_nan()));
}
