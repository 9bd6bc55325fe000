//! One token per byte.

use std::borrow::Cow;

use super::{EOS, MASK, Tokenizer, is_eos};
use crate::Error;

const EOS_ID: u32 = 256;
const MASK_ID: u32 = 257;

/// The vocabulary of bytes: ids 0 to 255 are the byte values, 256 is `<eos>`, 257 is `[MASK]`.
///
/// It takes every text, and gives every text back. Printable ASCII is shown as itself, other bytes as `<0x0A>`.
///
/// ```
/// use galatea_text::{Bytes, Tokenizer};
/// assert_eq!(Bytes.encode("né")?, [110, 195, 169]);
/// assert_eq!(Bytes.decode(&[110, 195, 169, 256])?, "né");
/// assert_eq!(Bytes.mask() as usize, Bytes.vocab_size() - 1);
/// # Ok::<(), galatea_text::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes;

impl Bytes {
    /// The bytes of `ids`, valid UTF-8 or not: end left out, the mask written `[MASK]`.
    ///
    /// # Errors
    /// [`Error::UnknownId`] with the first id above 257.
    pub fn decode_bytes(&self, ids: &[u32]) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::with_capacity(ids.len());
        for &id in ids {
            match id {
                0..EOS_ID => bytes.push(id as u8),
                EOS_ID => {}
                MASK_ID => bytes.extend_from_slice(MASK.as_bytes()),
                _ => return Err(Error::UnknownId { id, vocab: self.vocab_size() }),
            }
        }
        Ok(bytes)
    }
}

impl Tokenizer for Bytes {
    fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        Ok(text.bytes().map(u32::from).collect())
    }

    fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        let bytes = self.decode_bytes(ids)?;
        Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    fn vocab_size(&self) -> usize {
        258
    }

    fn token(&self, id: u32) -> Option<Cow<'_, str>> {
        match id {
            0x20..0x7F => Some(char::from(id as u8).to_string().into()),
            0..EOS_ID => Some(format!("<0x{id:02X}>").into()),
            EOS_ID => Some(EOS.into()),
            MASK_ID => Some(MASK.into()),
            _ => None,
        }
    }

    fn id(&self, token: &str) -> Option<u32> {
        match token.as_bytes() {
            [byte] => Some(u32::from(*byte)),
            _ if is_eos(token) => Some(EOS_ID),
            _ if token == MASK => Some(MASK_ID),
            _ => {
                let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
                if digits.len() != 2 || digits.starts_with('+') {
                    return None;
                }
                u32::from_str_radix(digits, 16).ok()
            }
        }
    }

    fn eos(&self) -> u32 {
        EOS_ID
    }

    fn mask(&self) -> u32 {
        MASK_ID
    }
}
