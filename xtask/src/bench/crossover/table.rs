//! A table for each batch: lengths down, ways across, every time with its floor.

use super::{Text, distinct, texts};
use crate::bench::three_digits;
use serde_json::Value;

/// The page of what was found.
pub(super) fn markdown(found: &Value) -> String {
    let texts = texts(found);
    let word = |key: &str| found[key].as_str().unwrap_or("unknown");
    let number = |key: &str| found[key].as_f64().unwrap_or(f64::NAN);
    let mut page = format!("`{}` on {}\n\n", word("command"), word("machine"));
    page += &format!(
        "{} on {} threads ({}): at most {:.0} GFLOP/s and {:.1} GB/s; a decoding step reads {:.0} MB of weights. Measured in \
         {:.0} s. Times are in ms and medians, floors what the arithmetic or the traffic alone takes; **bold**: diffusion is \
         faster. Par is the most steps that take no longer than autoregression.\n",
        word("dtype"),
        found["threads"],
        word("isa"),
        number("peak_gflop_s"),
        number("bandwidth_gb_s"),
        number("weight_bytes") / 1e6,
        number("seconds"),
    );
    let steps = distinct(texts.iter().filter_map(|text| text.steps));
    for batch in distinct(texts.iter().map(|text| text.batch)) {
        page += &format!("\nBatch {batch}:\n\n| tokens | autoregression | floor |");
        steps.iter().for_each(|steps| page += &format!(" {steps} steps | floor |"));
        page += &format!(" par, steps | of the floors |\n|---|---|---|{}---|---|\n", "---|---|".repeat(steps.len()));
        let of_batch: Vec<Text> = texts.iter().copied().filter(|text| text.batch == batch).collect();
        for len in distinct(of_batch.iter().map(|text| text.len)) {
            let find = |steps| of_batch.iter().find(|text| text.len == len && text.steps == steps);
            let one_by_one = find(None);
            page += &format!("| {len} |");
            for way in [None].into_iter().chain(steps.iter().copied().map(Some)) {
                page += &match find(way) {
                    Some(text) => {
                        let time = three_digits(text.median_ms);
                        let faster = way.is_some() && one_by_one.is_some_and(|one| text.median_ms < one.median_ms);
                        let mark = if faster { "**" } else { "" };
                        format!(" {mark}{time}{mark} | {} |", three_digits(text.floor_ms))
                    }
                    None => " | |".to_owned(),
                };
            }
            let par = found["par"].as_array().and_then(|all| {
                all.iter().find(|par| par["batch"].as_u64() == Some(batch) && par["len"].as_u64() == Some(len))
            });
            page += &match par {
                Some(par) => format!(" {} | {} |\n", par["steps"], par["floor_steps"]),
                None => " | |\n".to_owned(),
            };
        }
    }
    page + &extrapolated(found)
}

/// What was timed and what was added up, and how the sums compare with whole texts.
fn extrapolated(found: &Value) -> String {
    let rows = found["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ratio = |row: &Value| Some(row["whole_ms"].as_f64()? / row["median_ms"].as_f64()?);
    let ratios: Vec<f64> = rows.iter().filter_map(ratio).collect();
    let (low, high) = ratios.iter().fold((f64::INFINITY, 0.0f64), |(low, high), &x| (low.min(x), high.max(x)));
    let text = "\nTimes of texts are sums of steps, taken as straight between those that were timed: a denoising step with one, \
                half and all positions masked, a decoding step after none of the text and at the end of each length.";
    match ratios.len() {
        0 => format!("{text} No whole text was short enough to be timed beside its sum.\n"),
        count => format!("{text} {count} whole texts took {low:.2} to {high:.2} times their sums.\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn every_time_has_its_floor_and_the_faster_way_is_bold() {
        let page = markdown(&example());
        for line in [
            "| tokens | autoregression | floor | 8 steps | floor | 16 steps | floor | par, steps | of the floors |",
            "| 64 | 100 | 50.0 | **80.0** | 40.0 | 160 | 80.0 | 10 | 12 |",
            "| 128 | 230 | 115 | 2560 | 1280 | 5120 | 2560 | 0 | 12 |",
            "226 MB of weights",
            "4 whole texts took 1.10 to 1.10 times their sums",
        ] {
            assert!(page.contains(line), "{line} in {page}");
        }
    }

    #[test]
    fn steps_that_a_text_is_too_short_for_are_empty() {
        let mut found = example();
        let rows = found["rows"].as_array_mut().expect("a list");
        rows.retain(|row| row["len"] != 64 || row["steps"] != 16);
        let page = markdown(&found);
        assert!(page.contains("| 64 | 100 | 50.0 | **80.0** | 40.0 | | | 10 | 12 |"), "{page}");
    }
}
