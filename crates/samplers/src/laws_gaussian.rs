//! What Gaussian samplers owe to the equations they are named after.

use crate::source::*;
use crate::*;
use galatea_processes::{EmbeddingDenoiser, Gaussian, Prediction, Variance};
use galatea_schedules::{Linear, Schedule, grid};
use ndarray::{Array3, ArrayRef2, ArrayRef3, array};
use proptest::prelude::*;
use std::convert::Infallible;

/// x_0_hat = tanh of a rotation of z, told as another prediction where asked for.
#[derive(Clone)]
struct Smooth(Prediction);

impl Smooth {
    fn x_0(z: [f64; 2]) -> [f64; 2] {
        [(0.8 * z[0] - 0.5 * z[1]).tanh(), (0.3 * z[0] + 0.9 * z[1]).tanh()]
    }
}

impl EmbeddingDenoiser for Smooth {
    type Error = Infallible;
    fn denoise(&mut self, z_t: &ArrayRef3<f32>, t: f64, x_0_hat: &mut ArrayRef3<f32>) -> Result<(), Infallible> {
        let conversion = Prediction::X0.to(self.0, Linear.alpha_bar(t));
        for (z, mut out) in z_t.rows().into_iter().zip(x_0_hat.rows_mut()) {
            let z = [f64::from(z[0]), f64::from(z[1])];
            let x_0 = Self::x_0(z);
            (0..2).for_each(|k| out[k] = conversion.apply(z[k], x_0[k]) as f32);
        }
        Ok(())
    }
}

fn run<G: Guide<Infallible>>(mut sampler: Embedding<Smooth, G>) -> Array3<f32> {
    while let Some(step) = sampler.advance() {
        step.expect("infallible");
    }
    sampler.z().to_owned()
}

fn smooth(levels: impl Into<Steps>, options: EmbeddingOptions) -> Embedding<Smooth> {
    let denoiser = Smooth(options.prediction);
    Embedding::new(denoiser, &table(), levels, Fixed::none(1, 3), options).expect("sound")
}

fn far(a: &Array3<f32>, b: &Array3<f32>) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max)
}

proptest! {
    /// DDIM's step is DPM-Solver++'s of the first order, in its own words: with lambda = log(alpha / sigma) and
    /// h = lambda_s - lambda_t, x_s = sigma_s / sigma_t x_t - alpha_s (e^-h - 1) x_0_hat.
    #[test]
    fn ddim_is_first_order_dpm_solver(a_t in 1e-4f64..0.999, more in 0.0f64..0.999, x_t in -3.0f64..3.0, x_0 in -2.0f64..2.0) {
        let a_s = a_t + (0.9999 - a_t) * more;
        let step = Gaussian.ddim(a_t, a_s, 1.0, 0.0, 0.0);
        let (alpha, sigma, lambda) = (f64::sqrt, |a: f64| (1.0 - a).sqrt(), |a: f64| (a / (1.0 - a)).ln() / 2.0);
        let h = lambda(a_s) - lambda(a_t);
        let dpm = sigma(a_s) / sigma(a_t) * x_t - alpha(a_s) * (-h).exp_m1() * x_0;
        prop_assert!((step.apply(x_t, x_0, 0.0) - dpm).abs() < 1e-10);
    }

    /// VDM's equation 33, which is Plaid's sampler: c = -expm1(gamma_s - gamma_t) with gamma = -log SNR,
    /// z_s = (1 - c) alpha_s / alpha_t z_t + c alpha_s x_0_hat + sqrt(c (1 - alpha_s^2)) noise.
    #[test]
    fn the_ancestral_step_is_vdm(a_t in 1e-4f64..0.99, more in 0.0f64..0.99, z in -3.0f64..3.0, x_0 in -2.0f64..2.0, noise in -3.0f64..3.0) {
        let a_s = a_t + (0.9999 - a_t) * more;
        let gamma = |a: f64| ((1.0 - a) / a).ln();
        let c = -(gamma(a_s) - gamma(a_t)).exp_m1();
        let vdm = (1.0 - c) * (a_s / a_t).sqrt() * z + c * a_s.sqrt() * x_0 + (c * (1.0 - a_s)).sqrt() * noise;
        let step = Gaussian.ddpm(a_t, a_s, 1.0, 0.0, Variance::Small);
        prop_assert!((step.apply(z, x_0, noise) - vdm).abs() < 1e-9);
    }

    /// However a model tells what it knows, the samples are the same.
    #[test]
    fn predictions_are_interchangeable(seed: u64, steps in 2usize..9, second: bool) {
        let method = if second { Method::Multistep { lower_order_final: true } } else { Method::Ddpm(Variance::Small) };
        let levels = || Levels::from_pairs(grid::uniform(steps).iter().map(|&t| (0.97 * t, 1.0 - 0.97 * t))).expect("descends");
        let run_as = |prediction| run(smooth(levels(), EmbeddingOptions { seed, method, prediction, ..Default::default() }));
        let x_0 = run_as(Prediction::X0);
        for prediction in [Prediction::Noise, Prediction::V, Prediction::Score] {
            prop_assert!(far(&x_0, &run_as(prediction)) < 1e-4, "{prediction:?}");
        }
    }
}

/// A second-order method: halving the steps divides the error by four, where DDIM divides it by two.
#[test]
fn multistep_is_of_second_order() {
    let ends = |steps: usize, method| {
        // Evenly in log-SNR, so that all steps are alike.
        let level = |i: usize| -3.0 + 6.0 * i as f64 / steps as f64;
        let levels = (0..=steps).map(|i| (1.0 - i as f64 / (steps + 1) as f64, 1.0 / (1.0 + (-level(i)).exp())));
        run(smooth(
            Levels::from_pairs(levels).expect("descends"),
            EmbeddingOptions { seed: 7, method, ..Default::default() },
        ))
    };
    let multistep = Method::Multistep { lower_order_final: false };
    let truth = ends(4000, Method::Multistep { lower_order_final: false });
    let order = |method| (far(&ends(20, method), &truth) / far(&ends(40, method), &truth)).log2();
    let (first, second) = (order(Method::Ddim { eta: 0.0 }), order(multistep));
    assert!((first - 1.0).abs() < 0.25, "DDIM has order {first}");
    assert!((second - 2.0).abs() < 0.4, "the multistep method has order {second}");
    assert!(far(&ends(20, multistep), &truth) < 0.2 * far(&ends(20, Method::Ddim { eta: 0.0 }), &truth));
}

/// Few steps of the second order do what many of the first do.
#[test]
fn multistep_texts_follow_the_law_in_few_steps() {
    let statistic = |method, steps| {
        let options = EmbeddingOptions { seed: 2, method, ..Default::default() };
        let levels = Levels::new(&Linear, &grid::uniform(steps)).expect("descends");
        let sampler = Embedding::new(source(2, Evidence::Embeddings), &table(), levels, Fixed::none(3000, 2), options);
        let canvas = sampler.expect("sound").finish().expect("infallible");
        let mut counts = vec![0; 9];
        canvas.ids.rows().into_iter().for_each(|row| counts[number(row.iter().copied())] += 1);
        chi_square(&counts, &source(2, Evidence::Embeddings).joint)
    };
    let (found, quantile) = statistic(Method::Multistep { lower_order_final: true }, 40);
    assert!(found < quantile, "{found} {quantile}");
}

/// A score temperature of T divides the predicted noise by T, which leaves a temperature of 1 alone.
#[test]
fn score_temperature_divides_the_noise() {
    let (here, there) = (Level { t: 0.6, alpha_bar: 0.4 }, Level { t: 0.5, alpha_bar: 0.5 });
    let steps = || Steps::from_pairs([(here, there)]).expect("one step");
    for temperature in [1.0, 0.9, 0.5, 2.0] {
        let method = Method::Ddim { eta: 0.0 };
        let options = EmbeddingOptions { seed: 5, method, score_temperature: temperature, ..Default::default() };
        let mut sampler = smooth(steps(), options);
        let start = sampler.z().to_owned();
        sampler.next().expect("a step").expect("infallible");
        for (z, end) in start.rows().into_iter().zip(sampler.z().rows()) {
            let z = [f64::from(z[0]), f64::from(z[1])];
            let x_0 = Smooth::x_0(z);
            for k in 0..2 {
                let noise = (z[k] - 0.4f64.sqrt() * x_0[k]) / 0.6f64.sqrt() / temperature;
                let x_0 = (z[k] - 0.6f64.sqrt() * noise) / 0.4f64.sqrt();
                let expected = 0.5f64.sqrt() * (x_0 + noise);
                assert!((f64::from(end[k]) - expected).abs() < 1e-5, "temperature {temperature}");
            }
        }
    }
}

/// log p(y | z) = -|z - wish|² / 2.
struct Wish([f32; 2]);

impl Guide<Infallible> for Wish {
    fn gradient(
        &mut self,
        z: &ArrayRef3<f32>,
        _: f64,
        _: &ArrayRef3<f32>,
        gradient: &mut ArrayRef3<f32>,
    ) -> Result<(), Infallible> {
        gradient.indexed_iter_mut().for_each(|(at, g)| *g = self.0[at.2] - z[at]);
        Ok(())
    }
}

/// Guidance of the prediction adds the gradient to the score: x_0_hat moves by (1 - alpha_bar) / sqrt(alpha_bar) of it.
#[test]
fn guided_predictions_move_the_score() {
    let (here, there) = (Level { t: 0.6, alpha_bar: 0.4 }, Level { t: 0.5, alpha_bar: 0.5 });
    let options = EmbeddingOptions { seed: 5, method: Method::Ddim { eta: 0.0 }, ..Default::default() };
    let plain = smooth(Steps::from_pairs([(here, there)]).expect("one step"), options.clone());
    let start = plain.z().to_owned();
    let wish = [2.0, -1.0];
    let mut guided = smooth(Steps::from_pairs([(here, there)]).expect("one step"), options)
        .guided(Wish(wish), Guidance::Prediction)
        .expect("there is signal");
    guided.next().expect("a step").expect("infallible");
    for (z, found) in start.rows().into_iter().zip(guided.x_0_hat().rows()) {
        let plain = Smooth::x_0([f64::from(z[0]), f64::from(z[1])]);
        for k in 0..2 {
            let score = |x_0: f64| (0.4f64.sqrt() * x_0 - f64::from(z[k])) / 0.6;
            let expected = score(plain[k]) + f64::from(wish[k] - z[k]);
            assert!((score(f64::from(found[k])) - expected).abs() < 1e-4);
        }
    }
}

/// Latent guidance ends nearer to the wish the less it must stay near the mean; without steps it changes nothing.
#[test]
fn guided_latents_approach_the_wish() {
    let levels = || Levels::from_pairs([(0.9, 0.1), (0.6, 0.4), (0.3, 0.7), (0.1, 0.9)]).expect("descends");
    let distance =
        |z: &Array3<f32>| z.rows().into_iter().map(|z| (&z - &array![2.0, -1.0]).mapv(|x| x * x).sum()).sum::<f32>();
    let guided = |steps, fluency, t_min| {
        let sampler = smooth(levels(), EmbeddingOptions { seed: 3, ..Default::default() });
        let latents = Guidance::Latents { steps, rate: 0.05, fluency, t_min };
        run(sampler.guided(Wish([2.0, -1.0]), latents).expect("sound"))
    };
    let plain = run(smooth(levels(), EmbeddingOptions { seed: 3, ..Default::default() }));
    assert_eq!(plain, guided(0, 0.01, 0.0));
    assert_eq!(plain, guided(3, 0.01, 0.95));
    let (free, held) = (distance(&guided(3, 0.0, 0.0)), distance(&guided(3, 10.0, 0.0)));
    assert!(
        free < held && held < distance(&plain) + 0.2 && free < 0.8 * distance(&plain),
        "{free} {held} {}",
        distance(&plain)
    );
}

/// Given tokens are noised anew in every step, so a free token that depends on them settles with them only slowly;
/// repeating steps brings its law nearer to the conditional one.
#[test]
fn resampling_harmonises_infilling() {
    let source = source(2, Evidence::Embeddings);
    let statistic = |resampling| {
        let mut fixed = Fixed::none(4000, 2);
        (0..4000).for_each(|row| fixed.set(row, 0, 2).expect("inside"));
        let options = EmbeddingOptions { seed: 9, resampling, ..Default::default() };
        let levels = Levels::new(&Linear, &grid::uniform(20)).expect("descends");
        let sampler = Embedding::new(source.clone(), &table(), levels, fixed, options).expect("sound");
        let canvas = sampler.finish().expect("infallible");
        assert_eq!(canvas.calls, 20 * resampling);
        let mut counts = vec![0; TOKENS];
        canvas.ids.column(1).iter().for_each(|&id| counts[id as usize] += 1);
        let total: f64 = source.joint[6..].iter().sum();
        let law: Vec<f64> = source.joint[6..].iter().map(|p| p / total).collect();
        chi_square(&counts, &law).0
    };
    let (once, often) = (statistic(1), statistic(8));
    assert!(often < 0.5 * once, "once {once}, eight times {often}");
}

/// The model is told its own last answer, untouched by what the step made of it.
#[test]
fn self_conditioning_sees_the_last_answer() {
    struct Remembers(Option<Array3<f32>>);
    impl EmbeddingDenoiser for Remembers {
        type Error = Infallible;
        fn denoise(&mut self, z_t: &ArrayRef3<f32>, _: f64, x_0_hat: &mut ArrayRef3<f32>) -> Result<(), Infallible> {
            match &self.0 {
                Some(last) => assert_eq!(x_0_hat, last),
                None => assert!(x_0_hat.iter().all(|x| *x == 0.0)),
            }
            x_0_hat.zip_mut_with(z_t, |x, &z| *x = 0.5 * *x + z);
            self.0 = Some(x_0_hat.to_owned());
            Ok(())
        }
        fn read(&mut self, forbidden: &[u32], ids: &mut ArrayRef2<u32>) -> bool {
            assert_eq!(forbidden, [1]);
            ids.fill(2);
            true
        }
    }
    let levels = Levels::from_pairs([(0.9, 0.1), (0.6, 0.4), (0.3, 0.7)]).expect("descends");
    let options =
        EmbeddingOptions { clamp: Clamp::Nearest, score_temperature: 0.9, forbidden: vec![1], ..Default::default() };
    let sampler = Embedding::new(Remembers(None), &table(), levels, Fixed::none(2, 2), options).expect("sound");
    assert!(sampler.finish().expect("infallible").ids.iter().all(|&id| id == 2), "the model reads its own tokens");
}

#[test]
fn what_needs_signal_is_refused_without() {
    let new = |options| Embedding::new(Smooth(Prediction::X0), &table(), levels(3), Fixed::none(1, 1), options);
    for options in [
        EmbeddingOptions { score_temperature: 0.9, ..Default::default() },
        EmbeddingOptions { prediction: Prediction::Noise, ..Default::default() },
    ] {
        assert!(matches!(new(options).err(), Some(Error::Level { index: 0, parameter: "alpha_bar", .. })));
    }
    let guided = new(EmbeddingOptions::default()).expect("sound").guided(Wish([0.0; 2]), Guidance::Prediction);
    assert!(matches!(guided.err(), Some(Error::Level { .. })));
    let latents = Guidance::Latents { steps: 3, rate: f64::NAN, fluency: 0.1, t_min: 0.0 };
    let guided = new(EmbeddingOptions::default()).expect("sound").guided(Wish([0.0; 2]), latents);
    assert!(matches!(guided.err(), Some(Error::Parameter { .. })));
    for options in [
        EmbeddingOptions { resampling: 0, ..Default::default() },
        EmbeddingOptions { score_temperature: 0.0, ..Default::default() },
        EmbeddingOptions { resampling: 2, method: Method::Multistep { lower_order_final: true }, ..Default::default() },
    ] {
        assert!(matches!(new(options).err(), Some(Error::Parameter { .. })));
    }
}
