//! Tokens that are given: prompts, infilling, anything that must stand in the text.

use crate::Error;
use ndarray::Array2;

/// The shape of a canvas and the tokens that are given, at any positions.
///
/// ```
/// use galatea_samplers::Fixed;
/// let mut fixed = Fixed::none(1, 8);
/// fixed.write(0, 0, &[5, 6])?; // a prompt
/// fixed.set(0, 7, 9)?; // and the last word
/// assert_eq!((fixed.get(0, 1), fixed.get(0, 2)), (Some(6), None));
/// # Ok::<(), galatea_samplers::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fixed {
    tokens: Array2<Option<u32>>,
}

impl Fixed {
    /// A canvas of `batch` rows and `len` positions with nothing given.
    pub fn none(batch: usize, len: usize) -> Self {
        Self { tokens: Array2::from_elem((batch, len), None) }
    }

    /// Fixes one token.
    ///
    /// # Errors
    /// [`Error::Position`] outside the canvas.
    pub fn set(&mut self, row: usize, position: usize, token: u32) -> Result<(), Error> {
        let (batch, len) = self.dim();
        let slot = self.tokens.get_mut((row, position)).ok_or(Error::Position { row, position, token, batch, len })?;
        *slot = Some(token);
        Ok(())
    }

    /// Fixes a run of tokens that begins at `start`.
    ///
    /// # Errors
    /// [`Error::Position`] for the first token outside the canvas.
    pub fn write(&mut self, row: usize, start: usize, tokens: &[u32]) -> Result<(), Error> {
        tokens.iter().enumerate().try_for_each(|(i, &token)| self.set(row, start.saturating_add(i), token))
    }

    /// The token given at a position; `None` where it is free or outside the canvas.
    pub fn get(&self, row: usize, position: usize) -> Option<u32> {
        self.tokens.get((row, position)).copied().flatten()
    }

    /// The canvas's shape, (batch, len).
    pub fn dim(&self) -> (usize, usize) {
        self.tokens.dim()
    }

    /// The number of free positions.
    pub fn free(&self) -> usize {
        self.tokens.iter().filter(|token| token.is_none()).count()
    }

    /// An error unless the canvas has positions and every token is one of `vocab` ids and not the mask.
    pub(crate) fn check(&self, vocab: usize, mask: Option<u32>) -> Result<(), Error> {
        let (batch, len) = self.dim();
        if batch == 0 || len == 0 {
            return Err(Error::Empty { batch, len });
        }
        for ((row, position), &token) in self.tokens.indexed_iter() {
            let Some(token) = token else { continue };
            if token as usize >= vocab {
                return Err(Error::Token { token, row, position, vocab });
            }
            if mask == Some(token) {
                return Err(Error::FixedMask { mask: token, row, position });
            }
        }
        Ok(())
    }
}

impl From<Array2<Option<u32>>> for Fixed {
    /// The given tokens as an array \[batch, len\].
    fn from(tokens: Array2<Option<u32>>) -> Self {
        Self { tokens }
    }
}
