//! The works that are compared with other programs, each named by one line.

use crate::decode::Decoding;
use crate::seed::{LEN, Sampling, Training, cpu};
use crate::{Launch, normals};
use galatea_autograd::DType;
use galatea_kernels::cpu::Cores;
use galatea_kernels::gemm::int8::Quantised;
use galatea_kernels::gemm::{Factor, Layout, Precision, product};
use galatea_kernels::ops::linear_int8;
use galatea_kernels::pool::Pool;
use galatea_kernels::{Activation, Cost, Isa, Real};
use galatea_tensor::bf16;
use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// One work and its sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// The seed's training step.
    Step {
        /// Rows.
        batch: usize,
        /// Tokens of a row.
        len: usize,
        /// The arithmetic.
        dtype: DType,
    },
    /// Masked sampling with the seed's model.
    Sample {
        /// Texts.
        batch: usize,
        /// Tokens of a text.
        len: usize,
        /// Denoising steps.
        steps: usize,
        /// The arithmetic.
        dtype: DType,
    },
    /// Autoregressive decoding with the seed's model, one token a step, with a cache.
    Decode {
        /// Texts.
        batch: usize,
        /// Tokens of a text.
        len: usize,
        /// The arithmetic.
        dtype: DType,
    },
    /// C \[m, n\] = A \[m, k\] B \[k, n\].
    Gemm {
        /// Rows of C.
        m: usize,
        /// The extent that is summed over.
        k: usize,
        /// Columns of C.
        n: usize,
        /// The arithmetic.
        dtype: DType,
    },
}

/// A work that is set up; a call runs it once and says how long it took.
pub type Run = Box<dyn FnMut() -> Duration>;

/// A product is repeated until it takes this long, so that the clock's own grain does not count.
const GEMM_TIME: Duration = Duration::from_millis(20);

impl Work {
    /// The type it computes in.
    pub fn dtype(self) -> DType {
        match self {
            Work::Step { dtype, .. }
            | Work::Sample { dtype, .. }
            | Work::Decode { dtype, .. }
            | Work::Gemm { dtype, .. } => dtype,
        }
    }

    /// Its name in tables and baselines.
    pub fn name(self) -> String {
        let dtype = self.dtype().name();
        match self {
            Work::Step { batch, len, .. } => format!("step/{batch}x{len}/{dtype}"),
            Work::Sample { batch, len, steps, .. } => format!("sample/{batch}x{len}x{steps}/{dtype}"),
            Work::Decode { batch, len, .. } => format!("decode/{batch}x{len}/{dtype}"),
            Work::Gemm { m, k, n, .. } => format!("gemm/{m}x{k}x{n}/{dtype}"),
        }
    }

    /// What it must compute and move.
    ///
    /// # Errors
    /// If the type is not computed in.
    pub fn launches(self) -> Result<Vec<Launch>, String> {
        match self {
            Work::Step { batch, len, dtype } => Training::launches(batch, len, dtype),
            Work::Sample { batch, len, steps, dtype } => Sampling::launches([batch, len, steps], dtype),
            Work::Decode { batch, len, dtype } => Decoding::launches([batch, len], dtype),
            Work::Gemm { m, k, n, dtype } => {
                let bytes = (dtype.size() * (m * k + k * n) + 4 * m * n) as u64;
                let flops = 2 * (m * k * n) as u64;
                Ok(vec![Launch { cost: Cost { flops, bytes }, footprint: bytes, dtype }])
            }
        }
    }

    /// Allocates what it needs and fills it.
    ///
    /// # Errors
    /// If the type is not computed in, or the sizes fit no model.
    pub fn set_up(self, threads: usize) -> Result<Run, String> {
        match self {
            Work::Step { batch, len, dtype } => {
                let mut training = Training::new(batch, len, dtype, cpu(threads))?;
                Ok(timed(move || training.run()))
            }
            Work::Sample { batch, len, steps, dtype } => {
                let mut sampling = Sampling::new([batch, len, steps], dtype, cpu(threads), None)?;
                Ok(timed(move || {
                    std::hint::black_box(sampling.run());
                }))
            }
            Work::Decode { batch, len, dtype } => {
                let mut decoding = Decoding::new([batch, len], dtype, threads)?;
                Ok(timed(move || {
                    std::hint::black_box(decoding.run(len));
                }))
            }
            Work::Gemm { m, k, n, dtype } => Ok(gemm(m, k, n, dtype, threads)),
        }
    }
}

fn timed(mut run: impl FnMut() + 'static) -> Run {
    Box::new(move || {
        let begin = Instant::now();
        run();
        begin.elapsed()
    })
}

/// As many products x w^T as take [`GEMM_TIME`]; the mean of one.
fn gemm(m: usize, k: usize, n: usize, dtype: DType, threads: usize) -> Run {
    let (x, w) = (normals(m * k, 1), normals(n * k, 2));
    let cores = Cores { pool: Pool::new(threads), isa: Isa::detect() };
    if dtype == DType::Bf16 {
        let half = |x: Vec<f32>| x.into_iter().map(bf16::store).collect::<Vec<_>>();
        let (x, w, mut y) = (half(x), half(w), vec![bf16::ZERO; m * n]);
        return repeated(move || {
            let (x, w) = (Factor::new(&x[..], k, Layout::Normal), Factor::new(&w[..], k, Layout::Transposed));
            product(&cores, Precision::Bf16, (m, n, k), x, w, &mut y[..]);
        });
    }
    if dtype == DType::I8 {
        // As a layer does it: x is quantised every time, w once.
        let (mut q, mut scales) = (vec![0i8; n * k], vec![0.0; n]);
        linear_int8::quantise_weights(k, &w, &mut q, &mut scales);
        let (mut values, mut rows, mut y) = (vec![0i8; m * k], vec![0.0; 2 * m], vec![bf16::ZERO; m * n]);
        return repeated(move || {
            linear_int8::quantise(&cores, k, &x, &mut values, &mut rows);
            let x = Quantised { values: &values, rows: &rows };
            linear_int8::forward(&cores, Activation::None, k, x, &q, &scales, None, (&mut y[..]).into());
        });
    }
    let mut y = vec![0.0; m * n];
    repeated(move || {
        let (x, w) = (Factor::new(&x[..], k, Layout::Normal), Factor::new(&w[..], k, Layout::Transposed));
        product(&cores, Precision::F32, (m, n, k), x, w, &mut y[..]);
    })
}

fn repeated(mut once: impl FnMut() + 'static) -> Run {
    let mut run = move |count: u32| {
        let begin = Instant::now();
        (0..count).for_each(|_| once());
        begin.elapsed()
    };
    run(2);
    let count = (GEMM_TIME.as_secs_f64() / run(1).as_secs_f64()).ceil().max(1.0) as u32;
    Box::new(move || run(count) / count)
}

/// A type of arithmetic by its name.
///
/// # Errors
/// If it is another.
pub fn dtype(name: &str) -> Result<DType, String> {
    match name {
        "f32" => Ok(DType::F32),
        "bf16" => Ok(DType::Bf16),
        "int8" => Ok(DType::I8),
        other => Err(format!("a dtype is f32, bf16 or int8, found `{other}`")),
    }
}

impl FromStr for Work {
    type Err = String;

    /// `step batch=2 dtype=f32`, `sample len=128 steps=32 dtype=f32`, `decode len=128 dtype=f32`, `gemm m=256 k=768 n=768 dtype=f32`.
    fn from_str(line: &str) -> Result<Self, String> {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default();
        let pair = |word: &'_ str| -> Result<(String, String), String> {
            let (key, value) = word.split_once('=').ok_or_else(|| format!("expected key=value, found `{word}`"))?;
            Ok((key.to_owned(), value.to_owned()))
        };
        let values = words.map(pair).collect::<Result<BTreeMap<_, _>, _>>()?;
        let number = |key: &str, default: Option<usize>| match values.get(key) {
            Some(value) => match value.parse() {
                Ok(number) if number > 0 => Ok(number),
                _ => Err(format!("`{key}` wants a number of at least 1, found `{value}`")),
            },
            None => default.ok_or_else(|| format!("`{name}` wants {key}=N")),
        };
        let dtype = values.get("dtype").map_or(Ok(DType::F32), |name| dtype(name))?;
        match name {
            "step" => Ok(Work::Step { batch: number("batch", None)?, len: number("len", Some(LEN))?, dtype }),
            "sample" => {
                let (batch, len) = (number("batch", Some(1))?, number("len", Some(LEN))?);
                Ok(Work::Sample { batch, len, steps: number("steps", None)?, dtype })
            }
            "decode" => Ok(Work::Decode { batch: number("batch", Some(1))?, len: number("len", Some(LEN))?, dtype }),
            "gemm" => Ok(Work::Gemm { m: number("m", None)?, k: number("k", None)?, n: number("n", None)?, dtype }),
            other => Err(format!("there is no work `{other}`, only step, sample, decode and gemm")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_a_work() {
        let step = Work::Step { batch: 2, len: 128, dtype: DType::Bf16 };
        assert_eq!("step batch=2 dtype=bf16".parse(), Ok(step));
        let sample = Work::Sample { batch: 1, len: 64, steps: 32, dtype: DType::F32 };
        assert_eq!("sample len=64 steps=32".parse(), Ok(sample));
        let decode = Work::Decode { batch: 16, len: 64, dtype: DType::F32 };
        assert_eq!("decode batch=16 len=64".parse(), Ok(decode));
        let gemm = Work::Gemm { m: 2, k: 3, n: 4, dtype: DType::F32 };
        assert_eq!("gemm m=2 k=3 n=4 dtype=f32".parse(), Ok(gemm));
        assert_eq!(gemm.name(), "gemm/2x3x4/f32");
    }

    #[test]
    fn a_line_that_names_none_says_what_it_lacks() {
        for (line, part) in [
            ("step", "batch=N"),
            ("step batch=0", "at least 1"),
            ("step batch=2 dtype=f64", "f32, bf16 or int8"),
            ("sleep", "no work `sleep`"),
            ("gemm m=1 k=1 n", "key=value"),
        ] {
            let error = line.parse::<Work>().expect_err(line);
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn a_product_is_timed_and_counted() {
        let gemm = Work::Gemm { m: 8, k: 16, n: 24, dtype: DType::F32 };
        assert!(gemm.set_up(1).expect("f32")() < GEMM_TIME);
        assert_eq!(gemm.launches().expect("f32")[0].cost.flops, 2 * 8 * 16 * 24);
    }
}
