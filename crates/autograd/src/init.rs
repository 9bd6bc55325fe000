//! How parameters begin.

use galatea_random::Philox;

/// The law that a parameter is drawn from before training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All zeros.
    Zeros,
    /// All ones.
    Ones,
    /// Normal with mean zero.
    Normal {
        /// Standard deviation.
        std: f32,
    },
    /// Uniform on (-bound, bound).
    Uniform {
        /// The bound.
        bound: f32,
    },
    /// Normal rows, each scaled to length one: embeddings whose signal-to-noise ratio does not grow with d.
    UnitRows,
}

/// The stream of parameter draws: `row` is the parameter's index in recording order.
const STREAM: u32 = 0x1417;

impl Init {
    /// Fills the parameter number `index` with rows of `cols` elements under `seed`.
    pub fn fill(self, seed: u64, index: u32, cols: usize, out: &mut [f32]) {
        let mut rng = Philox::new(seed, STREAM, 0, index);
        match self {
            Init::Zeros => out.fill(0.0),
            Init::Ones => out.fill(1.0),
            Init::Normal { std } => out.fill_with(|| (rng.normal() * f64::from(std)) as f32),
            Init::Uniform { bound } => out.fill_with(|| ((2.0 * rng.uniform() - 1.0) * f64::from(bound)) as f32),
            Init::UnitRows => {
                for row in out.chunks_mut(cols) {
                    row.fill_with(|| rng.normal() as f32);
                    let norm = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
                    row.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
                }
            }
        }
    }
}
