//! How likely a pass is that writes what it draws where it is surest of what it drew.
//!
//! Such a pass draws a token at every open position and keeps those whose own probability ranks first. Whether a text comes of
//! it depends on draws that are then thrown away; here they are summed over. With c_j the probability of the wanted token at
//! position j, the pass keeps exactly the set S with all its tokens right with probability
//! prod over j in S of c_j, times the probability that every other draw ranks below the last of S (and below what the rule
//! demands of the next one).

use galatea_random::Philox;

/// How many of the surest draws a pass keeps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Keep {
    /// This many.
    Count(usize),
    /// Those of at least this probability, and always the first.
    Threshold(f64),
    /// The longest run with (n + 1)(1 - c) <= factor at the n-th, and always the first; a single one left over goes along.
    Factor(f64),
}

impl Keep {
    /// If n may be kept whose last has the probability `last`: what all others stay below. `sorted` has the probabilities of all
    /// wanted tokens, the largest first.
    fn ceiling(self, n: usize, last: f64, sorted: &[f64]) -> Option<f64> {
        let open = sorted.len();
        match self {
            Keep::Count(count) => (n == count.min(open)).then_some(f64::INFINITY),
            Keep::Threshold(least) if last >= least => Some(least),
            Keep::Threshold(_) => (n == 1).then_some(f64::INFINITY),
            Keep::Factor(factor) => {
                let fits = |rank: usize, c: f64| rank == 1 || c >= 1.0 - factor / (rank + 1) as f64;
                if n == open {
                    return (n == 1 || fits(n - 1, sorted[n - 2])).then_some(f64::INFINITY);
                }
                (n + 1 < open && fits(n, last)).then(|| 1.0 - factor / (n + 2) as f64)
            }
        }
    }
}

/// What may come of a pass: the sum over all sets, and one set drawn with its share of the sum.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pass {
    /// ln of the probability that every token kept is the wanted one.
    pub(super) log_z: f64,
    /// The positions kept, given that.
    pub(super) kept: Vec<bool>,
    /// The least of them in rank.
    pub(super) last: usize,
    /// What the others stay below.
    pub(super) ceiling: f64,
}

/// The draws of one pass: p\[j\] is the distribution at the j-th open position, `wanted`\[j\] the token it should write.
pub(super) fn pass(keep: Keep, p: &[&[f64]], wanted: &[u32], rng: &mut Philox) -> Pass {
    let open = p.len();
    let c: Vec<f64> = p.iter().zip(wanted).map(|(p, &x)| p[x as usize]).collect();
    let ranks = Ranks { rows: p.iter().map(|p| Sorted::new(p)).collect(), c: &c };
    let mut sorted = c.clone();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let mut ways = Vec::new();
    let mut total = 0.0;
    for (last, &least) in c.iter().enumerate() {
        for n in 1..=open {
            let Some(ceiling) = keep.ceiling(n, least, &sorted) else { continue };
            let weight = ranks.ways(last, n, ceiling).total;
            if weight > 0.0 {
                total += weight;
                ways.push((total, last, n, ceiling));
            }
        }
    }
    let u = rng.uniform() * total;
    let &(_, last, n, ceiling) = ways.iter().find(|(sum, ..)| u < *sum).or(ways.last()).expect("a text can be written");
    Pass { log_z: total.ln(), kept: ranks.ways(last, n, ceiling).draw(rng), last, ceiling }
}

/// Probabilities in ascending order, with their sums: sums\[i\] is that of the first i.
struct Sorted {
    p: Vec<f64>,
    sums: Vec<f64>,
}

impl Sorted {
    fn new(p: &[f64]) -> Self {
        let mut p = p.to_vec();
        p.sort_by(f64::total_cmp);
        let sums = std::iter::once(0.0).chain(p.iter().scan(0.0, |sum, p| {
            *sum += p;
            Some(*sum)
        }));
        Self { sums: sums.collect(), p }
    }
}

struct Ranks<'a> {
    rows: Vec<Sorted>,
    c: &'a [f64],
}

/// The sets of n positions whose last is given, by dynamic programming over the positions.
struct Ways {
    /// For every position that may or may not be kept: (position, kept with weight, thrown away with weight).
    free: Vec<(usize, f64, f64)>,
    last: usize,
    open: usize,
    /// table\[i\]\[k\]: the weight of keeping k of the first i of `free`.
    table: Vec<Vec<f64>>,
    /// The weight of all n-sets with their last.
    total: f64,
}

impl Ranks<'_> {
    /// Whether a draw of probability `c` at `j` ranks below the wanted token at `last`: the earlier of equals is first.
    fn below(&self, j: usize, c: f64, last: usize) -> bool {
        c < self.c[last] || (c == self.c[last] && j > last)
    }

    /// The probability that the draw at `j` ranks below `last` and stays below `ceiling`.
    fn thrown(&self, j: usize, last: usize, ceiling: f64) -> f64 {
        let Sorted { p, sums } = &self.rows[j];
        sums[p.partition_point(|&c| c < ceiling && self.below(j, c, last))]
    }

    fn ways(&self, last: usize, n: usize, ceiling: f64) -> Ways {
        let open = self.rows.len();
        let (mut fixed, mut free) = (self.c[last], Vec::new());
        for j in (0..open).filter(|&j| j != last) {
            let thrown = self.thrown(j, last, ceiling);
            if self.below(j, self.c[j], last) {
                fixed *= thrown;
            } else {
                free.push((j, self.c[j], thrown));
            }
        }
        let mut table = vec![vec![0.0; n]; free.len() + 1];
        table[0][0] = 1.0;
        for (i, &(_, kept, thrown)) in free.iter().enumerate() {
            for k in 0..n {
                let without = table[i][k] * thrown;
                let with = if k > 0 { table[i][k - 1] * kept } else { 0.0 };
                table[i + 1][k] = without + with;
            }
        }
        let total = fixed * table[free.len()][n - 1];
        Ways { free, last, open, table, total }
    }
}

impl Ways {
    /// A set with its share of the total.
    fn draw(&self, rng: &mut Philox) -> Vec<bool> {
        let mut kept = vec![false; self.open];
        kept[self.last] = true;
        let mut k = self.table[0].len() - 1;
        for (i, &(j, with, _)) in self.free.iter().enumerate().rev() {
            if k > 0 && rng.uniform() * self.table[i + 1][k] < self.table[i][k - 1] * with {
                kept[j] = true;
                k -= 1;
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use galatea_samplers::{above, best, within_factor};
    use proptest::prelude::*;

    /// Every joint draw, kept by the samplers' own rules: the probability of each set kept with the wanted tokens.
    fn enumerate(keep: Keep, p: &[&[f64]], wanted: &[u32]) -> Vec<(Vec<bool>, f64)> {
        let (open, vocab) = (p.len(), p[0].len());
        let mut sets: Vec<(Vec<bool>, f64)> = Vec::new();
        for number in 0..vocab.pow(open as u32) {
            let drawn: Vec<usize> = (0..open).map(|j| number / vocab.pow(j as u32) % vocab).collect();
            let scores: Vec<f64> = drawn.iter().zip(p).map(|(&k, p)| p[k]).collect();
            let mut chosen = Vec::new();
            match keep {
                Keep::Count(count) => best(&scores, count, &mut chosen),
                Keep::Threshold(least) => above(&scores, least, 0.0, &mut chosen),
                Keep::Factor(factor) => within_factor(&scores, factor, &mut chosen),
            }
            if chosen.iter().all(|&j| drawn[j] == wanted[j] as usize) {
                let kept: Vec<bool> = (0..open).map(|j| chosen.contains(&j)).collect();
                let weight: f64 = scores.iter().product();
                match sets.iter_mut().find(|(set, _)| *set == kept) {
                    Some((_, sum)) => *sum += weight,
                    None => sets.push((kept, weight)),
                }
            }
        }
        sets
    }

    /// Distributions over three tokens with ties among them.
    fn rows() -> impl Strategy<Value = Vec<Vec<f64>>> {
        let row = prop::collection::vec(0u32..4, 3).prop_map(|w| {
            let total = f64::from(w.iter().sum::<u32>().max(1));
            let rest = if w.iter().sum::<u32>() == 0 { 1.0 } else { 0.0 };
            vec![f64::from(w[0]) / total + rest, f64::from(w[1]) / total, f64::from(w[2]) / total]
        });
        prop::collection::vec(row, 1..5)
    }

    proptest! {
        #[test]
        fn a_pass_is_the_sum_over_all_draws(rows in rows(), rule in 0usize..7, seed in any::<u64>()) {
            let keep = [
                Keep::Count(1), Keep::Count(2), Keep::Count(9), Keep::Threshold(0.3), Keep::Threshold(0.6),
                Keep::Factor(0.7), Keep::Factor(1.5),
            ][rule];
            let p: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
            // A text of positive probability.
            let wanted: Vec<u32> = rows.iter().map(|p| p.iter().position(|&p| p > 0.0).expect("a law") as u32).collect();
            let sets = enumerate(keep, &p, &wanted);
            let total: f64 = sets.iter().map(|(_, weight)| weight).sum();
            // Equal scores may leave no way to this text in one pass at all.
            prop_assume!(total > 0.0);
            let mut rng = Philox::new(seed, 0, 0, 0);
            let found = pass(keep, &p, &wanted, &mut rng);
            prop_assert!((found.log_z - total.ln()).abs() < 1e-9, "{} {}", found.log_z, total.ln());
            prop_assert!(sets.iter().any(|(set, _)| *set == found.kept));
        }
    }

    #[test]
    fn sets_are_drawn_with_their_share() {
        let rows: [&[f64]; 4] = [&[0.5, 0.3, 0.2], &[0.4, 0.4, 0.2], &[0.1, 0.6, 0.3], &[0.34, 0.33, 0.33]];
        let wanted = [1, 0, 2, 0];
        let sets = enumerate(Keep::Count(2), &rows, &wanted);
        let total: f64 = sets.iter().map(|(_, weight)| weight).sum();
        let draws = 20_000;
        let mut counts = vec![0usize; sets.len()];
        for n in 0..draws {
            let found = pass(Keep::Count(2), &rows, &wanted, &mut Philox::new(1, 0, 0, n));
            counts[sets.iter().position(|(set, _)| *set == found.kept).expect("a set of the enumeration")] += 1;
        }
        for ((set, weight), count) in sets.iter().zip(counts) {
            let (share, found) = (weight / total, count as f64 / f64::from(draws));
            assert!((share - found).abs() < 5.0 * (share / f64::from(draws)).sqrt() + 1e-9, "{set:?} {share} {found}");
        }
    }
}
