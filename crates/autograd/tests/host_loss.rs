//! A loss that the host computes: the program stops where the host reads, and goes on with the gradient it writes.

use galatea_autograd::{Activation, DType, Init, Keep, Part, Recorder, Session, Var};
use galatea_kernels::Cpu;

const ROWS: usize = 6;
const VOCAB: usize = 5;
const D: usize = 8;

fn logits(rec: &mut Recorder) -> Var {
    let ids = rec.input("ids", &[2, ROWS / 2], DType::U32);
    let table = rec.table("table", &[VOCAB, D], Init::Normal { std: 0.7 });
    let mut x = rec.embedding(ids, table);
    for layer in 0..2 {
        rec.block();
        let gain = rec.param(&format!("{layer}.gain"), &[D], Init::Ones);
        let h = rec.rms_norm(x, Some(gain), 1e-5);
        let w = rec.param(&format!("{layer}.w"), &[D, D], Init::Normal { std: 0.4 });
        let h = rec.linear(h, w, None, Activation::Gelu);
        x = rec.add(x, h);
    }
    rec.block();
    let head = rec.table("head", &[VOCAB, D], Init::Normal { std: 0.7 });
    rec.linear(x, head, None, Activation::None)
}

fn target(row: usize) -> usize {
    (row * 3 + 1) % VOCAB
}

fn weight(row: usize) -> f64 {
    0.1 * (row % 3) as f64
}

fn session(rec: Recorder, outputs: &[Var], keep: Keep) -> Session<Cpu> {
    let mut session = Session::new(Cpu::new(), rec.finish_keeping(outputs, keep)).expect("memory");
    session.init(3).expect("init");
    let ids = session.plan().input("ids").expect("recorded");
    session.write(ids, &(0..ROWS as u32).map(|i| i * 2 % VOCAB as u32).collect::<Vec<_>>()).expect("upload");
    session
}

fn gradients(session: &Session<Cpu>) -> Vec<f32> {
    let one = |i| session.param(i, Part::Grad).expect("download").expect("trained");
    (0..session.plan().params().len()).flat_map(one).collect()
}

#[test]
fn a_loss_of_the_host_moves_the_parameters_as_the_op_does() {
    let mut rec = Recorder::new();
    let y = logits(&mut rec);
    let targets = rec.input("target", &[2, ROWS / 2], DType::U32);
    let weights = rec.constant(&[2, ROWS / 2], (0..ROWS).map(|row| weight(row) as f32).collect());
    let (loss, _) = rec.cross_entropy(y, targets, weights, None);
    rec.backward(loss);
    let mut whole = session(rec, &[loss], Keep::Everything);
    whole.write(targets, &(0..ROWS).map(|row| target(row) as u32).collect::<Vec<_>>()).expect("upload");
    whole.run().expect("run");
    let truth = gradients(&whole);
    assert!(truth.iter().any(|&g| g.abs() > 1e-3));

    for keep in [Keep::Everything, Keep::BlockInputs] {
        let mut rec = Recorder::new();
        let y = logits(&mut rec);
        let dy = rec.input("dy", &[2, ROWS / 2, VOCAB], DType::F32);
        rec.backward_with(y, dy);
        let mut session = session(rec, &[], keep);
        session.run_until(y).expect("the first part");
        let logits: Vec<f32> = session.read(y).expect("download");
        let mut gradient = vec![0.0f32; logits.len()];
        for (row, (logits, gradient)) in logits.chunks(VOCAB).zip(gradient.chunks_mut(VOCAB)).enumerate() {
            let total: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
            for (k, (dx, &x)) in gradient.iter_mut().zip(logits).enumerate() {
                let one = f64::from(u8::from(k == target(row)));
                *dx = (weight(row) * (f64::from(x).exp() / total - one)) as f32;
            }
        }
        session.write(dy, &gradient).expect("upload");
        session.run_after(y).expect("the rest");
        for (found, truth) in gradients(&session).into_iter().zip(&truth) {
            assert!((found - truth).abs() < 1e-6, "{found} {truth}");
        }
    }
}

#[test]
#[should_panic(expected = "a gradient has the shape and type of its tensor")]
fn a_gradient_of_another_shape_is_refused_where_it_is_recorded() {
    let mut rec = Recorder::new();
    let y = logits(&mut rec);
    let dy = rec.input("dy", &[ROWS, VOCAB], DType::F32);
    rec.backward_with(y, dy);
}
