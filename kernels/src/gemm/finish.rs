//! What happens to a finished tile of C while it is in cache: bias, activation, residual, and the store.

use crate::isa::{Isa, multiversion};
use crate::op::Activation;
use crate::ops::activation::apply;
use crate::pool::Pieces;
use crate::real::Real;

use super::{Elements, ElementsMut};

/// Columns of the widest tile.
const WIDEST: usize = super::vector::COLS;

/// What a product does besides C = A B, in this order: u = scale A B + bias, kept where asked; y = act(u) + weight residual;
/// C = y, or C = C + y.
pub struct Epilogue<'a> {
    /// Multiplies the product.
    pub scale: f32,
    /// Added to every row of C.
    pub bias: Option<&'a [f32]>,
    /// Applied to every element.
    pub activation: Activation,
    /// Receives what the activation is applied to; of C's shape and type.
    pub u: Option<ElementsMut<'a>>,
    /// Added to the result, times the weight; of C's shape.
    pub residual: Option<(f32, Elements<'a>)>,
    /// Whether the result is added to what C holds.
    pub accumulate: bool,
}

impl Default for Epilogue<'_> {
    /// C = A B.
    fn default() -> Self {
        Self { scale: 1.0, bias: None, activation: Activation::None, u: None, residual: None, accumulate: false }
    }
}

impl<'a> Epilogue<'a> {
    /// The sink of an m x n product into `c`.
    ///
    /// # Panics
    /// If C or a part of the epilogue has another size.
    pub(super) fn into_sink(self, m: usize, n: usize, c: ElementsMut<'a>) -> Finish<'a> {
        let whole =
            |what: &str, len: usize, expected: usize| assert_eq!(len, expected, "{what} of a {m} x {n} product");
        whole("C", c.len(), m * n);
        self.bias.iter().for_each(|bias| whole("the bias", bias.len(), n));
        self.u.iter().for_each(|u| whole("u", u.len(), m * n));
        self.residual.iter().for_each(|(_, x)| whole("the residual", x.len(), m * n));
        let Epilogue { scale, bias, activation, u, residual, accumulate } = self;
        Finish { scale, bias, activation, u: u.map(Output::new), residual, accumulate, c: Output::new(c), n }
    }
}

/// The epilogue with its outputs shared out among tasks.
pub(super) struct Finish<'a> {
    pub(super) scale: f32,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) activation: Activation,
    pub(super) u: Option<Output<'a>>,
    pub(super) residual: Option<(f32, Elements<'a>)>,
    pub(super) accumulate: bool,
    pub(super) c: Output<'a>,
    /// Columns of C.
    pub(super) n: usize,
}

/// A matrix that tasks write disjoint pieces of.
pub(super) enum Output<'a> {
    F32(Pieces<'a, f32>),
    Bf16(Pieces<'a, galatea_tensor::bf16>),
}

impl<'a> Output<'a> {
    pub(super) fn new(data: ElementsMut<'a>) -> Self {
        match data {
            ElementsMut::F32(x) => Output::F32(Pieces::new(x)),
            ElementsMut::Bf16(x) => Output::Bf16(Pieces::new(x)),
        }
    }

    /// Writes (or, if `accumulate`, adds) one row piece from element `at` on.
    fn put(&self, isa: Isa, at: usize, row: &[f32], accumulate: bool) {
        match self {
            // SAFETY: the piece lies in the tile of C that the calling task owns alone (`gemm`).
            Output::F32(c) => store(isa, row, accumulate, unsafe { c.piece(at, at + row.len()) }),
            // SAFETY: as above.
            Output::Bf16(c) => store(isa, row, accumulate, unsafe { c.piece(at, at + row.len()) }),
        }
    }
}

/// What takes the finished tiles of a product.
pub(crate) trait Sink: Sync {
    /// Takes the tile of `rows` rows at (i, j): `tile` holds rows of `width` f32, the first `cols` of which count.
    fn tile(&self, isa: Isa, at: (usize, usize), rows: usize, cols: usize, tile: &mut [f32], width: usize);
}

impl Sink for Finish<'_> {
    fn tile(&self, isa: Isa, (i, j): (usize, usize), rows: usize, cols: usize, tile: &mut [f32], width: usize) {
        for (r, row) in tile.chunks_exact_mut(width).enumerate().take(rows) {
            let (row, at) = (&mut row[..cols], (i + r) * self.n + j);
            if self.scale != 1.0 {
                row.iter_mut().for_each(|x| *x *= self.scale);
            }
            if let Some(bias) = self.bias {
                add(isa, 1.0, &bias[j..j + cols], row);
            }
            if let Some(u) = &self.u {
                u.put(isa, at, row, false);
            }
            if self.activation != Activation::None {
                let before = &mut [0.0; WIDEST][..cols];
                before.copy_from_slice(row);
                apply(isa, self.activation, before, row);
            }
            match self.residual {
                None => {}
                Some((weight, Elements::F32(x))) => add(isa, weight, &x[at..at + cols], row),
                Some((weight, Elements::Bf16(x))) => add(isa, weight, &x[at..at + cols], row),
                Some((_, Elements::I8(_))) => unreachable!("a residual is an activation, f32 or bf16"),
            }
            self.c.put(isa, at, row, self.accumulate);
        }
    }
}

multiversion! {
    fn add<X: Real>(weight: f32, x: &[X], row: &mut [f32]) {
        row.iter_mut().zip(x).for_each(|(y, x)| *y += weight * x.load());
    }
}

multiversion! {
    fn store<X: Real>(row: &[f32], accumulate: bool, to: &mut [X]) {
        if accumulate {
            to.iter_mut().zip(row).for_each(|(to, x)| *to = X::store(to.load() + x));
        } else {
            to.iter_mut().zip(row).for_each(|(to, x)| *to = X::store(*x));
        }
    }
}
