//! Noise that keeps to the neighbourhood: nearest-neighbour rates of an embedding table.

use crate::Error;
use ndarray::{Array2, ArrayRef2};

/// How often Sinkhorn's scaling is repeated before it is called converged or not.
const ROUNDS: usize = 10_000;
/// How far from 1 a row or column of a doubly stochastic matrix may sum.
const SLACK: f64 = 1e-12;

/// The rates of D3PM's nearest-neighbour noise: a doubly stochastic matrix on the symmetrised graph of the `k` nearest
/// embeddings, minus the identity. [`Dense::exponential`](crate::Dense::exponential) makes a chain of it.
///
/// An edge joins two ids if either is among the k nearest of the other; the graph's 0/1 matrix, with loops, is scaled by Sinkhorn
/// to rows and columns that sum to 1, so that the chain's limit is uniform on every connected part.
///
/// # Shapes
/// `embeddings` \[vocab, d\]; rates \[vocab, vocab\], rows summing to 0.
///
/// # Errors
/// [`Error::Vocabulary`] below two ids, [`Error::Parameter`] unless 1 <= k < vocab, or for an embedding that is not finite.
///
/// # Source
/// Austin et al. (2021), D3PM, the embedding-distance noise of its appendix.
pub fn nearest_neighbour_rates(embeddings: &ArrayRef2<f64>, k: usize) -> Result<Array2<f64>, Error> {
    // Loops give the pattern a positive diagonal, which is what makes Sinkhorn converge on it.
    let mut rates = doubly_stochastic(neighbours(embeddings, k)? + Array2::<f64>::eye(embeddings.nrows()))?;
    // The diagonal exactly: a rate matrix loses nothing.
    for i in 0..rates.nrows() {
        rates[[i, i]] = 0.0;
        rates[[i, i]] = -rates.row(i).sum();
    }
    Ok(rates)
}

/// The rates of a walk on the same graph, without the scaling: the symmetrised adjacency over 2 `k`, minus its degree. It is
/// symmetric, so its limit is uniform too, but ids with many neighbours move faster.
///
/// # Shapes and errors
/// As [`nearest_neighbour_rates`].
pub fn neighbour_walk_rates(embeddings: &ArrayRef2<f64>, k: usize) -> Result<Array2<f64>, Error> {
    // Half the sum of the directed graph and its transpose counts an edge found from both sides twice.
    let directed = directed(embeddings, k)?;
    let mut rates = (&directed + &directed.t()) / (2.0 * k as f64);
    for i in 0..rates.nrows() {
        rates[[i, i]] = -rates.row(i).sum();
    }
    Ok(rates)
}

/// 1 where the column's embedding is among the `k` nearest of the row's, itself not counted; of equal distances the smaller id.
fn directed(embeddings: &ArrayRef2<f64>, k: usize) -> Result<Array2<f64>, Error> {
    let vocab = embeddings.nrows();
    if vocab < 2 {
        return Err(Error::Vocabulary { expected: 2, found: vocab });
    }
    if k == 0 || k >= vocab {
        let expected = "at least 1 and less than the vocabulary";
        return Err(Error::Parameter { parameter: "the number of neighbours", expected, found: k as f64 });
    }
    if let Some(&found) = embeddings.iter().find(|x| !x.is_finite()) {
        return Err(Error::Parameter { parameter: "every embedding", expected: "finite", found });
    }
    let mut graph = Array2::zeros((vocab, vocab));
    for i in 0..vocab {
        let distance =
            |j: usize| -> f64 { embeddings.row(i).iter().zip(embeddings.row(j)).map(|(a, b)| (a - b) * (a - b)).sum() };
        let mut others: Vec<(f64, usize)> = (0..vocab).filter(|&j| j != i).map(|j| (distance(j), j)).collect();
        others.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        for &(_, j) in &others[..k] {
            graph[[i, j]] = 1.0;
        }
    }
    Ok(graph)
}

fn neighbours(embeddings: &ArrayRef2<f64>, k: usize) -> Result<Array2<f64>, Error> {
    let directed = directed(embeddings, k)?;
    Ok(Array2::from_shape_fn(directed.dim(), |(i, j)| directed[[i, j]].max(directed[[j, i]])))
}

/// Scales a symmetric matrix of non-negative numbers to D M D with rows and columns that sum to 1 (Sinkhorn).
///
/// # Errors
/// [`Error::Stochastic`] (with step 0) where the scaling does not converge: the pattern of zeros then allows no doubly
/// stochastic matrix.
///
/// # Source
/// Sinkhorn, Knopp (1967), "Concerning nonnegative matrices and doubly stochastic matrices"; Knight (2008) for the symmetric step.
pub fn doubly_stochastic(m: Array2<f64>) -> Result<Array2<f64>, Error> {
    let n = m.nrows();
    let mut d = vec![1.0f64; n];
    let row_sum = |d: &[f64], i: usize| -> f64 { m.row(i).iter().zip(d).map(|(m, d)| m * d).sum() };
    let mut worst = (0, f64::INFINITY);
    for _ in 0..ROUNDS {
        // The square root of the plain step keeps the two sides equal and does not oscillate.
        let next: Vec<f64> = (0..n).map(|i| (d[i] / row_sum(&d, i)).sqrt()).collect();
        d = next;
        worst = (0..n).map(|i| (i, d[i] * row_sum(&d, i))).fold((0, 1.0), |worst, (i, sum)| {
            if (sum - 1.0f64).abs() > (worst.1 - 1.0f64).abs() || sum.is_nan() { (i, sum) } else { worst }
        });
        if (worst.1 - 1.0).abs() <= SLACK {
            return Ok(Array2::from_shape_fn((n, n), |(i, j)| d[i] * m[[i, j]] * d[j]));
        }
    }
    Err(Error::Stochastic { step: 0, row: worst.0, sum: worst.1 })
}
