//! Training and validation without the same text in both.

use std::collections::{HashMap, HashSet};

use galatea_random::{block, unit_f64};

use super::encoded::Part;
use super::{Dataset, Encoded, Layout};
use crate::Error;

/// The stream of [`galatea_random`] that ranks documents.
const STREAM: u32 = 0x5350_4c54;

impl Encoded {
    /// Two parts, (training, validation), the second with at least `fraction` of the tokens where documents allow it.
    ///
    /// A document's text and `seed` give it a rank, and the lowest ranks go to validation until it has its share. So
    /// the parts do not depend on the order of documents, documents of the same text stay together, and each part has
    /// at least one. A text of one document is cut in two, the end for validation; its characters and bytes are then
    /// shared out in proportion to its tokens.
    ///
    /// # Errors
    /// [`Error::Setting`] unless 0 < `fraction` < 1; [`Error::Indivisible`] where all documents are the same text, or there is one pair;
    /// [`Error::TooShort`] for a single token.
    pub fn split(&self, fraction: f64, seed: u64) -> Result<(Self, Self), Error> {
        if !(fraction > 0.0 && fraction < 1.0) {
            let expected = "between 0 and 1, both excluded";
            return Err(Error::Setting { name: "the validation fraction", expected, found: fraction });
        }
        if self.documents() == 1 {
            return self.cut(fraction);
        }
        // Documents of the same text are one entry: (rank, hash, tokens).
        let mut texts: HashMap<u64, usize> = HashMap::new();
        for (document, part) in self.iter().zip(&self.parts) {
            *texts.entry(part.hash).or_default() += document.len();
        }
        let mut ranked: Vec<(f64, u64, usize)> =
            texts.into_iter().map(|(hash, tokens)| (rank(hash, seed), hash, tokens)).collect();
        ranked.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        if ranked.len() == 1 {
            return Err(Error::Indivisible { documents: self.documents() });
        }
        let share = fraction * self.tokens.len() as f64;
        let mut taken = 0;
        let held_out: HashSet<u64> = ranked[..ranked.len() - 1]
            .iter()
            .take_while(|(_, _, tokens)| {
                let wanting = (taken as f64) < share;
                taken += tokens;
                wanting
            })
            .map(|&(_, hash, _)| hash)
            .collect();
        let mut parts = (self.none(), self.none());
        for (document, part) in self.iter().zip(&self.parts) {
            let side = if held_out.contains(&part.hash) { &mut parts.1 } else { &mut parts.0 };
            side.push(document, *part);
        }
        Ok(parts)
    }

    /// The rows of both parts of a [`split`](Encoded::split): (training, validation), at least one row each.
    ///
    /// # Errors
    /// As [`Encoded::split`] and [`Encoded::rows`]; [`Error::TooShort`] names the part that is too short and says how
    /// many tokens the whole text should have.
    pub fn split_rows(
        &self,
        layout: Layout,
        len: usize,
        fraction: f64,
        seed: u64,
    ) -> Result<(Dataset, Dataset), Error> {
        let (train, validation) = self.split(fraction, seed)?;
        let lay = |part: &Self, name, share: f64| {
            part.rows(layout, len).map_err(|error| match error {
                Error::TooShort { found, .. } => {
                    let needed = (len as f64 / share).ceil() as usize;
                    // Documents are not divided, so that more than the exact share may be needed.
                    let needed = needed.max(self.tokens.len() + len - found);
                    Error::TooShort { part: name, found, len, needed, total: self.tokens.len() }
                }
                other => other,
            })
        };
        Ok((lay(&train, "the training part", 1.0 - fraction)?, lay(&validation, "the validation part", fraction)?))
    }

    fn cut(&self, fraction: f64) -> Result<(Self, Self), Error> {
        let total = self.tokens.len();
        if total < 2 {
            return Err(Error::TooShort { part: "the text", found: total, len: 2, needed: 2, total });
        }
        let held_out = ((fraction * total as f64).ceil() as usize).clamp(1, total - 1);
        let part = self.parts[0];
        if part.prompt > 0 {
            return Err(Error::Indivisible { documents: 1 });
        }
        let share = |whole: usize| (whole as f64 * held_out as f64 / total as f64).round() as usize;
        let (characters, bytes) = (share(part.characters), share(part.bytes));
        let (front, end) = self.tokens.split_at(total - held_out);
        let (mut train, mut validation) = (self.none(), self.none());
        train.push(front, Part { characters: part.characters - characters, bytes: part.bytes - bytes, ..part });
        validation.push(end, Part { characters, bytes, ..part });
        Ok((train, validation))
    }

    fn none(&self) -> Self {
        Self { tokens: Vec::new(), parts: Vec::new(), specials: self.specials }
    }
}

/// A uniform number that a text and a seed determine.
fn rank(hash: u64, seed: u64) -> f64 {
    let words = block(seed, STREAM, 0, hash as u32, (hash >> 32) as u32);
    unit_f64([words[0], words[1]])
}
