//! Supervised fine-tuning: the prompt is never noised, and every answer counts alike.

use crate::Error;
use crate::error::same_shape;
use ndarray::ArrayRef2;

/// Puts the clean prompt back into a noised batch: the first `prompt[b]` positions of row b.
///
/// # Shapes
/// `x_0` and `x_t` \[batch, len\], `prompt` \[batch\].
///
/// # Errors
/// [`Error::Shape`] if the shapes differ, [`Error::Prompt`] for a prompt that leaves no answer.
pub fn restore_prompts(x_0: &ArrayRef2<u32>, prompt: &[usize], x_t: &mut ArrayRef2<u32>) -> Result<(), Error> {
    same_shape("x_t", x_0.shape(), x_t.shape())?;
    same_shape("prompt", &[x_0.nrows()], &[prompt.len()])?;
    if let Some(row) = prompt.iter().position(|&prompt| prompt >= x_0.ncols()) {
        return Err(Error::Prompt { row, prompt: prompt[row], len: x_0.ncols() });
    }
    for ((clean, mut noisy), &prompt) in x_0.rows().into_iter().zip(x_t.rows_mut()).zip(prompt) {
        noisy.iter_mut().zip(clean).take(prompt).for_each(|(noisy, clean)| *noisy = *clean);
    }
    Ok(())
}

/// What one token of a row's answer counts in the mean over a batch: 1 / (batch, answer's length), so that a long answer
/// weighs no more than a short one. Padding after the end of a text is part of the answer: the model learns to end.
///
/// # Source
/// Nie et al. (2025), LLaDA, the fine-tuning recipe (`GUIDELINES.md` of its code).
pub fn share(batch: usize, len: usize, prompt: usize) -> f64 {
    1.0 / (batch as f64 * len.saturating_sub(prompt).max(1) as f64)
}
