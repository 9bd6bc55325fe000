//! What is lost against how often the network is asked: a panel for the divergence, one for the share of valid texts.
//!
//! Samplers whose divergence has no sum (they revise, or their noise is uniform) are in the second panel only, with dashes.

use super::super::panel::{GRID, style, to};
use super::Row;
use anyhow::{Context, Result};
use plotters::chart::ChartBuilder;
use plotters::coord::Shift;
use plotters::coord::ranged1d::ValueFormatter;
use plotters::prelude::{
    BLACK, Circle, Color, DrawingArea, IntoDrawingArea, IntoLogRange, PathElement, RGBColor, Ranged, SVGBackend,
    Text as Word, WHITE,
};
use plotters::series::{DashedLineSeries, LineSeries};
use plotters::style::text_anchor::{HPos, VPos};
use std::error::Error;

/// Pixels of a panel, of the title above both, and of the legend beside them.
const PANEL: (u32, u32) = (460, 440);
const TITLE: u32 = 40;
const LEGEND: u32 = 210;
/// From one line of the legend to the next.
const LEGEND_LINE: i32 = 20;

const COLORS: [RGBColor; 10] = [
    RGBColor(31, 119, 180),
    RGBColor(140, 140, 140),
    RGBColor(23, 165, 180),
    RGBColor(214, 62, 50),
    RGBColor(148, 103, 189),
    RGBColor(227, 119, 194),
    RGBColor(255, 150, 40),
    RGBColor(188, 170, 34),
    RGBColor(120, 80, 60),
    RGBColor(44, 150, 60),
];

/// What counts as no divergence, where a logarithm must end.
const LEAST: f64 = 0.01;

/// An SVG with both panels.
pub(super) fn panels(rows: &[Row]) -> Result<String> {
    let mut svg = String::new();
    draw(&mut svg, rows).map_err(|error| anyhow::anyhow!("{error}")).context("could not draw the plot")?;
    Ok(svg)
}

/// The points of an order, from few evaluations to many.
struct Line<'a> {
    name: &'a str,
    color: RGBColor,
    /// No divergence is known.
    dashed: bool,
    rows: Vec<&'a Row>,
}

fn lines(rows: &[Row]) -> Vec<Line<'_>> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for row in rows {
        if let Some(line) = lines.iter_mut().find(|line| line.name == row.order) {
            line.rows.push(row);
        } else {
            lines.push(Line { name: &row.order, color: BLACK, dashed: false, rows: vec![row] });
        }
    }
    // Each kind of line has the colours for itself.
    let mut used = [0; 2];
    for line in &mut lines {
        line.dashed = line.rows.iter().all(|row| row.kl.is_none());
        let used = &mut used[usize::from(line.dashed)];
        line.color = COLORS[*used % COLORS.len()];
        *used += 1;
    }
    lines.sort_by_key(|line| line.dashed);
    lines.iter_mut().for_each(|line| line.rows.sort_by(|a, b| a.passes.total_cmp(&b.passes)));
    lines
}

fn draw(svg: &mut String, rows: &[Row]) -> Result<(), Box<dyn Error>> {
    let lines = lines(rows);
    let size = (2 * PANEL.0 + LEGEND, PANEL.1 + TITLE);
    let area = SVGBackend::with_string(svg, size).into_drawing_area();
    area.fill(&WHITE)?;
    let title = "ways to write a text with a network that makes no mistake; dashed: no divergence is known";
    area.draw(&Word::new(title, (16, 12), style(18, HPos::Left, VPos::Top)))?;
    let (_, below) = area.split_vertically(TITLE);
    let (left, right) = below.split_horizontally(2 * PANEL.0);
    let panels = left.split_evenly((1, 2));
    let most = rows.iter().filter_map(|row| row.kl).fold(1.0, |m: f64, (kl, _)| m.max(kl)) * 1.4;
    let bits = |row: &Row| row.kl.map(|(kl, _)| kl.max(LEAST));
    let ticks = [0.01, 0.1, 1.0, 10.0].map(|tick| (tick, tick.to_string()));
    panel(
        &panels[0],
        "KL(source || sampler), bits a text; at most 0.01 at the bottom",
        &lines,
        (LEAST..most).log_scale(),
        &ticks,
        bits,
    )?;
    let ticks = [0.0, 0.25, 0.5, 0.75, 1.0].map(|tick| (tick, format!("{:.0}", 100.0 * tick)));
    panel(&panels[1], "texts of the source, per cent", &lines, 0.0..1.02, &ticks, |row| Some(row.valid))?;
    for (i, line) in lines.iter().enumerate() {
        let y = 20 + LEGEND_LINE * i as i32;
        let strokes: &[_] = if line.dashed { &[(0, 7), (10, 17), (20, 26)] } else { &[(0, 26)] };
        for &(from, to) in strokes {
            right.draw(&PathElement::new([(from, y), (to, y)], line.color.stroke_width(2)))?;
        }
        right.draw(&Word::new(line.name.to_owned(), (32, y), style(13, HPos::Left, VPos::Center)))?;
    }
    area.present()?;
    Ok(())
}

fn panel<Y>(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    title: &str,
    lines: &[Line<'_>],
    y: Y,
    ticks: &[(f64, String)],
    value: impl Fn(&Row) -> Option<f64>,
) -> Result<(), Box<dyn Error>>
where
    Y: plotters::coord::ranged1d::AsRangedCoord<Value = f64>,
    Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let (left, right) = (2.0, 60.0);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 14))
        .margin(10)
        .x_label_area_size(46)
        .y_label_area_size(44)
        .build_cartesian_2d((left..right).log_scale(), y)?;
    let bottom = chart.as_coord_spec().y_spec().range().start;
    let top = chart.as_coord_spec().y_spec().range().end;
    for passes in [2.0, 4.0, 8.0, 16.0, 32.0, 48.0] {
        chart.draw_series(LineSeries::new([(passes, bottom), (passes, top)], GRID))?;
        let place = chart.plotting_area().map_coordinate(&(passes, bottom));
        let below = (place.0, place.1 + 6);
        area.draw(&Word::new(passes.to_string(), to(area, below), style(12, HPos::Center, VPos::Top)))?;
    }
    for (tick, name) in ticks {
        chart.draw_series(LineSeries::new([(left, *tick), (right, *tick)], GRID))?;
        let place = chart.plotting_area().map_coordinate(&(left, *tick));
        area.draw(&Word::new(name.clone(), to(area, (place.0 - 6, place.1)), style(12, HPos::Right, VPos::Center)))?;
    }
    chart.draw_series(LineSeries::new([(left, top), (left, bottom), (right, bottom)], BLACK))?;
    for line in lines {
        let points: Vec<(f64, f64)> = line.rows.iter().filter_map(|row| Some((row.passes, value(row)?))).collect();
        chart.draw_series(points.iter().map(|&place| Circle::new(place, 3, line.color.filled())))?;
        if line.dashed {
            chart.draw_series(DashedLineSeries::new(points, 7, 4, line.color.stroke_width(2)))?;
        } else {
            chart.draw_series(LineSeries::new(points, line.color.stroke_width(2)))?;
        }
    }
    let place = chart.plotting_area().map_coordinate(&((left * right).sqrt(), bottom));
    let below = (place.0, place.1 + 24);
    area.draw(&Word::new("evaluations of the network", to(area, below), style(13, HPos::Center, VPos::Top)))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_panels_and_every_order_are_drawn() {
        let svg = panels(&super::super::rows(&super::super::example())).expect("it draws into a string");
        for part in ["<svg", "</svg>", "KL(source", "per cent", "ancestral", "best of each gap", "evaluations"] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
        assert!(!svg.contains("NaN"), "{svg}");
        let rows = super::super::rows(&super::super::example());
        let dashed: Vec<bool> = lines(&rows).iter().map(|line| line.dashed).collect();
        assert_eq!(dashed, [false, true]);
        assert!(panels(&[]).expect("an empty plot is one").contains("</svg>"));
    }
}
