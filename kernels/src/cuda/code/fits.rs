//! Whether a GPU would take a launch, known from the plan and the machine code without one.

use super::image::{Image, Kernel};
use crate::cuda::launch::{Arch, Arg, Launch, Map, Swizzle};

/// Why a driver would refuse a launch, or run it on arguments that the kernel reads differently.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misfit {
    /// The image has no such kernel.
    #[error("{entry}: is not in the image of {name}.cu")]
    Absent {
        /// The kernel.
        entry: &'static str,
        /// The file.
        name: &'static str,
    },
    /// The arguments are not the parameters.
    #[error("{entry}: arguments of {given:?} bytes for parameters of {wanted:?}")]
    Arguments {
        /// The kernel.
        entry: &'static str,
        /// Bytes of every argument.
        given: Vec<u32>,
        /// Bytes of every parameter.
        wanted: Vec<u32>,
    },
    /// The grid or the block has an extent that no launch may have.
    #[error("{entry}: a grid of {grid:?} blocks of {block:?} threads, which no GPU takes")]
    Shape {
        /// The kernel.
        entry: &'static str,
        /// Blocks.
        grid: [u32; 3],
        /// Threads of a block.
        block: [u32; 3],
    },
    /// More threads than the kernel was compiled for.
    #[error("{entry}: {threads} threads of a block, and it is compiled for {limit}")]
    Threads {
        /// The kernel.
        entry: &'static str,
        /// Threads of a block.
        threads: u32,
        /// Its `__launch_bounds__`.
        limit: u32,
    },
    /// A block does not find its registers on a processor.
    #[error("{entry}: {threads} threads of {registers} registers are more than the 65536 of a processor")]
    Registers {
        /// The kernel.
        entry: &'static str,
        /// Threads of a block.
        threads: u32,
        /// Registers of a thread.
        registers: u32,
    },
    /// A block does not find its shared memory on a processor.
    #[error("{entry}: {bytes} bytes of shared memory, static and dynamic, and a block may have {limit}")]
    Shared {
        /// The kernel.
        entry: &'static str,
        /// Bytes of both kinds.
        bytes: u64,
        /// The most that a block may have.
        limit: u64,
    },
    /// The copy engine has no such view.
    #[error("{entry}: {map:?} is no view for the copy engine: {reason}")]
    Map {
        /// The kernel.
        entry: &'static str,
        /// The view.
        map: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
}

/// Registers of a processor, all generations.
const REGISTERS: u32 = 1 << 16;

impl Arch {
    /// Bytes of shared memory that a block may have, as the programming guide's table of compute capabilities says: 163 KiB
    /// since 8.0, 227 KiB since 9.0.
    pub const fn shared(self) -> u64 {
        match self {
            Arch::Sm80 => 163 << 10,
            Arch::Sm90a | Arch::Sm100a => 227 << 10,
        }
    }
}

/// Checks a launch against the machine code that it starts.
///
/// # Errors
/// The first reason why the driver or the kernel would not be content.
pub fn fits(launch: &Launch, image: &Image, arch: Arch) -> Result<(), Misfit> {
    let Launch { entry, grid, block, .. } = *launch;
    let kernel = image.kernels.iter().find(|kernel| kernel.entry == entry);
    let kernel: &Kernel = kernel.ok_or(Misfit::Absent { entry, name: launch.source.name })?;
    let given: Vec<u32> = launch.args.iter().map(bytes).collect();
    if given != kernel.params {
        return Err(Misfit::Arguments { entry, given, wanted: kernel.params.clone() });
    }
    let threads: u32 = block.iter().product();
    let extents = grid.iter().chain(&block).all(|extent| *extent > 0) && threads <= 1024 && block[2] <= 64;
    if !extents || grid[0] > i32::MAX as u32 || grid[1..].iter().any(|extent| *extent > 65535) {
        return Err(Misfit::Shape { entry, grid, block });
    }
    if let Some(limit) = kernel.threads.filter(|limit| threads > *limit) {
        return Err(Misfit::Threads { entry, threads, limit });
    }
    // A warp takes its registers by the 256, four warps at a time.
    let registers = kernel.registers;
    if (registers * 32).next_multiple_of(256) * threads.div_ceil(32).next_multiple_of(4) > REGISTERS {
        return Err(Misfit::Registers { entry, threads, registers });
    }
    let (bytes, limit) = (u64::from(kernel.shared) + u64::from(launch.shared), arch.shared());
    if bytes > limit {
        return Err(Misfit::Shared { entry, bytes, limit });
    }
    for arg in &launch.args {
        if let Arg::Map(map) = arg
            && let Err(reason) = view(map)
        {
            return Err(Misfit::Map { entry, map: format!("{map:?}"), reason });
        }
    }
    Ok(())
}

/// Bytes of an argument.
fn bytes(arg: &Arg) -> u32 {
    match arg {
        Arg::At(_) | Arg::Null | Arg::U64(_) => 8,
        Arg::U32(_) | Arg::F32(_) => 4,
        Arg::Map(_) => 128,
    }
}

/// The rules of `cuTensorMapEncodeTiled`.
fn view(map: &Map) -> Result<(), &'static str> {
    let size = map.dtype.size() as u64;
    let row = u64::from(map.boxes[0]) * size;
    let within = match map.swizzle {
        Swizzle::None => u64::MAX,
        Swizzle::Bytes32 => 32,
        Swizzle::Bytes64 => 64,
        Swizzle::Bytes128 => 128,
    };
    let rules = [
        (map.dims.iter().all(|extent| (1..=1 << 32).contains(extent)), "an extent from 1 to 2^32"),
        (
            map.pitches.iter().all(|pitch| pitch.is_multiple_of(16) && *pitch < 1 << 40),
            "pitches in 16 bytes, below 2^40",
        ),
        (map.boxes.iter().all(|extent| (1..=256).contains(extent)), "a box of 1 to 256 elements an axis"),
        (row.is_multiple_of(16), "rows of a box in 16 bytes"),
        (row <= within, "rows of a box that fit their swizzle"),
    ];
    rules.iter().find(|(kept, _)| !kept).map_or(Ok(()), |(_, rule)| Err(*rule))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::{Place, Source};
    use galatea_tensor::DType;

    const SUM: Source = Source { name: "sum", text: "", archs: &Arch::ALL };

    /// A kernel of 256 threads with a pointer and a number.
    fn image() -> Image {
        let kernel =
            Kernel { entry: "sum".into(), registers: 128, shared: 1 << 10, threads: Some(512), params: vec![8, 4] };
        Image { processor: 90, kernels: vec![kernel] }
    }

    fn launch() -> Launch {
        Launch::new(&SUM, "sum", [3, 1, 1], 256).at(Place::Scratch(0)).u32(7u32)
    }

    #[test]
    fn what_a_gpu_takes_fits() {
        assert_eq!(fits(&launch(), &image(), Arch::Sm90a), Ok(()));
        assert_eq!(fits(&launch().shared(226 << 10), &image(), Arch::Sm90a), Ok(()));
        // 512 x 128 registers are all that there are.
        assert_eq!(fits(&Launch { block: [512, 1, 1], ..launch() }, &image(), Arch::Sm90a), Ok(()));
    }

    #[test]
    fn what_a_gpu_refuses_is_refused() {
        let refused = |launch: Launch| fits(&launch, &image(), Arch::Sm80).expect_err("a misfit");
        let entry = "sum";
        assert_eq!(refused(Launch { entry: "summe", ..launch() }), Misfit::Absent { entry: "summe", name: "sum" });
        let (given, wanted) = (vec![8, 4, 4], vec![8, 4]);
        assert_eq!(refused(launch().f32(1.0)), Misfit::Arguments { entry, given, wanted });
        for (grid, block) in [([0, 1, 1], 32), ([1, 65536, 1], 32), ([1 << 31, 1, 1], 32), ([1, 1, 1], 1025)] {
            let block = [block, 1, 1];
            assert_eq!(refused(Launch { grid, block, ..launch() }), Misfit::Shape { entry, grid, block });
        }
        let wide = Launch { block: [544, 1, 1], ..launch() };
        assert_eq!(refused(wide), Misfit::Threads { entry, threads: 544, limit: 512 });
        let bytes = (163 << 10) + 1024;
        assert_eq!(refused(launch().shared(163 << 10)), Misfit::Shared { entry, bytes, limit: 163 << 10 });
        let mut greedy = image();
        greedy.kernels[0].registers = 129;
        let half = Launch { block: [512, 1, 1], ..launch() };
        let expected = Misfit::Registers { entry, threads: 512, registers: 129 };
        assert_eq!(fits(&half, &greedy, Arch::Sm80), Err(expected));
    }

    #[test]
    fn a_view_keeps_the_rules_of_the_copy_engine() {
        let good = Map::matrix(Place::Scratch(0), DType::Bf16, (300, 72), (128, 64));
        assert_eq!(view(&good), Ok(()));
        for bad in [
            Map { dims: [72, 0, 1], ..good },
            Map { pitches: [72 * 2 + 2, 0], ..good },
            Map { boxes: [64, 257, 1], ..good },
            Map { boxes: [4, 8, 1], ..good },
            Map { swizzle: Swizzle::Bytes64, ..good },
        ] {
            assert!(view(&bad).is_err(), "{bad:?}");
        }
    }
}
