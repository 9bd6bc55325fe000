use crate::columns::cuda::Columns;
use crate::cuda::grid::each_in_rows;
use crate::cuda::{Arch, Launches, Machine, Source};
use crate::op::Rows;
use crate::program::Inst;
use galatea_tensor::DType::Bf16;

/// Rows that positions or texts share.
pub(crate) const SOURCE: Source = Source { name: "add_rows", text: include_str!("add_rows.cu"), archs: &Arch::ALL };

/// y = x + r.
pub(crate) fn forward(inst: &Inst, over: Rows, past: bool) -> Launches {
    let (x, r) = (inst.reads[0], inst.reads[1]);
    let (rows, d) = (x.shape.rows(), x.shape.cols());
    let entry = match (x.dtype == Bf16, r.dtype == Bf16) {
        (false, _) => "add_rows_f32",
        (true, true) => "add_rows_bf16",
        (true, false) => "add_rows_bf16_f32",
    };
    let launch = each_in_rows(&SOURCE, entry, x.dtype, rows, d).at(x).at(r);
    let launch = launch.maybe(past.then(|| &inst.reads[2])).at(inst.writes[0]).u64(rows).u32(d);
    launch.u32(x.shape.dim(1)).u32(r.shape.dim(0)).u32(u32::from(over == Rows::Batch)).into()
}

/// dr: sums over the rows that shared one.
pub(crate) fn backward(inst: &Inst, machine: Machine, over: Rows, rows: usize) -> Launches {
    let (dy, dr) = (inst.reads[0], inst.writes[0]);
    let (d, count) = (dy.shape.cols(), dy.shape.rows() / rows);
    // All rows of positions side by side are one long row.
    let (segments, width, stride) = match over {
        Rows::Positions => (1, rows * d, rows * d),
        Rows::Batch => (rows, d, d),
    };
    let (x, y) = ((dy.into(), dy.dtype), (dr.into(), dr.dtype));
    let columns = Columns { x, segments, from: count * d, stride, count, width, y, pitch: width, second: None };
    let mut launches = Launches::default();
    columns.launch(machine, &mut launches);
    launches
}
