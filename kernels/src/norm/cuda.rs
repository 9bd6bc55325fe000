use crate::columns::cuda::Columns;
use crate::cuda::grid::{Groups, piece, typed};
use crate::cuda::{Arch, Launch, Launches, Machine, Place, Source};
use crate::op::{Dropout, Norm};
use crate::ops::dropout::law;
use galatea_tensor::{DType, Slot};

/// Norms of rows, and residuals before them.
pub(crate) const SOURCE: Source = Source { name: "norm", text: include_str!("norm.cu"), archs: &Arch::ALL };

/// The most threads of a block with a row of its own.
const MOST: u32 = 256;

/// Gain and shift, where there are any.
#[derive(Clone, Copy)]
pub(crate) struct Tables<'a> {
    pub(crate) gain: Option<&'a Slot>,
    pub(crate) shift: Option<&'a Slot>,
}

/// A residual h and its dropout, and where the sum goes.
#[derive(Clone, Copy)]
pub(crate) struct Residual<'a> {
    pub(crate) h: Slot,
    pub(crate) s: Slot,
    pub(crate) dropout: Option<(Dropout, &'a Slot)>,
}

fn groups(x: Slot) -> Groups {
    let whole = piece(x.dtype, x.shape.cols());
    Groups::new(x.shape.cols(), whole, Groups::held(whole), MOST)
}

/// y and stats of x, or of s = x + dropout(h).
pub(crate) fn forward(
    (norm, eps): (Norm, f32),
    x: Slot,
    tables: Tables<'_>,
    residual: Option<Residual<'_>>,
    y: Slot,
    stats: Slot,
) -> Launches {
    let (n, d, groups) = (x.shape.rows(), x.shape.cols(), groups(x));
    let layer = u32::from(norm == Norm::Layer);
    let blocks = groups.blocks(n, usize::MAX);
    let Some(Residual { h, s, dropout }) = residual else {
        let launch = groups.launch(&SOURCE, typed(x.dtype, "norm_f32", "norm_bf16"), blocks);
        let launch = launch.at(x).maybe(tables.gain).maybe(tables.shift).at(y).at(stats);
        return launch.u64(n).u32(d).u32(groups.lanes).u32(layer).f32(eps).into();
    };
    let launch = groups.launch(&SOURCE, typed(x.dtype, "add_norm_f32", "add_norm_bf16"), blocks);
    let launch = launch.at(x).at(h).maybe(tables.gain).maybe(tables.shift).maybe(dropout.map(|(_, rng)| rng));
    let launch = launch.at(y).at(s).at(stats).u64(n).u32(d).u32(groups.lanes).u32(layer).f32(eps);
    mask(launch, dropout.map(|(dropout, _)| dropout)).into()
}

/// What a mask is beside its key: the stream, the least word that keeps its element, the scale.
fn mask(launch: Launch, dropout: Option<Dropout>) -> Launch {
    let (least, scale) = dropout.map_or((0, 1.0), |dropout| law(dropout.p));
    launch.u32(dropout.map_or(0, |dropout| dropout.stream)).u32(least).f32(scale)
}

/// What the backward pass reads beside x, its statistics and dy.
#[derive(Clone, Copy)]
pub(crate) struct Gradient<'a> {
    pub(crate) norm: Norm,
    pub(crate) x: Slot,
    pub(crate) stats: Slot,
    pub(crate) dy: Slot,
    pub(crate) plus: Option<&'a Slot>,
    pub(crate) gain: Option<&'a Slot>,
    /// A dropout, its key, and where the gradient before it goes.
    pub(crate) dropped: Option<(Dropout, &'a Slot, &'a Slot)>,
}

impl Gradient<'_> {
    /// dx, the dropped copy, and the column sums: one pass, then the sums of the blocks.
    pub(crate) fn launches(self, machine: Machine, dx: Slot, sums: Tables<'_>) -> Launches {
        let Self { norm, x, stats, dy, plus, gain, dropped } = self;
        let (n, d, groups) = (x.shape.rows(), x.shape.cols(), groups(x));
        let tables = usize::from(sums.gain.is_some()) + usize::from(sums.shift.is_some());
        // Two blocks of a processor's registers, where sums make few blocks better than many.
        let most = if tables > 0 { 2 * machine.processors as usize } else { usize::MAX };
        let blocks = groups.blocks(n, most);
        let mut launches = Launches::default();
        let partial = (tables > 0).then(|| Place::Scratch(launches.reserve(4 * blocks * tables * d)));
        let shared = if groups.lanes > 32 { 0 } else { 4 * tables * d };
        let launch = groups.launch(&SOURCE, typed(x.dtype, "norm_grad_f32", "norm_grad_bf16"), blocks).shared(shared);
        let launch = launch.at(x).at(stats).at(dy).maybe(plus).maybe(gain).maybe(dropped.map(|(_, rng, _)| rng)).at(dx);
        let launch = launch.maybe(dropped.map(|(_, _, dh)| dh));
        let launch = match partial {
            Some(place) => launch.at(place),
            None => launch.null(),
        };
        let launch = launch.u64(n).u32(d).u32(groups.lanes).u32(u32::from(norm == Norm::Layer));
        let launch = launch.u32(u32::from(sums.gain.is_some())).u32(u32::from(sums.shift.is_some()));
        launches.list.push(mask(launch, dropped.map(|(dropout, ..)| dropout)));
        if let (Some(partial), Some(y)) = (partial, sums.gain.or(sums.shift)) {
            let second = sums.gain.and(sums.shift).map(|slot| Place::from(*slot));
            let columns = Columns {
                x: (partial, DType::F32),
                segments: tables,
                from: d,
                stride: tables * d,
                count: blocks,
                width: d,
                y: ((*y).into(), DType::F32),
                pitch: d,
                second,
            };
            columns.launch(machine, &mut launches);
        }
        launches
    }
}
