//! A story of the embedded language, what it costs, and what its denoiser knows.
//!
//! `cargo run --release -p galatea-text --example exact [level] [seed]`
#![allow(clippy::print_stdout, reason = "an example shows its results")]

use std::error::Error;
use std::f64::consts::LN_2;

use galatea_random::Philox;
use galatea_text::language::{ExactModel, Level, StoryLanguage};
use ndarray::Array2;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let level: Level = arguments.next().map_or(Ok(Level::One), |level| level.parse())?;
    let seed: u64 = arguments.next().map_or(Ok(0), |seed| seed.parse())?;
    let language = StoryLanguage::new(level);

    let story = language.sample(&mut Philox::new(seed, 0, 0, 0));
    println!("{}\n", language.text(&story));
    println!("-log2 p(story) = {:.3} bits", -language.log_prob(&story) / LN_2);
    println!("entropy        = {:.3} bits a story at level {level}\n", language.entropy() / LN_2);

    // Everything but the last sentence is known. What was the place of rest?
    let end = story.iter().rposition(|&word| word != language.pad()).ok_or("a story has words")?;
    let hidden = end - 1;
    let mut canvas = story.clone();
    canvas[end - 5..end].fill(language.mask());
    show(&language, "the end is hidden", &canvas, hidden)?;

    // Nothing is known but a canvas of masks.
    show(&language, "all is hidden", &vec![language.mask(); language.len()], hidden)
}

/// Prints the marginals of one position given the words of a canvas that are no masks.
fn show(language: &StoryLanguage, title: &str, canvas: &[u32], position: usize) -> Result<(), Box<dyn Error>> {
    let mut evidence = Array2::ones((language.len(), language.vocab()));
    for (mut row, &word) in evidence.outer_iter_mut().zip(canvas) {
        if word != language.mask() {
            row.fill(0.0);
            row[word as usize] = 1.0;
        }
    }
    let mut marginals = Array2::zeros(evidence.dim());
    let log_p = language.posterior(&evidence, &mut marginals)?;
    println!("{title}: log2 p(known) = {:.3}; word {} is", log_p / LN_2, position + 1);
    let mut words: Vec<(f64, &str)> = marginals.row(position).iter().copied().zip(language.words().to_vec()).collect();
    words.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (p, word) in words.iter().take_while(|(p, _)| *p > 0.0).take(5) {
        println!("    {word:10} {p:.4}");
    }
    Ok(())
}
