use super::reference;
use crate::cases::{Host, both, check, run};
use crate::isa::Isa;
use crate::op::Op;

/// Two roundings: of 1 / (1 - p) and of the product.
const TOLERANCE: f64 = 2e-7;

const RNG: [u32; 4] = [4, 0, 17, 0];

fn rng() -> Host {
    Host::u32(&[4], RNG.to_vec())
}

#[test]
fn kernel_equals_reference() {
    for (dims, p) in
        [(&[1][..], 0.5), (&[5], 0.1), (&[3, 7], 0.0), (&[2, 3, 64], 0.25), (&[3, 203], 0.4), (&[2, 2, 3, 21], 0.99)]
    {
        for ([x], tolerance) in both([Host::normal(dims, 1)], TOLERANCE) {
            let truth = reference::forward(p, 3, dims[dims.len() - 1], &x.f64(), &RNG);
            check(Op::Dropout { p, stream: 3 }, &[x, rng()], &[], &[truth], tolerance);
        }
    }
}

/// The kernel compares a word with an integer: the same as comparing its number with p, at the words around p too.
#[test]
fn the_least_word_that_stays_is_that_of_p() {
    for i in 0..5000u32 {
        let p = if i < 4990 { i as f32 / 5000.0 } else { galatea_random::unit_f32(i << 19) };
        let least = super::Mask::new(p, 0, &RNG).least();
        for word in [least, least.wrapping_sub(1), least | 0x1ff] {
            assert_eq!(galatea_random::unit_f32(word) >= p, word >= least, "p = {p}, word {word}");
        }
    }
}

#[test]
fn the_mask_is_drawn_again_for_the_gradient() {
    let op = Op::Dropout { p: 0.3, stream: 1 };
    let draw = |x: Host| run(Isa::detect(), 2, op, &[x, rng()], &[]).remove(0);
    let kept = |y: Vec<f64>| y.iter().map(|&y| y != 0.0).collect::<Vec<_>>();
    let mask = kept(draw(Host::normal(&[9, 50], 1)));
    assert_eq!(mask, kept(draw(Host::normal(&[9, 50], 2))));
    let other = Op::Dropout { p: 0.3, stream: 2 };
    assert_ne!(mask, kept(run(Isa::detect(), 2, other, &[Host::normal(&[9, 50], 1), rng()], &[]).remove(0)));
}

#[test]
fn the_mean_is_preserved() {
    let n = 200_000;
    for p in [0.1, 0.5, 0.9] {
        let x = Host::f32(&[200, 1000], vec![1.0; n]);
        let y = run(Isa::detect(), 2, Op::Dropout { p, stream: 8 }, &[x, rng()], &[]).remove(0);
        let (mean, p) = (y.iter().sum::<f64>() / n as f64, f64::from(p));
        // Four standard errors of a scaled Bernoulli mean.
        assert!((mean - 1.0).abs() < 4.0 * (p / (1.0 - p) / n as f64).sqrt(), "p = {p}: {mean}");
    }
}
