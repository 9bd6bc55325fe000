//! The laws that every schedule obeys.

use crate::*;
use galatea_fixtures::derivative;
use proptest::prelude::*;

fn all() -> Vec<AnySchedule> {
    let texts = [
        "linear",
        "log-linear",
        "cosine",
        "cosine(0.008, 1)",
        "cosine(0, 3)",
        "sine",
        "sqrt",
        "polynomial(2)",
        "polynomial(0.5)",
        "power(3)",
        "logarithm",
        "linear-beta",
        "linear-sigma",
        "linear-sigma(0.0001, 10)",
        "geometric",
        "log-snr",
        "log-snr(3, -6)",
        "even-weight(0.0001, 0.9999)",
        "hybrid",
        "hybrid(0.5, 2)",
        "linear-md4",
        "cosine-md4",
        "cosine-mdlm",
        "cosine-squared-mdlm",
        "cosine-duo",
        "until(0.9, geometric)",
        "squeeze(0.1, 0.8, squeeze(0.2, 0.9, polynomial(3)))",
    ];
    texts.iter().map(|text| text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))).collect()
}

fn a_schedule() -> impl Strategy<Value = AnySchedule> {
    proptest::sample::select(all())
}

proptest! {
    #[test]
    fn alpha_bar_never_rises_and_stays_a_probability(s in a_schedule(), t in 0.0..=1.0f64, u in 0.0..=1.0f64) {
        let (early, late) = (t.min(u), t.max(u));
        prop_assert!(s.alpha_bar(early) >= s.alpha_bar(late));
        prop_assert!((0.0..=1.0).contains(&s.alpha_bar(t)));
        prop_assert!(s.rate(t) >= 0.0 && s.alpha_bar_derivative(t) <= 0.0);
    }

    #[test]
    fn rate_is_the_derivative_of_minus_log_alpha_bar(s in a_schedule(), t in 0.01..0.99f64) {
        // Four points at a distance that balances h^4 against rounding over h.
        let h = 1e-4 * t.min(1.0 - t);
        let expected = -derivative(|t| s.alpha_bar(t).ln(), t, h);
        prop_assert!((s.rate(t) - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{s}: {} {expected}", s.rate(t));
        let expected = derivative(|t| s.alpha_bar(t), t, h);
        let found = s.alpha_bar_derivative(t);
        prop_assert!((found - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{s}: {found} {expected}");
    }

    #[test]
    fn rate_and_derivative_agree(s in a_schedule(), t in 0.001..0.999f64) {
        let expected = -s.rate(t) * s.alpha_bar(t);
        prop_assert!((s.alpha_bar_derivative(t) - expected).abs() <= 1e-9 * expected.abs(), "{s} at {t}");
    }

    #[test]
    fn noise_and_signal_are_everything(s in a_schedule(), t in 0.0..=1.0f64) {
        prop_assert!((s.noise(t) + s.alpha_bar(t) - 1.0).abs() <= 1e-15, "{s}");
    }

    #[test]
    fn log_snr_is_the_logit_of_alpha_bar(s in a_schedule(), t in 0.01..0.99f64) {
        let expected = (s.alpha_bar(t) / (1.0 - s.alpha_bar(t))).ln();
        prop_assert!((s.log_snr(t) - expected).abs() <= 1e-8 * expected.abs().max(1.0), "{s}");
    }

    #[test]
    fn time_of_inverts_alpha_bar(s in a_schedule(), t in 0.001..0.999f64) {
        let back = s.time_of(s.alpha_bar(t));
        prop_assert!((s.alpha_bar(back) - s.alpha_bar(t)).abs() <= 1e-12, "{s} at {t}: {back}");
        // Where the slope is not tiny the time itself comes back.
        let slack = 1e-14 / s.alpha_bar_derivative(t).abs().max(1e-12);
        prop_assert!((back - t).abs() <= 1e-9 + slack, "{s} at {t}: {back}");
    }

    #[test]
    fn closed_inverse_equals_bisection(s in a_schedule(), t in 0.01..0.99f64) {
        struct Bisected(AnySchedule);
        impl Schedule for Bisected {
            fn alpha_bar(&self, t: f64) -> f64 { self.0.alpha_bar(t) }
            fn rate(&self, t: f64) -> f64 { self.0.rate(t) }
        }
        let alpha_bar = s.alpha_bar(t);
        let slack = 1e-14 / s.alpha_bar_derivative(t).abs().max(1e-12);
        prop_assert!((Bisected(s.clone()).time_of(alpha_bar) - s.time_of(alpha_bar)).abs() <= 1e-9 + slack, "{s}");
    }

    #[test]
    fn display_is_read_back(s in a_schedule()) {
        prop_assert_eq!(s.to_string().parse::<AnySchedule>().unwrap(), s);
    }

    #[test]
    fn product_of_one_minus_beta_is_alpha_bar(s in a_schedule(), steps in 1usize..200) {
        let chain = Betas::from_schedule(&s, steps, 1.0).unwrap();
        for (i, &left) in chain.alphas_cumprod().iter().enumerate() {
            let t = (i + 1) as f64 / steps as f64;
            prop_assert!((left - s.alpha_bar(t)).abs() <= 1e-12, "{s}, step {i} of {steps}");
            prop_assert!((chain.alpha_bar(t) - left).abs() <= 1e-15);
        }
    }

    #[test]
    fn respacing_keeps_the_marginals(steps in 2usize..300, seed in proptest::collection::vec(any::<bool>(), 300)) {
        let chain = Betas::sqrt(steps).unwrap();
        let kept: Vec<usize> = (0..steps).filter(|&i| seed[i] || i + 1 == steps).collect();
        let short = chain.respace(&kept).unwrap();
        for (j, &i) in kept.iter().enumerate() {
            prop_assert!((short.alphas_cumprod()[j] - chain.alphas_cumprod()[i]).abs() <= 1e-12);
            // A kept step keeps its time.
            prop_assert!((short.alpha_bar((i + 1) as f64 / steps as f64) - chain.alphas_cumprod()[i]).abs() <= 1e-12);
        }
        // Respacing twice is respacing once.
        let again = short.respace(&(0..short.len()).step_by(2).collect::<Vec<_>>()).unwrap();
        prop_assert!(again.timestep_map().iter().eq(kept.iter().step_by(2)));
    }

    #[test]
    fn squeeze_of_linear_is_log_linear(eps in 0.0..0.5f64, t in 0.0..=1.0f64) {
        let squeezed = Squeeze::new(Linear, eps, 1.0).unwrap();
        prop_assert!((squeezed.alpha_bar(t) - LogLinear::new(eps).unwrap().alpha_bar(t)).abs() < 1e-15);
    }

    #[test]
    fn tables_obey_the_laws(a in proptest::collection::vec(0.0..=1.0f64, 2..9), t in 0.001..0.999f64) {
        let mut a = a;
        a.sort_by(|x, y| y.total_cmp(x));
        let n = a.len() - 1;
        let table = Table::new((0..=n).map(|i| i as f64 / n as f64).collect(), a.clone()).unwrap();
        for (i, &value) in a.iter().enumerate() {
            prop_assert_eq!(table.alpha_bar(i as f64 / n as f64), value);
        }
        prop_assert!((table.alpha_bar(table.time_of(table.alpha_bar(t))) - table.alpha_bar(t)).abs() < 1e-12);
        let inside = (t * n as f64).fract();
        if inside > 0.05 && inside < 0.95 {
            let expected = derivative(|t| table.alpha_bar(t), t, 1e-5);
            prop_assert!((table.alpha_bar_derivative(t) - expected).abs() < 1e-6 * expected.abs().max(1.0));
            let rate = table.rate(t) * table.alpha_bar(t);
            prop_assert!((rate + expected).abs() < 1e-6 * expected.abs().max(1.0));
        }
    }
}

#[test]
fn ends_are_clean_and_noise() {
    for s in all() {
        let text = s.to_string();
        if text.starts_with("squeeze(0.1") || text.starts_with("log-snr(3") || text.starts_with("until(0.9") {
            continue; // Schedules made to start well below 1.
        }
        assert!(s.alpha_bar(0.0) > 0.9998, "{s} starts at {}", s.alpha_bar(0.0));
        assert!(s.alpha_bar(1.0) < 0.007, "{s} ends at {}", s.alpha_bar(1.0));
        assert_eq!(s.alpha_bar(-1.0), s.alpha_bar(0.0), "{s}: times before 0 are 0");
        assert_eq!(s.alpha_bar(2.0), s.alpha_bar(1.0), "{s}: times after 1 are 1");
    }
}

#[test]
fn derivatives_at_the_ends_are_numbers() {
    for s in all() {
        for t in [0.0, 1.0] {
            assert!(!s.rate(t).is_nan() && !s.alpha_bar_derivative(t).is_nan(), "{s} at {t}");
        }
    }
}

proptest! {
    #[test]
    fn even_weight_weighs_every_time_alike(p_min in 1e-4..0.3f64, p_max in 0.4..=1.0f64, t in 0.01..0.99f64) {
        let even = EvenWeight::new(p_min, p_max).unwrap();
        let weight = -even.alpha_bar_derivative(t) / (1.0 - even.alpha_bar(t));
        prop_assert!((weight - even.weight()).abs() < 1e-10 * weight);
        // Importance sampling: a schedule's own times, with a density in proportion to its weight.
        let linear = Linear.time_of(even.alpha_bar(t));
        let density = 1.0 / derivative(|t| Linear.time_of(even.alpha_bar(t)), t, 1e-4);
        prop_assert!((density * even.weight() * linear - 1.0).abs() < 1e-6);
    }

    #[test]
    fn hybrid_noise_is_what_flowed_in(p in 0.0..0.9f64, gamma in 0.1..2.0f64, t in 0.01..0.99f64) {
        let schedule = Hybrid::new(p, gamma).unwrap();
        let [mask, uniform] = schedule.noises(t);
        prop_assert!((schedule.alpha_bar(t) + mask + uniform - 1.0).abs() < 1e-15);
        for (i, found) in schedule.inflow(t).into_iter().enumerate() {
            let expected = schedule.alpha_bar(t)
                * derivative(|t| schedule.noises(t)[i] / schedule.alpha_bar(t), t, 1e-4 * t.min(1.0 - t));
            prop_assert!((found - expected).abs() <= 1e-6 * expected.max(1.0), "{i}: {found} {expected}");
        }
        let half = schedule.noises(0.5);
        prop_assert!((half[1] - p).abs() < 1e-14);
        let masked = Hybrid::new(0.0, gamma).unwrap();
        prop_assert!(masked.alpha_bar(t) == Linear.alpha_bar(t) && masked.noises(t) == [t, 0.0]);
        prop_assert!((masked.rate(t) - Linear.rate(t)).abs() <= 1e-15 * Linear.rate(t));
    }
}

/// Where 1 - alpha_bar has no digits left, the noise has all of them.
#[test]
fn noise_keeps_its_digits_near_the_data() {
    let t = 1e-12;
    assert_eq!(Linear.noise(t), t);
    assert_eq!(LogLinear::default().noise(t), 0.999 * t);
    assert!((Sine.noise(t) / (std::f64::consts::FRAC_PI_2 * t) - 1.0).abs() < 1e-15);
    assert!((Logarithm.noise(t) * std::f64::consts::LN_2 / t - 1.0).abs() < 1e-11);
    assert!((Polynomial::new(2.0).unwrap().noise(t) / 1e-24 - 1.0).abs() < 1e-15);
}

#[test]
fn jsd_is_the_linear_schedule() {
    let chain = Betas::jsd(1000).unwrap();
    for i in 0..=1000 {
        let t = f64::from(i) / 1000.0;
        assert!((chain.alpha_bar(t) - Linear.alpha_bar(t)).abs() < 1e-12);
    }
    assert_eq!(chain.betas()[999], 1.0);
}

#[test]
fn trait_objects_and_references_are_schedules() {
    fn generic(s: impl Schedule) -> f64 {
        s.alpha_bar(0.25) + s.time_of(0.5) + s.rate(0.5) + s.log_snr(0.5) + s.alpha_bar_derivative(0.5)
    }
    let boxed: Box<dyn Schedule> = Box::new(Linear);
    let shared: std::sync::Arc<dyn Schedule + Send + Sync> = std::sync::Arc::new(Linear);
    assert_eq!([generic(Linear), generic(&boxed), generic(boxed)], [generic(Linear), 2.25, generic(shared)]);
}

#[test]
fn constructors_say_what_was_wrong() {
    let message = LogLinear::new(1.5).unwrap_err().to_string();
    assert_eq!(message, "log-linear: eps must be in [0, 1), found 1.5");
    for text in [
        "",
        "sqare",
        "log-linear(",
        "log-linear(a)",
        "log-linear(1, 2)",
        "linear(1)",
        "geometric(3, 1)",
        "power",
        "squeeze(1, 2, linear)",
        "squeeze(0.1)",
        "cosine(-1, 2)",
        "until(2, sine)",
        "until(sine)",
        "log-linear(NaN)",
        "linear-beta(0, 0)",
        "hybrid(1, 1)",
        "even-weight(0, 1)",
        "hybrid(0.1, 2.5)",
    ] {
        assert!(text.parse::<AnySchedule>().is_err(), "{text} was read");
    }
    assert!(Table::new(vec![0.0, 1.0], vec![1.0]).is_err());
    assert!(Table::new(vec![0.0], vec![1.0]).is_err());
    assert!(Table::new(vec![0.0, 0.5, 0.5], vec![1.0, 0.5, 0.2]).is_err());
    assert!(Table::new(vec![0.0, 1.0], vec![0.5, 0.6]).is_err());
    assert!(Table::new(vec![0.0, 1.0], vec![f64::NAN, 0.6]).is_err());
    assert!(Table::new(vec![0.0, 1.0], vec![1.1, 0.6]).is_err(), "alpha_bar above 1");
    assert!(Table::new(vec![0.0, 1.0], vec![0.5, -0.1]).is_err(), "alpha_bar below 0");
    // T = 0, of every chain.
    let chains: [fn(usize) -> Result<Betas, Error>; 9] = [
        Betas::linear,
        Betas::cosine,
        Betas::sqrt,
        Betas::truncated_linear,
        Betas::truncated_cosine,
        Betas::piecewise_linear,
        Betas::d3pm_cosine,
        Betas::jsd,
        |steps| Betas::d3pm_linear(steps, 0.02, 1.0),
    ];
    for chain in chains {
        assert!(matches!(chain(0), Err(Error::Table { .. })), "{:?}", chain(0));
    }
    assert!(Betas::from_schedule(&Linear, 0, 1.0).is_err());
    assert!(Betas::new(vec![]).is_err());
    assert!(Betas::new(vec![0.5, 1.5]).is_err());
    assert!(Betas::from_alpha_bar(10, |t| t, 1.0).is_err(), "a rising alpha_bar");
    let chain = Betas::linear(100).unwrap();
    assert!(chain.respace(&[]).is_err() && chain.respace(&[3, 3]).is_err() && chain.respace(&[100]).is_err());
    assert!("ddim7".parse::<Spacing>().unwrap().steps(2000).is_ok());
    assert!("ddim1999".parse::<Spacing>().unwrap().steps(2000).is_err());
    assert!("9,9".parse::<Spacing>().unwrap().steps(10).is_err());
    assert!("ten".parse::<Spacing>().is_err());
}

#[test]
fn every_name_is_read() {
    for name in named::NAMES {
        let text = match *name {
            "polynomial" | "power" => format!("{name}(2)"),
            "until" => "until(0.5, sine)".to_owned(),
            "squeeze" => "squeeze(0, 1, linear)".to_owned(),
            _ => (*name).to_owned(),
        };
        assert!(text.parse::<AnySchedule>().is_ok(), "{text}");
    }
}

#[test]
fn grids_fall_from_one_to_their_floor() {
    let grids = [
        (grid::uniform(7), 0.0),
        (grid::with_floor(7, 1e-5), 1e-5),
        (grid::cosine(7), 0.0),
        (grid::power(7, 1e-3, 7.0), 1e-3),
        (grid::equal_alpha_bar(&Cosine::default(), 7, 1.0, 0.0), 0.0),
        (grid::equal_log_snr(&LinearBeta::default(), 7, 1.0, 1e-3), 1e-3),
    ];
    for (times, last) in grids {
        assert_eq!((times.len(), times[0], times[7]), (8, 1.0, last));
        assert!(times.windows(2).all(|w| w[0] > w[1]), "{times:?}");
    }
    assert_eq!(grid::uniform(0), [1.0, 0.0]);
    let s = LinearBeta::default();
    let times = grid::equal_log_snr(&s, 5, 1.0, 1e-3);
    let gaps: Vec<f64> = times.windows(2).map(|w| s.log_snr(w[1]) - s.log_snr(w[0])).collect();
    assert!(gaps.iter().all(|gap| (gap - gaps[0]).abs() < 1e-9), "{gaps:?}");
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
