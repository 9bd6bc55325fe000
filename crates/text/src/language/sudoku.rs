use galatea_random::Philox;
use ndarray::ArrayRef2;

use super::exact::{check_evidence, log_sum_exp};
use super::{Error, ExactModel};

const CELLS: usize = 16;
const DIGITS: usize = 4;

/// The 288 solved 4 x 4 sudokus, all equally likely: 16 cells in reading order, digits 0 to 3.
///
/// Every row, column and 2 x 2 box holds each digit once. The entropy is ln 288 = 5.663 nats.
#[derive(Debug, Clone)]
pub struct Sudoku4 {
    grids: Vec<[u32; CELLS]>,
}

impl Sudoku4 {
    /// Enumerates the grids by backtracking.
    pub fn new() -> Self {
        let mut grids = Vec::new();
        fill(&mut [0; CELLS], 0, &mut grids);
        Self { grids }
    }

    /// The solved grids in lexicographic order.
    pub fn grids(&self) -> &[[u32; CELLS]] {
        &self.grids
    }
}

impl Default for Sudoku4 {
    fn default() -> Self {
        Self::new()
    }
}

fn fill(grid: &mut [u32; CELLS], cell: usize, grids: &mut Vec<[u32; CELLS]>) {
    if cell == CELLS {
        return grids.push(*grid);
    }
    for digit in 0..DIGITS as u32 {
        if (0..cell).all(|other| grid[other] != digit || !see_each_other(cell, other)) {
            grid[cell] = digit;
            fill(grid, cell + 1, grids);
        }
    }
}

/// Whether two cells share a row, a column or a box.
fn see_each_other(a: usize, b: usize) -> bool {
    let ([row_a, col_a], [row_b, col_b]) = ([a / 4, a % 4], [b / 4, b % 4]);
    row_a == row_b || col_a == col_b || (row_a / 2 == row_b / 2 && col_a / 2 == col_b / 2)
}

impl ExactModel for Sudoku4 {
    fn vocab(&self) -> usize {
        DIGITS
    }

    fn len(&self) -> usize {
        CELLS
    }

    fn log_prob(&self, x: &[u32]) -> f64 {
        if self.grids.iter().any(|grid| grid == x) { -self.entropy() } else { f64::NEG_INFINITY }
    }

    fn posterior_log(&self, log_evidence: &ArrayRef2<f64>, marginals: &mut ArrayRef2<f64>) -> Result<f64, Error> {
        check_evidence([CELLS, DIGITS], log_evidence, marginals)?;
        let log_q = |grid: &[u32; CELLS]| (0..CELLS).map(|i| log_evidence[[i, grid[i] as usize]]).sum::<f64>();
        let log_weights: Vec<f64> = self.grids.iter().map(log_q).collect();
        let log_sum = log_sum_exp(&log_weights);
        if log_sum == f64::NEG_INFINITY {
            return Err(Error::Impossible);
        }
        marginals.fill(0.0);
        for (grid, log_weight) in self.grids.iter().zip(&log_weights) {
            let p = (log_weight - log_sum).exp();
            for (i, &digit) in grid.iter().enumerate() {
                marginals[[i, digit as usize]] += p;
            }
        }
        Ok(log_sum - self.entropy())
    }

    fn entropy(&self) -> f64 {
        (self.grids.len() as f64).ln()
    }

    fn sample(&self, rng: &mut Philox) -> Vec<u32> {
        self.grids[rng.below(self.grids.len())].to_vec()
    }
}
