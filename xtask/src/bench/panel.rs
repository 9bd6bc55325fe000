//! What plots with several panels share.

use plotters::coord::Shift;
use plotters::prelude::{DrawingArea, RGBColor, SVGBackend};
use plotters::style::TextStyle;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Lines that are there to be read along.
pub(super) const GRID: RGBColor = RGBColor(225, 225, 225);

/// Letters of `size` that hang on their place as said.
pub(super) fn style(size: u32, horizontal: HPos, vertical: VPos) -> TextStyle<'static> {
    TextStyle::from(("sans-serif", size)).pos(Pos::new(horizontal, vertical))
}

/// A pixel of the whole picture as one of `area`.
pub(super) fn to(area: &DrawingArea<SVGBackend<'_>, Shift>, (x, y): (i32, i32)) -> (i32, i32) {
    let (left, top) = area.get_base_pixel();
    (x - left, y - top)
}
