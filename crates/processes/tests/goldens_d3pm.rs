//! D3PM's matrices, posteriors and losses.
#![allow(missing_docs, reason = "tests are named after what they check")]

mod common;

use common::{assert_close, fixture, rows};
use galatea_fixtures::relative;
use galatea_processes::objectives::d3pm;
use galatea_processes::{Categorical, Dense, Limit, Scheduled, TokenProcess};
use galatea_schedules::Betas;
use ndarray::Array2;

fn d3pm_process(name: &str) -> Categorical {
    let limit = match name {
        "matrices_absorbing_last_jsd" | "losses_absorbing_last" => Limit::Mask(4),
        "matrices_absorbing_mid_jsd" => Limit::Mask(2),
        _ => Limit::Uniform,
    };
    Categorical::new(5, limit).unwrap()
}

#[test]
fn d3pm_matrices_and_posteriors() {
    for name in [
        "matrices_uniform_linear",
        "matrices_uniform_cosine",
        "matrices_absorbing_last_jsd",
        "matrices_absorbing_mid_jsd",
    ] {
        let golden = fixture(name);
        let process = d3pm_process(name);
        let chain = Betas::new(golden.vec("betas")).unwrap();
        let (q, q_bar) = (golden.vec("Q"), golden.vec("Qbar"));
        for i in 0..chain.len() {
            let found: Vec<f64> = process.transition(1.0 - chain.betas()[i]).into_iter().collect();
            assert!(relative(&found, &q[i * 25..][..25], 1.0) < 1e-12, "{name}: Q at {i}");
            let found: Vec<f64> = process.q_bar(chain.alphas_cumprod()[i]).into_iter().collect();
            assert!(relative(&found, &q_bar[i * 25..][..25], 1.0) < 1e-12, "{name}: Q_bar at {i}");
        }
        let mut found = vec![0.0; 5];
        for (triple, expected) in rows(&golden, "triples_t_xt_x0").iter().zip(rows(&golden, "posterior")) {
            let t = triple[0] as usize;
            let mut hot = vec![0.0; 5];
            hot[triple[2] as usize] = 1.0;
            let (a_t, a_s) = (chain.alphas_cumprod()[t], chain.alphas_cumprod()[t - 1]);
            process.posterior(a_t, a_s, triple[1] as u32, &hot, &mut found);
            assert!(relative(&found, &expected, 1.0) < 1e-12, "{name}: posterior at {triple:?}");
        }
        for (soft, expected) in rows(&golden, "soft_t_xt_p").iter().zip(rows(&golden, "posterior_soft")) {
            let t = soft[0] as usize;
            let (a_t, a_s) = (chain.alphas_cumprod()[t], chain.alphas_cumprod()[t - 1]);
            process.posterior(a_t, a_s, soft[1] as u32, &soft[2..], &mut found);
            assert!(relative(&found, &expected, 1.0) < 1e-12, "{name}: soft posterior at {soft:?}");
        }
    }
}

#[test]
fn d3pm_structured_matrices_and_posteriors() {
    for name in [
        "matrices_uniform_linear",
        "matrices_absorbing_mid_jsd",
        "matrices_band_linear_band2",
        "matrices_gaussian_linear",
        "matrices_gaussian_linear_band2",
        "matrices_nearest_linear",
    ] {
        let golden = fixture(name);
        let betas = golden.vec("betas");
        let chain = match name {
            "matrices_band_linear_band2" => Dense::band(5, &betas, 2),
            "matrices_gaussian_linear" => Dense::discretised_gaussian(5, &betas, 4),
            "matrices_gaussian_linear_band2" => Dense::discretised_gaussian(5, &betas, 2),
            "matrices_nearest_linear" => {
                Dense::exponential(&Array2::from_shape_vec((5, 5), golden.vec("generator")).unwrap(), &betas)
            }
            _ => Dense::new(betas.iter().map(|beta| d3pm_process(name).transition(1.0 - beta)).collect()),
        }
        .unwrap();
        let (q, q_bar) = (golden.vec("Q"), golden.vec("Qbar"));
        for i in 0..chain.steps() {
            let found: Vec<f64> = chain.q(i).iter().copied().collect();
            assert!(relative(&found, &q[i * 25..][..25], 1.0) < 1e-12, "{name}: Q at {i}");
            let found: Vec<f64> = chain.q_bar(i).iter().copied().collect();
            assert!(relative(&found, &q_bar[i * 25..][..25], 1.0) < 1e-12, "{name}: Q_bar at {i}");
        }
        let mut found = vec![0.0; 5];
        let time = |state: f64| state / chain.steps() as f64;
        for (triple, expected) in rows(&golden, "triples_t_xt_x0").iter().zip(rows(&golden, "posterior")) {
            let mut hot = vec![0.0; 5];
            hot[triple[2] as usize] = 1.0;
            chain.posterior(time(triple[0] + 1.0), time(triple[0]), triple[1] as u32, &hot, &mut found);
            assert!(relative(&found, &expected, 1.0) < 1e-12, "{name}: posterior at {triple:?}");
        }
        let soft = rows(&golden, "soft_t_xt_p");
        for (i, soft) in soft.iter().enumerate() {
            chain.posterior(time(soft[0] + 1.0), time(soft[0]), soft[1] as u32, &soft[2..], &mut found);
            assert!(relative(&found, &rows(&golden, "posterior_soft")[i], 1.0) < 1e-12, "{name}: soft posterior {i}");
            chain.marginal(time(soft[0] + 1.0), &soft[2..], &mut found);
            assert!(relative(&found, &rows(&golden, "marginal_soft")[i], 1.0) < 1e-12, "{name}: soft marginal {i}");
        }
    }
}

#[test]
fn matrices_that_are_no_chain_are_refused() {
    assert!(Dense::new(vec![]).is_err());
    assert!(Dense::new(vec![Array2::zeros((2, 3))]).is_err());
    assert!(Dense::new(vec![Array2::eye(3), Array2::eye(2)]).is_err());
    let message = Dense::new(vec![Array2::eye(3) * 0.5]).unwrap_err().to_string();
    assert!(message.contains("row 0 of the matrix of step 0 sums to 0.5"), "{message}");
    assert!(Dense::band(4, &[9.0], 3).is_err());
    assert!(Dense::exponential(&Array2::eye(3), &[1.0]).is_err());
}

#[test]
fn d3pm_losses() {
    for (name, lambda) in [("losses_uniform", 0.05), ("losses_absorbing_last", 0.01)] {
        let golden = fixture(name);
        let process = d3pm_process(name);
        let chain = Betas::new(golden.vec("betas")).unwrap();
        let (x_0, x_t) = (golden.ids("x0"), golden.ids("x_t"));
        let (losses, ces) = (golden.vec("loss"), golden.vec("ce"));
        for (i, logits) in rows(&golden, "logits").iter().enumerate() {
            let t = golden.vec("t")[i] as usize;
            let ce = d3pm::cross_entropy(logits, x_0[i], None);
            assert!((ce - ces[i]).abs() < 1e-10, "{name}: CE of item {i}");
            // At t = 0 D3PM's loss is the cross-entropy alone.
            let found = match t {
                0 => ce,
                _ => {
                    let time = |state: usize| state as f64 / chain.len() as f64;
                    let timed = Scheduled::new(process, &chain);
                    d3pm::loss(
                        &timed,
                        logits,
                        x_0[i],
                        x_t[i],
                        time(t + 1),
                        time(t),
                        lambda,
                        &mut d3pm::Scratch::new(5),
                        None,
                    )
                }
            };
            let expected = if t == 0 { golden.vec("kl_or_nll")[i] } else { losses[i] };
            assert!((found - expected).abs() < 1e-10, "{name}: item {i} at {t}: {found} {expected}");
        }
    }
}

#[test]
fn d3pm_port_matrices() {
    let golden = fixture("d3pm_uniform_port");
    let process = Categorical::new(6, Limit::Uniform).unwrap();
    let chain = Betas::d3pm_cosine(20).unwrap();
    assert_close("beta", chain.betas(), &golden.vec("beta_t"), 1e-6);
    for (i, q_bar) in golden.vec("q_mats").chunks(36).enumerate() {
        let found: Vec<f64> = process.q_bar(chain.alphas_cumprod()[i]).into_iter().collect();
        assert_close("Q_bar", &found, q_bar, 1e-5);
    }
}
