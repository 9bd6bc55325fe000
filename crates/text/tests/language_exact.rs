//! The exact sources against brute force, against each other's formulas, and against their own samples.

use galatea_fixtures::{derivative, relative_to_max};
use galatea_random::Philox;
use galatea_text::language::{Error, ExactModel, Level, MarkovChain, Role, StoryLanguage, Sudoku4};
use ndarray::{Array2, arr1, arr2};

const LEVELS: [Level; 3] = [Level::One, Level::Two, Level::Three];

fn chain() -> MarkovChain {
    let transition = arr2(&[[0.7, 0.3, 0.0], [0.1, 0.2, 0.7], [0.25, 0.25, 0.5]]);
    MarkovChain::new(5, arr1(&[0.5, 0.2, 0.3]), transition).expect("rows sum to one")
}

/// All sequences of `len` tokens below `vocab`.
fn sequences(vocab: usize, len: usize) -> Vec<Vec<u32>> {
    let digits = |n: usize| (0..len as u32).map(|i| (n / vocab.pow(i) % vocab) as u32).collect();
    (0..vocab.pow(len as u32)).map(digits).collect()
}

/// Bayes' rule by its definition: log p(o) and the marginals, from a list of every sequence.
fn bayes(model: &impl ExactModel, support: &[Vec<u32>], evidence: &Array2<f64>) -> (f64, Array2<f64>) {
    let mut marginals = Array2::zeros(evidence.dim());
    let mut total = 0.0;
    for x in support {
        let likelihood: f64 = x.iter().enumerate().map(|(i, &v)| evidence[[i, v as usize]]).product();
        let joint = model.log_prob(x).exp() * likelihood;
        total += joint;
        x.iter().enumerate().for_each(|(i, &v)| marginals[[i, v as usize]] += joint);
    }
    (total.ln(), marginals / total)
}

fn assert_posterior_is_bayes(model: &impl ExactModel, support: &[Vec<u32>], evidence: &Array2<f64>) {
    let (log_p, expected) = bayes(model, support, evidence);
    let mut found = Array2::from_elem(evidence.dim(), f64::NAN);
    if log_p == f64::NEG_INFINITY {
        return assert_eq!(model.posterior(evidence, &mut found), Err(Error::Impossible));
    }
    let found_log_p = model.posterior(evidence, &mut found).expect("the evidence is possible");
    assert!((found_log_p - log_p).abs() < 1e-10, "log evidence {found_log_p}, by Bayes {log_p}");
    let [a, b] = [&found, &expected].map(|m| m.iter().copied().collect::<Vec<f64>>());
    assert!(relative_to_max(&a, &b) < 1e-11);
}

/// Evidence of masked, uniform and Gaussian noise at sequences drawn from the model, several noise levels each.
fn evidences(model: &impl ExactModel) -> Vec<Array2<f64>> {
    let (len, vocab) = (model.len(), model.vocab());
    let mut rng = Philox::new(3, 0, 0, 0);
    let mut all = Vec::new();
    for alpha_bar in [0.05, 0.3, 0.6, 0.9, 0.99] {
        let x_0 = model.sample(&mut rng);
        let [mut mask, mut uniform, mut gaussian] = [0; 3].map(|_| Array2::zeros((len, vocab)));
        let embeddings = Array2::from_shape_fn((vocab, 4), |_| rng.normal());
        for (i, &token) in x_0.iter().enumerate() {
            let token = token as usize;
            let kept = rng.uniform() < alpha_bar;
            let x_t = if rng.uniform() < alpha_bar { token } else { rng.below(vocab) };
            let noise = arr1(&[0.0; 4]).mapv(|_: f64| rng.normal());
            let z_t = &embeddings.row(token) * alpha_bar.sqrt() + noise * (1.0 - alpha_bar).sqrt();
            for v in 0..vocab {
                mask[[i, v]] = if !kept || v == token { 1.0 } else { 0.0 };
                uniform[[i, v]] = (1.0 - alpha_bar) / vocab as f64 + if v == x_t { alpha_bar } else { 0.0 };
                let distance = (&z_t - &embeddings.row(v) * alpha_bar.sqrt()).mapv(|d| d * d).sum();
                gaussian[[i, v]] = (-0.5 * distance / (1.0 - alpha_bar)).exp();
            }
        }
        all.extend([mask, uniform, gaussian]);
    }
    all
}

#[test]
fn markov_posterior_equals_bayes_and_probabilities_sum_to_one() {
    let (chain, support) = (chain(), sequences(3, 5));
    assert!((support.iter().map(|x| chain.log_prob(x).exp()).sum::<f64>() - 1.0).abs() < 1e-12);
    let entropy: f64 = support.iter().map(|x| chain.log_prob(x)).filter(|l| l.is_finite()).map(|l| -l * l.exp()).sum();
    assert!((chain.entropy() - entropy).abs() < 1e-12);
    for evidence in evidences(&chain) {
        assert_posterior_is_bayes(&chain, &support, &evidence);
    }
    // The move 0 -> 2 has probability zero.
    let mut impossible = Array2::ones((5, 3));
    impossible.row_mut(1).assign(&arr1(&[1.0, 0.0, 0.0]));
    impossible.row_mut(2).assign(&arr1(&[0.0, 0.0, 2.0]));
    assert_posterior_is_bayes(&chain, &support, &impossible);
}

#[test]
fn there_are_288_sudokus_and_their_posterior_equals_bayes() {
    let sudoku = Sudoku4::new();
    let grids: Vec<Vec<u32>> = sudoku.grids().iter().map(|grid| grid.to_vec()).collect();
    assert_eq!(grids.len(), 288);
    let units = (0..4).flat_map(|k| {
        let (row, column) = ((0..4).map(|j| 4 * k + j), (0..4).map(|j| 4 * j + k));
        let corner = 8 * (k / 2) + 2 * (k % 2);
        [row.collect(), column.collect(), vec![corner, corner + 1, corner + 4, corner + 5]]
    });
    for unit in units {
        assert!(grids.iter().all(|grid| unit.iter().map(|&cell| 1 << grid[cell]).sum::<u32>() == 0b1111));
    }
    assert!((grids.iter().map(|x| sudoku.log_prob(x).exp()).sum::<f64>() - 1.0).abs() < 1e-12);
    assert_eq!(sudoku.log_prob(&[0; 16]), f64::NEG_INFINITY);
    assert!((sudoku.entropy() - 288f64.ln()).abs() < 1e-12);
    for evidence in evidences(&sudoku) {
        assert_posterior_is_bayes(&sudoku, &grids, &evidence);
    }
}

/// The probability of one story, multiplied by hand from the weights in the lists of words.
#[test]
fn story_probability_is_the_product_of_its_choices() {
    let story = "long ago lived a brave mole called rosa . she gathered four acorns . \" could you spare three ? \" asked \
                 hugo . \" gladly ! \" answered rosa . then there was one acorn left . hugo felt merry . she dozed in the \
                 hole .";
    let zipf = 2.0 * (2..8).map(|k| 1.0 / f64::from(k)).sum::<f64>();
    let names = (1.0 / 2.0 / zipf) * (1.0 / 3.0) / (zipf - 1.0 / 2.0);
    let deal = (1.0 / 4.0) * (1.0 / 4.0) * 0.6 * (2.0 / 3.0) * (3.0 / 6.0);
    let rest = (6.0 / 36.0) * (1.0 / 8.0) * (4.0 / 10.0) * (6.0 / 20.0) * (5.0 / 10.0);
    let one = StoryLanguage::new(Level::One);
    let x = one.encode(story).expect("known words");
    assert_eq!((x.len(), x.contains(&one.pad())), (48, false));
    assert!((one.log_prob(&x) - (names * deal * rest).ln()).abs() < 1e-12);
    // At level three the same story has the template .45 .6 .5 .6 .7 .5 and one of eight numbers.
    let three = StoryLanguage::new(Level::Three);
    let template = 0.45 * 0.6 * 0.5 * 0.6 * 0.7 * 0.5;
    assert!((three.log_prob(&x) - (names * deal * rest * 4.0 / 8.0 * template).ln()).abs() < 1e-12);
}

/// Every open position of a few roles is summed over all words of its kind, by calls of `log_prob` alone.
#[test]
fn story_posterior_equals_bayes_where_a_part_is_enumerated() {
    let language = StoryLanguage::new(Level::One);
    let roles = language.roles(0);
    let mut rng = Philox::new(11, 0, 0, 0);
    for open in [
        &[Role::Name, Role::Other, Role::Pronoun][..],
        &[Role::Has, Role::Asked, Role::Left, Role::Reply, Role::Were, Role::Remainder],
        &[Role::Reply, Role::Mood, Role::Animal, Role::Preposition, Role::Rhyme, Role::Rest],
    ] {
        let x = language.sample(&mut rng);
        let mut evidence = Array2::zeros((48, language.vocab()));
        let mut support = vec![Vec::new()];
        for (i, &word) in x.iter().enumerate() {
            let words = match roles[i] {
                Some(role) if open.contains(&role) => language.words_of(role),
                _ => vec![word],
            };
            for &word in &words {
                evidence[[i, word as usize]] = rng.uniform();
            }
            support = support.iter().flat_map(|x| words.iter().map(|&word| [&x[..], &[word]].concat())).collect();
        }
        support.retain(|x| language.is_grammatical(x));
        assert!(support.len() > 20, "the part is too small to test anything: {}", support.len());
        assert_posterior_is_bayes(&language, &support, &evidence);
    }
}

#[test]
fn pure_noise_leaves_the_prior_and_rows_of_marginals_sum_to_one() {
    for level in LEVELS {
        let language = StoryLanguage::new(level);
        for (k, evidence) in
            std::iter::once(Array2::from_elem((48, language.vocab()), 7.0)).chain(evidences(&language)).enumerate()
        {
            let mut marginals = Array2::zeros(evidence.dim());
            let log_p = language.posterior(&evidence, &mut marginals).expect("noise is possible");
            assert!(k > 0 || (log_p - 48.0 * 7f64.ln()).abs() < 1e-10);
            assert!(marginals.outer_iter().all(|row| (row.sum() - 1.0).abs() < 1e-12));
        }
    }
}

/// d log p(o) / d log e_iv = p(x_i = v | o): the marginals of level three against finite differences of the evidence.
#[test]
fn marginals_are_the_gradient_of_the_log_evidence() {
    let language = StoryLanguage::new(Level::Three);
    let mut rng = Philox::new(5, 0, 0, 0);
    let mut unread = Array2::zeros((48, language.vocab()));
    for noise in [0.5, 0.05] {
        let x = language.sample(&mut rng);
        let mut log_evidence = Array2::from_shape_fn((48, language.vocab()), |_| rng.uniform() - 1.0 / noise);
        x.iter().enumerate().for_each(|(i, &word)| log_evidence[[i, word as usize]] = 0.0);
        let mut marginals = Array2::zeros(unread.dim());
        language.posterior_log(&log_evidence, &mut marginals).expect("positive evidence");
        for (i, &word) in x.iter().enumerate().step_by(5) {
            let at = [i, word as usize];
            let log_p = |value: f64| {
                let mut moved = log_evidence.clone();
                moved[at] = value;
                language.posterior_log(&moved, &mut unread).expect("positive evidence")
            };
            let gradient = derivative(log_p, 0.0, 0.02);
            assert!((gradient - marginals[at]).abs() < 1e-6, "{gradient} against {}", marginals[at]);
        }
    }
}

#[test]
fn entropy_equals_the_mean_surprise_of_samples() {
    fn assert_entropy(model: &impl ExactModel, n: u32) {
        let surprise = |row| -model.log_prob(&model.sample(&mut Philox::new(17, 0, 0, row)));
        let surprises: Vec<f64> = (0..n).map(surprise).collect();
        assert!(surprises.iter().all(|s| s.is_finite()), "a sample lies outside the support");
        let mean = surprises.iter().sum::<f64>() / f64::from(n);
        let variance = surprises.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / f64::from(n - 1);
        let error = (variance / f64::from(n)).sqrt();
        assert!((mean - model.entropy()).abs() < 4.0 * error + 1e-9, "{mean} +- {error}, {}", model.entropy());
    }
    assert_entropy(&chain(), 5000);
    assert_entropy(&Sudoku4::new(), 100);
    for (level, n) in LEVELS.into_iter().zip([20_000, 20_000, 5000]) {
        assert_entropy(&StoryLanguage::new(level), n);
    }
}

/// log p(x) = sum_k log p(x_(o_k) | x_(o_1) .. x_(o_(k-1))) for any order o.
#[test]
fn the_chain_rule_holds_along_any_order() {
    for level in LEVELS {
        let language = StoryLanguage::new(level);
        let mut rng = Philox::new(23, 0, 0, 0);
        let x = language.sample(&mut rng);
        for _ in 0..3 {
            let mut order: Vec<usize> = (0..48).collect();
            (1..48).rev().for_each(|k| order.swap(k, rng.below(k + 1)));
            let mut evidence = Array2::ones((48, language.vocab()));
            let mut marginals = Array2::zeros(evidence.dim());
            let mut log_p = 0.0;
            for i in order {
                language.posterior(&evidence, &mut marginals).expect("a part of a story is possible");
                log_p += marginals[[i, x[i] as usize]].ln();
                evidence.row_mut(i).fill(0.0);
                evidence[[i, x[i] as usize]] = 1.0;
            }
            assert!((log_p - language.log_prob(&x)).abs() < 1e-10, "{log_p} against {}", language.log_prob(&x));
        }
    }
}

/// Embeddings of width 128 put hundreds of nats between words; three noise levels, a wrong row included.
#[test]
fn distant_evidence_does_not_underflow() {
    let language = StoryLanguage::new(Level::Three);
    let mut rng = Philox::new(29, 0, 0, 0);
    let x = language.sample(&mut rng);
    for gap in [1e2, 1e4, 1e8] {
        let mut log_evidence = Array2::from_elem((48, language.vocab()), -gap);
        x.iter().enumerate().for_each(|(i, &word)| log_evidence[[i, word as usize]] = 0.0);
        // One position speaks for a word that no story has there: the rest must win.
        log_evidence.row_mut(3).fill(-2.0 * gap);
        log_evidence[[3, language.pad() as usize]] = 0.0;
        let mut marginals = Array2::zeros(log_evidence.dim());
        let log_p = language.posterior_log(&log_evidence, &mut marginals).expect("finite evidence is possible");
        assert!(log_p < -gap && log_p.is_finite());
        assert!((marginals[[20, x[20] as usize]] - 1.0).abs() < 1e-9);
    }
}

#[test]
fn wrong_arguments_are_named() {
    let chain = chain();
    let mut marginals = Array2::zeros((5, 3));
    let found = chain.posterior(&Array2::ones((5, 2)), &mut marginals);
    assert_eq!(found, Err(Error::Shape { what: "evidence", expected: vec![5, 3], found: vec![5, 2] }));
    let found = chain.posterior(&Array2::from_elem((5, 3), -1.0), &mut marginals);
    assert_eq!(found, Err(Error::Likelihood { row: 0, value: -1.0 }));
    let wrong = arr2(&[[0.5, 0.4], [0.5, 0.5]]);
    assert!(matches!(MarkovChain::new(3, arr1(&[0.5, 0.5]), wrong), Err(Error::Distribution { .. })));
    assert!(matches!(MarkovChain::new(0, arr1(&[1.0]), arr2(&[[1.0]])), Err(Error::Shape { .. })));
    assert_eq!("4".parse::<Level>(), Err(Error::Level { found: "4".to_owned() }));
    let language = StoryLanguage::new(Level::One);
    assert_eq!(language.encode("a brave dragon"), Err(Error::Word { word: "dragon".to_owned() }));
    assert_eq!(language.encode(&"a ".repeat(49)), Err(Error::Long { limit: 48, found: 49 }));
    assert_eq!(language.log_prob(&[1; 5]), f64::NEG_INFINITY);
    assert_eq!(chain.log_prob(&[0, 1, 7, 0, 0]), f64::NEG_INFINITY);
}
