//! Outputs cut into pieces that tasks own: rows, results of a task, tiles.

use std::ops::Range;

/// What [`Pool::cut`] gives tasks pieces of.
pub trait Output: Sync {
    /// What a task gets.
    type Piece;

    /// Panics if this output has not `rows` rows in `tasks` tasks.
    fn check(&self, rows: usize, tasks: usize);

    /// The piece of a task, which owns the rows `from..to`.
    ///
    /// # Safety
    /// Every task is asked once, and rows of distinct tasks are disjoint.
    unsafe fn piece(&self, task: usize, from: usize, to: usize) -> Self::Piece;
}

/// An output of `width` elements a row.
pub struct ByRow<'a, T> {
    pieces: Pieces<'a, T>,
    width: usize,
}

impl<'a, T> ByRow<'a, T> {
    /// Rows of `width`.
    pub fn new(slice: &'a mut [T], width: usize) -> Self {
        Self { pieces: Pieces::new(slice), width }
    }
}

impl<'a, T: Send> Output for ByRow<'a, T> {
    type Piece = &'a mut [T];

    fn check(&self, rows: usize, _tasks: usize) {
        let (len, width) = (self.pieces.len, self.width);
        assert_eq!(len, rows * width, "an output of {len} elements for {rows} rows of {width}");
    }

    /// # Safety
    /// As [`Output::piece`] asks.
    unsafe fn piece(&self, _task: usize, from: usize, to: usize) -> &'a mut [T] {
        // SAFETY: the caller's rows are disjoint.
        unsafe { self.pieces.piece(from * self.width, to * self.width) }
    }
}

/// An output of `width` elements a task: partial results that a second pass combines.
pub struct ByTask<'a, T>(ByRow<'a, T>);

impl<'a, T> ByTask<'a, T> {
    /// `width` elements for each task.
    pub fn new(slice: &'a mut [T], width: usize) -> Self {
        Self(ByRow::new(slice, width))
    }
}

impl<'a, T: Send> Output for ByTask<'a, T> {
    type Piece = &'a mut [T];

    fn check(&self, _rows: usize, tasks: usize) {
        self.0.check(tasks, tasks);
    }

    /// # Safety
    /// As [`Output::piece`] asks.
    unsafe fn piece(&self, task: usize, _from: usize, _to: usize) -> &'a mut [T] {
        // SAFETY: each task is asked once.
        unsafe { self.0.piece(task, task, task + 1) }
    }
}

impl<O: Output> Output for Option<O> {
    type Piece = Option<O::Piece>;

    fn check(&self, rows: usize, tasks: usize) {
        self.iter().for_each(|output| output.check(rows, tasks));
    }

    /// # Safety
    /// As [`Output::piece`] asks.
    unsafe fn piece(&self, task: usize, from: usize, to: usize) -> Self::Piece {
        // SAFETY: the caller's.
        self.as_ref().map(|output| unsafe { output.piece(task, from, to) })
    }
}

macro_rules! output_of_tuples {
    ($(($($name:ident $at:tt),+))+) => {$(
        impl<$($name: Output),+> Output for ($($name,)+) {
            type Piece = ($($name::Piece,)+);

            fn check(&self, rows: usize, tasks: usize) {
                $(self.$at.check(rows, tasks);)+
            }

            /// # Safety
            /// As [`Output::piece`] asks.
            unsafe fn piece(&self, task: usize, from: usize, to: usize) -> Self::Piece {
                // SAFETY: the caller's.
                unsafe { ($(self.$at.piece(task, from, to),)+) }
            }
        }
    )+};
}
output_of_tuples! { (A 0, B 1) (A 0, B 1, C 2) (A 0, B 1, C 2, D 3) (A 0, B 1, C 2, D 3, E 4) }

/// Some columns of a group of rows, which one task owns ([`Pool::tiles`]).
pub struct Tile<'a, T> {
    pieces: &'a Pieces<'a, T>,
    width: usize,
    first: usize,
    height: usize,
    columns: Range<usize>,
}

impl<'a, T> Tile<'a, T> {
    /// `columns` of the `height` rows from `first` on, of `width` elements each.
    ///
    /// # Safety
    /// No two live tiles overlap: the caller gives each task its own.
    pub(crate) unsafe fn new(
        pieces: &'a Pieces<'a, T>,
        width: usize,
        first: usize,
        height: usize,
        columns: Range<usize>,
    ) -> Self {
        Self { pieces, width, first, height, columns }
    }

    /// Row `n` of the group, in the task's columns.
    pub fn row(&mut self, n: usize) -> &mut [T] {
        assert!(n < self.height, "row {n} of a tile of {}", self.height);
        let start = (self.first + n) * self.width;
        // SAFETY: the tiles of distinct tasks share no element (`Tile::new`), and `self` is borrowed while a row lives.
        unsafe { self.pieces.piece(start + self.columns.start, start + self.columns.end) }
    }

    /// The number of rows.
    pub fn height(&self) -> usize {
        self.height
    }
}

/// A mutable slice that tasks take disjoint pieces of.
pub(crate) struct Pieces<'a, T> {
    start: *mut T,
    len: usize,
    borrow: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: pieces are disjoint (the contract of `piece`), so sharing the handle shares no element.
unsafe impl<T: Send> Sync for Pieces<'_, T> {}

impl<'a, T> Pieces<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), borrow: std::marker::PhantomData }
    }

    /// Where element `at` lies, for a prefetch: it may be beyond the end.
    pub(crate) fn address(&self, at: usize) -> *const T {
        self.start.wrapping_add(at)
    }

    /// Elements `from..to`.
    ///
    /// # Safety
    /// No two live pieces overlap: the caller gives each task its own range.
    pub(crate) unsafe fn piece(&self, from: usize, to: usize) -> &'a mut [T] {
        assert!(from <= to && to <= self.len, "piece {from}..{to} of {}", self.len);
        // SAFETY: in bounds (asserted), exclusive (caller).
        unsafe { std::slice::from_raw_parts_mut(self.start.add(from), to - from) }
    }
}
