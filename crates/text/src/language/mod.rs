//! Languages whose every question has an exact answer: the truth that a diffusion model is measured against.
//!
//! A trained denoiser approximates p(x_0 | x_t), and a bound approximates -log p(x). For the sources here both are
//! computed exactly and fast, so code and models can be right or wrong *per document*, without training:
//!
//! | source | size | engine |
//! |---|---|---|
//! | [`StoryLanguage`] | 48 words, about 10^7 to 10^10 stories | a mixture of templates over a forest of choices |
//! | [`MarkovChain`] | any | forward-backward |
//! | [`Sudoku4`] | 288 grids | enumeration |
//!
//! [`ExactModel`] is what they share. [`ExactDenoiser`] and [`ExactEmbeddingDenoiser`] turn one into the perfect network
//! of a masked, uniform or Gaussian diffusion.
//!
//! ```
//! use galatea_random::Philox;
//! use galatea_text::language::{ExactModel, Level, StoryLanguage};
//!
//! let language = StoryLanguage::new(Level::One);
//! let story = language.sample(&mut Philox::new(1, 0, 0, 0));
//! assert!(language.text(&story).starts_with("long ago lived a"));
//! assert!(language.check(&story).all());
//! assert!((language.entropy() / std::f64::consts::LN_2 - 25.4).abs() < 0.1);
//! ```

mod denoiser;
mod error;
mod exact;
mod forest;
mod markov;
mod role;
mod sentences;
mod story;
mod sudoku;
mod template;
mod verdict;
mod vocabulary;

pub use denoiser::{Contradiction, ExactDenoiser, ExactEmbeddingDenoiser, Reading};
pub use error::Error;
pub use exact::ExactModel;
pub use markov::MarkovChain;
pub use role::Role;
pub use story::{Level, StoryLanguage};
pub use sudoku::Sudoku4;
pub use verdict::{Constraint, Verdict};
