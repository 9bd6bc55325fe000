//! A file of machine code: the image as the driver takes it, then how it was made, then a checksum.
//!
//! The image comes first, so that tools which read ELF files read this one. The recipe is kept whole and not as a hash:
//! that a file is the one which was asked for is a comparison of texts, which cannot be mistaken.

/// The last bytes of every such file.
const MAGIC: &[u8; 8] = b"GALATEA1";
/// Four lengths, the checksum, the magic.
const FOOTER: usize = 4 * 8 + 8 + MAGIC.len();

/// A compiled file of kernels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The machine code.
    pub(super) image: Vec<u8>,
    /// What it was made from: architecture, options and every text.
    pub(super) recipe: String,
    /// What made it.
    pub(super) compiler: String,
    /// What the compiler said.
    pub(super) log: String,
}

/// Why a file cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Not one of ours, or cut off.
    #[error("it does not end as a file of compiled kernels does")]
    End,
    /// The parts do not add up to the file.
    #[error("its parts have {parts} bytes and it has {file}")]
    Length {
        /// What the footer says.
        parts: u64,
        /// What is there.
        file: u64,
    },
    /// Some byte is another.
    #[error("its checksum is wrong")]
    Checksum,
    /// A text is none.
    #[error("its recipe is not text")]
    Text,
}

impl Entry {
    /// The file's bytes.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let parts = [&self.image[..], self.recipe.as_bytes(), self.compiler.as_bytes(), self.log.as_bytes()];
        let mut bytes = parts.concat();
        parts.iter().for_each(|part| bytes.extend((part.len() as u64).to_le_bytes()));
        bytes.extend(fnv(&bytes).to_le_bytes());
        bytes.extend(MAGIC);
        bytes
    }

    /// Reads a file.
    ///
    /// # Errors
    /// If anything in it is not as it was written.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, Damage> {
        let body = bytes.len().checked_sub(FOOTER).ok_or(Damage::End)?;
        let (sealed, magic) = bytes.split_at(bytes.len() - MAGIC.len());
        if magic != MAGIC {
            return Err(Damage::End);
        }
        let word = |i: usize| {
            let word = &bytes[body + 8 * i..body + 8 * (i + 1)];
            u64::from_le_bytes(word.try_into().expect("eight bytes"))
        };
        if fnv(&sealed[..sealed.len() - 8]) != word(4) {
            return Err(Damage::Checksum);
        }
        let parts = (0..4).fold(0, |sum: u64, i| sum.saturating_add(word(i)));
        if parts != body as u64 {
            return Err(Damage::Length { parts, file: body as u64 });
        }
        let mut rest = &bytes[..body];
        let mut part = |i: usize| {
            let (part, after) = rest.split_at(word(i) as usize);
            rest = after;
            part.to_vec()
        };
        let (image, texts) = (part(0), [part(1), part(2), part(3)]);
        let [recipe, compiler, log] = texts.map(|bytes| String::from_utf8(bytes).map_err(|_| Damage::Text));
        Ok(Self { image, recipe: recipe?, compiler: compiler?, log: log? })
    }
}

/// FNV-1a, 64 bits: a change of one byte always changes it, since every round is a bijection of the state. As a name of a
/// file it only has to spread; what the file holds is compared in full.
pub(super) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        let text = |text: &str| text.to_owned();
        Entry { image: vec![1, 2, 3, 0, 255], recipe: text("x.cu"), compiler: text("NVRTC 13.0"), log: text("") }
    }

    #[test]
    fn a_file_is_read_as_it_was_written() {
        assert_eq!(Entry::from_bytes(&entry().to_bytes()), Ok(entry()));
        assert!(entry().to_bytes().starts_with(&entry().image), "the driver's tools read the file as it is");
    }

    #[test]
    fn every_change_of_a_byte_is_noticed() {
        let whole = entry().to_bytes();
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                assert!(Entry::from_bytes(&bytes).is_err(), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn every_file_that_is_cut_off_or_goes_on_is_noticed() {
        let whole = entry().to_bytes();
        for length in 0..whole.len() {
            assert!(Entry::from_bytes(&whole[..length]).is_err(), "{length} bytes of {}", whole.len());
        }
        assert!(Entry::from_bytes(&[&whole[..], b"x"].concat()).is_err());
    }

    #[test]
    fn lengths_that_do_not_add_up_are_told_even_with_a_right_checksum() {
        let mut bytes = entry().to_bytes();
        let body = bytes.len() - FOOTER;
        bytes[body..body + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        let end = bytes.len() - 16;
        let sum = fnv(&bytes[..end]);
        bytes[end..end + 8].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(Entry::from_bytes(&bytes), Err(Damage::Length { parts: u64::MAX, file: body as u64 }));
    }

    /// The test vectors of the algorithm's authors: <http://www.isthe.com/chongo/tech/comp/fnv/>.
    #[test]
    fn the_hash_is_fnv_1a() {
        assert_eq!((fnv(b""), fnv(b"a"), fnv(b"foobar")), (0xcbf29ce484222325, 0xaf63dc4c8601ec8c, 0x85944171f73967e8));
    }
}
