//! What happens to a finished tile of C while it is in cache: bias, activation, residual, and the store.
//!
//! Bias, residual and store go row by row through functions whose arguments cannot overlap, which the compiler turns into whole
//! vectors; what is elementwise goes over the tile at once, since a row of 48 is too short for a loop of four vectors.

use super::vector::{COLS, ROWS};
use super::{Elements, ElementsMut};
use crate::isa::{Isa, multiversion};
use crate::op::Activation;
use crate::ops::activation::apply;
use crate::ops::swiglu::gate;
use crate::pool::{Pieces, Tile};
use crate::real::Real;
use std::ops::Range;

/// What a product does besides C = A B, in this order: u = scale A B + bias, kept where asked; y = act(u) + weight residual;
/// C = y, or C = C + y. With [`Activation::SwiGlu`] u has two columns for each of C, so B, the bias and u are twice as wide.
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
        let halves = self.activation.halves();
        self.bias.iter().for_each(|bias| whole("the bias", bias.len(), halves * n));
        self.u.iter().for_each(|u| whole("u", u.len(), m * halves * n));
        self.residual.iter().for_each(|(_, x)| whole("the residual", x.len(), m * n));
        let Epilogue { scale, bias, activation, u, residual, accumulate } = self;
        let (u, c) = (u.map(Output::new), Output::new(c));
        Finish { scale, bias, activation, u, residual, accumulate, c, n, mirror: None }
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
    /// The side of the blocks of a symmetric C: a tile right of its rows' block is written below the diagonal too.
    pub(super) mirror: Option<usize>,
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
    ///
    /// # Safety
    /// The calling task owns these elements of C alone.
    unsafe fn put(&self, isa: Isa, at: usize, row: &[f32], accumulate: bool) {
        match self {
            // SAFETY: the caller's.
            Output::F32(c) => store(isa, row, accumulate, unsafe { c.piece(at, at + row.len()) }),
            // SAFETY: the caller's.
            Output::Bf16(c) => store(isa, row, accumulate, unsafe { c.piece(at, at + row.len()) }),
        }
    }

    /// Writes (or adds) a tile's columns as rows of the rectangle of C that the turned tile covers.
    ///
    /// # Safety
    /// The calling task owns that rectangle alone.
    unsafe fn put_turned(
        &self,
        (n, first): (usize, usize),
        columns: Range<usize>,
        rows: usize,
        tile: (&[f32], usize),
        accumulate: bool,
    ) {
        match self {
            // SAFETY: the caller's.
            Output::F32(c) => store_turned(&mut unsafe { Tile::new(c, n, first, rows, columns) }, tile, accumulate),
            // SAFETY: the caller's.
            Output::Bf16(c) => store_turned(&mut unsafe { Tile::new(c, n, first, rows, columns) }, tile, accumulate),
        }
    }
}

/// What takes the finished tiles of a product.
pub(crate) trait Sink: Sync {
    /// Takes the tile of `rows` rows at (i, j): `tile` holds rows of `width` f32, the first `cols` of which count.
    fn tile(&self, isa: Isa, at: (usize, usize), rows: usize, cols: usize, tile: &mut [f32], width: usize);

    /// Whether a column of C is made of two of the product, j and n + j, so that tiles come in pairs.
    fn gated(&self) -> bool {
        false
    }

    /// Takes the tiles of the columns from j on and from n + j on, for those of C from j on.
    fn pair(&self, _isa: Isa, _at: (usize, usize), _rows: usize, _cols: usize, _tiles: [&mut [f32]; 2], _width: usize) {
        unreachable!("only a gated product has pairs");
    }
}

impl Finish<'_> {
    /// Makes a tile of the product one of u, whose columns begin at `j`, and keeps it where asked.
    fn shift(&self, isa: Isa, (i, j): (usize, usize), cols: usize, tile: &mut [f32], width: usize) {
        if self.scale != 1.0 {
            scale(isa, self.scale, tile);
        }
        let n = self.activation.halves() * self.n;
        for (r, row) in tile.chunks_exact_mut(width).enumerate() {
            let row = &mut row[..cols];
            if let Some(bias) = self.bias {
                add(isa, 1.0, &bias[j..j + cols], row);
            }
            if let Some(u) = &self.u {
                // SAFETY: a tile is handed over once, by the task that owns it.
                unsafe { u.put(isa, (i + r) * n + j, row, false) };
            }
        }
    }

    /// Adds the residual to a tile of act(u) and stores it.
    fn end(&self, isa: Isa, (i, j): (usize, usize), cols: usize, tile: &mut [f32], width: usize) {
        let rows = tile.len() / width;
        for (r, row) in tile.chunks_exact_mut(width).enumerate() {
            let (row, at) = (&mut row[..cols], (i + r) * self.n + j);
            match self.residual {
                None => {}
                Some((weight, Elements::F32(x))) => add(isa, weight, &x[at..at + cols], row),
                Some((weight, Elements::Bf16(x))) => add(isa, weight, &x[at..at + cols], row),
                Some((_, Elements::I8(_))) => unreachable!("a residual is an activation, f32 or bf16"),
            }
            // SAFETY: as for u.
            unsafe { self.c.put(isa, at, row, self.accumulate) };
        }
        let Some(side) = self.mirror else { return };
        let (before, i) = (i / self.n * self.n, i % self.n);
        if i / side < j / side {
            // SAFETY: below the diagonal, where no task computes (`Task::symmetric`), across it from this tile.
            unsafe { self.c.put_turned((self.n, before + j), i..i + rows, cols, (tile, width), self.accumulate) };
        }
    }
}

// Columns beyond a tile's are computed along and stored nowhere.
impl Sink for Finish<'_> {
    fn tile(&self, isa: Isa, at: (usize, usize), rows: usize, cols: usize, tile: &mut [f32], width: usize) {
        let tile = &mut tile[..rows * width];
        self.shift(isa, at, cols, tile, width);
        if self.activation != Activation::None {
            for part in tile.chunks_mut(ROWS * COLS) {
                let before = &mut [0.0; ROWS * COLS][..part.len()];
                before.copy_from_slice(part);
                apply(isa, self.activation, before, part);
            }
        }
        self.end(isa, at, cols, tile, width);
    }

    fn gated(&self) -> bool {
        self.activation.halves() == 2
    }

    fn pair(&self, isa: Isa, (i, j): (usize, usize), rows: usize, cols: usize, tiles: [&mut [f32]; 2], width: usize) {
        let [a, b] = tiles.map(|tile| &mut tile[..rows * width]);
        self.shift(isa, (i, j), cols, a, width);
        self.shift(isa, (i, self.n + j), cols, b, width);
        gate(isa, a, b);
        self.end(isa, (i, j), cols, b, width);
    }
}

multiversion! {
    fn scale(by: f32, tile: &mut [f32]) {
        tile.iter_mut().for_each(|x| *x *= by);
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

fn store_turned<X: Real>(to: &mut Tile<'_, X>, (tile, width): (&[f32], usize), accumulate: bool) {
    for c in 0..to.height() {
        for (to, row) in to.row(c).iter_mut().zip(tile.chunks_exact(width)) {
            *to = X::store(if accumulate { to.load() + row[c] } else { row[c] });
        }
    }
}
