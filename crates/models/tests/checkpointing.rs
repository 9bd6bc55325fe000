//! Blocks that are computed twice: the same gradients bit for bit, and memory that grows by one tensor a block.

use galatea_autograd::{DType, Init, Keep, Part, Plan, Recorder, Session};
use galatea_kernels::Cpu;
use galatea_models::{Dit, Encoder, Model, Norm, NormPlace, TimeInput};
use galatea_tensor::Region;

const BATCH: usize = 2;
const LEN: usize = 24;
const D: usize = 64;
const VOCAB: usize = 50;

fn encoder(layers: usize, norm_place: NormPlace, norm: Norm) -> Model {
    Model::Encoder(Encoder {
        d_model: D,
        layers,
        heads: 4,
        d_ff: 256,
        norm_place,
        norm,
        time: TimeInput::Given,
        dropout: 0.1,
        ..Encoder::default()
    })
}

fn dit(layers: usize) -> Model {
    Model::Dit(Dit { d_model: D, layers, heads: 4, dropout: 0.1, ..Dit::default() })
}

/// The training program of two micro-batches, without an optimizer.
fn plan(model: &Model, dtype: DType, keep: Keep) -> Plan {
    let mut rec = Recorder::with_precision(dtype);
    let mut losses = Vec::new();
    for name in ["a", "b"] {
        let ids = rec.input(&format!("ids {name}"), &[BATCH, LEN], DType::U32);
        let time = rec.input(&format!("time {name}"), &[BATCH], DType::F32);
        let (h, head) = model.hidden(&mut rec, VOCAB, ids, time, None);
        let weight = rec.constant(&[BATCH, LEN], vec![0.01; BATCH * LEN]);
        let (loss, _) = rec.linear_cross_entropy(h, (head.w, Some(head.b)), ids, weight, None);
        rec.backward(loss);
        losses.push(loss);
    }
    rec.finish_keeping(&losses, keep)
}

fn work(plan: &Plan) -> usize {
    plan.program().region_bytes()[Region::Work.index()]
}

fn gradients(plan: Plan) -> Vec<Vec<f32>> {
    let mut session = Session::new(Cpu::new(), plan).expect("memory");
    session.init(3).expect("drawing");
    // Heads and branches begin at zero: move every parameter off it.
    for index in 0..session.plan().params().len() {
        let (shape, mut values) = (session.plan().params()[index].shape, vec![]);
        values.resize(shape.len(), 0.0);
        Init::Normal { std: 0.2 }.fill(5, index as u32, shape.cols(), &mut values);
        session.set_param(index, Part::Value, &values).expect("upload");
    }
    for name in ["a", "b"] {
        let input = |what: &str| session.plan().input(&format!("{what} {name}")).expect("recorded");
        let (ids, time) = (input("ids"), input("time"));
        let tokens: Vec<u32> = (0..BATCH * LEN).map(|i| (i * 7 % VOCAB) as u32).collect();
        session.write(ids, &tokens).expect("upload");
        session.write(time, &[0.3f32, 0.8]).expect("upload");
    }
    session.set_rng(1, 2).expect("upload");
    session.run().expect("a step");
    let count = session.plan().params().len();
    (0..count).map(|i| session.param(i, Part::Grad).expect("download").expect("trained")).collect()
}

#[test]
fn gradients_have_the_same_bits_and_need_less_memory() {
    for dtype in [DType::F32, DType::Bf16] {
        for model in [encoder(4, NormPlace::Pre, Norm::Rms), encoder(4, NormPlace::Post, Norm::Layer), dit(4)] {
            let [all, blocks] = [Keep::Everything, Keep::BlockInputs].map(|keep| plan(&model, dtype, keep));
            assert!(work(&blocks) * 10 < work(&all) * 7, "{} is not much below {}", work(&blocks), work(&all));
            let (all, blocks) = (gradients(all), gradients(blocks));
            assert!(all.iter().flatten().any(|&x| x != 0.0));
            assert_eq!(all, blocks);
        }
    }
}

#[test]
fn a_block_adds_its_input_and_nothing_else() {
    let bytes = |layers, keep| work(&plan(&encoder(layers, NormPlace::Pre, Norm::Rms), DType::F32, keep));
    let input = BATCH * LEN * D * 4;
    for layers in [4, 8] {
        assert_eq!(bytes(layers + 1, Keep::BlockInputs) - bytes(layers, Keep::BlockInputs), input, "{layers} layers");
        let block = bytes(layers + 1, Keep::Everything) - bytes(layers, Keep::Everything);
        assert!(block > 10 * input, "a whole block takes {block} bytes, its input {input}");
    }
}

#[test]
fn the_state_of_a_training_program_is_what_the_formula_says() {
    use galatea_autograd::{AdamW, Optimizer, Update};
    let adamw = AdamW { beta_1: 0.9, beta_2: 0.99, eps: 1e-8, weight_decay: 0.1 };
    for (dtype, ema) in [(DType::F32, false), (DType::F32, true), (DType::Bf16, false), (DType::Bf16, true)] {
        let mut rec = Recorder::with_precision(dtype);
        let ids = rec.input("ids", &[BATCH, LEN], DType::U32);
        let time = rec.input("time", &[BATCH], DType::F32);
        let model = encoder(2, NormPlace::Pre, Norm::Rms);
        let (h, head) = model.hidden(&mut rec, VOCAB, ids, time, None);
        let weight = rec.constant(&[BATCH, LEN], vec![0.01; BATCH * LEN]);
        let (loss, _) = rec.linear_cross_entropy(h, (head.w, Some(head.b)), ids, weight, None);
        rec.backward(loss);
        // A parameter that nothing reaches has a value and, with an average, that; neither gradient nor moments.
        rec.param("frozen", &[7, 33], Init::Ones);
        rec.update(Update { optimizer: Optimizer::AdamW(adamw), ema });
        let plan = rec.finish(&[loss]);
        let padded = |frozen: bool| {
            let these = plan.params().iter().filter(|p| frozen == (p.path == "frozen"));
            these.map(|p| p.shape.len().next_multiple_of(32)).sum::<usize>()
        };
        let (trained, frozen) = (padded(false), padded(true));
        let copies = if dtype == DType::Bf16 { 2 * trained } else { 0 };
        let average = if ema { 4 * (trained + frozen) } else { 0 };
        let bytes = |region: Region| plan.program().region_bytes()[region.index()];
        assert_eq!(bytes(Region::Param), 4 * (trained + frozen) + copies);
        assert_eq!(bytes(Region::Grad), 4 * trained);
        assert_eq!(bytes(Region::Moment), 8 * trained + average);
    }
}
