use crate::cuda::{Arch, Launch, Launches, Source};
use crate::program::Inst;
use galatea_tensor::Slot;

/// Distances to the rows of a table.
pub(crate) const SOURCE: Source = Source { name: "distances", text: include_str!("distances.cu"), archs: &Arch::ALL };

/// Rows and columns of a block forward.
const TILE: usize = 64;
/// Rows and coordinates of a block backward.
const PULLS: (usize, usize) = (16, 64);

/// y.
pub(crate) fn forward(inst: &Inst) -> Launches {
    let (x, w) = (inst.reads[0], inst.reads[1]);
    let (n, v, tiles) = (x.shape.rows(), w.shape.rows(), w.shape.rows().div_ceil(TILE));
    let blocks = (n.div_ceil(TILE) * tiles) as u32;
    let launch = Launch::new(&SOURCE, "distances", [blocks, 1, 1], 256).at(x).at(w).at(inst.writes[0]);
    launch.u64(n).u32(v).u32(x.shape.cols()).u32(tiles).into()
}

/// dx and dw.
pub(crate) fn backward(inst: &Inst) -> Launches {
    let (x, w) = (inst.reads[0], inst.reads[1]);
    let (d, v) = (x.shape.cols(), w.shape.rows());
    let tiles = d.div_ceil(PULLS.1);
    let pulls = |mine: Slot, other: Slot, out: Slot, strides: (usize, usize)| {
        let (rows, others) = (mine.shape.rows(), other.shape.rows());
        let blocks = (rows.div_ceil(PULLS.0) * tiles) as u32;
        let launch = Launch::new(&SOURCE, "distances_grad", [blocks, 1, 1], 256).at(mine).at(other);
        let launch = launch.at(inst.reads[2]).at(inst.reads[3]).at(out).u64(rows).u64(others).u32(d);
        launch.u64(strides.0).u64(strides.1).u32(tiles)
    };
    // Row n of y is what x_n met, column v what w_v met.
    let list = vec![pulls(x, w, inst.writes[0], (v, 1)), pulls(w, x, inst.writes[1], (1, v))];
    Launches { list, scratch: 0 }
}
