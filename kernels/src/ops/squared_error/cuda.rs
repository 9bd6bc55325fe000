use crate::cuda::grid::{Groups, each_in_rows, piece, typed};
use crate::cuda::{Arch, Launches, Source};
use crate::ops::cross_entropy::cuda::weighted_sum;
use crate::program::Inst;

/// Squared errors.
pub(crate) const SOURCE: Source =
    Source { name: "squared_error", text: include_str!("squared_error.cu"), archs: &Arch::ALL };

/// The most threads of a block with a row of its own.
const MOST: u32 = 256;

/// loss and error.
pub(crate) fn forward(inst: &Inst) -> Launches {
    let (prediction, target, w, error) = (inst.reads[0], inst.reads[1], inst.reads[2], inst.writes[1]);
    let (n, d) = (prediction.shape.rows(), prediction.shape.cols());
    let whole = piece(prediction.dtype, d);
    let groups = Groups::new(d, whole, Groups::held(whole), MOST);
    let entry = typed(prediction.dtype, "squared_error_f32", "squared_error_bf16");
    let launch = groups.launch(&SOURCE, entry, groups.blocks(n, usize::MAX)).at(prediction).at(target).at(error);
    let launch = launch.u64(n).u32(d).u32(groups.lanes);
    Launches { list: vec![launch, weighted_sum(w, error, inst.writes[0])], scratch: 0 }
}

/// dprediction and dtarget.
pub(crate) fn backward(inst: &Inst) -> Launches {
    let (prediction, reads) = (inst.reads[0], &inst.reads);
    let (n, d) = (prediction.shape.rows(), prediction.shape.cols());
    let entry = typed(prediction.dtype, "squared_error_grad_f32", "squared_error_grad_bf16");
    let launch = each_in_rows(&SOURCE, entry, prediction.dtype, n, d).at(prediction).at(reads[1]).at(reads[2]);
    launch.at(reads[3]).at(inst.writes[0]).at(inst.writes[1]).u64(n).u32(d).into()
}
