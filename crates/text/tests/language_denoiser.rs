//! The perfect denoisers: their answers against Bayes by enumeration, their bounds against the exact -log p(x).

use galatea_processes::objectives::{Batch, batch, bound, d3pm, masked, uniform};
use galatea_processes::{Categorical, Denoiser, EmbeddingDenoiser, Gaussian, Limit, Scheduled};
use galatea_random::Philox;
use galatea_schedules::{Cosine, Linear, LinearLogSnr, Schedule};
use galatea_text::language::{
    Contradiction, Error, ExactDenoiser, ExactEmbeddingDenoiser, ExactModel, Level, MarkovChain, Reading,
    StoryLanguage, Sudoku4,
};
use ndarray::{Array1, Array2, Array3, Axis, arr1, arr2, s};

fn chain() -> MarkovChain {
    let transition = arr2(&[[0.7, 0.3, 0.0], [0.1, 0.2, 0.7], [0.25, 0.25, 0.5]]);
    MarkovChain::new(4, arr1(&[0.5, 0.2, 0.3]), transition).expect("rows sum to one")
}

fn sequences(vocab: usize, len: usize) -> Vec<Vec<u32>> {
    let digits = |n: usize| (0..len as u32).map(|i| (n / vocab.pow(i) % vocab) as u32).collect();
    (0..vocab.pow(len as u32)).map(digits).collect()
}

/// The marginals of p(x_0) prod_i likelihood(i, x_0^i), by enumeration.
fn bayes(model: &impl ExactModel, likelihood: impl Fn(usize, u32) -> f64) -> Array2<f64> {
    let mut marginals = Array2::<f64>::zeros((model.len(), model.vocab()));
    for x in sequences(model.vocab(), model.len()) {
        let joint = x.iter().enumerate().fold(model.log_prob(&x).exp(), |p, (i, &v)| p * likelihood(i, v));
        x.iter().enumerate().for_each(|(i, &v)| marginals[[i, v as usize]] += joint);
    }
    let total: f64 = marginals.row(0).sum();
    marginals / total
}

#[test]
fn token_denoisers_equal_bayes_with_dense_q_bar() {
    let chain = chain();
    for (limit, width) in [(Limit::Mask(3), 4), (Limit::Uniform, 3)] {
        let process = Categorical::new(width, limit).expect("a valid process");
        let mut denoiser = ExactDenoiser::new(&chain, limit, Cosine::default()).reading(Reading::Posterior);
        for (row, t) in [0.02, 0.2, 0.5, 0.8, 0.99].into_iter().enumerate() {
            let alpha_bar = Cosine::default().alpha_bar(t);
            let q_bar = process.q_bar(alpha_bar);
            let draw = |k: u32| chain.sample(&mut Philox::new(1, 0, k, row as u32));
            let x_0 = Array2::from_shape_vec((2, 4), [draw(0), draw(1)].concat()).expect("two rows");
            let mut x_t = x_0.clone();
            process.corrupt(&x_0, &arr1(&[alpha_bar; 2]), 2, 0, row as u32, &mut x_t).expect("fitting shapes");
            let mut logits = Array3::from_elem((2, 4, width), f32::NAN);
            denoiser.denoise(&x_t, t, &mut logits).expect("a possible canvas");
            for (x_t, logits) in x_t.outer_iter().zip(logits.outer_iter()) {
                let expected = bayes(&chain, |i, v| q_bar[[v as usize, x_t[i] as usize]]);
                let found = logits.mapv(|logit| f64::from(logit).exp());
                assert!((&found.slice(s![.., ..3]) - &expected).iter().all(|d| d.abs() < 1e-6), "{found}\n{expected}");
                assert!(width == 3 || found.column(3).iter().all(|&p| p == 0.0));
            }
        }
    }
}

/// The step that puts the leave-one-out distribution in place of x_0 is the mixture of q(x_s | x_t, x_0) over the
/// posterior: both are the exact p(x_s^i | x_t).
#[test]
fn readings_of_uniform_noise_agree_on_the_reverse_step() {
    let (chain, schedule) = (chain(), Cosine::default());
    let process = Categorical::new(3, Limit::Uniform).expect("a valid process");
    let read = |reading: Reading, x_t: &Array2<u32>, t: f64| {
        let mut logits = Array3::zeros((1, 4, 3));
        let mut denoiser = ExactDenoiser::new(&chain, Limit::Uniform, schedule).reading(reading);
        denoiser.denoise(x_t, t, &mut logits).expect("a possible canvas");
        let p = logits.index_axis(Axis(0), 0).mapv(|logit| f64::from(logit).exp());
        &p / &p.sum_axis(Axis(1)).insert_axis(Axis(1))
    };
    let x_t = arr2(&[[0, 2, 2, 1]]);
    for (t, s) in [(0.9, 0.7), (0.5, 0.2), (0.3, 0.0)] {
        let (alpha_bar_t, alpha_bar_s) = (schedule.alpha_bar(t), schedule.alpha_bar(s));
        let [posterior, without] = [Reading::Posterior, Reading::LeaveOneOut].map(|reading| read(reading, &x_t, t));
        for (i, &x_t) in x_t.iter().enumerate() {
            let (mut mixture, mut q_s) = ([0.0; 3], [0.0; 3]);
            for x_0 in 0..3 {
                let mut hot = [0.0; 3];
                hot[x_0] = 1.0;
                process.posterior(alpha_bar_t, alpha_bar_s, x_t, &hot, &mut q_s);
                (0..3).for_each(|k| mixture[k] += posterior[[i, x_0]] * q_s[k]);
            }
            process.posterior(alpha_bar_t, alpha_bar_s, x_t, &without.row(i).to_vec(), &mut q_s);
            assert!((0..3).all(|k| (mixture[k] - q_s[k]).abs() < 1e-6), "{mixture:?} {q_s:?}");
        }
    }
}

#[test]
fn embedding_denoiser_is_the_posterior_mean() {
    let (chain, schedule) = (chain(), Cosine::default());
    let mut rng = Philox::new(3, 0, 0, 0);
    let embeddings = Array2::from_shape_fn((3, 5), |_| rng.normal());
    let mut denoiser = ExactEmbeddingDenoiser::new(&chain, schedule, embeddings.clone()).expect("one row per token");
    for t in [0.05, 0.3, 0.6, 0.9, 1.0] {
        let alpha_bar = schedule.alpha_bar(t);
        let x_0 = chain.sample(&mut rng);
        let z_t = Array3::from_shape_fn((1, 4, 5), |(_, i, k)| {
            (alpha_bar.sqrt() * embeddings[[x_0[i] as usize, k]] + (1.0 - alpha_bar).sqrt() * rng.normal()) as f32
        });
        let mut x_0_hat = Array3::from_elem((1, 4, 5), f32::NAN);
        denoiser.denoise(&z_t, t, &mut x_0_hat).expect("finite noise");
        let normal = |i: usize, v: u32| {
            let mean = &embeddings.row(v as usize) * alpha_bar.sqrt();
            let squares = z_t.slice(s![0, i, ..]).mapv(f64::from) - mean;
            (-0.5 * squares.mapv(|d| d * d).sum() / (1.0 - alpha_bar)).exp()
        };
        let expected = bayes(&chain, normal).dot(&embeddings);
        assert!((x_0_hat.index_axis(Axis(0), 0).mapv(f64::from) - expected).iter().all(|d| d.abs() < 1e-5));
    }
}

/// The mean of stratified draws f(t), t in (0, 1), and the standard error of independent ones (an upper bound of it).
fn mean_over_time(n: u32, mut f: impl FnMut(f64, u32) -> f64) -> (f64, f64) {
    let draws: Vec<f64> = (0..n)
        .map(|k| {
            let u = Philox::new(9, 0, 0, k).uniform();
            f((f64::from(k) + u) / f64::from(n), k)
        })
        .collect();
    let mean = draws.iter().sum::<f64>() / f64::from(n);
    let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(n - 1);
    (mean, (variance / f64::from(n)).sqrt())
}

/// One draw of a token objective summed over a document noised with `alpha_bar`.
fn draw_of(
    denoiser: &mut impl Denoiser<Error = Error>,
    process: &Categorical,
    x_0: &[u32],
    (t, alpha_bar, k): (f64, f64, u32),
    objective: impl Fn(&[f64], u32, u32) -> f64,
) -> f64 {
    let x_0 = Array2::from_shape_vec((1, x_0.len()), x_0.to_vec()).expect("one row");
    let mut x_t = x_0.clone();
    process.corrupt(&x_0, &arr1(&[alpha_bar]), 4, 0, k, &mut x_t).expect("fitting shapes");
    let mut logits = Array3::zeros((1, x_0.ncols(), process.vocab()));
    denoiser.denoise(&x_t, t, &mut logits).expect("a possible canvas");
    let mut loss = Array2::zeros(x_0.dim());
    let rows = Batch { x_0: &x_0, x_t: &x_t, logits: &logits };
    batch(rows, &mut loss, None, |row| objective(row.logits, row.x_0, row.x_t)).expect("fitting shapes");
    loss.sum()
}

/// With the exact denoiser the reverse process of masked diffusion is exact, so the bound is tight for each document.
#[test]
fn masked_nelbo_of_the_exact_denoiser_is_minus_log_p() {
    fn assert_tight(model: &impl ExactModel, seed: u64, n: u32) {
        let mask = model.vocab() as u32;
        let process = Categorical::new(model.vocab() + 1, Limit::Mask(mask)).expect("a valid process");
        let mut denoiser = ExactDenoiser::masked(model);
        let x_0 = model.sample(&mut Philox::new(seed, 0, 0, 0));
        let (nelbo, error) = mean_over_time(n, |t, k| {
            let weight = masked::weight(&Linear, t);
            draw_of(&mut denoiser, &process, &x_0, (t, Linear.alpha_bar(t), k), |logits, x_0, x_t| {
                masked::nelbo(logits, x_0, x_t, mask, weight, None)
            })
        });
        let exact = -model.log_prob(&x_0);
        assert!((nelbo - exact).abs() < 4.0 * error, "{nelbo} +- {error}, exactly {exact}");
        assert!(error < 0.05 * exact, "too few draws to tell: {error} of {exact}");
    }
    assert_tight(&chain(), 1, 4000);
    assert_tight(&Sudoku4::new(), 2, 4000);
    assert_tight(&StoryLanguage::new(Level::One), 3, 8000);
    assert_tight(&StoryLanguage::new(Level::Three), 4, 3000);
}

#[test]
fn uniform_nelbo_of_the_exact_denoiser_is_minus_log_p() {
    fn nelbo(model: &impl ExactModel, reading: Reading, x_0: &[u32], n: u32) -> (f64, f64) {
        let process = Categorical::new(model.vocab(), Limit::Uniform).expect("a valid process");
        let mut denoiser = ExactDenoiser::new(model, Limit::Uniform, Linear).reading(reading);
        mean_over_time(n, |t, k| {
            let (alpha_bar, derivative) = (Linear.alpha_bar(t), Linear.alpha_bar_derivative(t));
            draw_of(&mut denoiser, &process, x_0, (t, alpha_bar, k), |logits, x_0, x_t| {
                uniform::nelbo(logits, x_0, x_t, alpha_bar, derivative, None)
            })
        })
    }
    fn assert_tight(model: &impl ExactModel, seed: u64, n: u32) {
        let x_0 = model.sample(&mut Philox::new(seed, 0, 0, 0));
        let (nelbo, error) = nelbo(model, Reading::LeaveOneOut, &x_0, n);
        let exact = -model.log_prob(&x_0);
        assert!((nelbo - exact).abs() < 4.0 * error, "{nelbo} +- {error}, exactly {exact}");
        assert!(error < 0.1 * exact, "too few draws to tell: {error} of {exact}");
    }
    assert_tight(&chain(), 1, 8000);
    assert_tight(&Sudoku4::new(), 2, 8000);
    assert_tight(&StoryLanguage::new(Level::One), 3, 8000);
    // The posterior counts x_t^i twice, and the bound shows it.
    let x_0 = chain().sample(&mut Philox::new(1, 0, 0, 0));
    let (loose, error) = nelbo(&chain(), Reading::Posterior, &x_0, 8000);
    assert!(loose + chain().log_prob(&x_0) > 4.0 * error, "{loose} +- {error}");
}

/// Steps that move positions independently lose what binds them: the bound of a short chain lies above the entropy, and
/// comes down with the steps.
#[test]
fn bounds_of_short_chains_lie_above_the_entropy_and_fall() {
    let chain = chain();
    for limit in [Limit::Mask(3), Limit::Uniform] {
        let width = if limit == Limit::Uniform { 3 } else { 4 };
        let process = Categorical::new(width, limit).expect("a valid process");
        let mut denoiser = ExactDenoiser::new(&chain, limit, Linear);
        let bounds = [1_u32, 3, 30].map(|steps| {
            mean_over_time(40_000, |u, k| {
                let step = (u * f64::from(steps)).ceil().max(1.0);
                let (t, s) = (step / f64::from(steps), (step - 1.0) / f64::from(steps));
                let alpha_bar_t = Linear.alpha_bar(t);
                let x_0 = chain.sample(&mut Philox::new(6, 0, 0, k));
                f64::from(steps)
                    * draw_of(&mut denoiser, &process, &x_0, (t, alpha_bar_t, k), |logits, x_0, x_t| {
                        let mut scratch = d3pm::Scratch::new(width);
                        d3pm::loss(&Scheduled::new(process, Linear), logits, x_0, x_t, t, s, 0.0, &mut scratch, None)
                    })
            })
        });
        let [(one, error), (three, _), (thirty, last_error)] = bounds;
        assert!(one - three > 0.05 && three - thirty > 0.02, "{bounds:?}");
        // One step draws every position from its own marginal.
        let marginals = bayes(&chain, |_, _| 1.0);
        let independent: f64 = marginals.iter().map(|p| -p * p.ln()).sum();
        assert!((one - independent).abs() < 4.0 * error, "{one} +- {error}, exactly {independent}");
        let excess = thirty - chain.entropy();
        assert!(excess > -4.0 * last_error && excess < 0.05 + 4.0 * last_error, "{thirty}, {}", chain.entropy());
    }
}

/// The Gaussian bound at one-hot embeddings: 1/2 the integral of SNR |x_0 - x_0_hat|^2 over log SNR.
#[test]
fn gaussian_bound_of_the_exact_denoiser_is_minus_log_p() {
    let schedule = LinearLogSnr::new(5.0, -11.0).expect("max above min");
    let chain = chain();
    let scaled = Array2::from_diag(&Array1::from_elem(3, 2.0));
    let mut denoiser = ExactEmbeddingDenoiser::new(&chain, schedule, scaled.clone()).expect("one row per token");
    let x_0 = chain.sample(&mut Philox::new(5, 0, 0, 1));
    let clean: Vec<f64> = x_0.iter().flat_map(|&v| scaled.row(v as usize).to_vec()).collect();
    let mut estimate = |t: f64, k: u32| {
        let (alpha_bar, mut rng) = (schedule.alpha_bar(t), Philox::new(8, 0, 0, k));
        let z_t = clean.iter().map(|x| (alpha_bar.sqrt() * x + (1.0 - alpha_bar).sqrt() * rng.normal()) as f32);
        let z_t = Array3::from_shape_vec((1, 4, 3), z_t.collect()).expect("4 tokens of width 3");
        let mut x_0_hat = Array3::zeros(z_t.dim());
        denoiser.denoise(&z_t, t, &mut x_0_hat).expect("finite noise");
        let x_0_hat: Vec<f64> = x_0_hat.iter().map(|&x| f64::from(x)).collect();
        bound::diffusion(&clean, &x_0_hat, bound::weight(&schedule, t), None, None)
    };
    let (diffusion, error) = mean_over_time(40_000, &mut estimate);
    // At t = 0 the log-SNR is 5: tokens of norm 2 are read off without error, so no rounding term is left.
    let nelbo = diffusion + Gaussian.prior_kl(&clean, schedule.alpha_bar(1.0));
    let exact = -chain.log_prob(&x_0);
    assert!((nelbo - exact).abs() < 4.0 * error, "{nelbo} +- {error}, exactly {exact}");
    assert!(error < 0.05 * exact, "too few draws to tell: {error} of {exact}");
}

#[test]
fn contradictions_fail_or_fall_back_to_the_prior() {
    let sudoku = Sudoku4::new();
    let mut x_t = Array2::from_elem((1, 16), 4);
    x_t[[0, 0]] = 2;
    x_t[[0, 1]] = 2;
    let mut logits = Array3::zeros((1, 16, 5));
    let mut denoiser = ExactDenoiser::masked(&sudoku);
    assert_eq!(denoiser.denoise(&x_t, 0.5, &mut logits), Err(Error::Impossible));
    let mut denoiser = denoiser.on_contradiction(Contradiction::Prior);
    denoiser.denoise(&x_t, 0.5, &mut logits).expect("the prior answers");
    assert_eq!(denoiser.contradictions(), 1);
    assert_eq!(
        logits.slice(s![0, 1, ..]).to_vec(),
        [f32::NEG_INFINITY, f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY, f32::NEG_INFINITY]
    );
    let quarter = 0.25f32.ln();
    assert!(logits.slice(s![0, 2, ..4]).iter().all(|logit| (logit - quarter).abs() < 1e-6));
}

#[test]
fn wrong_arguments_are_named() {
    let sudoku = Sudoku4::new();
    let mut denoiser = ExactDenoiser::masked(&sudoku);
    let x_t = Array2::from_elem((1, 16), 5);
    let found = denoiser.denoise(&x_t, 0.5, &mut Array3::zeros((1, 16, 5)));
    assert_eq!(found, Err(Error::Token { position: 0, token: 5, vocab: 4 }));
    let found = denoiser.denoise(&x_t, 0.5, &mut Array3::zeros((1, 16, 4)));
    assert_eq!(found, Err(Error::Shape { what: "logits", expected: vec![1, 16, 5], found: vec![1, 16, 4] }));
    assert!(ExactEmbeddingDenoiser::new(&sudoku, Linear, Array2::zeros((3, 8))).is_err());
}
