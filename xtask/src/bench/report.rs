//! The benches' report as a page.

use super::three_digits;
use serde_json::Value;

/// The tables of a run: micro-benches first, end-to-end rows below.
pub(super) fn roofline(report: &Value) -> String {
    let mut text = String::from("# Times beside their floors\n\n");
    text += &format!("Machine: {}.\n", report["machine"].as_str().unwrap_or("unknown"));
    for (title, list, unit, scale) in [("Benches", "benches", "ns", 1e-6), ("End to end", "rows", "ms", 1.0)] {
        let lines = report[list].as_array().map(Vec::as_slice).unwrap_or_default();
        if lines.is_empty() {
            continue;
        }
        let best = if unit == "ns" { "best_ns" } else { "min_ms" };
        text += &format!("\n## {title}\n\n");
        text += "| bench | threads | Mflop | MB | floor, ms | median, ms | best, ms | noise | share (best) |\n";
        text += "|---|---|---|---|---|---|---|---|---|\n";
        for line in lines {
            let number = |key: &str| line[key].as_f64().unwrap_or(f64::NAN);
            let ms = |key: &str| scale * number(key);
            let timed = |key: &str| ms(&format!("{key}_{unit}"));
            let (floor, median, best) = (timed("floor"), timed("median"), ms(best));
            text += &format!(
                "| `{}` | {} | {} | {} | {} | {} | {} | {:.1} % | {:.0} % ({:.0} %) |\n",
                line["name"].as_str().unwrap_or_default(),
                line["threads"],
                three_digits(number("flops") / 1e6),
                three_digits(number("bytes") / 1e6),
                three_digits(floor),
                three_digits(median),
                three_digits(best),
                100.0 * timed("mad") / median,
                100.0 * floor / median,
                100.0 * floor / best,
            );
        }
    }
    text
}

/// An end-to-end row in a line.
pub(super) fn line(row: &Value) -> String {
    let number = |key: &str| row[key].as_f64().unwrap_or(f64::NAN);
    let (floor, median) = (number("floor_ms"), number("median_ms"));
    format!(
        "{}/{}: median {} ms, best {} ms, floor {} ms, share {:.0} %, peak memory {:.0} MiB",
        row["name"].as_str().unwrap_or_default(),
        row["threads"],
        three_digits(median),
        three_digits(number("min_ms")),
        three_digits(floor),
        100.0 * floor / median,
        number("peak_rss_mib"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn benches_and_rows_stand_in_one_unit() {
        let bench = json!({ "name": "gemm/a", "threads": 2, "flops": 2e6, "bytes": 1e6, "floor_ns": 1e6,
            "median_ns": 2e6, "best_ns": 1.25e6, "mad_ns": 2e4 });
        let row = json!({ "name": "step/a", "threads": 2, "flops": 5e10, "bytes": 2e9, "floor_ms": 100.0,
            "median_ms": 400.0, "min_ms": 390.0, "mad_ms": 4.0, "peak_rss_mib": 1000.0 });
        let page = roofline(&json!({ "machine": "m", "benches": [bench], "rows": [row] }));
        assert!(page.contains("| `gemm/a` | 2 | 2.00 | 1.00 | 1.00 | 2.00 | 1.25 | 1.0 % | 50 % (80 %) |"), "{page}");
        assert!(page.contains("| `step/a` | 2 | 50000 | 2000 | 100 | 400 | 390 | 1.0 % | 25 % (26 %) |"), "{page}");
        assert!(line(&row).contains("share 25 %"));
    }
}
