//! bf16 recordings: near f32, the same bits with packed weights as with plain ones, and a region of parameters of half the size.

use galatea_autograd::{DType, Keep, Plan, Recorder, Session, Var};
use galatea_kernels::{Cpu, Isa};
use galatea_models::{Dit, Encoder, Model, Norm, NormPlace, TimeInput};
use galatea_tensor::Region;

const BATCH: usize = 2;
const LEN: usize = 12;
const VOCAB: usize = 90;

fn models() -> [Model; 3] {
    let encoder = |norm_place, norm, bias| {
        let time = TimeInput::Given;
        Model::Encoder(Encoder { layers: 2, norm_place, norm, bias, time, ..Encoder::default() })
    };
    [
        encoder(NormPlace::Pre, Norm::Rms, false),
        encoder(NormPlace::Post, Norm::Layer, true),
        Model::Dit(Dit { d_model: 64, layers: 2, heads: 4, ..Dit::default() }),
    ]
}

/// A plan that computes logits, with or without a backward pass behind them.
fn plan(model: &Model, dtype: DType, trains: bool) -> (Plan, Var) {
    let mut rec = Recorder::with_precision(dtype);
    let ids = rec.input("ids", &[BATCH, LEN], DType::U32);
    let time = rec.input("time", &[BATCH], DType::F32);
    let logits = model.logits(&mut rec, VOCAB, ids, time, None);
    if trains {
        let weight = rec.constant(&[BATCH, LEN], vec![0.1; BATCH * LEN]);
        let (loss, _) = rec.cross_entropy(logits, ids, weight, None);
        rec.backward(loss);
    }
    (rec.finish_keeping(&[logits], Keep::Everything), logits)
}

/// Heads and branches begin at zero: gives every parameter a value.
fn fill(session: &mut Session<Cpu>) {
    for index in 0..session.plan().params().len() {
        let (shape, path) = (session.plan().params()[index].shape, session.plan().params()[index].path.clone());
        let scale = 1.0 / (shape.cols() as f32).sqrt();
        let values: Vec<f32> =
            (0..shape.len()).map(|i| scale * ((i * 37 + path.len() * 11) % 64) as f32 / 32.0 - scale).collect();
        session.set_param(index, galatea_autograd::Part::Value, &values).expect("upload");
    }
}

fn logits(isa: Isa, (plan, logits): (Plan, Var)) -> Vec<f32> {
    let mut session = Session::new(Cpu::with(2, isa), plan).expect("memory");
    session.init(7).expect("drawing");
    fill(&mut session);
    let input = |name: &str| session.plan().input(name).expect("recorded");
    let (ids, time) = (input("ids"), input("time"));
    session.write(ids, &(0..BATCH * LEN).map(|i| (i * 7 % VOCAB) as u32).collect::<Vec<_>>()).expect("upload");
    session.write(time, &[0.3f32, 0.8]).expect("upload");
    session.run().expect("a pass");
    session.read(logits).expect("download")
}

#[test]
fn packed_weights_give_the_bits_of_plain_ones_at_every_level() {
    for model in models() {
        for isa in Isa::available() {
            let (inference, training) = (plan(&model, DType::Bf16, false), plan(&model, DType::Bf16, true));
            let packs = |plan: &Plan| plan.program().insts().iter().any(|inst| inst.op.name() == "linear_packed");
            assert!(packs(&inference.0) && !packs(&training.0));
            assert_eq!(logits(isa, inference), logits(isa, training), "{isa:?}");
        }
    }
}

#[test]
fn bf16_logits_are_near_those_of_f32() {
    for model in models() {
        let exact = logits(Isa::detect(), plan(&model, DType::F32, false));
        let half = logits(Isa::detect(), plan(&model, DType::Bf16, false));
        let scale = exact.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        let error = exact.iter().zip(&half).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
        // Eight bits of mantissa through two blocks.
        assert!(scale > 0.1 && error < 0.05 * scale, "{error} of {scale}");
    }
}

#[test]
fn inference_in_bf16_keeps_no_master_of_a_matrix() {
    let bytes = |dtype| {
        let (plan, _) = plan(&models()[1], dtype, false);
        plan.program().region_bytes()[Region::Param.index()]
    };
    let (full, half) = (bytes(DType::F32), bytes(DType::Bf16));
    // A half, the padding of packed panels, and the vectors in f32.
    assert!(half * 100 < full * 60, "{half} bytes in bf16, {full} in f32");
}

/// A text depends on its own row alone: whoever is beside it changes no bit, or a seed would not give the same text in
/// another batch.
#[test]
fn a_rows_logits_do_not_depend_on_the_rows_beside_it() {
    for model in models() {
        for (isa, dtype) in Isa::available().flat_map(|isa| [(isa, DType::F32), (isa, DType::Bf16)]) {
            let run = |rows: std::ops::Range<usize>| {
                let batch = rows.len();
                let mut rec = Recorder::with_precision(dtype);
                let ids = rec.input("ids", &[batch, 48], DType::U32);
                let time = rec.input("time", &[batch], DType::F32);
                let logits = model.logits(&mut rec, VOCAB, ids, time, None);
                let mut session = Session::new(Cpu::with(2, isa), rec.finish(&[logits])).expect("memory");
                session.init(7).expect("drawing");
                fill(&mut session);
                let all: Vec<u32> = (0..6 * 48).map(|i| (i * 7 % VOCAB) as u32).collect();
                session.write(ids, &all[rows.start * 48..rows.end * 48]).expect("upload");
                session.write(time, &vec![0.3f32; batch]).expect("upload");
                session.run().expect("a pass");
                session.read::<f32>(logits).expect("download")
            };
            let all = run(0..6);
            for rows in [1..2, 0..2, 2..5] {
                let part = &all[rows.start * 48 * VOCAB..rows.end * 48 * VOCAB];
                assert!(run(rows.clone()) == part, "{isa:?} {dtype:?}: rows {rows:?} of 6");
            }
        }
    }
}
