//! Diffusion-LM's loss terms, Plaid's bound.
#![allow(missing_docs, reason = "tests are named after what they check")]

mod common;

use common::{assert_close, fixture, rows};
use galatea_processes::objectives::rounding::Rounding;
use galatea_processes::objectives::{bound, d3pm, embedding};
use galatea_processes::{Gaussian, Variance};
use galatea_schedules::{Betas, Schedule};
use ndarray::{Array1, Array2};

#[test]
fn diffusion_lm_e2e_terms() {
    let golden = fixture("diffusion_lm_e2e");
    let chain = Betas::sqrt(2000).unwrap();
    let (d, len, vocab) = (16, 8, 40);
    let (ids, steps) = (golden.ids("loss.input_ids"), golden.vec("loss.t"));
    let table = Array2::from_shape_vec((vocab, d), golden.vec("param.word_embedding.weight")).unwrap();
    let bias = Array1::from(golden.vec("param.lm_head.bias"));
    let wide = len * d;
    let std = embedding::start_std(chain.alphas_cumprod()[0]);
    let (first, second) = (golden.vec("loss.noise_x_start"), golden.vec("loss.noise_x_t"));
    let output = golden.vec("loss.model_output");
    let (mut dbias, mut terms) = (vec![0.0; vocab], Vec::new());
    for b in 0..4 {
        let t = steps[b] as usize;
        let clean: Vec<f64> = ids[b * len..][..len].iter().flat_map(|&w| table.row(w as usize).to_vec()).collect();
        let x_0: Vec<f64> = clean.iter().zip(&first[b * wide..]).map(|(e, z)| e + std * z).collect();
        assert_close("x_start", &x_0, &golden.vec("loss.x_start")[b * wide..][..wide], 1e-5);
        let (signal, spread) = Gaussian.marginal(chain.alphas_cumprod()[t]);
        let x_t: Vec<f64> = x_0.iter().zip(&second[b * wide..]).map(|(x, z)| signal * x + spread * z).collect();
        assert_close("x_t", &x_t, &golden.vec("loss.x_t")[b * wide..][..wide], 1e-5);
        let target = if t == 0 { &clean } else { &x_0 };
        let mse = embedding::mse(&output[b * wide..][..wide], target, None);
        assert_close("mse", &[mse], &golden.vec("loss.mse")[b..=b], 1e-5);
        let prior = embedding::prior(&x_0, chain.alphas_cumprod()[1999], None);
        assert!((prior - golden.vec("loss.tT_loss")[b]).abs() <= 1e-5 * prior.abs().max(1e-3), "{prior}");
        let mut nll = 0.0;
        for l in 0..len {
            let mut dlogits = vec![0.0; vocab];
            let h = &x_0[l * d..][..d];
            nll += Rounding::Dot.nll(h, &table, Some(&bias), ids[b * len + l], &mut dlogits) / len as f64;
            dbias.iter_mut().zip(&dlogits).for_each(|(sum, g)| *sum += g / (4 * len) as f64);
        }
        assert_close("decoder_nll", &[nll], &golden.vec("loss.decoder_nll")[b..=b], 1e-5);
        terms.push(mse + prior + nll);
        if t > 0 {
            let step =
                Gaussian.ddpm(chain.alphas_cumprod()[t], chain.alphas_cumprod()[t - 1], 0.0, 0.0, Variance::Small);
            let mean: Vec<f64> = x_0.iter().zip(&x_t).map(|(x, z)| step.apply(*z, *x, 0.0)).collect();
            assert_close("posterior", &mean, &golden.vec("posterior.mean")[b * wide..][..wide], 1e-5);
        }
    }
    assert_close("terms", &terms, &golden.vec("loss.terms"), 1e-5);
    assert_close("bias", &dbias, &golden.vec("grad.lm_head.bias"), 1e-4);
    // The rounding logits of an arbitrary hidden state.
    let mut logits = vec![0.0; vocab];
    for (h, expected) in rows(&golden, "fwd.x").iter().zip(rows(&golden, "fwd.get_logits")) {
        Rounding::Dot.logits(h, &table, Some(&bias), &mut logits);
        assert_close("get_logits", &logits, &expected, 2e-5);
    }
}

#[test]
fn plaid_bound() {
    let golden = fixture("plaid_vlb");
    let (d, len) = (8, 8);
    let (gamma, slope) = (golden.vec("train.gamma"), golden.vec("train.gamma_prime"));
    let table = Array2::from_shape_vec((40, d), golden.vec("fwd.E_normalised")).unwrap();
    let ids = golden.ids("train.x");
    let (noise, z, hat) = (golden.vec("train.noise"), golden.vec("train.z"), golden.vec("train.x_reconst"));
    let wide = len * d;
    // A schedule given by gamma = -log SNR, at the one time of each row.
    struct Row(f64, f64);
    impl Schedule for Row {
        fn alpha_bar(&self, _: f64) -> f64 {
            1.0 / (1.0 + self.0.exp())
        }
        fn rate(&self, _: f64) -> f64 {
            self.1 * (1.0 - self.alpha_bar(0.0))
        }
    }
    let (mut losses, mut prior) = (Vec::new(), 0.0);
    let last = 1.0 / (1.0 + golden.vec("param.gamma_bounds.gamma_1")[0].exp());
    for b in 0..6 {
        let row = Row(gamma[b], slope[b]);
        let x_0: Vec<f64> = ids[b * len..][..len].iter().flat_map(|&w| table.row(w as usize).to_vec()).collect();
        let (signal, spread) = Gaussian.marginal(row.alpha_bar(0.0));
        let found: Vec<f64> = x_0.iter().zip(&noise[b * wide..]).map(|(x, z)| signal * x + spread * z).collect();
        assert_close("z", &found, &z[b * wide..][..wide], 1e-5);
        let weight = bound::weight(&row, 0.0);
        losses.push(bound::diffusion(&x_0, &hat[b * wide..][..wide], weight, None, None) / len as f64);
        prior += Gaussian.prior_kl(&x_0, last) / (6 * len) as f64;
    }
    let expected = golden.vec("train.diffusion_loss");
    assert_close("diffusion", &losses, &expected[expected.len() - 6..], 1e-4);
    assert_close("prior", &[prior], &golden.vec("train.prior_loss"), 1e-4);
    // The reconstruction is the cross-entropy of the logits of the row at t = 0.
    let ce: f64 = rows(&golden, "train.logits")[..len]
        .iter()
        .zip(&ids)
        .map(|(logits, &w)| d3pm::cross_entropy(logits, w, None) / len as f64)
        .sum();
    assert_close("reconstruction", &[ce], &golden.vec("train.reconst_loss"), 1e-5);
}
