//! The tables of the original implementations.
#![allow(missing_docs, reason = "tests are named after what they check")]

use galatea_fixtures::{Fixture, relative};
use galatea_schedules::*;

fn fixture(name: &str) -> Fixture {
    Fixture::read(format!("{}/tests/fixtures/{name}.safetensors", env!("CARGO_MANIFEST_DIR")))
}

fn close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    let error = relative(found, expected, f64::MIN_POSITIVE);
    assert!(error <= tolerance, "{what}: relative error {error:e} above {tolerance:e}");
}

#[test]
fn diffusion_lm_betas() {
    let golden = fixture("diffusion_lm_betas");
    let chains = [
        ("linear", Betas::linear(2000)),
        ("cosine", Betas::cosine(2000)),
        ("sqrt", Betas::sqrt(2000)),
        ("trunc_lin", Betas::truncated_linear(2000)),
        ("trunc_cos", Betas::truncated_cosine(2000)),
        ("pw_lin", Betas::piecewise_linear(2000)),
    ];
    for (name, chain) in chains {
        let chain = chain.unwrap();
        close(name, chain.betas(), &golden.vec(&format!("{name}.betas")), 1e-12);
        close(name, chain.alphas_cumprod(), &golden.vec(&format!("{name}.alphas_cumprod")), 1e-12);
    }
}

#[test]
fn continuous_sqrt_and_cosine_are_the_limits_of_the_chains() {
    for (chain, schedule) in [
        (Betas::sqrt(2000).unwrap(), Box::new(Sqrt::default()) as Box<dyn Schedule>),
        (Betas::cosine(2000).unwrap(), Box::new(Cosine::default())),
        (Betas::d3pm_cosine(2000).unwrap(), Box::new(Cosine::new(0.008, 1.0).unwrap())),
    ] {
        for i in 0..1999 {
            let t = f64::from(i + 1) / 2000.0;
            assert!((chain.alphas_cumprod()[i as usize] - schedule.alpha_bar(t)).abs() < 1e-11, "step {i}");
        }
    }
    // A thousand linear betas approach the VP-SDE with an error of the order of one step.
    let (chain, limit) = (Betas::linear(100_000).unwrap(), LinearBeta::default());
    assert!((chain.alpha_bar(0.3) / limit.alpha_bar(0.3) - 1.0).abs() < 1e-3);
}

#[test]
fn diffusion_lm_respaced() {
    let golden = fixture("diffusion_lm_respaced");
    let chain = Betas::sqrt(2000).unwrap();
    for (name, text) in [("10", "10"), ("200", "200"), ("ddim50", "ddim50"), ("5_10_15", "5,10,15")] {
        let spacing: Spacing = text.parse().unwrap();
        assert_eq!(spacing.to_string(), text);
        let short = chain.respace(&spacing.steps(2000).unwrap()).unwrap();
        let kept: Vec<f64> = short.timestep_map().iter().map(|&i| i as f64).collect();
        assert_eq!(kept, golden.vec(&format!("respace_{name}.timestep_map")));
        close(name, short.betas(), &golden.vec(&format!("respace_{name}.betas")), 1e-12);
        close(name, short.alphas_cumprod(), &golden.vec(&format!("respace_{name}.alphas_cumprod")), 1e-12);
    }
}

#[test]
fn d3pm_betas() {
    let golden = fixture("d3pm_betas");
    let chains = [
        ("linear", Betas::d3pm_linear(2000, 0.02, 1.0)),
        ("cosine", Betas::d3pm_cosine(2000)),
        ("jsd", Betas::jsd(2000)),
    ];
    for (name, chain) in chains {
        let chain = chain.unwrap();
        close(name, chain.betas(), &golden.vec(&format!("{name}.betas")), 1e-12);
        close(name, chain.alphas_cumprod(), &golden.vec(&format!("{name}.alphas_cumprod")), 1e-12);
    }
}

/// sigma = -log alpha_bar and its derivative, as SEDD and MDLM call them.
#[test]
fn noise_of_sedd_and_mdlm() {
    let golden = fixture("noise_float64");
    let times = golden.vec("t");
    let schedules: [(&str, &str, Option<&str>); 6] = [
        ("log-linear", "loglinear.sigma", Some("loglinear.dsigma")),
        ("geometric", "geometric_sedd.sigma", Some("geometric_sedd.dsigma")),
        ("geometric(0.001, 1)", "geometric_mdlm.sigma", Some("geometric_mdlm.dsigma")),
        ("linear-sigma", "linear_mdlm.sigma", Some("linear_mdlm.dsigma")),
        ("cosine-mdlm", "cosine_mdlm.sigma", Some("cosine_mdlm.dsigma_source")),
        ("cosine-squared-mdlm", "cosinesqr_mdlm.sigma", Some("cosinesqr_mdlm.dsigma_source")),
    ];
    for (text, sigma, dsigma) in schedules {
        let schedule: AnySchedule = text.parse().unwrap();
        let alpha_bar: Vec<f64> = times.iter().map(|&t| schedule.alpha_bar(t)).collect();
        // alpha_bar is compared, not its logarithm: near 1 the logarithm of a rounded number has few digits.
        let expected: Vec<f64> = golden.vec(sigma).iter().map(|sigma| (-sigma).exp()).collect();
        close(text, &alpha_bar, &expected, 1e-12);
        if let Some(dsigma) = dsigma {
            let rate: Vec<f64> = times.iter().map(|&t| schedule.rate(t)).collect();
            // The source's sin(pi t) loses digits near its zero at t = 1.
            let tolerance = if text == "cosine-squared-mdlm" { 1e-11 } else { 1e-12 };
            close(text, &rate, &golden.vec(dsigma), tolerance);
        }
    }
}

/// BD3-LM's move chance is 1 - alpha_bar; its loss scale is alpha_bar' / (1 - alpha_bar).
#[test]
fn noise_of_bd3() {
    let golden = fixture("noise_float64");
    let times = golden.vec("t");
    let bd3_cosine = Squeeze::new(Cosine::new(0.0, 1.0).unwrap(), 0.0, 0.999).unwrap();
    let schedules: [(&str, Box<dyn Schedule>, bool); 5] = [
        ("bd3_loglinear", Box::new(Linear), true),
        ("bd3_square", Box::new(Polynomial::new(2.0).unwrap()), true),
        ("bd3_square_root", Box::new(Polynomial::new(0.5).unwrap()), true),
        ("bd3_log", Box::new(Logarithm), true),
        // The source divides by the move chance plus 1e-3 here, which is not the derivative of its logarithm.
        ("bd3_cosine", Box::new(bd3_cosine), false),
    ];
    for (name, schedule, scale) in schedules {
        for ((&t, p), loss_scale) in
            times.iter().zip(golden.vec(&format!("{name}.p"))).zip(golden.vec(&format!("{name}.loss_scale")))
        {
            if name == "bd3_square" && p == 1e-3 {
                continue; // The source clamps the smallest move chances.
            }
            let noise = 1.0 - schedule.alpha_bar(t);
            // Rounding of 1 - alpha_bar, relative to a move chance that is as small as the first time, 1e-5.
            assert!((noise - p).abs() <= 1e-12 * p + 1e-16, "{name} at {t}: {noise} {p}");
            if scale {
                let found = schedule.alpha_bar_derivative(t) / noise;
                assert!((found / loss_scale - 1.0).abs() <= 1e-10, "{name} at {t}: {found} {loss_scale}");
            }
        }
    }
}

#[test]
fn noise_of_the_original_modules() {
    let golden = fixture("noise_original_float32");
    let times = golden.vec("t");
    for (name, text) in [
        ("sedd_loglinear", "log-linear"),
        ("sedd_geometric", "geometric"),
        ("mdlm_loglinear", "log-linear"),
        ("mdlm_linear", "linear-sigma"),
        ("mdlm_cosine", "cosine-mdlm"),
        ("mdlm_cosinesqr", "cosine-squared-mdlm"),
    ] {
        let schedule: AnySchedule = text.parse().unwrap();
        let sigma = golden.vec(&format!("{name}.sigma"));
        let dsigma = golden.vec(&format!("{name}.dsigma"));
        let spread = |values: &[f64]| values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        for (i, &t) in times.iter().enumerate() {
            let found = -schedule.alpha_bar(t).ln();
            assert!((found - sigma[i]).abs() <= 2e-5 * spread(&sigma), "{name} at {t}: {found} {}", sigma[i]);
            // The linear schedule of the original has one rate for all times.
            let expected = dsigma[i.min(dsigma.len() - 1)];
            assert!(
                (schedule.rate(t) - expected).abs() <= 1e-4 * expected.abs() + 1e-5 * spread(&dsigma),
                "{name} at {t}"
            );
        }
    }
}

/// The seed textbook's "beta = t / T" is 1 - alpha_bar; the betas that produce it are jsd's.
#[test]
fn textbook_schedule_is_linear_and_its_betas_are_jsd() {
    let golden = fixture("noise_float64");
    for (i, (beta, root)) in golden.vec("seed.beta").into_iter().zip(golden.vec("seed.sqrt_1m_beta")).enumerate() {
        let t = i as f64 / 1000.0;
        assert!((1.0 - Linear.alpha_bar(t) - beta).abs() < 1e-15 && (Linear.alpha_bar(t).sqrt() - root).abs() < 1e-15);
    }
    close("jsd", Betas::jsd(1000).unwrap().betas(), &golden.vec("seed.equivalent_step_beta"), 1e-12);
}

#[test]
fn gidd_without_uniform_noise_is_linear_and_its_mask_share_is_the_mirror() {
    let golden = fixture("noise_float64");
    let times = golden.vec("t");
    // alpha = (1 - t) / C and the mask mass t / C: their ratio is that of the linear schedule for every C.
    for name in ["gidd_pu0.1_g1.0", "gidd_pu0.2_g1.0", "gidd_pu0.5_g2.0"] {
        let (alpha, mask) = (golden.vec(&format!("{name}.alpha")), golden.vec(&format!("{name}.beta_mask")));
        for (i, &t) in times.iter().enumerate() {
            let found = Linear.log_snr(t);
            assert!(((alpha[i] / mask[i]).ln() - found).abs() < 1e-10, "{name} at {t}");
        }
    }
}

#[test]
fn md4_grids() {
    let golden = fixture("md4");
    let times = golden.vec("grid_t");
    for (name, text) in
        [("linear", "linear-md4"), ("cosine", "cosine-md4"), ("poly2", "squeeze(0.0001, 0.9999, polynomial(2))")]
    {
        let schedule: AnySchedule = text.parse().unwrap();
        let column = |f: &dyn Fn(f64) -> f64| times.iter().map(|&t| f(t)).collect::<Vec<f64>>();
        let check = |what: &str, found: Vec<f64>, tolerance: f64| {
            let expected = golden.vec(&format!("{name}.{what}"));
            let error = galatea_fixtures::relative_to_max(&found, &expected);
            assert!(error <= tolerance, "{name}.{what}: {error:e}");
        };
        check("alpha", column(&|t| schedule.alpha_bar(t)), 1e-6);
        check("dalpha", column(&|t| schedule.alpha_bar_derivative(t)), 1e-6);
        // gamma holds the logarithm of 1 - alpha >= 1e-4 in float32, which is off by up to 6e-8 / 1e-4.
        check("gamma", column(&|t| schedule.log_snr(t)), 1e-4);
        // d gamma/dt alpha = alpha' / (1 - alpha): the weight of the masked bound.
        check(
            "dgamma_times_alpha",
            column(&|t| schedule.alpha_bar_derivative(t) / (1.0 - schedule.alpha_bar(t))),
            1e-3,
        );
    }
    let grid = grid::cosine(10);
    for (i, row) in golden.vec("grid_cosine_s_t").chunks(2).enumerate() {
        assert!((grid[i + 1] - row[0]).abs() < 1e-7 && (grid[i] - row[1]).abs() < 1e-7, "row {i}");
    }
}

#[test]
fn duo_grids() {
    let golden = fixture("duo_nelbo");
    for (name, text) in [("loglinear", "log-linear"), ("cosine", "cosine-duo")] {
        let schedule: AnySchedule = text.parse().unwrap();
        let (alpha, dalpha) = (golden.vec(&format!("{name}.grid_alpha")), golden.vec(&format!("{name}.grid_dalpha")));
        for (i, &t) in golden.vec("grid_t").iter().enumerate() {
            assert!((schedule.alpha_bar(t) - alpha[i]).abs() < 1e-6, "{name} at {t}");
            // The source's cosine derivative lacks the factor 1 - eps.
            let factor = if name == "cosine" { 1.0 / 0.999 } else { 1.0 };
            let found = schedule.alpha_bar_derivative(t) * factor;
            assert!((found - dalpha[i]).abs() < 1e-6, "{name} at {t}: {found} {}", dalpha[i]);
        }
    }
}
