//! Products on CUDA: which kernel, which tile, how many parts of k.
//!
//! An element of C is summed in the order of k whatever its tile, so a row has the same bits in every batch; only a product
//! that says so ([`Product::split`]) is cut along k, for a gradient that sums over the batch anyway.

#[cfg(test)]
mod tests;
mod tiles;

use crate::cuda::{Arch, Arg, Launch, Launches, Machine, Map, Place, Source};
use crate::op::{Activation, AdamW};
use galatea_tensor::{DType, Slot};
pub(crate) use tiles::Tile;

/// Products of bf16 and int8 by warps.
pub(crate) const WARPS: Source = source("product_bf16", include_str!("../product_bf16.cu"), &Arch::ALL);
/// Products of bf16 by warpgroups.
pub(crate) const GROUPS: Source = source("product_hopper", include_str!("../product_hopper.cu"), &[Arch::Sm90a]);
/// Products of f32.
pub(crate) const SINGLE: Source = source("product_f32", include_str!("../product_f32.cu"), &Arch::ALL);
/// What stands beside them.
pub(crate) const JOIN: Source = source("join", include_str!("../join.cu"), &Arch::ALL);

const fn source(name: &'static str, text: &'static str, archs: &'static [Arch]) -> Source {
    Source { name, text, archs }
}

/// How the factors lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A [m, k], B [n, k]: x w^T.
    Nt,
    /// A [m, k], B [k, n]: dy w.
    Nn,
    /// A [k, m], B [k, n]: dy^T x.
    Tn,
}

impl Form {
    /// Rows and columns of A and of B in memory, and whether k runs along their rows.
    fn lie(self, (m, n, k): (usize, usize, usize)) -> [((usize, usize), bool); 2] {
        match self {
            Form::Nt => [((m, k), true), ((n, k), true)],
            Form::Nn => [((m, k), true), ((k, n), false)],
            Form::Tn => [((k, m), false), ((k, n), false)],
        }
    }
}

/// A dense matrix without its shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Matrix {
    /// Where it begins.
    pub(crate) place: Place,
    /// Of its elements.
    pub(crate) dtype: DType,
}

impl From<Slot> for Matrix {
    fn from(slot: Slot) -> Self {
        Self { place: slot.into(), dtype: slot.dtype }
    }
}

/// What is done with the sums, as [`super::Epilogue`] says; u and the residual are of C's shape and type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Finish {
    /// C.
    pub(crate) c: Matrix,
    /// Multiplies the sums.
    pub(crate) scale: f32,
    /// Added to every row; of [`Form::Nt`] alone, as the activation.
    pub(crate) bias: Option<Place>,
    /// Applied to every element.
    pub(crate) activation: Activation,
    /// Receives what the activation is applied to.
    pub(crate) u: Option<Place>,
    /// Added after the activation, times the weight.
    pub(crate) residual: Option<(f32, Place)>,
    /// Whether C is added to.
    pub(crate) accumulate: bool,
}

impl Finish {
    /// C = A B.
    pub(crate) fn plain(c: impl Into<Matrix>) -> Self {
        let c = c.into();
        Self { c, scale: 1.0, bias: None, activation: Activation::None, u: None, residual: None, accumulate: false }
    }

    /// The arguments that every product ends with.
    pub(crate) fn arguments(&self, mut launch: Launch) -> Launch {
        let pointer = |place: Option<Place>| place.map_or(Arg::Null, Arg::At);
        let (weight, residual) = self.residual.map_or((0.0, None), |(weight, place)| (weight, Some(place)));
        let (accumulate, half) = (u32::from(self.accumulate), u32::from(self.c.dtype == DType::Bf16));
        launch.args.extend([Arg::At(self.c.place), pointer(self.u), pointer(self.bias), pointer(residual)]);
        launch.f32(self.scale).f32(weight).u32(number(self.activation) + 0x100 * accumulate + 0x200 * half)
    }
}

/// An activation as kernels know it.
pub(crate) fn number(activation: Activation) -> u32 {
    match activation {
        Activation::None => 0,
        Activation::Relu => 1,
        Activation::Silu => 2,
        Activation::Gelu => 3,
        Activation::GeluErf => 4,
        Activation::Tanh => 5,
        Activation::SwiGlu => unreachable!("a gate takes two columns: `gate` joins them"),
    }
}

/// The state of AdamW, all of the gradient's shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Descend {
    /// param, m, v.
    pub(crate) state: [Place; 3],
    /// The moving average.
    pub(crate) ema: Option<Place>,
    /// The bf16 copy.
    pub(crate) copy: Option<Place>,
    /// The rates of the step.
    pub(crate) hyper: Place,
    /// The constants.
    pub(crate) adamw: AdamW,
}

impl Descend {
    fn arguments(&self, mut launch: Launch) -> Launch {
        let pointer = |place: Option<Place>| place.map_or(Arg::Null, Arg::At);
        launch.args.extend(self.state.map(Arg::At));
        launch.args.extend([pointer(self.ema), pointer(self.copy), Arg::At(self.hyper)]);
        let AdamW { beta_1, beta_2, eps, weight_decay } = self.adamw;
        launch.f32(beta_1).f32(beta_2).f32(eps).f32(weight_decay)
    }
}

/// What the sums of a product become.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    /// A matrix.
    Finish(Finish),
    /// A step of AdamW; of [`Form::Tn`] alone.
    Descend(Descend),
}

impl End {
    fn arguments(&self, launch: Launch) -> Launch {
        match self {
            End::Finish(finish) => finish.arguments(launch),
            End::Descend(descend) => descend.arguments(launch),
        }
    }
}

/// C [m, n] = A B, summed over k.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Product {
    /// How the factors lie.
    pub(crate) form: Form,
    /// m, n, k.
    pub(crate) shape: (usize, usize, usize),
    /// What is multiplied, f32 or bf16: a factor of the other type is converted first.
    pub(crate) dtype: DType,
    /// A.
    pub(crate) a: Matrix,
    /// B.
    pub(crate) b: Matrix,
    /// What becomes of the sums.
    pub(crate) end: End,
    /// Whether k may be cut into parts that are added afterwards.
    pub(crate) split: bool,
    /// How many such products lie one after another: of A, of B, and of what they become.
    pub(crate) count: usize,
}

impl Product {
    /// Appends its launches.
    pub(crate) fn plan(mut self, machine: Machine, plan: &mut Launches) {
        let [((a_rows, a_cols), _), ((b_rows, b_cols), _)] = self.form.lie(self.shape);
        self.a = converted(plan, self.a, self.dtype, self.count * a_rows * a_cols);
        self.b = converted(plan, self.b, self.dtype, self.count * b_rows * b_cols);
        let (tiles, hopper) = self.tiles(machine);
        let split = self.split && self.count == 1 && matches!(self.end, End::Finish(_));
        let (tile, parts) = Tile::choose(tiles, machine.processors as usize, self.shape, self.count, split);
        self.launch(machine, tile, hopper, parts, plan);
    }

    /// The tiles of the kernel that can multiply this, and whether it is the one for warpgroups.
    fn tiles(&self, machine: Machine) -> (&'static [Tile], bool) {
        let whole = |cols: usize| (cols * self.dtype.size()).is_multiple_of(16);
        let aligned = self.form.lie(self.shape).iter().all(|&((_, cols), _)| whole(cols));
        let step = matches!(self.end, End::Descend(_));
        match (self.dtype == DType::Bf16, aligned) {
            (true, true) if machine.arch == Arch::Sm90a && self.count == 1 => {
                (if step { &tiles::HOPPER_STEP } else { &tiles::HOPPER }, true)
            }
            (true, true) => (&tiles::BF16, false),
            (true, false) => (&tiles::BF16_ANY, false),
            (false, true) => (&tiles::F32, false),
            (false, false) => (&tiles::F32_ANY, false),
        }
    }

    /// Appends the launch of one tile's kernel and, after several parts, the one that joins them.
    fn launch(&self, machine: Machine, tile: &Tile, hopper: bool, parts: usize, plan: &mut Launches) {
        let Self { form, shape: (m, n, k), dtype, a, b, end, .. } = *self;
        let (blocks, step) = (tile.count(m, n), matches!(end, End::Descend(_)));
        let source: &'static Source = if hopper {
            &GROUPS
        } else if dtype == DType::Bf16 {
            &WARPS
        } else {
            &SINGLE
        };
        let partial = (parts > 1).then(|| reserve(plan, parts * m * n * size_of::<f32>()));
        let grid = if hopper {
            [(blocks * parts).min(machine.processors as usize * tile.together) as u32, 1, 1]
        } else {
            [blocks as u32, parts as u32, self.count as u32]
        };
        let mut launch = Launch::new(source, tile.entry(form, step), grid, tile.threads).shared(tile.shared);
        if hopper {
            let [(a_lies, a_along), (b_lies, b_along)] = form.lie((m, n, k));
            let map = |x: Matrix, lies, along, long: usize| {
                Map::matrix(x.place, dtype, lies, if along { (long as u32, 64) } else { (64, 64) })
            };
            launch = launch.map(map(a, a_lies, a_along, tile.rows)).map(map(b, b_lies, b_along, tile.cols));
        } else {
            launch = launch.at(a.place).at(b.place);
        }
        launch = launch.u32(m).u32(n).u32(k);
        if hopper {
            launch = launch.u32(parts);
        }
        match (partial, end) {
            (Some(partial), End::Finish(finish)) => {
                let part = Finish::plain(Matrix { place: partial, dtype: DType::F32 });
                plan.list.push(part.arguments(launch));
                let join = Launch::over(&JOIN, "join_parts", m * n.div_ceil(4)).at(partial).u32(parts).u32(m).u32(n);
                plan.list.push(finish.arguments(join));
            }
            (_, end) => plan.list.push(end.arguments(launch)),
        }
    }
}

/// Appends y [m, n] = silu(a) b for u = (a, b) + bias, where `finish` says what y is, the bias, and where u [m, 2 n] is kept; a and
/// b are f32, `pitch` elements from row to row.
pub(crate) fn gate((m, n): (usize, usize), (a, b, pitch): (Place, Place, usize), finish: Finish, plan: &mut Launches) {
    let join = Launch::over(&JOIN, "join_gated", m * n.div_ceil(4)).at(a).at(b).u32(pitch).u32(m).u32(n);
    plan.list.push(finish.arguments(join));
}

/// The place so many bytes later.
pub(crate) fn later(place: Place, bytes: usize) -> Place {
    match place {
        Place::Scratch(offset) => Place::Scratch(offset + bytes),
        Place::Slot(slot) => Place::Slot(Slot { offset: slot.offset + bytes, ..slot }),
    }
}

/// Memory of `bytes` in the plan's scratch.
pub(crate) fn reserve(plan: &mut Launches, bytes: usize) -> Place {
    let offset = plan.scratch.next_multiple_of(256);
    plan.scratch = offset + bytes;
    Place::Scratch(offset)
}

/// `x` if it has that type, else a copy in scratch that has.
fn converted(plan: &mut Launches, x: Matrix, dtype: DType, len: usize) -> Matrix {
    if x.dtype == dtype {
        return x;
    }
    let entry = if dtype == DType::Bf16 { "factor_to_bf16" } else { "factor_to_f32" };
    let place = reserve(plan, len * dtype.size());
    plan.list.push(Launch::over(&JOIN, entry, len.div_ceil(4)).at(x.place).at(place).u64(len));
    Matrix { place, dtype }
}

/// Appends the sums of the columns of x [rows, n] to `sums` f32 [n]: in chunks of rows, and those once more.
pub(crate) fn column_sums(machine: Machine, x: Matrix, (rows, n): (usize, usize), sums: Place, plan: &mut Launches) {
    let strips = n.div_ceil(64);
    // Four blocks for every processor, each with 64 rows at the least.
    let chunks = (4 * machine.processors as usize).div_ceil(strips).clamp(1, rows.div_ceil(64));
    let each = rows.div_ceil(chunks);
    let chunks = rows.div_ceil(each);
    let entry = if x.dtype == DType::Bf16 { "column_sums_bf16" } else { "column_sums_f32" };
    let one = |entry, x: Place, to: Place, rows: usize, each: usize| {
        let grid = [strips as u32, rows.div_ceil(each) as u32, 1];
        Launch::new(&JOIN, entry, grid, 256).at(x).at(to).u32(rows).u32(n).u32(each)
    };
    if chunks == 1 {
        plan.list.push(one(entry, x.place, sums, rows, rows));
    } else {
        let partial = reserve(plan, chunks * n * size_of::<f32>());
        plan.list.push(one(entry, x.place, partial, rows, each));
        plan.list.push(one("column_sums_f32", partial, sums, chunks, chunks));
    }
}

/// Appends y [m, n] = finished(scale_row scale_column A B^T) for A int8 [m, k] with `rows` [m, 2] = (scale, sum of a row) and
/// B int8 [n, k] with `scales` [n].
pub(crate) fn bytes(
    machine: Machine,
    (m, n, k): (usize, usize, usize),
    (a, rows): (Place, Place),
    (b, scales): (Place, Place),
    finish: Finish,
    plan: &mut Launches,
) {
    let tiles: &'static [Tile] = if k.is_multiple_of(16) { &tiles::INT8 } else { &tiles::INT8_ANY };
    let (tile, _) = Tile::choose(tiles, machine.processors as usize, (m, n, k.div_ceil(2)), 1, false);
    let grid = [tile.count(m, n) as u32, 1, 1];
    let launch = Launch::new(&WARPS, tile.entry(Form::Nt, false), grid, tile.threads).shared(tile.shared);
    let launch = launch.at(a).at(b).at(rows).at(scales).u32(m).u32(n).u32(k);
    plan.list.push(finish.arguments(launch));
}
