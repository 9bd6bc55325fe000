//! What a launch is: a kernel, a grid, and arguments that name slots instead of addresses.

use galatea_tensor::{DType, Slot};

/// The machine code that a kernel is compiled to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arch {
    /// Compute capability 8.0 and what runs its code: `cp.async`, `ldmatrix`, `mma.sync`.
    Sm80,
    /// Compute capability 9.0 with what is its own: TMA, `wgmma`.
    Sm90a,
    /// Compute capability 10.0.
    Sm100a,
}

impl Arch {
    /// Every one that kernels are compiled for.
    pub const ALL: [Arch; 3] = [Arch::Sm80, Arch::Sm90a, Arch::Sm100a];

    /// The compiler's name.
    pub const fn name(self) -> &'static str {
        match self {
            Arch::Sm80 => "sm_80",
            Arch::Sm90a => "sm_90a",
            Arch::Sm100a => "sm_100a",
        }
    }

    /// The number in it, which an image of machine code carries.
    pub const fn number(self) -> u32 {
        match self {
            Arch::Sm80 => 80,
            Arch::Sm90a => 90,
            Arch::Sm100a => 100,
        }
    }
}

/// What a plan is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The machine code.
    pub arch: Arch,
    /// Streaming multiprocessors: how many blocks a persistent kernel starts.
    pub processors: u32,
}

/// A file of kernels.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// The file's name without its extension.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
    /// What it can be compiled to.
    pub archs: &'static [Arch],
}

/// Where a pointer points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    /// The first element of a slot of the instruction.
    Slot(Slot),
    /// Bytes from the start of the scratch memory that the instruction asked for ([`Launches::scratch`]).
    Scratch(usize),
}

impl From<Slot> for Place {
    fn from(slot: Slot) -> Self {
        Place::Slot(slot)
    }
}

/// How rows of a box are permuted in shared memory, so that a column of 16-byte pieces meets no bank twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swizzle {
    /// Rows as they are.
    None,
    /// Boxes of rows of at most 32 bytes.
    Bytes32,
    /// Boxes of rows of at most 64 bytes.
    Bytes64,
    /// Boxes of rows of at most 128 bytes.
    Bytes128,
}

/// A view of memory for the copy engine (TMA): boxes of a bf16 or f32 array [dims[2], dims[1], dims[0]], zero outside it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Map {
    /// Its first element, 16-byte aligned.
    pub place: Place,
    /// Bf16 or f32.
    pub dtype: DType,
    /// Extents in elements, innermost first.
    pub dims: [u64; 3],
    /// Bytes from one row to the next and from one matrix to the next: multiples of 16.
    pub pitches: [u64; 2],
    /// Extents of a box in elements, innermost first.
    pub boxes: [u32; 3],
    /// How its rows lie in shared memory.
    pub swizzle: Swizzle,
}

impl Map {
    /// Boxes of `rows` x `cols` of one row-major matrix [n, k].
    pub fn matrix(place: impl Into<Place>, dtype: DType, (n, k): (usize, usize), (rows, cols): (u32, u32)) -> Self {
        let pitch = (k * dtype.size()) as u64;
        let swizzle = match cols as usize * dtype.size() {
            128 => Swizzle::Bytes128,
            64 => Swizzle::Bytes64,
            32 => Swizzle::Bytes32,
            _ => Swizzle::None,
        };
        Self {
            place: place.into(),
            dtype,
            dims: [k as u64, n as u64, 1],
            pitches: [pitch, pitch * n as u64],
            boxes: [cols, rows, 1],
            swizzle,
        }
    }
}

/// An argument of a kernel, in the order of its parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arg {
    /// A pointer.
    At(Place),
    /// A null pointer: an operand that this op has not.
    Null,
    /// `u32` or `int`.
    U32(u32),
    /// `u64`.
    U64(u64),
    /// `float`.
    F32(f32),
    /// `const __grid_constant__ TensorMap`.
    Map(Map),
}

/// One launch of a kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// The file.
    pub source: &'static Source,
    /// The kernel in it.
    pub entry: &'static str,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared: u32,
    /// Its arguments.
    pub args: Vec<Arg>,
}

impl Launch {
    /// A launch without arguments or shared memory yet.
    pub fn new(source: &'static Source, entry: &'static str, grid: [u32; 3], block: u32) -> Self {
        Self { source, entry, grid, block: [block, 1, 1], shared: 0, args: Vec::new() }
    }

    /// Enough blocks of 256 threads for `tasks`, one thread each.
    pub fn over(source: &'static Source, entry: &'static str, tasks: usize) -> Self {
        Self::new(source, entry, [tasks.div_ceil(256) as u32, 1, 1], 256)
    }

    /// With dynamic shared memory.
    pub fn shared(mut self, bytes: usize) -> Self {
        self.shared = bytes as u32;
        self
    }

    /// With a pointer.
    pub fn at(mut self, place: impl Into<Place>) -> Self {
        self.args.push(Arg::At(place.into()));
        self
    }

    /// With a pointer, or null.
    pub fn maybe(mut self, slot: Option<&Slot>) -> Self {
        self.args.push(slot.map_or(Arg::Null, |slot| Arg::At(Place::Slot(*slot))));
        self
    }

    /// With a null pointer.
    pub fn null(mut self) -> Self {
        self.args.push(Arg::Null);
        self
    }

    /// With a 32-bit number (sizes that fit, flags, ids).
    pub fn u32(mut self, x: impl TryInto<u32>) -> Self {
        self.args.push(Arg::U32(x.try_into().unwrap_or_else(|_| panic!("{}: a size beyond u32", self.entry))));
        self
    }

    /// With a 64-bit number.
    pub fn u64(mut self, x: usize) -> Self {
        self.args.push(Arg::U64(x as u64));
        self
    }

    /// With a float.
    pub fn f32(mut self, x: f32) -> Self {
        self.args.push(Arg::F32(x));
        self
    }

    /// With a tensor map.
    pub fn map(mut self, map: Map) -> Self {
        self.args.push(Arg::Map(map));
        self
    }
}

/// What an instruction becomes: launches one after another, and memory of their own.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Launches {
    /// In order.
    pub list: Vec<Launch>,
    /// Bytes of scratch memory, worthless after the instruction.
    pub scratch: usize,
}

impl Launches {
    /// Room for so many more bytes of scratch memory: where it begins.
    pub fn reserve(&mut self, bytes: usize) -> usize {
        let at = self.scratch.next_multiple_of(256);
        self.scratch = at + bytes;
        at
    }
}

impl From<Launch> for Launches {
    fn from(launch: Launch) -> Self {
        Self { list: vec![launch], scratch: 0 }
    }
}
