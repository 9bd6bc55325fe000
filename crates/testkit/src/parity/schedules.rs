//! Tables of schedules, and the schedules that settings name.

use super::{Case, Fault, Report};
use galatea_processes::{Gaussian, Variance};
use galatea_schedules::{
    AnySchedule, Betas, Cosine, EvenWeight, Hybrid, Linear, LogLinear, Logarithm, Polynomial, Schedule, Spacing,
    Squeeze,
};

/// What a setting such as "loglinear eps 1e-3" (or eps=1e-3), "geometric 1e-4..20" or "cosine" means, in MDLM's and SEDD's words.
pub(super) fn noise(case: &Case, key: &str) -> Result<AnySchedule, Fault> {
    let words: Vec<&str> = case.text(key)?.split([' ', '=']).filter(|word| !word.is_empty()).collect();
    let unsupported = || case.unsupported(key, "loglinear, cosine or cosinesqr (eps X), geometric or linear (A..B)");
    let (name, rest) = words.split_first().ok_or_else(unsupported)?;
    let arguments = match *rest {
        [] => String::new(),
        ["eps", eps] => format!("({eps})"),
        [range] => match range.split_once("..") {
            Some((low, high)) => format!("({low}, {high})"),
            None => return Err(unsupported()),
        },
        _ => return Err(unsupported()),
    };
    let name = match *name {
        "loglinear" => "log-linear",
        "cosine" => "cosine-mdlm",
        "cosinesqr" => "cosine-squared-mdlm",
        "geometric" => "geometric",
        "linear" => "linear-sigma",
        _ => return Err(unsupported()),
    };
    Ok(format!("{name}{arguments}").parse()?)
}

/// Uniform numbers as the times of a batch, before they are moved off 0: one in each stratum if asked.
pub(super) fn stratified(u: &[f64], strata: bool) -> Vec<f64> {
    let n = u.len() as f64;
    let place = |(i, u): (usize, &f64)| if strata { ((u + i as f64) / n).fract() } else { *u };
    u.iter().enumerate().map(place).collect()
}

/// `schedules`.
pub(super) fn check(case: &Case, report: &mut Report) -> Result<(), Fault> {
    let prefixes = prefixes(case);
    if case.has("t") {
        // Formulas in float64, or the original modules in float32 (their sigma is called after the code base).
        let single = prefixes.iter().any(|prefix| prefix.starts_with("mdlm_") || prefix.starts_with("sedd_"));
        return noise_tables(case, report, &prefixes, if single { 1e-5 } else { 1e-12 });
    }
    for prefix in prefixes {
        match prefix.strip_prefix("respace_") {
            Some(spacing) => respaced(case, report, &prefix, spacing)?,
            None => betas(case, report, &prefix)?,
        }
    }
    Ok(())
}

/// The parts of the tensors' names before the last dot, each once.
fn prefixes(case: &Case) -> Vec<String> {
    let mut prefixes: Vec<String> = case.names().filter_map(|n| Some(n.rsplit_once('.')?.0.to_owned())).collect();
    prefixes.dedup();
    prefixes
}

fn unknown(what: &str, known: &str) -> Fault {
    Fault::Unknown { what: what.to_owned(), known: known.to_owned() }
}

fn noise_tables(case: &Case, report: &mut Report, prefixes: &[String], tolerance: f64) -> Result<(), Fault> {
    let times = case.vec("t")?;
    let eps = case.setting("eps").and_then(serde_json::Value::as_f64).unwrap_or(1e-3);
    for prefix in prefixes {
        let mut compare = |what: &str, f: &dyn Fn(f64) -> f64, tolerance: f64| -> Result<(), Fault> {
            let name = format!("{prefix}.{what}");
            if case.has(&name) {
                let mut found: Vec<f64> = times.iter().map(|&t| f(t)).collect();
                let truth = case.vec(&name)?;
                // A rate that does not depend on t may be recorded once.
                found.truncate(truth.len());
                report.relative(name, &found, &truth, tolerance);
            }
            Ok(())
        };
        let name = prefix.as_str();
        if let Some(kind) = name.strip_prefix("bd3_") {
            let (schedule, floor, added): (Box<dyn Schedule>, f64, f64) = match kind {
                "loglinear" => (Box::new(Linear), 0.0, 0.0),
                "log" => (Box::new(Logarithm), 0.0, 0.0),
                // The source clamps the smallest move chances of powers, and adds eps to what the cosine's are divided by.
                "square" => (Box::new(Polynomial::new(2.0)?), eps, 0.0),
                "square_root" => (Box::new(Polynomial::new(0.5)?), eps, 0.0),
                "cosine" => (Box::new(Squeeze::new(Cosine::new(0.0, 1.0)?, 0.0, 1.0 - eps)?), 0.0, eps),
                _ => return Err(unknown(name, "bd3_{loglinear, log, square, square_root, cosine}")),
            };
            let noise = |t: f64| schedule.noise(t).max(floor);
            compare("p", &noise, tolerance)?;
            // Where eps is most of the noise, float32 has an error of 6e-8 / eps of it.
            let start = if added > 0.0 && tolerance > 1e-9 { 6e-8 / added } else { 0.0 };
            compare("loss_scale", &|t| schedule.alpha_bar_derivative(t) / (noise(t) + added), tolerance + start)?;
        } else if let Some(settings) = name.strip_prefix("gidd_pu") {
            let number = |text: &str| text.parse::<f64>().ok();
            let parsed = settings.split_once("_g").and_then(|(p, gamma)| Some((number(p)?, number(gamma)?)));
            let (p, gamma) = parsed.ok_or_else(|| unknown(name, "gidd_pu<p>_g<gamma>"))?;
            let schedule = Hybrid::new(p, gamma)?;
            compare("alpha", &|t| schedule.alpha_bar(t), tolerance)?;
            compare("beta_mask", &|t| schedule.noises(t)[0], tolerance)?;
            compare("beta_uniform_total", &|t| schedule.noises(t)[1], tolerance)?;
        } else if name == "seed" {
            seed(case, report)?;
        } else {
            let text = match name {
                "loglinear" | "sedd_loglinear" | "mdlm_loglinear" => format!("log-linear({eps})"),
                "geometric_sedd" | "sedd_geometric" => "geometric".to_owned(),
                "geometric_mdlm" | "mdlm_geometric" => "geometric(0.001, 1)".to_owned(),
                "linear_mdlm" | "mdlm_linear" => "linear-sigma".to_owned(),
                "cosine_mdlm" | "mdlm_cosine" => format!("cosine-mdlm({eps})"),
                "cosinesqr_mdlm" | "mdlm_cosinesqr" => format!("cosine-squared-mdlm({eps})"),
                _ => return Err(unknown(name, "the schedules of SEDD, MDLM, BD3-LM, GIDD and the textbook")),
            };
            let schedule: AnySchedule = text.parse()?;
            compare("sigma", &|t| -schedule.alpha_bar(t).ln(), tolerance)?;
            // Where eps of the signal is left, float32 has an error of 6e-8 / eps of it.
            let end = if tolerance > 1e-9 { 6e-8 / eps } else { 0.0 };
            for what in ["dsigma", "dsigma_source"] {
                compare(what, &|t| schedule.rate(t), tolerance + end)?;
            }
            let log_linear = LogLinear::new(eps)?;
            let even = EvenWeight::of_log_linear(log_linear)?;
            compare("importance_t", &|u| log_linear.time_of(even.alpha_bar(u)), tolerance)?;
        }
    }
    Ok(())
}

/// The textbook's beta = t / T is 1 - alpha_bar; the betas that produce it are jsd's.
fn seed(case: &Case, report: &mut Report) -> Result<(), Fault> {
    let steps = case.shape::<1>("seed.beta")?[0] - 1;
    let on_grid = |f: &dyn Fn(f64) -> f64| (0..=steps).map(|i| f(i as f64 / steps as f64)).collect::<Vec<f64>>();
    report.relative("beta", &on_grid(&|t| 1.0 - Linear.alpha_bar(t)), &case.vec("seed.beta")?, 1e-12);
    let signal = on_grid(&|t| Gaussian.marginal(Linear.alpha_bar(t)).0);
    report.relative("signal", &signal, &case.vec("seed.sqrt_1m_beta")?, 1e-12);
    let spread = on_grid(&|t| Gaussian.marginal(Linear.alpha_bar(t)).1);
    report.relative("spread", &spread, &case.vec("seed.sqrt_beta")?, 1e-12);
    let chain = Betas::jsd(steps)?;
    report.relative("step betas", chain.betas(), &case.vec("seed.equivalent_step_beta")?, 1e-12);
    Ok(())
}

/// A chain by its name in Diffusion-LM or, where the settings say so, in D3PM.
pub(super) fn chain(case: &Case, name: &str, steps: usize, d3pm: Option<(f64, f64)>) -> Result<Betas, Fault> {
    Ok(match (name, d3pm) {
        ("linear", Some((start, stop))) => Betas::d3pm_linear(steps, start, stop)?,
        ("cosine", Some(_)) => Betas::d3pm_cosine(steps)?,
        ("jsd", _) => Betas::jsd(steps)?,
        ("linear", None) => Betas::linear(steps)?,
        ("cosine", None) => Betas::cosine(steps)?,
        ("sqrt", None) => Betas::sqrt(steps)?,
        ("trunc_lin", None) => Betas::truncated_linear(steps)?,
        ("trunc_cos", None) => Betas::truncated_cosine(steps)?,
        ("pw_lin", None) => Betas::piecewise_linear(steps)?,
        _ => return Err(unknown(&format!("{}/{name}", case.family), "linear, cosine, sqrt, trunc_*, pw_lin, jsd")),
    })
}

fn betas(case: &Case, report: &mut Report, name: &str) -> Result<(), Fault> {
    let steps = case.shape::<1>(&format!("{name}.betas"))?[0];
    // D3PM's tables say what their linear betas are: "linspace(.02,1)".
    let ends = match case.setting("linear") {
        None if case.has("jsd.betas") => Some((0.02, 1.0)),
        None => None,
        Some(_) => {
            let text = case.text("linear")?;
            let ends = text.strip_prefix("linspace(").and_then(|rest| rest.strip_suffix(')')?.split_once(','));
            let number = |text: &str| text.trim().parse::<f64>().ok();
            let ends = ends.and_then(|(start, stop)| Some((number(start)?, number(stop)?)));
            Some(ends.ok_or_else(|| case.unsupported("linear", "linspace(start,stop)"))?)
        }
    };
    let chain = chain(case, name, steps, ends)?;
    for (what, found) in [("betas", chain.betas()), ("alphas_cumprod", chain.alphas_cumprod())] {
        let name = format!("{name}.{what}");
        let truth = case.vec(&name)?;
        report.relative(name, found, &truth, 1e-12);
    }
    Ok(())
}

fn respaced(case: &Case, report: &mut Report, prefix: &str, spacing: &str) -> Result<(), Fault> {
    let base = chain(case, case.text("base")?, case.count("T")?, None)?;
    let spacing: Spacing = spacing.replace('_', ",").parse()?;
    let chain = base.respace(&spacing.steps(base.len())?)?;
    let kept: Vec<u32> = chain.timestep_map().iter().map(|&i| i as u32).collect();
    report.exact(format!("{prefix}.timestep_map"), &kept, &case.ids(&format!("{prefix}.timestep_map"))?);
    let alphas = chain.alphas_cumprod();
    let step = |i: usize| {
        let before = if i == 0 { 1.0 } else { alphas[i - 1] };
        Gaussian.ddpm(alphas[i], before, 0.0, 0.0, Variance::Small)
    };
    // The original's logarithm of the variance has that of step 1 at step 0, where there is no variance.
    let variance = |i: usize| step(i).sigma.powi(2);
    type Column<'a> = (&'a str, &'a dyn Fn(usize) -> f64);
    let columns: [Column<'_>; 6] = [
        ("betas", &|i| chain.betas()[i]),
        ("alphas_cumprod", &|i| alphas[i]),
        ("posterior_mean_coef1", &|i| step(i).c_0),
        ("posterior_mean_coef2", &|i| step(i).c_t),
        ("posterior_variance", &variance),
        ("posterior_log_variance_clipped", &|i| variance(i.max(1).min(alphas.len() - 1)).ln()),
    ];
    for (what, column) in columns {
        let name = format!("{prefix}.{what}");
        let found: Vec<f64> = (0..chain.len()).map(column).collect();
        let truth = case.vec(&name)?;
        report.relative(name, &found, &truth, 1e-12);
    }
    Ok(())
}
