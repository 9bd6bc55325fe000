//! What happens to a finished tile of C while it is in cache: bias, activation, residual, and the store.
//!
//! Rows of C that the tile below will write (and read of a residual) are asked for meanwhile: a store that waits for its line
//! holds up the sums after it.

use super::vector::{COLS, ROWS};
use super::{Elements, ElementsMut, prefetch};
use crate::isa::{Isa, multiversion};
use crate::op::Activation;
use crate::ops::activation::apply;
use crate::pool::{Pieces, Tile};
use crate::real::Real;
use std::ops::Range;

/// Bytes of a cache line.
const LINE: usize = 64;

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

    /// Writes (or, if `accumulate`, adds) rows of `width` from row `first` of C's `n` columns on, in `columns`.
    ///
    /// # Safety
    /// The calling task owns this rectangle of C alone.
    unsafe fn put(
        &self,
        isa: Isa,
        (n, first): (usize, usize),
        columns: Range<usize>,
        tile: Rows<'_>,
        accumulate: bool,
    ) {
        let rows = tile.data.len() / tile.width;
        match self {
            // SAFETY: the caller's.
            Output::F32(c) => store(isa, &mut unsafe { Tile::new(c, n, first, rows, columns) }, tile, accumulate),
            // SAFETY: the caller's.
            Output::Bf16(c) => store(isa, &mut unsafe { Tile::new(c, n, first, rows, columns) }, tile, accumulate),
        }
    }

    /// Writes (or adds) a tile's columns as rows.
    ///
    /// # Safety
    /// As [`Output::put`]: of the rectangle that the turned tile covers.
    unsafe fn put_turned(
        &self,
        (n, first): (usize, usize),
        columns: Range<usize>,
        rows: usize,
        tile: Rows<'_>,
        accumulate: bool,
    ) {
        match self {
            // SAFETY: the caller's.
            Output::F32(c) => store_turned(&mut unsafe { Tile::new(c, n, first, rows, columns) }, tile, accumulate),
            // SAFETY: the caller's.
            Output::Bf16(c) => store_turned(&mut unsafe { Tile::new(c, n, first, rows, columns) }, tile, accumulate),
        }
    }

    /// Asks for the lines of `cols` elements from `at` on.
    fn ask(&self, at: usize, cols: usize) {
        match self {
            Output::F32(c) => ask(c.address(at), cols),
            Output::Bf16(c) => ask(c.address(at), cols),
        }
    }
}

/// Asks for the lines of `count` elements from an address on, which may be any.
fn ask<X>(first: *const X, count: usize) {
    (0..count).step_by(LINE / size_of::<X>()).for_each(|at| prefetch(first.wrapping_add(at).cast()));
    prefetch(first.wrapping_add(count - 1).cast());
}

/// Rows of a tile, `width` apart.
#[derive(Clone, Copy)]
struct Rows<'a> {
    data: &'a [f32],
    width: usize,
}

/// What takes the finished tiles of a product.
pub(crate) trait Sink: Sync {
    /// Takes the tile of `rows` rows at (i, j): `tile` holds rows of `width` f32, the first `cols` of which count.
    fn tile(&self, isa: Isa, at: (usize, usize), rows: usize, cols: usize, tile: &mut [f32], width: usize);
}

impl Finish<'_> {
    /// Asks for what the tile below that at (i, j) touches.
    fn ask_below(&self, (i, j): (usize, usize), rows: usize, cols: usize) {
        for at in (i + rows..i + 2 * rows).map(|row| row * self.n + j) {
            self.c.ask(at, cols);
            self.u.iter().for_each(|u| u.ask(at, cols));
            match self.residual {
                Some((_, Elements::F32(x))) => ask(x.as_ptr().wrapping_add(at), cols),
                Some((_, Elements::Bf16(x))) => ask(x.as_ptr().wrapping_add(at), cols),
                Some((_, Elements::I8(_))) | None => {}
            }
        }
    }
}

impl Sink for Finish<'_> {
    fn tile(&self, isa: Isa, (i, j): (usize, usize), rows: usize, cols: usize, tile: &mut [f32], width: usize) {
        self.ask_below((i, j), rows, cols);
        // Columns beyond the tile's are computed along and stored nowhere.
        let tile = &mut tile[..rows * width];
        if self.scale != 1.0 {
            scale(isa, self.scale, tile);
        }
        if let Some(bias) = self.bias {
            add(isa, 1.0, &bias[j..j + cols], 0, tile, width);
        }
        if let Some(u) = &self.u {
            // SAFETY: a tile is handed over once, by the task that owns it.
            unsafe { u.put(isa, (self.n, i), j..j + cols, Rows { data: tile, width }, false) };
        }
        if self.activation != Activation::None {
            for part in tile.chunks_mut(ROWS * COLS) {
                let before = &mut [0.0; ROWS * COLS][..part.len()];
                before.copy_from_slice(part);
                apply(isa, self.activation, before, part);
            }
        }
        let at = i * self.n + j;
        match self.residual {
            None => {}
            Some((weight, Elements::F32(x))) => add(isa, weight, &x[at..], self.n, tile, width),
            Some((weight, Elements::Bf16(x))) => add(isa, weight, &x[at..], self.n, tile, width),
            Some((_, Elements::I8(_))) => unreachable!("a residual is an activation, f32 or bf16"),
        }
        let tile = Rows { data: tile, width };
        // SAFETY: as for u.
        unsafe { self.c.put(isa, (self.n, i), j..j + cols, tile, self.accumulate) };
        let Some(side) = self.mirror else { return };
        let (before, i) = (i / self.n * self.n, i % self.n);
        if i / side < j / side {
            // SAFETY: below the diagonal, where no task computes (`Task::symmetric`), across it from this tile.
            unsafe { self.c.put_turned((self.n, before + j), i..i + rows, cols, tile, self.accumulate) };
        }
    }
}

/// `f` of every pair, with a row of the widest tile as a loop of known length: whole vectors, no call to copy them.
#[inline(always)]
pub(super) fn pairs<X, Y>(x: &mut [X], y: &[Y], f: impl Fn(&mut X, &Y)) {
    if x.len() == COLS
        && let (Some(x), Some(y)) = (x.first_chunk_mut::<COLS>(), y.first_chunk::<COLS>())
    {
        x.iter_mut().zip(y).for_each(|(x, y)| f(x, y));
    } else {
        x.iter_mut().zip(y).for_each(|(x, y)| f(x, y));
    }
}

multiversion! {
    fn scale(by: f32, tile: &mut [f32]) {
        tile.iter_mut().for_each(|x| *x *= by);
    }
}

multiversion! {
    /// Adds rows of x, `stride` apart, to those of a tile; the last may be shorter.
    fn add<X: Real>(weight: f32, x: &[X], stride: usize, tile: &mut [f32], width: usize) {
        for (r, row) in tile.chunks_exact_mut(width).enumerate() {
            pairs(row, &x[r * stride..], |y, x| *y += weight * x.load());
        }
    }
}

multiversion! {
    fn store<X: Real>(to: &mut Tile<'_, X>, tile: Rows<'_>, accumulate: bool) {
        for (r, row) in tile.data.chunks_exact(tile.width).enumerate() {
            if accumulate {
                pairs(to.row(r), row, |to, x| *to = X::store(to.load() + x));
            } else {
                pairs(to.row(r), row, |to, x| *to = X::store(*x));
            }
        }
    }
}

fn store_turned<X: Real>(to: &mut Tile<'_, X>, tile: Rows<'_>, accumulate: bool) {
    for c in 0..to.height() {
        for (to, row) in to.row(c).iter_mut().zip(tile.data.chunks_exact(tile.width)) {
            *to = X::store(if accumulate { to.load() + row[c] } else { row[c] });
        }
    }
}
