//! The ratios as bars from the line of equal speed: to the right we are faster.

use super::table::Line;
use anyhow::{Context, Result};
use plotters::chart::ChartBuilder;
use plotters::prelude::{BLACK, Color, IntoDrawingArea, IntoLogRange, RGBColor, Rectangle, SVGBackend, Text, WHITE};
use plotters::series::LineSeries;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{IntoFont, TextStyle};

/// Pixels of a bar's line, of the whole width, and of the names at the left.
const LINE: u32 = 22;
const WIDTH: u32 = 1000;
const NAMES: u32 = 460;

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
    let (low, high) = (ratios().fold(0.5, f64::min) / 1.3, ratios().fold(2.0, f64::max) * 1.5);
    let mut chart = ChartBuilder::on(&area)
        .caption("how many times faster (or smaller) than the peer", ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(NAMES)
        .build_cartesian_2d((low..high).log_scale(), 0.0..f64::from(rows))?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_labels(8)
        .x_label_formatter(&|x| format!("{x}"))
        .draw()?;
    for (i, line) in lines.iter().enumerate() {
        // From the top down, as in the table.
        let bottom = f64::from(rows) - 1.0 - i as f64;
        let ratio = line.ratio().clamp(low, high);
        let color = if line.reached() { GAIN } else { LOSS };
        chart.draw_series([Rectangle::new([(1.0, bottom + 0.15), (ratio, bottom + 0.85)], color.filled())])?;
        let after = TextStyle::from(("sans-serif", 12).into_font()).pos(Pos::new(HPos::Left, VPos::Center));
        let end = (ratio.max(1.0) * 1.01, bottom + 0.5);
        chart.draw_series([Text::new(format!("{:.2}", line.ratio()), end, after)])?;
        let before = TextStyle::from(("sans-serif", 12).into_font()).pos(Pos::new(HPos::Left, VPos::Center));
        let height = chart.plotting_area().get_pixel_range().1;
        let step = f64::from(height.end - height.start) / f64::from(rows);
        let y = f64::from(height.start) + (i as f64 + 0.5) * step;
        let name = format!("{} | {}", line.work, line.peer_name());
        area.draw(&Text::new(name, (12, y as i32), before))?;
    }
    chart.draw_series(LineSeries::new([(1.0, 0.0), (1.0, f64::from(rows))], BLACK))?;
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
        for part in ["<svg", "</svg>", "slow | torch eager", "fast | torch eager", "4.50", "0.50"] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
        assert!(bars(&[]).expect("an empty plot is one").contains("</svg>"));
    }
}
