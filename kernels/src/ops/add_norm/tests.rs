use crate::cases::{BF16, Host, check};
use crate::op::{Dropout, Norm, Op};
use crate::ops::add::differences::check_gradients;
use crate::ops::{dropout::reference as drop, layer_norm::reference as layer, rms_norm::reference as rms};

/// Sums in lanes of f32, then a root, a quotient and four products.
const TOLERANCE: f64 = 3e-6;

/// Two roundings beside those of f32: s is rounded before its norm, dx before its dropout.
const BF16_TWICE: f64 = 2.0 * BF16;

const EPS: f32 = 1e-5;

const RNG: [u32; 4] = [4, 5, 17, 0];

/// Which norm, gain, shift and dropout: every table with and without each of the others once.
const FORMS: [(Norm, bool, bool, Option<Dropout>); 6] = [
    (Norm::Layer, true, true, None),
    (Norm::Layer, false, false, Some(Dropout { p: 0.3, stream: 2 })),
    (Norm::Layer, false, true, Some(Dropout { p: 0.1, stream: 3 })),
    (Norm::Rms, true, false, Some(Dropout { p: 0.5, stream: 1 })),
    (Norm::Rms, false, false, None),
    (Norm::Rms, true, true, None),
];

fn dropped(dropout: Option<Dropout>, d: usize, h: &[f64]) -> Vec<f64> {
    dropout.map_or(h.to_vec(), |Dropout { p, stream }| drop::forward(p, stream, d, h, &RNG))
}

/// (s, y, stats).
fn forward(
    norm: Norm,
    eps: f64,
    dropout: Option<Dropout>,
    d: usize,
    [x, h]: [&[f64]; 2],
    gain: Option<&[f64]>,
    shift: Option<&[f64]>,
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let s: Vec<f64> = x.iter().zip(dropped(dropout, d, h)).map(|(x, h)| x + h).collect();
    let (y, stats) = match norm {
        Norm::Layer => layer::forward(eps, d, &s, gain, shift),
        Norm::Rms => {
            let (y, stats) = rms::forward(eps, d, &s, gain);
            (y.iter().enumerate().map(|(i, y)| y + shift.map_or(0.0, |b| b[i % d])).collect(), stats)
        }
    };
    (s, y, stats)
}

/// (dx, dgain, dshift); dh is the dropout of dx.
fn backward(
    norm: Norm,
    d: usize,
    s: &[f64],
    stats: &[f64],
    dy: &[f64],
    ds: Option<&[f64]>,
    gain: Option<&[f64]>,
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let (dx, dgain, dshift) = match norm {
        Norm::Layer => layer::backward(d, s, stats, dy, gain),
        Norm::Rms => {
            let (dx, dgain) = rms::backward(d, s, stats, dy, gain);
            (dx, dgain, (0..d).map(|c| dy[c..].iter().step_by(d).sum()).collect())
        }
    };
    (dx.iter().enumerate().map(|(i, dx)| dx + ds.map_or(0.0, |ds| ds[i])).collect(), dgain, dshift)
}

#[test]
fn kernels_equal_reference() {
    let round = |x: Host, half: bool| if half { x.bf16() } else { x };
    let rng = Host::u32(&[4], RNG.to_vec());
    for dims in [&[1, 1][..], &[7], &[3, 33], &[2, 3, 129], &[150, 130], &[2, 1300]] {
        let d = dims[dims.len() - 1];
        let (g, b) = (Host::normal(&[d], 2), Host::normal(&[d], 3));
        for ((norm, gain, bias, dropout), half) in FORMS.into_iter().flat_map(|form| [(form, false), (form, true)]) {
            let tolerance = if half { BF16_TWICE } else { TOLERANCE };
            let [x, h, dy, ds] = [1, 4, 5, 6].map(|row| round(Host::normal(dims, row), half));
            let (g64, b64) = (gain.then(|| g.f64()), bias.then(|| b.f64()));
            let (s, y, stats) =
                forward(norm, EPS.into(), dropout, d, [&x.f64(), &h.f64()], g64.as_deref(), b64.as_deref());
            let mut reads = vec![x, h];
            reads.extend([gain.then(|| g.clone()), bias.then(|| b.clone())].into_iter().flatten());
            reads.extend(dropout.map(|_| rng.clone()));
            check(Op::AddNorm { norm, eps: EPS, gain, bias, dropout }, &reads, &[], &[y, s.clone(), stats], tolerance);

            let s = round(Host::f32(dims, s.iter().map(|&s| s as f32).collect()), half);
            let stats = match norm {
                Norm::Layer => layer::forward(EPS.into(), d, &s.f64(), None, None).1,
                Norm::Rms => rms::forward(EPS.into(), d, &s.f64(), None).1,
            };
            let kept: Vec<f32> = stats.iter().map(|&s| s as f32).collect();
            let n = s.f64().len() / d;
            let kept = Host::f32(&[n, 2][..norm.stats()], kept);
            for sum in [false, true] {
                let (dx, dgain, dshift) =
                    backward(norm, d, &s.f64(), &stats, &dy.f64(), sum.then(|| ds.f64()).as_deref(), g64.as_deref());
                let dh = dropout.map(|_| dropped(dropout, d, &dx));
                let mut reads = vec![s.clone(), kept.clone(), dy.clone()];
                reads.extend([sum.then(|| ds.clone()), gain.then(|| g.clone())].into_iter().flatten());
                reads.extend(dropout.map(|_| rng.clone()));
                let truth = [Some(dx), dh, gain.then_some(dgain), bias.then_some(dshift)];
                let truth: Vec<_> = truth.into_iter().flatten().collect();
                check(Op::AddNormGrad { norm, gain, bias, dropout, sum }, &reads, &[], &truth, tolerance);
            }
        }
    }
}

#[test]
fn gradient_equals_finite_differences() {
    let (n, d, eps) = (3, 5, 0.1);
    let [x, h, dy, ds] = [1, 4, 5, 6].map(|row| Host::normal(&[n, d], row).f64());
    let [gain, shift] = [2, 3].map(|row| Host::normal(&[d], row).f64());
    for (norm, dropout) in [(Norm::Layer, None), (Norm::Rms, Some(Dropout { p: 0.4, stream: 7 }))] {
        // Both outputs have a gradient: [y, s] against [dy, ds].
        let outputs = |x: &[Vec<f64>]| {
            let (s, y, _) = forward(norm, eps, dropout, d, [&x[0], &x[1]], Some(&x[2]), Some(&x[3]));
            [y, s].concat()
        };
        let (s, _, stats) = forward(norm, eps, dropout, d, [&x, &h], Some(&gain), Some(&shift));
        let (dx, dgain, dshift) = backward(norm, d, &s, &stats, &dy, Some(&ds), Some(&gain));
        let dh = dropped(dropout, d, &dx);
        let inputs = [x.clone(), h.clone(), gain.clone(), shift.clone()];
        check_gradients(&inputs, &[dy.clone(), ds.clone()].concat(), &[dx, dh, dgain, dshift], outputs);
    }
}
