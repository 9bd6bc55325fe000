//! Element types.

use half::{bf16, f16};

/// The element type of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit floating point.
    F32,
    /// 16-bit floating point with the exponent of `F32`.
    Bf16,
    /// IEEE half precision.
    F16,
    /// Token ids, masks and random words.
    U32,
    /// Quantised weights and activations: multiples of a scale that is kept beside them.
    I8,
}

impl DType {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            DType::F32 | DType::U32 => 4,
            DType::Bf16 | DType::F16 => 2,
            DType::I8 => 1,
        }
    }

    /// The name printed in programs and errors.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::Bf16 => "bf16",
            DType::F16 => "f16",
            DType::U32 => "u32",
            DType::I8 => "int8",
        }
    }
}

/// A Rust type that a slot can hold: plain bytes, any bit pattern valid.
pub trait Elem: bytemuck::Pod + Send + Sync {
    /// The matching element type.
    const DTYPE: DType;
}

impl Elem for f32 {
    const DTYPE: DType = DType::F32;
}
impl Elem for bf16 {
    const DTYPE: DType = DType::Bf16;
}
impl Elem for f16 {
    const DTYPE: DType = DType::F16;
}
impl Elem for u32 {
    const DTYPE: DType = DType::U32;
}
impl Elem for i8 {
    const DTYPE: DType = DType::I8;
}
