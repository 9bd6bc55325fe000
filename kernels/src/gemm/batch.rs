//! Products of one shape as one list of tasks: many small matrices fill all threads without a fork and a join for each.

use super::{ElementsMut, Epilogue, Factor, Precision, Right, Sink, Unit, run_into};
use crate::cpu::Cores;

/// Products of one shape whose results lie one after another: C is [count, m, n].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// How many.
    pub count: usize,
    /// Elements from one A to the next: 0 for one that all share.
    pub a: usize,
    /// Elements from one B to the next.
    pub b: usize,
    /// Whether every C is its own transpose (A = B^T, say, and an epilogue that keeps it so). What lies below the diagonal is
    /// copied from above, not computed: half of the work, the same bits.
    pub symmetric: bool,
}

impl Batch {
    /// One product.
    pub(super) const ONE: Self = Self { count: 1, a: 0, b: 0, symmetric: false };

    /// A of the product number `z`.
    pub(super) fn a<'a>(&self, a: Factor<'a>, z: usize) -> Factor<'a> {
        a.after(z * self.a)
    }

    /// B of the product number `z`.
    pub(super) fn b<'a>(&self, b: Right<'a>, z: usize) -> Right<'a> {
        match b {
            Right::Plain(b) => Right::Plain(b.after(z * self.b)),
            Right::Packed(_) => b,
        }
    }

    /// For a B whose last columns begin `apart` elements after its first.
    ///
    /// # Panics
    /// If a factor is too short for the last product, or no product can be symmetric.
    pub(super) fn check(&self, (m, n, k): (usize, usize, usize), a: Factor<'_>, b: Right<'_>, apart: usize) {
        assert!(self.count > 0, "a batch of at least one product");
        assert!(!self.symmetric || m == n, "a symmetric product of {m} x {n}");
        let last = self.count - 1;
        self.a(a, last).check(m, k);
        self.b(b, last).check(n, k, apart);
    }
}

/// C [count, m, n] = op(A) op(B) for every product of the batch, with what `epilogue` says: its bias is shared, everything else
/// of C's shape.
///
/// # Panics
/// As [`super::gemm`]; if a symmetric product has a bias or keeps u.
#[expect(clippy::too_many_arguments, reason = "a product and how many of them")]
pub fn gemm_batch(
    cores: &Cores,
    precision: Precision,
    batch: Batch,
    (m, n, k): (usize, usize, usize),
    a: Factor<'_>,
    b: Factor<'_>,
    c: ElementsMut<'_>,
    epilogue: Epilogue<'_>,
) {
    assert_ne!(precision, Precision::Int8, "sums of int8 need their scales: `gemm::int8::linear`");
    let unit = Unit::choose(cores.isa, precision);
    run_batch(cores, unit, batch, (m, n, k), a, b, c, epilogue);
}

#[expect(clippy::too_many_arguments, reason = "as its caller")]
pub(super) fn run_batch(
    cores: &Cores,
    unit: Unit,
    batch: Batch,
    (m, n, k): (usize, usize, usize),
    a: Factor<'_>,
    b: Factor<'_>,
    c: ElementsMut<'_>,
    epilogue: Epilogue<'_>,
) {
    let mut finish = epilogue.into_sink(batch.count * m, n, c);
    if batch.symmetric {
        assert!(finish.bias.is_none() && finish.u.is_none(), "a symmetric product has no bias and keeps no u");
        assert!(!finish.gated(), "a symmetric product has no gate");
        finish.mirror = Some(unit.tile().1);
    }
    run_into(cores, unit, batch, (m, n, k), a, Right::Plain(b), &finish);
}
