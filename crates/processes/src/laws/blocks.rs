use crate::Error;
use crate::blocks::{Bounds, keyed, mask_within, search};
use crate::objectives::answer::{restore_prompts, share};
use crate::objectives::masked;
use crate::times::{LossHistory, Times};
use galatea_random::Philox;
use ndarray::{Array2, Axis, array};

const MASK: u32 = 9;

#[test]
fn shares_of_masks_stay_within_their_bounds() {
    let x_0 = Array2::from_shape_fn((50, 24), |(b, l)| ((b + l) % 9) as u32);
    for (low, high) in [(0.3, 0.8), (0.0, 0.5), (0.5, 1.0), (1.0, 1.0), (0.5, 0.5)] {
        let bounds = Bounds::new(low, high).unwrap();
        let mut times = Array2::zeros((50, 3));
        let flat = times.as_slice_mut().unwrap();
        Times::Stratified.draw_within(bounds, &mut Philox::new(1, 2, 3, 0), flat);
        assert!(flat.iter().all(|t| (low..=high).contains(t)));
        let mut x_t = Array2::zeros((50, 24));
        mask_within(bounds, MASK, &x_0, &times, keyed(4, 5, 6, 24), &mut x_t).unwrap();
        for (row, clean) in x_t.rows().into_iter().zip(x_0.rows()) {
            for block in row.as_slice().unwrap().chunks(8) {
                let share = block.iter().filter(|&&x| x == MASK).count() as f64 / 8.0;
                assert!((low..=high).contains(&share), "{share} outside {low}..{high}");
            }
            assert!(row.iter().zip(clean).all(|(&x, &c)| x == MASK || x == c));
        }
        // A row does not depend on the others.
        let mut alone = Array2::zeros((1, 24));
        let first = x_0.row(0).insert_axis(Axis(0)).to_owned();
        let t = times.row(0).insert_axis(Axis(0)).to_owned();
        mask_within(bounds, MASK, &first, &t, keyed(4, 5, 6, 24), &mut alone).unwrap();
        assert_eq!(alone.row(0), x_t.row(0));
    }
}

#[test]
fn candidates_cover_half_of_the_times_and_more() {
    let grid = Bounds::grid(10);
    assert_eq!(grid.len(), 21);
    assert!(grid.iter().all(|b| b.high() - b.low() > 0.5 - 1e-12 && b.low() >= 0.0 && b.high() <= 1.0));
    assert!((0..grid.len()).all(|i| grid[i + 1..].iter().all(|b| *b != grid[i])));
    assert_eq!(Bounds::grid(1), [Bounds::new(0.0, 1.0).unwrap()]);
    assert_eq!(Bounds::grid(3).len(), 3);
}

/// The variance of one token's loss in closed form: masked with probability t ~ U[low, high], weight 1 / t, cross-entropy h. Its
/// second moment is h^2 E[1 / t], so that of all candidates the one with the least E[1 / t] - 1 has the least variance.
#[test]
fn a_search_finds_the_bounds_of_the_least_variance() {
    let h = 1.7;
    let law = |b: Bounds| h * h * ((b.high() / b.low()).ln() / (b.high() - b.low()) - 1.0);
    let candidates = || Bounds::grid(10).into_iter().filter(|b| b.low() > 0.0);
    let best = candidates().min_by(|a, b| law(*a).total_cmp(&law(*b))).unwrap();
    let draw = |bounds: Bounds| {
        let mut rng = Philox::new(7, 0, 0, 0);
        let mut loss = || {
            let t = bounds.place(rng.uniform());
            let x_t = if rng.uniform() < t { MASK } else { 0 };
            // Ten ids of which the mask is one: a row of zeros and one logit that makes the cross-entropy h.
            let own = (8.0 / (f64::exp(h) - 1.0)).ln();
            let logits: Vec<f64> = (0..10).map(|k| if k == 0 { own } else { 0.0 }).collect();
            masked::nelbo(&logits, 0, x_t, MASK, 1.0 / t, None)
        };
        Ok::<_, ()>((0..100_000).map(|_| loss()).collect::<Vec<f64>>())
    };
    let (found, variance) = search(candidates(), draw).unwrap().unwrap();
    assert_eq!(found, best);
    assert_eq!(found, Bounds::new(0.5, 1.0).unwrap());
    assert!((variance / law(best) - 1.0).abs() < 0.02, "{variance} instead of {}", law(best));
    // Nothing finite, nothing found; an error ends it.
    assert_eq!(search(Bounds::grid(4), |_| Ok::<_, ()>(vec![f64::INFINITY, 0.0])), Ok(None));
    assert_eq!(search(Bounds::grid(4), |_| Err::<Vec<f64>, _>("lost")), Err("lost"));
}

/// Drawing again until the share fits is drawing from the binomial law cut to the bounds.
#[test]
fn number_of_masks_has_the_law_cut_to_the_bounds() {
    let (n, t) = (20_000, 0.4f64);
    let bounds = Bounds::new(0.25, 0.5).unwrap();
    let x_0 = Array2::zeros((n, 4));
    let mut x_t = Array2::zeros((n, 4));
    mask_within(bounds, MASK, &x_0, &Array2::from_elem((n, 1), t), keyed(1, 1, 1, 4), &mut x_t).unwrap();
    let weight = |masks: i32, ways: f64| ways * t.powi(masks) * (1.0 - t).powi(4 - masks);
    let (one, two) = (weight(1, 4.0), weight(2, 6.0));
    let found = x_t.rows().into_iter().filter(|row| row.iter().filter(|&&x| x == MASK).count() == 1).count() as f64;
    let expected = one / (one + two);
    assert!((found / n as f64 - expected).abs() < 4.0 * (expected * (1.0 - expected) / n as f64).sqrt());
}

#[test]
fn bounds_and_blocks_say_what_was_wrong() {
    for (low, high) in [(-0.1, 0.5), (0.5, 0.4), (0.5, 1.1), (f64::NAN, 0.5), (0.1, f64::NAN)] {
        assert!(matches!(Bounds::new(low, high), Err(Error::Parameter { .. })), "{low} {high}");
    }
    let x_0 = Array2::zeros((1, 8));
    let mask = |bounds: Bounds, t: Array2<f64>| {
        mask_within(bounds, MASK, &x_0, &t, keyed(0, 0, 0, 8), &mut Array2::zeros((1, 8)))
    };
    // No number of four tokens is between 30 % and 40 %.
    let message = mask(Bounds::new(0.3, 0.4).unwrap(), array![[0.35, 0.35]]).unwrap_err().to_string();
    assert!(message.starts_with("the upper bound must be far enough"), "{message}");
    let wide = Bounds::new(0.2, 0.9).unwrap();
    assert!(matches!(mask(wide, array![[0.1, 0.5]]), Err(Error::Parameter { found: 0.1, .. })));
    assert!(mask(wide, array![[f64::NAN, 0.5]]).is_err());
    assert!(matches!(mask(wide, array![[0.5, 0.5, 0.5]]), Err(Error::Shape { .. })));
    assert!(matches!(mask(wide, Array2::zeros((1, 0))), Err(Error::Shape { .. })));
}

#[test]
fn prompts_are_never_noised_and_answers_count_alike() {
    let x_0 = array![[1, 2, 3, 4], [5, 6, 7, 8]];
    let mut x_t = Array2::from_elem((2, 4), MASK);
    restore_prompts(&x_0, &[1, 3], &mut x_t).unwrap();
    assert_eq!(x_t, array![[1, MASK, MASK, MASK], [5, 6, 7, MASK]]);
    assert_eq!(restore_prompts(&x_0, &[0, 4], &mut x_t).unwrap_err(), Error::Prompt { row: 1, prompt: 4, len: 4 });
    assert!(restore_prompts(&x_0, &[0], &mut x_t).is_err());
    // The shares of a batch's answers sum to 1.
    let total: f64 = [(4, 1), (4, 3)].iter().map(|&(len, prompt)| (len - prompt) as f64 * share(2, len, prompt)).sum();
    assert!((total - 1.0).abs() < 1e-15);
}

#[test]
fn history_draws_what_costs_most_without_bias() {
    let mut history = LossHistory::new(4, 3, 0.1).unwrap();
    let loss = [1.0, 2.0, 3.0, 4.0];
    for round in 0..3 {
        assert_eq!(history.probabilities(), [0.25; 4], "even until the history is full, round {round}");
        for (step, loss) in loss.iter().enumerate() {
            history.observe(step, *loss);
        }
    }
    history.observe(0, f64::NAN);
    let p = history.probabilities();
    for (step, p) in p.iter().enumerate() {
        assert!((p - (0.9 * loss[step] / 10.0 + 0.1 / 4.0)).abs() < 1e-15);
    }
    // The last losses replace the first.
    let mut moved = history.clone();
    (0..3).for_each(|_| moved.observe(3, 0.0));
    assert!((moved.probabilities()[3] - 0.025).abs() < 1e-15);
    let n = 40_000;
    let (mut steps, mut weights) = (vec![0; n], vec![0.0; n]);
    history.draw(&mut Philox::new(1, 0, 0, 0), &mut steps, &mut weights);
    for (step, p) in p.iter().enumerate() {
        let share = steps.iter().filter(|&&s| s == step).count() as f64 / n as f64;
        assert!((share - p).abs() < 4.0 * (p * (1.0 - p) / n as f64).sqrt());
    }
    let mean =
        |f: &dyn Fn(f64) -> f64| steps.iter().zip(&weights).map(|(&s, w)| f(w * loss[s])).sum::<f64>() / n as f64;
    let (weighted, square) = (mean(&|x| x), mean(&|x| x * x));
    assert!((weighted - 2.5).abs() < 0.02, "{weighted}");
    // Far less variance than uniform steps, whose weighted loss is the loss itself.
    assert!(square - weighted * weighted < 0.2 * 1.25, "{square} {weighted}");
    assert!(LossHistory::new(0, 1, 0.1).is_err() && LossHistory::new(1, 0, 0.1).is_err());
    assert!(LossHistory::new(1, 1, 0.0).is_err() && LossHistory::new(1, 1, f64::NAN).is_err());
}
