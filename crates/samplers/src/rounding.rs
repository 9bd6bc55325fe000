//! From embeddings back to tokens.

use crate::Error;
use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayRef2, Axis};

/// How many rows are scored at a time: enough for the matrix product, few enough for the scores to stay in the cache.
const ROWS: usize = 32;

/// Rounding as argmax_v of e_v · z + offset_v: the nearest embedding, or the largest logit of a tied head.
///
/// ```
/// use galatea_samplers::Rounding;
/// use ndarray::array;
/// let table = array![[0.0, 0.0], [3.0, 0.0], [0.0, 2.0]];
/// let nearest = Rounding::nearest(&table)?;
/// assert_eq!(nearest.round(&array![[1.0, 0.9], [2.0, 1.5]]), Some(vec![0, 1]));
/// # Ok::<(), galatea_samplers::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Rounding {
    table: Array2<f32>,
    offsets: Array1<f32>,
}

impl Rounding {
    /// The nearest embedding in L2 distance: offset_v = -|e_v|² / 2.
    ///
    /// # Shapes
    /// `table` \[vocab, d\].
    ///
    /// # Errors
    /// [`Error::Shape`] for an empty table, [`Error::Parameter`] for a number in it that is not finite.
    ///
    /// # Source
    /// Li et al. (2022), "Diffusion-LM improves controllable text generation", section 4.2 (the clamping trick).
    pub fn nearest(table: &ArrayRef2<f32>) -> Result<Self, Error> {
        let half = |row: ndarray::ArrayView1<f32>| row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / 2.0;
        let offsets = table.rows().into_iter().map(|row| -half(row) as f32).collect();
        Self::checked(table.to_owned(), offsets)
    }

    /// The largest logit of an output head whose weight is the embedding table: offset_v = `bias`_v.
    ///
    /// # Shapes
    /// `table` \[vocab, d\], `bias` \[vocab\].
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::Parameter`], as in [`nearest`](Self::nearest).
    pub fn head(table: &ArrayRef2<f32>, bias: &[f32]) -> Result<Self, Error> {
        Self::checked(table.to_owned(), Array1::from(bias.to_vec()))
    }

    fn checked(table: Array2<f32>, offsets: Array1<f32>) -> Result<Self, Error> {
        let (vocab, d) = table.dim();
        if vocab == 0 || d == 0 {
            return Err(Error::Shape { array: "table", expected: vec![vocab.max(1), d.max(1)], found: vec![vocab, d] });
        }
        if offsets.len() != vocab {
            return Err(Error::Shape { array: "bias", expected: vec![vocab], found: vec![offsets.len()] });
        }
        if let Some(&found) = table.iter().chain(&offsets).find(|x| !x.is_finite()) {
            let (parameter, expected) = ("an embedding or a bias", "finite");
            return Err(Error::Parameter { parameter, expected, found: f64::from(found) });
        }
        Ok(Self { table, offsets })
    }

    /// The same rounding that never gives one of `tokens`, all of which are in the vocabulary.
    pub(crate) fn without(mut self, tokens: &[u32]) -> Self {
        tokens.iter().for_each(|&token| self.offsets[token as usize] = f32::NEG_INFINITY);
        self
    }

    /// The size of the vocabulary.
    pub fn vocab(&self) -> usize {
        self.table.nrows()
    }

    /// The width of an embedding.
    pub fn d(&self) -> usize {
        self.table.ncols()
    }

    /// The embeddings, \[vocab, d\].
    pub fn table(&self) -> &Array2<f32> {
        &self.table
    }

    /// The token of every row, the first of equals; `None` if a row of `z` is not finite.
    ///
    /// # Shapes
    /// `z` \[rows, d\].
    ///
    /// # Panics
    /// If the rows are not d wide.
    pub fn round(&self, z: &ArrayRef2<f32>) -> Option<Vec<u32>> {
        let mut ids = Array2::zeros((1, z.nrows()));
        let read = self.round_into(z, &mut Scores::new(z.nrows(), self.vocab()), &mut ids);
        read.then(|| ids.into_raw_vec_and_offset().0)
    }

    /// [`round`](Self::round) without an allocation; false where that gives `None`.
    pub(crate) fn round_into(&self, z: &ArrayRef2<f32>, scores: &mut Scores, ids: &mut Array2<u32>) -> bool {
        let mut ids = ids.iter_mut();
        for chunk in z.axis_chunks_iter(Axis(0), ROWS) {
            let mut scores = scores.0.slice_axis_mut(Axis(0), (..chunk.nrows()).into());
            scores.assign(&self.offsets);
            general_mat_mul(1.0, &chunk, &self.table.t(), 1.0, &mut scores);
            for row in scores.rows() {
                let mut best = (f32::NEG_INFINITY, None);
                for (token, &score) in row.iter().enumerate() {
                    if score > best.0 {
                        best = (score, Some(token as u32));
                    } else if score.is_nan() {
                        return false;
                    }
                }
                let (Some(id), Some(token)) = (ids.next(), best.1.filter(|_| best.0.is_finite())) else { return false };
                *id = token;
            }
        }
        true
    }
}

/// Where the scores of a few rows stand while they are compared.
pub(crate) struct Scores(Array2<f32>);

impl Scores {
    pub(crate) fn new(rows: usize, vocab: usize) -> Self {
        Self(Array2::zeros((ROWS.min(rows), vocab)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nearest_is_nearest(
            table in proptest::collection::vec(-9i8..9, 3 * 11), z in proptest::collection::vec(-9i8..9, 3 * 70),
        ) {
            let float = |v: Vec<i8>| Array2::from_shape_vec((v.len() / 3, 3), v.into_iter().map(f32::from).collect()).expect("sizes");
            let (table, z) = (float(table), float(z));
            let ids = Rounding::nearest(&table).expect("finite").round(&z).expect("finite");
            let distance = |l: usize, v: usize| (&z.row(l) - &table.row(v)).mapv(|x| x * x).sum();
            for (l, &id) in ids.iter().enumerate() {
                prop_assert!((0..11).all(|v| distance(l, id as usize) <= distance(l, v)));
            }
        }
    }

    #[test]
    fn forbidden_tokens_are_never_rounded_to() {
        let table = array![[0.0, 1.0], [1.0, 0.0]];
        let rounding = Rounding::nearest(&table).expect("finite").without(&[1]);
        assert_eq!(rounding.round(&array![[1.0, 0.0]]), Some(vec![0]));
    }

    #[test]
    fn what_is_not_finite_is_refused() {
        let table = array![[0.0, 1.0], [1.0, 0.0]];
        let rounding = Rounding::nearest(&table).expect("finite");
        assert_eq!(rounding.round(&array![[f32::NAN, 0.0]]), None);
        assert_eq!(rounding.round(&array![[f32::INFINITY, 0.0]]), None);
        assert!(matches!(Rounding::nearest(&array![[f32::NAN]]), Err(Error::Parameter { .. })));
        assert!(matches!(Rounding::nearest(&Array2::zeros((0, 2))), Err(Error::Shape { .. })));
        assert!(matches!(Rounding::head(&table, &[0.0]), Err(Error::Shape { .. })));
    }
}
