use crate::cuda::grid::each;
use crate::cuda::{Arch, Launches, Source};
use crate::program::Inst;

/// Moving averages.
pub(crate) const SOURCE: Source = Source { name: "ema", text: include_str!("ema.cu"), archs: &Arch::ALL };

/// ema += (1 - decay) (param - ema).
pub(crate) fn step(inst: &Inst) -> Launches {
    let param = inst.reads[0];
    let launch = each(&SOURCE, "ema", param.dtype, param.shape.len()).at(param).at(inst.reads[1]);
    launch.at(inst.writes[0]).u64(param.shape.len()).into()
}
