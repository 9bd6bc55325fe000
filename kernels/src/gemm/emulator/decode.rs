//! The instructions on tiles as bytes, as Intel's manual (volume 2, the pages of each and of the VEX prefix) spells them.

/// One instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Instruction {
    /// `ldtilecfg`.
    Configure(Address),
    /// `tilerelease`.
    Release,
    /// `tilezero`.
    Zero(u8),
    /// `tileloadd`, and `tileloaddt1`, whose hint changes no number.
    Load(u8, Address),
    /// `tilestored`.
    Store(u8, Address),
    /// `tdpbf16ps`, `tdpbssd`, `tdpbsud`, `tdpbusd`, `tdpbuud`: C += A B.
    Multiply { product: Product, c: u8, a: u8, b: u8 },
}

/// What a word of A and of B holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Product {
    /// Two bf16.
    Halves,
    /// Four bytes, with a sign or without.
    Bytes { a_signed: bool, b_signed: bool },
}

/// base + (index << scale) + displacement; an instruction on a whole tile takes the middle term for each of its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) base: Base,
    /// A register and the bits that its value is shifted by.
    pub(super) index: Option<(u8, u8)>,
    pub(super) displacement: i32,
}

/// Where an address begins; registers have the numbers that instructions give them (rax, rcx, rdx, rbx, rsp, ...).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    Nothing,
    Register(u8),
    NextInstruction,
}

/// The instruction at the bytes `byte(0)`, `byte(1)`, .. and its length, or `None` if it is none of these. No byte beyond it is asked for.
pub(super) fn decode(byte: impl Fn(usize) -> u8) -> Option<(Instruction, usize)> {
    // The three-byte prefix: the map 0F 38; W = 0 and L = 0. Registers' high bits are stored inverted.
    if byte(0) != 0xc4 || byte(1) & 0x1f != 2 || byte(2) & 0x84 != 0 {
        return None;
    }
    let high = |bit: u32| (!byte(1) >> bit & 1) << 3;
    let (r, x, b) = (high(7), high(6), high(5));
    let (third, prefix) = (!byte(2) >> 3 & 15, Prefix::of(byte(2) & 3));
    let (opcode, mode) = (byte(3), byte(4));
    let (registers, reg, rm) = (mode >> 6 == 3, mode >> 3 & 7, mode & 7);
    // There are eight tiles.
    if r != 0 || (registers && b != 0) || third > 7 {
        return None;
    }
    if registers {
        let instruction = match (opcode, prefix) {
            (0x49, Prefix::None) if mode == 0xc0 && third == 0 => Instruction::Release,
            (0x49, Prefix::F2) if rm == 0 && third == 0 => Instruction::Zero(reg),
            (0x5c, Prefix::F3) => Instruction::Multiply { product: Product::Halves, c: reg, a: rm, b: third },
            (0x5e, prefix) => {
                let (a_signed, b_signed) = match prefix {
                    Prefix::None => (false, false),
                    Prefix::Size => (false, true),
                    Prefix::F3 => (true, false),
                    Prefix::F2 => (true, true),
                };
                let product = Product::Bytes { a_signed, b_signed };
                Instruction::Multiply { product, c: reg, a: rm, b: third }
            }
            _ => return None,
        };
        return Some((instruction, 5));
    }
    let (address, len) = address(&byte, x, b);
    let instruction = match (opcode, prefix) {
        _ if third != 0 => return None,
        (0x49, Prefix::None) if reg == 0 => Instruction::Configure(address),
        // Tiles have an index: the byte after the mode must be there.
        (0x4b, Prefix::F2 | Prefix::Size) if rm == 4 => Instruction::Load(reg, address),
        (0x4b, Prefix::F3) if rm == 4 => Instruction::Store(reg, address),
        _ => return None,
    };
    Some((instruction, len))
}

/// The prefix that the two lowest bits stand for.
#[derive(Clone, Copy)]
enum Prefix {
    None,
    Size,
    F3,
    F2,
}

impl Prefix {
    fn of(bits: u8) -> Self {
        match bits {
            0 => Self::None,
            1 => Self::Size,
            2 => Self::F3,
            _ => Self::F2,
        }
    }
}

/// The address that the bytes from the mode on spell, and where the instruction ends.
fn address(byte: impl Fn(usize) -> u8, x: u8, b: u8) -> (Address, usize) {
    let (mode, rm, mut end) = (byte(4) >> 6, byte(4) & 7, 5);
    let mut address = Address { base: Base::Register(rm | b), index: None, displacement: 0 };
    // Five as a base without a displacement says that there is none, or that it is the next instruction.
    let mut instead = Base::NextInstruction;
    let mut low = rm;
    if rm == 4 {
        let scaled = byte(5);
        end = 6;
        low = scaled & 7;
        instead = Base::Nothing;
        address.base = Base::Register(low | b);
        // Four, the stack pointer, is never an index.
        address.index = Some((scaled >> 3 & 7 | x, scaled >> 6)).filter(|&(register, _)| register != 4);
    }
    let wide = |at: usize| i32::from_le_bytes(std::array::from_fn(|i| byte(at + i)));
    match mode {
        0 if low == 5 => {
            address.base = instead;
            (address.displacement, end) = (wide(end), end + 4);
        }
        1 => (address.displacement, end) = (i32::from(byte(end) as i8), end + 1),
        2 => (address.displacement, end) = (wide(end), end + 4),
        _ => {}
    }
    (address, end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Base::{NextInstruction, Nothing, Register};

    const RAX: u8 = 0;
    const RCX: u8 = 1;
    const RBX: u8 = 3;
    const RSP: u8 = 4;
    const RBP: u8 = 5;
    const RSI: u8 = 6;
    const R9: u8 = 9;
    const R12: u8 = 12;
    const R13: u8 = 13;

    fn at(base: Base, index: Option<(u8, u8)>, displacement: i32) -> Address {
        Address { base, index, displacement }
    }

    /// Bytes that the assembler makes of instructions which nothing runs.
    macro_rules! assembled {
        ($($line:literal),+ $(,)?) => {{
            let (from, to): (*const u8, *const u8);
            // SAFETY: two addresses are taken, and the instructions between them are jumped over.
            unsafe {
                std::arch::asm!(
                    "lea {from}, [rip + 2f]",
                    "lea {to}, [rip + 3f]",
                    "jmp 3f",
                    "2:",
                    $($line,)+
                    "3:",
                    from = out(reg) from, to = out(reg) to, options(nomem, nostack)
                );
                std::slice::from_raw_parts(from, to.offset_from(from) as usize)
            }
        }};
    }

    fn decoded(mut bytes: &[u8]) -> Vec<Instruction> {
        let mut all = Vec::new();
        while !bytes.is_empty() {
            let (instruction, len) = decode(|i| bytes[i]).unwrap_or_else(|| panic!("{all:?}, then {bytes:02x?}"));
            all.push(instruction);
            bytes = &bytes[len..];
        }
        all
    }

    #[test]
    fn every_instruction_is_what_the_assembler_was_told() {
        let bytes = assembled!(
            "ldtilecfg [rax]",
            "tilerelease",
            "tilezero tmm0",
            "tilezero tmm7",
            "tileloadd tmm5, [rax + rcx*1]",
            "tileloaddt1 tmm6, [rax + rcx*1]",
            "tilestored [rax + rcx*1], tmm3",
            "tdpbf16ps tmm1, tmm2, tmm3",
            "tdpbssd tmm7, tmm6, tmm5",
            "tdpbsud tmm1, tmm2, tmm3",
            "tdpbusd tmm1, tmm2, tmm3",
            "tdpbuud tmm1, tmm2, tmm3",
        );
        let plain = at(Register(RAX), Some((RCX, 0)), 0);
        let multiply = |product, c, a, b| Instruction::Multiply { product, c, a, b };
        let bytes_of = |a_signed, b_signed| Product::Bytes { a_signed, b_signed };
        let expected = [
            Instruction::Configure(at(Register(RAX), None, 0)),
            Instruction::Release,
            Instruction::Zero(0),
            Instruction::Zero(7),
            Instruction::Load(5, plain),
            Instruction::Load(6, plain),
            Instruction::Store(3, plain),
            multiply(Product::Halves, 1, 2, 3),
            multiply(bytes_of(true, true), 7, 6, 5),
            multiply(bytes_of(true, false), 1, 2, 3),
            multiply(bytes_of(false, true), 1, 2, 3),
            multiply(bytes_of(false, false), 1, 2, 3),
        ];
        assert_eq!(decoded(bytes), expected);
    }

    #[test]
    fn every_form_of_an_address_is_what_the_assembler_was_told() {
        let bytes = assembled!(
            "tileloadd tmm0, [rbx + rsi*1]",
            "tileloadd tmm0, [rbx + rsi*1 + 64]",
            "tileloadd tmm0, [rbx + rsi*1 - 128]",
            "tileloadd tmm0, [rbx + rsi*1 + 1024]",
            "tileloadd tmm0, [rbx + rsi*2]",
            "tileloadd tmm0, [rbx + rsi*4 + 4]",
            "tileloadd tmm0, [rbx + rsi*8 - 129]",
            "tileloadd tmm0, [r9 + r12*1]",
            "tileloadd tmm0, [r12 + r9*8 + 1]",
            "tileloadd tmm0, [r13 + r12*1]",
            "tileloadd tmm0, [rbp + rbp*1]",
            "tileloadd tmm0, [rsp + rbp*1 + 32]",
            "tileloadd tmm0, [rax]",
            "tileloadd tmm0, [rcx*4 + 16]",
            "ldtilecfg [r12]",
            "ldtilecfg [r13]",
            "ldtilecfg [rbp - 64]",
            "ldtilecfg [rsp + 256]",
            "ldtilecfg [rax + rcx*8]",
            "ldtilecfg [rip + 77]",
        );
        let load = |address| Instruction::Load(0, address);
        let expected = [
            load(at(Register(RBX), Some((RSI, 0)), 0)),
            load(at(Register(RBX), Some((RSI, 0)), 64)),
            load(at(Register(RBX), Some((RSI, 0)), -128)),
            load(at(Register(RBX), Some((RSI, 0)), 1024)),
            load(at(Register(RBX), Some((RSI, 1)), 0)),
            load(at(Register(RBX), Some((RSI, 2)), 4)),
            load(at(Register(RBX), Some((RSI, 3)), -129)),
            load(at(Register(R9), Some((R12, 0)), 0)),
            load(at(Register(R12), Some((R9, 3)), 1)),
            load(at(Register(R13), Some((R12, 0)), 0)),
            load(at(Register(RBP), Some((RBP, 0)), 0)),
            load(at(Register(RSP), Some((RBP, 0)), 32)),
            load(at(Register(RAX), None, 0)),
            load(at(Nothing, Some((RCX, 2)), 16)),
            Instruction::Configure(at(Register(R12), None, 0)),
            Instruction::Configure(at(Register(R13), None, 0)),
            Instruction::Configure(at(Register(RBP), None, -64)),
            Instruction::Configure(at(Register(RSP), None, 256)),
            Instruction::Configure(at(Register(RAX), Some((RCX, 3)), 0)),
            Instruction::Configure(at(NextInstruction, None, 77)),
        ];
        assert_eq!(decoded(bytes), expected);
    }

    #[test]
    fn other_instructions_are_none_of_these() {
        // Undefined; a vector sum; `sttilecfg`; a ninth tile in each place; 256 bits; W; `tilezero` with a third register.
        for bytes in [
            &[0x0f, 0x0b, 0, 0, 0][..],
            &[0xc5, 0xf8, 0x58, 0xc1, 0],
            &[0xc4, 0xe2, 0x79, 0x49, 0x00],
            &[0xc4, 0x62, 0x62, 0x5c, 0xca],
            &[0xc4, 0xc2, 0x62, 0x5c, 0xca],
            &[0xc4, 0xe2, 0x22, 0x5c, 0xca],
            &[0xc4, 0xe2, 0x66, 0x5c, 0xca],
            &[0xc4, 0xe2, 0xe2, 0x5c, 0xca],
            &[0xc4, 0xe2, 0x73, 0x49, 0xc0],
        ] {
            assert_eq!(decode(|i| bytes[i]), None, "{bytes:02x?}");
        }
    }
}
