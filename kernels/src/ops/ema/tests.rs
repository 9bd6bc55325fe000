use super::reference;
use crate::cases::{Host, check, run};
use crate::isa::Isa;
use crate::op::{Hyper, Op};

/// Three roundings of numbers of order one.
const TOLERANCE: f64 = 2e-7;

fn hyper(decay: f32) -> Host {
    let mut hyper = vec![f32::NAN; Hyper::LEN];
    hyper[Hyper::EMA_DECAY] = decay;
    Host::f32(&[Hyper::LEN], hyper)
}

#[test]
fn kernel_equals_reference() {
    for (len, decay) in [(1, 0.0), (33, 0.5), (16_384 * 2 + 1, 0.9999), (7, 1.0)] {
        let (param, ema) = (Host::normal(&[len], 1), Host::normal(&[len], 2));
        let mut truth = ema.f64();
        reference::step(f64::from(decay), &param.f64(), &mut truth);
        check(Op::Ema, &[param, hyper(decay)], &[ema], &[truth], TOLERANCE);
    }
}

#[test]
fn constant_parameters_are_approached_geometrically() {
    let (decay, param) = (0.9f32, Host::f32(&[1], vec![2.0]));
    let mut ema = Host::f32(&[1], vec![-1.0]);
    for step in 1..=40 {
        let next = run(Isa::detect(), 1, Op::Ema, &[param.clone(), hyper(decay)], &[ema])[0][0];
        assert!((next - (2.0 - 3.0 * f64::from(decay).powi(step))).abs() < 1e-6, "step {step}: {next}");
        ema = Host::f32(&[1], vec![next as f32]);
    }
}
