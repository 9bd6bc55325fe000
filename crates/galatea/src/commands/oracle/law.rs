//! ln q(x): how likely a sampler with a perfect network writes a given text.
//!
//! The sampler runs as ever, with random numbers chosen so that it writes x; the product of what each token written had for a
//! probability is what it would have done by itself. Random numbers that choose positions stay random: then this is ln q(x | order), and its
//! mean over orders is what the table says. Where positions are chosen by the tokens drawn, those thrown away are summed over (`surest.rs`):
//! the mean of q over paths is then q(x) itself, and a logarithm of a mean of few is a little too small.

use super::price::Rule;
use super::surest::{Keep, Pass, pass};
use galatea_processes::Denoiser;
use galatea_random::Philox;
use galatea_samplers::{At, Draws, Fixed, Keyed, Score, Selection, quota, row_stats, stream};
use galatea_text::language::{Contradiction, Error, ExactDenoiser, ExactModel};
use ndarray::{ArrayRef2, ArrayRef3};
use std::sync::{Arc, Mutex};

/// Stream of the draws that choose among paths.
const PATHS: u32 = 35;

/// ln q(x) under `rule`, from the mean of q over `paths` paths; text number `number` under `seed`.
pub(super) fn log_likelihood<M: ExactModel>(
    model: &M,
    rule: Rule,
    x: &[u32],
    (seed, number): (u64, u32),
    paths: u32,
) -> anyhow::Result<f64> {
    let logs = (0..paths).map(|path| along(model, rule, x, seed, number * paths + path));
    let logs = logs.collect::<anyhow::Result<Vec<f64>>>()?;
    let max = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Ok(max + (logs.iter().map(|l| (l - max).exp()).sum::<f64>() / f64::from(paths)).ln())
}

/// ln of the probability of one path to x, over that of having been chosen.
fn along<M: ExactModel>(model: &M, rule: Rule, x: &[u32], seed: u64, path: u32) -> anyhow::Result<f64> {
    let (len, vocab) = (model.len(), model.vocab());
    let seen = Arc::new(Mutex::new(Seen { x: x.to_vec(), mask: vocab as u32, ..Seen::default() }));
    let exact = ExactDenoiser::masked(model).on_contradiction(Contradiction::Fail);
    let denoiser = Watched { exact, seen: Arc::clone(&seen) };
    let draws = Forced {
        seen: Arc::clone(&seen),
        keyed: Keyed::new(seed, path, (1, len))?,
        keep: keep(rule, len),
        rng: Philox::new(seed, PATHS, 0, path),
    };
    let sampler = rule.sampler(denoiser, rule.process(vocab)?, Fixed::none(1, len), (seed, path), Box::new(draws))?;
    let mut log_q = 0.0;
    for canvas in sampler {
        let canvas = canvas.map_err(|failure| anyhow::anyhow!("{failure}"))?;
        let seen = seen.lock().expect("no thread panics with the lock");
        for &(row, position) in &canvas.changed {
            anyhow::ensure!(canvas.ids[[row, position]] == x[position], "the path left the text at {position}");
        }
        log_q += match &seen.pass {
            Some(pass) => pass.log_z,
            None => canvas.changed.iter().map(|&(_, position)| seen.p[position][x[position] as usize].ln()).sum(),
        };
    }
    Ok(log_q)
}

/// What the positions of a pass depend on, if it is the tokens drawn in it: for each pass of a block, how many to keep.
fn keep(rule: Rule, len: usize) -> Vec<Keep> {
    let Rule::Unmasking(selection, Score::Confidence) = rule else { return Vec::new() };
    match selection {
        Selection::Quota { passes } => quota(len, passes).into_iter().map(Keep::Count).collect(),
        Selection::Threshold { least, slack: _ } => vec![Keep::Threshold(least); len],
        Selection::Factor { factor } => vec![Keep::Factor(factor); len],
        Selection::Share { .. }
        | Selection::Bernoulli { .. }
        | Selection::Hierarchy { .. }
        | Selection::EntropyBound { .. } => Vec::new(),
    }
}

/// The canvas that the network was last asked about, and what follows from its answer.
#[derive(Default)]
struct Seen {
    x: Vec<u32>,
    mask: u32,
    /// p(x_0) of every open position, empty elsewhere.
    p: Vec<Vec<f64>>,
    /// The passes asked about so far.
    passes: usize,
    /// Whether `wanted` is that of the present canvas.
    planned: bool,
    wanted: Vec<u32>,
    pass: Option<Pass>,
}

impl Seen {
    fn see(&mut self, x_t: impl Iterator<Item = u32>, logits: impl Iterator<Item = Vec<f32>>) {
        let mask = self.mask;
        self.p = x_t.zip(logits).map(|(x_t, logits)| if x_t == mask { softmax(&logits) } else { Vec::new() }).collect();
        (self.planned, self.pass, self.passes) = (false, None, self.passes + 1);
    }

    /// Decides which token every open position draws: that of x, or one that will not be kept.
    fn plan(&mut self, keep: &[Keep], rng: &mut Philox) {
        self.planned = true;
        self.wanted = self.x.clone();
        let Some(&keep) = keep.get(self.passes - 1) else { return };
        let open: Vec<usize> = (0..self.x.len()).filter(|&i| !self.p[i].is_empty()).collect();
        let rows: Vec<&[f64]> = open.iter().map(|&i| self.p[i].as_slice()).collect();
        let wanted: Vec<u32> = open.iter().map(|&i| self.x[i]).collect();
        let found = pass(keep, &rows, &wanted, rng);
        let least = rows[found.last][wanted[found.last] as usize];
        for (j, &i) in open.iter().enumerate().filter(|(j, _)| !found.kept[*j]) {
            let thrown = |&(_, &p): &(usize, &f64)| {
                p > 0.0 && p < found.ceiling && (p < least || (p == least && j > found.last))
            };
            let likeliest = rows[j].iter().enumerate().filter(thrown).max_by(|a, b| a.1.total_cmp(b.1));
            self.wanted[i] = likeliest.expect("a draw that ranks below has a probability").0 as u32;
        }
        self.pass = Some(found);
    }

    /// A uniform number that draws the wanted token at `position`: the middle of its share.
    fn uniform(&self, position: usize) -> f64 {
        let (p, token) = (&self.p[position], self.wanted[position] as usize);
        p[..token].iter().sum::<f64>() + 0.5 * p[token]
    }
}

/// softmax(logits) as the samplers score it, to the last digit: ranks are decided by ties.
fn softmax(logits: &[f32]) -> Vec<f64> {
    let stats = row_stats(logits).expect("a perfect network's logits are finite or -inf");
    logits.iter().map(|&logit| stats.probability(f64::from(logit))).collect()
}

/// The perfect network, watched.
struct Watched<D> {
    exact: D,
    seen: Arc<Mutex<Seen>>,
}

impl<D: Denoiser<Error = Error>> Denoiser for Watched<D> {
    type Error = Error;

    fn denoise(&mut self, x_t: &ArrayRef2<u32>, t: f64, logits: &mut ArrayRef3<f32>) -> Result<(), Error> {
        self.exact.denoise(x_t, t, logits)?;
        let rows = logits.rows().into_iter().map(|row| row.to_vec());
        self.seen.lock().expect("no thread panics with the lock").see(x_t.iter().copied(), rows);
        Ok(())
    }
}

/// Random numbers that write x.
struct Forced {
    seen: Arc<Mutex<Seen>>,
    keyed: Keyed,
    keep: Vec<Keep>,
    rng: Philox,
}

impl Draws for Forced {
    fn uniforms(&mut self, wanted: u32, at: At, out: &mut [f64]) {
        self.keyed.uniforms(wanted, at, out);
        if let (stream::TOKENS, [_, token]) = (wanted, out) {
            let mut seen = self.seen.lock().expect("no thread panics with the lock");
            if !seen.planned {
                seen.plan(&self.keep, &mut self.rng);
            }
            *token = seen.uniform(at.row as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use galatea_text::language::MarkovChain;
    use ndarray::array;

    fn chain(len: usize) -> MarkovChain {
        let transition = array![[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.25, 0.15, 0.6]];
        MarkovChain::new(len, array![0.5, 0.2, 0.3], transition).expect("rows that sum to one")
    }

    fn texts(len: u32) -> impl Iterator<Item = Vec<u32>> {
        (0..3u32.pow(len)).map(move |n| (0..len).map(|i| n / 3u32.pow(i) % 3).collect())
    }

    fn total(rule: Rule, paths: u32) -> f64 {
        let model = chain(4);
        let all = texts(4).enumerate();
        all.map(|(n, x)| log_likelihood(&model, rule, &x, (5, n as u32), paths).expect("a path").exp()).sum()
    }

    #[test]
    fn the_law_of_an_order_that_looks_at_distributions_sums_to_one() {
        let entropy = |selection| Rule::Unmasking(selection, Score::Entropy);
        let rules = [
            entropy(Selection::Quota { passes: 2 }),
            entropy(Selection::EntropyBound { gamma: 0.9 }),
            Rule::Unmasking(Selection::Quota { passes: 3 }, Score::Margin),
            Rule::Unmasking(Selection::Quota { passes: 2 }, Score::LeftToRight),
        ];
        for rule in rules {
            // Probabilities are those of the samplers' statistics, right to some 5e-7 each.
            assert!((total(rule, 1) - 1.0).abs() < 1e-5, "{rule:?}");
        }
    }

    #[test]
    fn summing_over_what_is_thrown_away_gives_a_law() {
        let confidence = |selection| Rule::Unmasking(selection, Score::Confidence);
        let rules = [
            confidence(Selection::Quota { passes: 2 }),
            confidence(Selection::Quota { passes: 4 }),
            confidence(Selection::Threshold { least: 0.55, slack: 0.0 }),
            confidence(Selection::Factor { factor: 0.9 }),
        ];
        for rule in rules {
            let sum = total(rule, 400);
            assert!((sum - 1.0).abs() < 0.02, "{rule:?} {sum}");
        }
    }

    #[test]
    fn one_at_a_time_has_the_law_of_the_source() {
        let model = chain(5);
        let each = |score| Rule::Unmasking(Selection::Quota { passes: 5 }, score);
        let scores = [Score::Random, Score::Entropy, Score::Margin, Score::LeftToRight];
        for rule in scores.map(each).into_iter().chain([Rule::FirstHitting]) {
            for (n, x) in texts(5).enumerate().step_by(7) {
                let log_q = log_likelihood(&model, rule, &x, (2, n as u32), 1).expect("a path");
                assert!((log_q - model.log_prob(&x)).abs() < 1e-5, "{rule:?}");
            }
        }
    }
}
