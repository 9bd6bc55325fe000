//! The ratios as bars from the line of equal speed: to the right we are faster.

use super::table::Line;
use anyhow::{Context, Result};
use plotters::chart::ChartBuilder;
use plotters::prelude::{BLACK, Color, IntoDrawingArea, IntoLogRange, RGBColor, Rectangle, SVGBackend, Text, WHITE};
use plotters::series::LineSeries;
use plotters::style::TextStyle;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Pixels of a bar's line, of the whole width, and of the names at the left.
const LINE: u32 = 22;
const WIDTH: u32 = 1000;
const NAMES: u32 = 460;

/// Ratios that are written below the bars.
const TICKS: [f64; 9] = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0];

const GRID: RGBColor = RGBColor(215, 215, 215);
const GAIN: RGBColor = RGBColor(46, 125, 50);
const LOSS: RGBColor = RGBColor(198, 70, 60);

/// An SVG with a bar for every line.
pub(super) fn bars(lines: &[Line]) -> Result<String> {
    let mut svg = String::new();
    draw(&mut svg, lines).map_err(|error| anyhow::anyhow!("{error}")).context("could not draw the plot")?;
    Ok(svg)
}

fn draw(svg: &mut String, lines: &[Line]) -> Result<(), Box<dyn std::error::Error>> {
    let rows = lines.len().max(1) as u32;
    let area = SVGBackend::with_string(svg, (WIDTH, LINE * rows + 90)).into_drawing_area();
    area.fill(&WHITE)?;
    let ratios = || lines.iter().map(Line::ratio).filter(|ratio| ratio.is_finite() && *ratio > 0.0);
    let (low, high) = (ratios().fold(0.6, f64::min) / 1.2, ratios().fold(2.0, f64::max) * 1.3);
    let mut chart = ChartBuilder::on(&area)
        .caption("how many times faster (or smaller) than the peer", ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(NAMES)
        .build_cartesian_2d((low..high).log_scale(), 0.0..f64::from(rows))?;
    let style = |horizontal, vertical| TextStyle::from(("sans-serif", 13)).pos(Pos::new(horizontal, vertical));
    for tick in TICKS.into_iter().filter(|tick| (low..high).contains(tick)) {
        let color = if tick == 1.0 { BLACK } else { GRID };
        chart.draw_series(LineSeries::new([(tick, 0.0), (tick, f64::from(rows))], color))?;
        let (x, y) = chart.plotting_area().map_coordinate(&(tick, 0.0));
        area.draw(&Text::new(tick.to_string(), (x, y + 8), style(HPos::Center, VPos::Top)))?;
    }
    for (i, line) in lines.iter().enumerate() {
        // From the top down, as in the table.
        let bottom = f64::from(rows) - 1.0 - i as f64;
        let ratio = line.ratio().clamp(low, high);
        let color = if line.reached() { GAIN } else { LOSS };
        chart.draw_series([Rectangle::new([(1.0, bottom + 0.15), (ratio, bottom + 0.85)], color.filled())])?;
        let (x, y) = chart.plotting_area().map_coordinate(&(ratio.max(1.0), bottom + 0.5));
        area.draw(&Text::new(format!("{:.2}", line.ratio()), (x + 5, y), style(HPos::Left, VPos::Center)))?;
        let name = format!("{}, {}", line.work, line.peer_name());
        area.draw(&Text::new(name, (12, y), style(HPos::Left, VPos::Center)))?;
    }
    area.present()?;
    drop(chart);
    drop(area);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::plan::Program;
    use super::*;

    #[test]
    fn every_line_has_a_bar_and_its_number() {
        let line = |work: &str, theirs: f64| Line {
            work: work.into(),
            peer: Program::Torch,
            variant: "eager",
            unit: "ms",
            theirs,
            ours: 2.0,
            target: 1.0,
        };
        let svg = bars(&[line("slow", 1.0), line("fast", 9.0)]).expect("it draws into a string");
        for part in ["<svg", "</svg>", "slow, torch eager", "fast, torch eager", "4.50", "0.50"] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
        assert!(bars(&[]).expect("an empty plot is one").contains("</svg>"));
    }
}
