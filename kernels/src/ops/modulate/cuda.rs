use crate::columns::cuda::Columns;
use crate::cuda::grid::{Split, each_in_rows, piece, typed};
use crate::cuda::{Arch, Launches, Machine, Place, Source};
use crate::op::Chunk;
use crate::program::Inst;
use galatea_tensor::{DType, Slot};

/// Factors and shifts of a text.
pub(crate) const SOURCE: Source = Source { name: "modulate", text: include_str!("modulate.cu"), archs: &Arch::ALL };

/// y = x (1 + scale) + shift.
pub(crate) fn forward(inst: &Inst, shift: Chunk, scale: Chunk) -> Launches {
    let x = inst.reads[0];
    let (rows, d) = (x.shape.rows(), x.shape.cols());
    let launch = each_in_rows(&SOURCE, typed(x.dtype, "modulate_f32", "modulate_bf16"), x.dtype, rows, d);
    let launch = launch.at(x).at(inst.reads[1]).at(inst.writes[0]).u64(rows).u32(d).u32(x.shape.dim(1));
    launch.u32(shift.of).u32(shift.index).u32(scale.index).into()
}

/// dx and dm.
pub(crate) fn backward(inst: &Inst, machine: Machine, shift: Chunk, scale: Chunk) -> Launches {
    gradient(inst, machine, ["modulate_grad_f32", "modulate_grad_bf16"], scale, Some(shift))
}

/// dx = dy factor, and the sums of dy x in the chunk of the factor and, if there is one, of dy in that of the shift.
pub(crate) fn gradient(
    inst: &Inst,
    machine: Machine,
    entries: [&'static str; 2],
    scale: Chunk,
    shift: Option<Chunk>,
) -> Launches {
    let (x, dm) = (inst.reads[0], inst.writes[1]);
    let (b, l, d) = (x.shape.dim(0), x.shape.dim(1), x.shape.cols());
    let (sums, chunks) = (1 + usize::from(shift.is_some()), scale.of as usize);
    let split = Split::new(machine, b, d, piece(x.dtype, d), l);
    let mut launches = Launches::default();
    let partial = (split.parts > 1).then(|| Place::Scratch(launches.reserve(4 * b * split.parts * sums * d)));
    let launch = split.launch(&SOURCE, typed(x.dtype, entries[0], entries[1]), b, sums);
    let launch = launch.at(x).at(inst.reads[1]).at(inst.reads[2]).at(inst.writes[0]).at(dm);
    let launch = match partial {
        Some(place) => launch.at(place),
        None => launch.null(),
    };
    let launch = launch.u32(d).u32(l).u32(split.tiles).u32(split.parts).u64(split.per);
    launches.list.push(launch.u32(chunks).u32(shift.map_or(0, |shift| shift.index)).u32(scale.index));
    if let Some(Place::Scratch(partial)) = partial {
        for (i, chunk) in [Some(scale), shift].into_iter().flatten().enumerate() {
            let columns = Columns {
                x: (Place::Scratch(partial + 4 * i * d), DType::F32),
                segments: b,
                from: split.parts * sums * d,
                stride: sums * d,
                count: split.parts,
                width: d,
                y: (element(dm, chunk.index as usize * d), dm.dtype),
                pitch: chunks * d,
                second: None,
            };
            columns.launch(machine, &mut launches);
        }
    }
    launches
}

/// Element `i` of a slot.
fn element(slot: Slot, i: usize) -> Place {
    Place::Slot(Slot { offset: slot.offset + i * slot.dtype.size(), ..slot })
}
