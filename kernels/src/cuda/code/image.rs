//! What an image of machine code says of itself, read before the driver is given it.

use crate::cuda::launch::Arch;

/// An image: an ELF file of kernels for one architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The architecture's number: 80, 90, 100.
    pub processor: u32,
    /// Its kernels, by name.
    pub kernels: Vec<Kernel>,
}

/// A kernel of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    /// Its name.
    pub entry: String,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of static shared memory of a block.
    pub shared: u32,
    /// The most threads of a block, where the kernel says so.
    pub threads: Option<u32>,
    /// Bytes of every parameter, in order.
    pub params: Vec<u32>,
}

/// Bytes that are no image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an image of CUDA machine code: {0}")]
pub struct NotAnImage(&'static str);

impl Image {
    /// Reads an image.
    ///
    /// # Errors
    /// If `bytes` are no ELF file for CUDA, or one that is cut off.
    pub fn parse(bytes: &[u8]) -> Result<Self, NotAnImage> {
        let elf = Elf { bytes };
        if bytes.get(..6) != Some(b"\x7fELF\x02\x01") {
            return Err(NotAnImage("no 64-bit ELF file"));
        }
        const CUDA: u32 = 190;
        if elf.u16(18)? != CUDA {
            return Err(NotAnImage("an ELF file for another kind of processor"));
        }
        // Since version 8 of the format the number is in the second byte of the flags, before it was in the first.
        let (version, flags) = (bytes[8], elf.u32(48)?);
        let processor = if version >= 8 { flags >> 8 & 0xff } else { flags & 0xff };
        let sections = elf.sections()?;
        let registers = elf.registers(&sections)?;
        let mut kernels = Vec::new();
        for (i, section) in sections.iter().enumerate() {
            if let Some(entry) = section.name.strip_prefix(".text.") {
                let registers = registers.iter().find(|(section, _)| *section == i).map_or(0, |(_, count)| *count);
                let mut kernel = Kernel { entry: entry.to_owned(), registers, ..Kernel::default() };
                for other in &sections {
                    if other.name.strip_prefix(".nv.shared.") == Some(entry) {
                        kernel.shared = other.size as u32;
                    } else if other.name.strip_prefix(".nv.info.") == Some(entry) {
                        kernel.read(elf, other)?;
                    }
                }
                kernels.push(kernel);
            }
        }
        kernels.sort_by(|a, b| a.entry.cmp(&b.entry));
        Ok(Self { processor, kernels })
    }

    /// Whether `arch` runs this image: code runs on its own generation, and what is special to a processor only there.
    pub fn runs_on(&self, arch: Arch) -> bool {
        self.processor == arch.number()
    }
}

/// Kinds of attributes that we read.
const MAX_THREADS: u32 = 0x05;
const PARAM: u32 = 0x17;
const REGISTERS: u32 = 0x2f;

impl Kernel {
    /// Reads the attributes of a kernel.
    fn read(&mut self, elf: Elf<'_>, section: &Section<'_>) -> Result<(), NotAnImage> {
        let mut params = Vec::new();
        for (kind, at) in elf.attributes(section)? {
            match kind {
                MAX_THREADS => self.threads = Some(elf.u32(at)? * elf.u32(at + 4)? * elf.u32(at + 8)?),
                // An index, the place in the list and the offset in two halves, then flags with the size above them.
                PARAM => params.push((elf.u16(at + 4)?, elf.u32(at + 8)? >> 18)),
                _ => {}
            }
        }
        params.sort_unstable();
        self.params = params.into_iter().map(|(_, size)| size).collect();
        Ok(())
    }
}

struct Section<'a> {
    name: &'a str,
    offset: usize,
    size: usize,
}

#[derive(Clone, Copy)]
struct Elf<'a> {
    bytes: &'a [u8],
}

impl<'a> Elf<'a> {
    fn at<const N: usize>(self, offset: usize) -> Result<[u8; N], NotAnImage> {
        let found = self.bytes.get(offset..).and_then(|rest| rest.first_chunk::<N>());
        found.copied().ok_or(NotAnImage("the file is cut off"))
    }

    fn u16(self, offset: usize) -> Result<u32, NotAnImage> {
        self.at(offset).map(|b| u32::from(u16::from_le_bytes(b)))
    }

    fn u32(self, offset: usize) -> Result<u32, NotAnImage> {
        self.at(offset).map(u32::from_le_bytes)
    }

    /// An offset or a size, which no file of ours comes near to overflowing.
    fn size(self, offset: usize) -> Result<usize, NotAnImage> {
        let n = u64::from_le_bytes(self.at(offset)?);
        usize::try_from(n).ok().filter(|n| *n <= self.bytes.len()).ok_or(NotAnImage("an offset beyond the file"))
    }

    /// The attributes of a section that have a payload: their kinds and where it is. One is a form, a kind, and two bytes
    /// that are the value, or, in the fourth form, the payload's length.
    fn attributes(self, section: &Section<'_>) -> Result<Vec<(u32, usize)>, NotAnImage> {
        const LONG: u32 = 4;
        let (mut at, end) = (section.offset, section.offset + section.size);
        let mut found = Vec::new();
        while at < end {
            let (head, length) = (self.u16(at)?, self.u16(at + 2)? as usize);
            at += 4;
            if head & 0xff == LONG {
                found.push((head >> 8, at));
                at += length;
            }
        }
        Ok(found)
    }

    /// Registers of a thread, by the number of the section with a kernel's code. They are told by symbol.
    fn registers(self, sections: &[Section<'_>]) -> Result<Vec<(usize, u32)>, NotAnImage> {
        const SYMBOL: usize = 24;
        let named = |name| sections.iter().find(|section| section.name == name);
        let (Some(info), Some(symbols)) = (named(".nv.info"), named(".symtab")) else { return Ok(Vec::new()) };
        let registers = self.attributes(info)?.into_iter().filter(|(kind, _)| *kind == REGISTERS);
        registers
            .map(|(_, at)| {
                let symbol = symbols.offset + self.u32(at)? as usize * SYMBOL;
                Ok((self.u16(symbol + 6)? as usize, self.u32(at + 4)?))
            })
            .collect()
    }

    fn sections(self) -> Result<Vec<Section<'a>>, NotAnImage> {
        const ENTRY: usize = 64;
        let (table, count, names) = (self.size(40)?, self.u16(60)? as usize, self.u16(62)? as usize);
        let names = self.size(table + names * ENTRY + 24)?;
        let section = |i: usize| {
            let at = table + i * ENTRY;
            self.at::<ENTRY>(at)?;
            let start =
                &self.bytes.get(names + self.u32(at)? as usize..).ok_or(NotAnImage("a name beyond the file"))?;
            let name = start.split(|byte| *byte == 0).next().unwrap_or_default();
            let name = std::str::from_utf8(name).map_err(|_| NotAnImage("a name that is not text"))?;
            // What occupies no bytes of the file may be larger than it.
            let size = u64::from_le_bytes(self.at(at + 32)?) as usize;
            Ok(Section { name, offset: self.size(at + 24)?, size })
        };
        (0..count).map(section).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The file of an image with one kernel of no instructions: two parameters of 4 and 8 bytes, at most 16 x 8 x 2 threads.
    pub(in super::super) fn elf(entry: &str, version: u8, flags: u32, registers: u32) -> Vec<u8> {
        let attributes: Vec<u8> = [
            &[4, 0x17, 12, 0, 0, 0, 0, 0, 1, 0, 8, 0, 0, 0xf0, 0x21, 0][..],
            &[4, 0x17, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xf0, 0x11, 0],
            &[3, 0x1b, 0xff, 0],
            &[4, 0x05, 12, 0, 16, 0, 0, 0, 8, 0, 0, 0, 2, 0, 0, 0],
        ]
        .concat();
        let counts: Vec<u8> = [&[4, 0x2f, 8, 0, 1, 0, 0, 0][..], &registers.to_le_bytes()].concat();
        // Two symbols of 24 bytes; the second is the kernel, in section 5.
        let mut symbols = [0; 48];
        symbols[24 + 6] = 5;
        let names: Vec<String> =
            ["", ".names", ".symtab", ".nv.info", &format!(".nv.info.{entry}"), &format!(".text.{entry}")]
                .into_iter()
                .map(str::to_owned)
                .chain([format!(".nv.shared.{entry}")])
                .collect();
        let strings = names.iter().flat_map(|name| name.bytes().chain([0])).collect::<Vec<u8>>();
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[8] = version;
        file[18..20].copy_from_slice(&190u16.to_le_bytes());
        file[48..52].copy_from_slice(&flags.to_le_bytes());
        let mut places = vec![(0, 0)];
        for part in [&strings[..], &symbols, &counts, &attributes] {
            places.push((file.len(), part.len()));
            file.extend(part);
        }
        // Code of no bytes, and shared memory, which occupies none of the file.
        places.extend([(0, 0), (0, 1 << 16)]);
        file.resize(file.len().next_multiple_of(8), 0);
        let table = file.len() as u64;
        file[40..48].copy_from_slice(&table.to_le_bytes());
        file[60..62].copy_from_slice(&(names.len() as u16).to_le_bytes());
        file[62..64].copy_from_slice(&1u16.to_le_bytes());
        let mut name_at = 0;
        for (i, name) in names.iter().enumerate() {
            let mut header = [0; 64];
            header[..4].copy_from_slice(&(name_at as u32).to_le_bytes());
            let (offset, size) = places[i];
            header[24..32].copy_from_slice(&(offset as u64).to_le_bytes());
            header[32..40].copy_from_slice(&(size as u64).to_le_bytes());
            file.extend(header);
            name_at += name.len() + 1;
        }
        file
    }

    #[test]
    fn an_image_says_what_its_kernels_need() {
        let image = Image::parse(&elf("sum", 8, 0x0600_5a04, 168)).expect("an image");
        let kernel =
            Kernel { entry: "sum".to_owned(), registers: 168, shared: 1 << 16, threads: Some(256), params: vec![4, 8] };
        assert_eq!(image, Image { processor: 90, kernels: vec![kernel] });
    }

    #[test]
    fn an_image_runs_on_its_own_processor_alone() {
        for (flags, arch) in [(0x5000, Arch::Sm80), (0x5a00, Arch::Sm90a), (0x6400, Arch::Sm100a)] {
            let image = Image::parse(&elf("sum", 8, flags, 8)).expect("an image");
            assert_eq!(Arch::ALL.map(|other| image.runs_on(other)), Arch::ALL.map(|other| other == arch));
        }
        let old = Image::parse(&elf("sum", 7, 0x0050_0550, 8)).expect("an image of CUDA 12");
        assert!(old.runs_on(Arch::Sm80));
    }

    #[test]
    fn no_prefix_of_an_image_and_no_other_file_is_one() {
        let whole = elf("sum", 8, 0x5000, 8);
        for length in 0..whole.len() {
            assert!(Image::parse(&whole[..length]).is_err(), "{length} bytes of {}", whole.len());
        }
        let mut x86 = whole.clone();
        x86[18] = 62;
        assert_eq!(Image::parse(&x86), Err(NotAnImage("an ELF file for another kind of processor")));
        assert_eq!(Image::parse(&[0; 4096]), Err(NotAnImage("no 64-bit ELF file")));
    }
}
