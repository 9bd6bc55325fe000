use super::{distribution, one_hot};
use crate::{Categorical, Dense, Error, Hybrid, Limit, Scheduled, TokenProcess};
use galatea_schedules::{Betas, Linear, LogLinear, Power};
use ndarray::{Array1, Array2, array};
use proptest::prelude::*;

const V: usize = 6;
const T: usize = 12;

fn processes() -> Vec<(&'static str, Box<dyn TokenProcess>)> {
    let categorical = |limit| Categorical::new(V, limit).unwrap();
    let betas: Vec<f64> = (1..=T).map(|i| 0.06 * i as f64).collect();
    let masked = Dense::new(betas.iter().map(|b| categorical(Limit::Mask(2)).transition(1.0 - b)).collect()).unwrap();
    vec![
        ("uniform", Box::new(Scheduled::new(categorical(Limit::Uniform), LogLinear::default()))),
        ("mask", Box::new(Scheduled::new(categorical(Limit::Mask(2)), Linear))),
        ("mixture path", Box::new(Scheduled::new(categorical(Limit::Uniform), Power::new(2.0).unwrap()))),
        ("hybrid", Box::new(Hybrid::new(V, 5, 0.3, 1.0).unwrap())),
        ("hybrid, steep", Box::new(Hybrid::new(V, 0, 0.1, 2.0).unwrap())),
        ("hybrid, no uniform", Box::new(Hybrid::new(V, 3, 0.0, 1.0).unwrap())),
        ("band", Box::new(Dense::band(V, &betas, 2).unwrap())),
        ("matrices of a mask", Box::new(masked)),
    ]
}

/// Row x_0 of Q_bar_t.
fn marginal(process: &dyn TokenProcess, t: f64, p: &[f64]) -> Array1<f64> {
    let mut q = vec![f64::NAN; V];
    process.marginal(t, p, &mut q);
    q.into()
}

fn q_bar(process: &dyn TokenProcess, t: f64) -> Array2<f64> {
    let mut q = Array2::zeros((V, V));
    for k in 0..V {
        q.row_mut(k).assign(&marginal(process, t, &one_hot(V, k as u32)));
    }
    q
}

/// q_ts, column by column from the likelihood of every x_t.
fn q_ts(process: &dyn TokenProcess, t: f64, s: f64) -> Array2<f64> {
    let mut q = Array2::zeros((V, V));
    for k in 0..V {
        let mut likelihood = vec![1.0; V];
        process.weigh(t, s, k as u32, &mut likelihood);
        q.column_mut(k).assign(&Array1::from(likelihood));
    }
    q
}

fn apart(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
    (a - b).iter().fold(0.0, |m, e| m.max(e.abs()))
}

proptest! {
    /// Times on the grid of the chains, so that one law holds for all.
    #[test]
    fn every_process_is_a_markov_chain(a in 0usize..T, b in 0usize..T) {
        let (s, t) = (a.min(b) as f64 / T as f64, a.max(b) as f64 / T as f64);
        for (name, process) in processes() {
            let (q_s, q_t, q_ts) = (q_bar(&process, s), q_bar(&process, t), q_ts(&process, t, s));
            for matrix in [&q_s, &q_t, &q_ts] {
                for row in matrix.rows() {
                    prop_assert!((row.sum() - 1.0).abs() < 1e-14 && row.iter().all(|&q| q >= 0.0), "{name}: {row}");
                }
            }
            prop_assert!(apart(&q_bar(&process, 0.0), &Array2::eye(V)) < 1e-15, "{name}: data at 0");
            // Chapman-Kolmogorov.
            prop_assert!(apart(&q_s.dot(&q_ts), &q_t) < 1e-14, "{name}: {s} to {t}");
        }
    }

    #[test]
    fn every_posterior_equals_bayes(p in distribution(V), x_t in 0..V as u32, x_0 in 0..V as u32, a in 0usize..T, b in 0usize..T) {
        let (s, t) = (a.min(b) as f64 / T as f64, (a.max(b) + 1) as f64 / T as f64);
        for (name, process) in processes() {
            for p in [p.clone(), one_hot(V, x_0), one_hot(V, x_t)] {
                let joint = Array1::from(p.clone()).dot(&q_bar(&process, s)) * q_ts(&process, t, s).column(x_t as usize);
                let mut found = vec![f64::NAN; V];
                process.posterior(t, s, x_t, &p, &mut found);
                let expected = if joint.sum() > 0.0 { &joint / joint.sum() } else { Array1::from(one_hot(V, x_t)) };
                for (found, expected) in found.iter().zip(expected) {
                    prop_assert!((found - expected).abs() < 1e-13, "{name}");
                }
            }
        }
    }

    #[test]
    fn average_is_the_transpose_of_the_marginal(p in distribution(V), g in proptest::collection::vec(-1.0..1.0f64, V), t in 0.0..=1.0f64) {
        for (name, process) in processes() {
            let mut mean = vec![f64::NAN; V];
            process.average(t, &g, &mut mean);
            let there: f64 = mean.iter().zip(&p).map(|(m, p)| m * p).sum();
            let back: f64 = marginal(&process, t, &p).iter().zip(&g).map(|(q, g)| q * g).sum();
            prop_assert!((there - back).abs() < 1e-14, "{name}");
        }
    }

    #[test]
    fn scheduled_process_is_the_categorical_one(p in distribution(V), x_t in 0..V as u32, a in 0.0..=1.0f64, b in 0.0..=1.0f64) {
        let (s, t) = (a.min(b), a.max(b));
        for limit in [Limit::Uniform, Limit::Mask(4)] {
            let process = Categorical::new(V, limit).unwrap();
            let scheduled = Scheduled::new(process, Linear);
            let (mut found, mut expected) = (vec![0.0; V], vec![0.0; V]);
            scheduled.posterior(t, s, x_t, &p, &mut found);
            process.posterior(1.0 - t, 1.0 - s, x_t, &p, &mut expected);
            for (found, expected) in found.iter().zip(expected) {
                prop_assert!((found - expected).abs() < 1e-13);
            }
            prop_assert_eq!(scheduled.prior(), process.prior());
        }
    }

    #[test]
    fn hybrid_without_uniform_tokens_is_the_masked_process(p in distribution(V), x_t in 0..V as u32, a in 0.0..=1.0f64, b in 0.0..=1.0f64) {
        let (s, t) = (a.min(b), a.max(b));
        let hybrid = Hybrid::new(V, 4, 0.0, 1.5).unwrap();
        let masked = Scheduled::new(Categorical::new(V, Limit::Mask(4)).unwrap(), Linear);
        let (mut found, mut expected) = (vec![0.0; V], vec![0.0; V]);
        hybrid.posterior(t, s, x_t, &p, &mut found);
        masked.posterior(t, s, x_t, &p, &mut expected);
        prop_assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-14), "{found:?} {expected:?}");
        prop_assert_eq!(hybrid.prior(), masked.prior());
        let words = [7, 11, 13, 17].map(|w: u32| w.wrapping_mul((a * 1e9) as u32));
        prop_assert_eq!(hybrid.corrupt_token(t, x_t, words), masked.corrupt_token(t, x_t, words));
    }

    /// The mixture path of flow matching, written as its authors do: x_1 with probability kappa, else the source.
    #[test]
    fn mixture_path_is_the_categorical_process(x_1 in 0..V as u32, flow_time in 0.0..=1.0f64, n in 0.5..3.0f64) {
        let process = Categorical::new(V, Limit::Uniform).unwrap();
        let path = Scheduled::new(process, Power::new(n).unwrap());
        let kappa = flow_time.powf(n);
        let expected = Array1::from(one_hot(V, x_1)) * kappa + process.prior() * (1.0 - kappa);
        let found = marginal(&path, 1.0 - flow_time, &one_hot(V, x_1));
        prop_assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-12));
    }

    #[test]
    fn matrices_of_a_closed_form_are_the_closed_form(p in distribution(V), x_t in 0..V as u32, a in 0usize..T, b in 0usize..T) {
        let (s, t) = (a.min(b) as f64 / T as f64, (a.max(b) + 1) as f64 / T as f64);
        let chain = Betas::jsd(T).unwrap();
        for limit in [Limit::Uniform, Limit::Mask(1)] {
            let process = Categorical::new(V, limit).unwrap();
            let dense = Dense::new(chain.betas().iter().map(|b| process.transition(1.0 - b)).collect()).unwrap();
            let closed = Scheduled::new(process, chain.clone());
            let (mut found, mut expected) = (vec![0.0; V], vec![0.0; V]);
            dense.posterior(t, s, x_t, &p, &mut found);
            closed.posterior(t, s, x_t, &p, &mut expected);
            for (found, expected) in found.iter().zip(expected) {
                prop_assert!((found - expected).abs() < 1e-13);
            }
            prop_assert!((dense.prior() - closed.prior()).iter().all(|e| e.abs() < 1e-14));
        }
    }
}

#[test]
fn every_corruption_has_the_marginal_law() {
    let n = 20_000;
    for (name, process) in processes() {
        let x_0 = Array2::from_elem((2, n), 1);
        let mut x_t = Array2::zeros((2, n));
        // Two blocks a row, each at its own time.
        let t = array![[0.25, 0.5], [0.75, 1.0]];
        process.corrupt(&x_0, &t, 3, 1, 4, &mut x_t).unwrap();
        for ((row, block), &time) in t.indexed_iter() {
            let tokens: Vec<u32> = x_t.row(row).iter().skip(block * n / 2).take(n / 2).copied().collect();
            for (k, &q) in marginal(&process, time, &one_hot(V, 1)).iter().enumerate() {
                let share = tokens.iter().filter(|&&x| x == k as u32).count() as f64 / tokens.len() as f64;
                let error = (q * (1.0 - q).max(0.0) / tokens.len() as f64).sqrt();
                assert!((share - q).abs() <= 4.0 * error + 1e-12, "{name} at {time}: {k} has {share}, not {q}");
            }
        }
    }
}

#[test]
fn blocks_must_divide_the_row() {
    let process = Hybrid::new(V, 5, 0.1, 1.0).unwrap();
    let x_0 = Array2::zeros((2, 6));
    let corrupt = |t: Array2<f64>| process.corrupt(&x_0, &t, 0, 0, 0, &mut Array2::zeros((2, 6)));
    for blocks in [1, 2, 3, 6] {
        assert!(corrupt(Array2::zeros((2, blocks))).is_ok());
    }
    for (rows, blocks) in [(2, 4), (2, 0), (1, 2)] {
        assert!(matches!(corrupt(Array2::zeros((rows, blocks))), Err(Error::Shape { .. })), "{rows} {blocks}");
    }
    for bad in [f64::NAN, -0.1, 1.1] {
        assert!(matches!(corrupt(array![[0.5], [bad]]), Err(Error::Parameter { parameter: "t", .. })), "{bad}");
    }
    let error = process.corrupt(&array![[9]], &array![[0.5]], 0, 0, 0, &mut array![[0]]).unwrap_err();
    assert!(matches!(error, Error::Token { token: 9, .. }));
}

#[test]
fn respaced_matrices_keep_their_marginals_and_ends() {
    let band = Dense::band(V, &[0.3; T], 1).unwrap();
    let short = band.respace(&[3, 4, 12]).unwrap();
    for (state, kept) in [(1, 3), (2, 4), (3, 12)] {
        assert!(apart(short.q_bar(state - 1), band.q_bar(kept - 1)) < 1e-15);
    }
    for states in [vec![], vec![0, 12], vec![4, 4, 12], vec![3, 11], vec![13]] {
        assert!(matches!(band.respace(&states), Err(Error::States { .. })), "{states:?}");
    }
    let pi = [0.5, 0.1, 0.1, 0.1, 0.1, 0.1];
    let ended = band.ending_at(&pi).unwrap();
    assert!((ended.prior() - Array1::from(pi.to_vec())).iter().all(|e| e.abs() < 1e-15));
    assert_eq!(ended.q_bar(T - 2), band.q_bar(T - 2));
    assert!(band.ending_at(&pi[..5]).is_err() && band.ending_at(&[0.5; V]).is_err());
}

#[test]
fn hybrids_say_what_was_wrong() {
    assert_eq!(Hybrid::new(1, 0, 0.1, 1.0).unwrap_err(), Error::Vocabulary { expected: 2, found: 1 });
    assert_eq!(Hybrid::new(4, 4, 0.1, 1.0).unwrap_err(), Error::Mask { mask: 4, vocab: 4 });
    let message = Hybrid::new(4, 3, 1.0, 1.0).unwrap_err().to_string();
    assert_eq!(message, "hybrid: p_uniform must be in [0, 1), found 1");
    assert!(Hybrid::new(4, 3, f64::NAN, 1.0).is_err() && Hybrid::new(4, 3, 0.1, 3.0).is_err());
    assert_eq!(Dense::new(vec![Array2::eye(1)]).unwrap_err(), Error::Vocabulary { expected: 2, found: 1 });
}
