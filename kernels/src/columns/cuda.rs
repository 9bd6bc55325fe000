use crate::cuda::grid::{Split, piece};
use crate::cuda::{Arch, Launches, Machine, Place, Source};
use galatea_tensor::DType;

/// Sums of rows.
pub(crate) const SOURCE: Source = Source { name: "columns", text: include_str!("columns.cu"), archs: &Arch::ALL };

/// y[s] = sum of the `count` rows x[from s], x[from s + stride], .. of `width` elements.
#[derive(Clone, Copy)]
pub(crate) struct Columns {
    pub(crate) x: (Place, DType),
    pub(crate) segments: usize,
    /// Elements from a segment to the next.
    pub(crate) from: usize,
    /// Elements from a row to the next.
    pub(crate) stride: usize,
    pub(crate) count: usize,
    pub(crate) width: usize,
    pub(crate) y: (Place, DType),
    /// Elements from the sums of a segment to the next.
    pub(crate) pitch: usize,
    /// Where the sums of segment 1 go instead.
    pub(crate) second: Option<Place>,
}

impl Columns {
    /// The launches that make the sums, in two steps where a strip has many rows and the machine few strips.
    pub(crate) fn launch(self, machine: Machine, launches: &mut Launches) {
        let Self { segments, width, count, .. } = self;
        // What the kernel finds out too: whether every row begins with a whole vector.
        let whole = piece(self.x.1, self.width | self.from | self.stride | self.pitch);
        let split = Split::new(machine, segments, width, whole, count);
        if split.parts == 1 {
            self.once(split, launches);
            return;
        }
        let (partial, row) = (Place::Scratch(launches.reserve(4 * segments * split.parts * width)), width);
        Self { y: (partial, DType::F32), pitch: row, second: None, ..self }.once(split, launches);
        let sums = Self { x: (partial, DType::F32), from: split.parts * row, stride: row, count: split.parts, ..self };
        let whole = piece(DType::F32, sums.width | sums.from | sums.stride | sums.pitch);
        let split = Split::new(machine, segments, width, whole, sums.count);
        sums.once(Split { parts: 1, per: sums.count, ..split }, launches);
    }

    fn once(self, split: Split, launches: &mut Launches) {
        let Self { x, segments, from, stride, count, width, y, pitch, second } = self;
        let entry = match (x.1 == DType::Bf16, y.1 == DType::Bf16) {
            (false, false) => "sum_rows_f32_f32",
            (false, true) => "sum_rows_f32_bf16",
            (true, false) => "sum_rows_bf16_f32",
            (true, true) => "sum_rows_bf16_bf16",
        };
        let launch = split.launch(&SOURCE, entry, segments, 1).at(x.0).at(y.0);
        let launch = match second {
            Some(place) => launch.at(place),
            None => launch.null(),
        };
        let launch = launch.u32(width).u64(from).u64(stride).u64(count).u64(pitch);
        launches.list.push(launch.u32(split.tiles).u32(split.parts).u64(split.per));
    }
}
