//! Time against length, a panel for each batch: autoregression in one colour, every number of steps in another, floors
//! dashed.

use super::super::panel::{GRID, style, to};
use super::{Text, distinct, texts};
use anyhow::{Context, Result};
use plotters::chart::ChartBuilder;
use plotters::coord::Shift;
use plotters::prelude::{
    BLACK, Circle, Color, DrawingArea, IntoDrawingArea, IntoLogRange, PathElement, RGBColor, SVGBackend, Text as Word,
    WHITE,
};
use plotters::series::{DashedLineSeries, LineSeries};
use plotters::style::text_anchor::{HPos, VPos};
use serde_json::Value;
use std::error::Error;

/// Pixels of a panel, of the title above all, and of the legend beside them.
const PANEL: (u32, u32) = (480, 460);
const TITLE: u32 = 40;
const LEGEND: u32 = 170;

const ONE_BY_ONE: RGBColor = RGBColor(198, 70, 60);
/// From few steps to many: light to dark.
const STEPS: [RGBColor; 6] = [
    RGBColor(134, 190, 226),
    RGBColor(86, 152, 206),
    RGBColor(45, 112, 178),
    RGBColor(20, 72, 140),
    RGBColor(10, 40, 95),
    RGBColor(70, 30, 110),
];

/// An SVG with a panel for each batch.
pub(super) fn panels(found: &Value) -> Result<String> {
    let mut svg = String::new();
    draw(&mut svg, found).map_err(|error| anyhow::anyhow!("{error}")).context("could not draw the plot")?;
    Ok(svg)
}

/// A line of the plot: its name, its colour and how many steps it has.
struct Way {
    steps: Option<u64>,
    color: RGBColor,
}

impl Way {
    fn name(&self) -> String {
        self.steps.map_or_else(|| "autoregression".to_owned(), |steps| format!("{steps} denoising steps"))
    }
}

fn draw(svg: &mut String, found: &Value) -> Result<(), Box<dyn Error>> {
    let texts = texts(found);
    let batches = distinct(texts.iter().map(|text| text.batch));
    let steps = distinct(texts.iter().filter_map(|text| text.steps));
    let colors = steps.into_iter().zip(STEPS.into_iter().cycle());
    let one_by_one = Way { steps: None, color: ONE_BY_ONE };
    let ways: Vec<Way> =
        [one_by_one].into_iter().chain(colors.map(|(steps, color)| Way { steps: Some(steps), color })).collect();
    let size = (PANEL.0 * batches.len().max(1) as u32 + LEGEND, PANEL.1 + TITLE);
    let area = SVGBackend::with_string(svg, size).into_drawing_area();
    area.fill(&WHITE)?;
    let title = format!(
        "the time of a text, {} on {} threads; dashed: the floors",
        found["dtype"].as_str().unwrap_or_default(),
        found["threads"]
    );
    area.draw(&Word::new(title, (16, 12), style(18, HPos::Left, VPos::Top)))?;
    let (_, below) = area.split_vertically(TITLE);
    let (left, right) = below.split_horizontally(size.0 - LEGEND);
    for (panel, &batch) in left.split_evenly((1, batches.len().max(1))).iter().zip(&batches) {
        let of_batch: Vec<Text> = texts.iter().copied().filter(|text| text.batch == batch).collect();
        draw_panel(panel, batch, &of_batch, &ways)?;
    }
    for (i, way) in ways.iter().enumerate() {
        let y = 60 + 24 * i as i32;
        right.draw(&PathElement::new([(0, y), (26, y)], way.color.stroke_width(2)))?;
        right.draw(&Word::new(way.name(), (32, y), style(13, HPos::Left, VPos::Center)))?;
    }
    area.present()?;
    Ok(())
}

fn draw_panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    batch: u64,
    texts: &[Text],
    ways: &[Way],
) -> Result<(), Box<dyn Error>> {
    let lens = distinct(texts.iter().map(|text| text.len));
    let (first, last) = (lens.first().copied().unwrap_or(1) as f64, lens.last().copied().unwrap_or(2) as f64);
    let times = || texts.iter().flat_map(|text| [text.median_ms, text.floor_ms]).filter(|ms| *ms > 0.0);
    let (low, high) = (times().fold(f64::INFINITY, f64::min), times().fold(1.0, f64::max));
    let (left, right, low, high) = (first / 1.1, last * 1.1, low.min(high) / 1.3, high * 1.3);
    let mut chart = ChartBuilder::on(area)
        .caption(format!("batch {batch}"), ("sans-serif", 15))
        .margin(10)
        .x_label_area_size(46)
        .y_label_area_size(64)
        .build_cartesian_2d((left..right).log_scale(), (low..high).log_scale())?;
    for &len in &lens {
        let x = len as f64;
        chart.draw_series(LineSeries::new([(x, low), (x, high)], GRID))?;
        let (x, y) = chart.plotting_area().map_coordinate(&(x, low));
        area.draw(&Word::new(len.to_string(), to(area, (x, y + 6)), style(12, HPos::Center, VPos::Top)))?;
    }
    for tick in ticks(low, high) {
        chart.draw_series(LineSeries::new([(left, tick), (right, tick)], GRID))?;
        let (x, y) = chart.plotting_area().map_coordinate(&(left, tick));
        area.draw(&Word::new(duration(tick), to(area, (x - 6, y)), style(12, HPos::Right, VPos::Center)))?;
    }
    chart.draw_series(LineSeries::new([(left, high), (left, low), (right, low)], BLACK))?;
    for way in ways {
        let line = |value: fn(&Text) -> f64| -> Vec<(f64, f64)> {
            let of_way = texts.iter().filter(|text| text.steps == way.steps);
            let mut line: Vec<_> = of_way.map(|text| (text.len as f64, value(text))).collect();
            line.sort_by(|a, b| a.0.total_cmp(&b.0));
            line
        };
        let (times, floors) = (line(|text| text.median_ms), line(|text| text.floor_ms));
        chart.draw_series(DashedLineSeries::new(floors, 4, 4, way.color.stroke_width(1)))?;
        chart.draw_series(times.iter().map(|&place| Circle::new(place, 3, way.color.filled())))?;
        chart.draw_series(LineSeries::new(times, way.color.stroke_width(2)))?;
    }
    let (x, y) = chart.plotting_area().map_coordinate(&((left * right).sqrt(), low));
    area.draw(&Word::new("tokens of a text", to(area, (x, y + 24)), style(13, HPos::Center, VPos::Top)))?;
    Ok(())
}

/// 1, 2 and 5 times powers of ten between two times.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let all = decades.flat_map(|n| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(n)));
    all.filter(|tick| (low..high).contains(tick)).collect()
}

fn duration(ms: f64) -> String {
    if ms >= 1000.0 { format!("{} s", ms / 1000.0) } else { format!("{ms} ms") }
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn every_batch_has_a_panel_and_every_way_a_name() {
        let svg = panels(&example()).expect("it draws into a string");
        for part in ["<svg", "</svg>", "batch 1", "batch 16", "autoregression", "8 denoising steps", "128", "tokens"] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
        assert!(!svg.contains("NaN"), "{svg}");
        assert!(panels(&serde_json::json!({})).expect("an empty plot is one").contains("</svg>"));
    }

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks(0.7, 60.0), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0]);
        assert_eq!([500.0, 2000.0].map(duration), ["500 ms", "2 s"]);
    }
}
