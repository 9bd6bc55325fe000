//! Gradients of inputs, and what has none: against finite differences of the program itself.

use galatea_autograd::{Activation, Chunk, DType, Init, Part, Recorder, Session, Var, Wish};
use galatea_fixtures::derivative;
use galatea_kernels::{Cpu, Isa};

const B: usize = 2;
const L: usize = 3;
const D: usize = 4;
const V: usize = 6;

fn values(len: usize, salt: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 37 + salt * 11) % 29) as f32 / 14.0 - 1.0).collect()
}

struct Recorded {
    session: Session<Cpu>,
    loss: Var,
    inputs: Vec<(Var, Option<Var>, Vec<f32>)>,
}

impl Recorded {
    fn new(mut rec: Recorder, loss: Var, inputs: &[Var]) -> Self {
        rec.backward(loss);
        let grads: Vec<_> = inputs.iter().map(|&x| rec.gradient(x)).collect();
        let outputs: Vec<Var> = [loss].into_iter().chain(grads.iter().copied().flatten()).collect();
        let shapes: Vec<usize> = inputs.iter().map(|&x| rec.shape(x).len()).collect();
        let mut session = Session::new(Cpu::with(2, Isa::detect()), rec.finish(&outputs)).expect("memory");
        for index in 0..session.plan().params().len() {
            let shape = session.plan().params()[index].shape;
            session.set_param(index, Part::Value, &values(shape.len(), 3 + index)).expect("upload");
        }
        let inputs: Vec<_> = (inputs.iter().zip(grads).zip(shapes).enumerate())
            .map(|(salt, ((&x, grad), len))| (x, grad, values(len, salt)))
            .collect();
        for (x, _, values) in &inputs {
            session.write(*x, values).expect("upload");
        }
        Self { session, loss, inputs }
    }

    fn loss(&mut self) -> f64 {
        self.session.run().expect("run");
        f64::from(self.session.read::<f32>(self.loss).expect("download")[0])
    }

    /// Every sought gradient against differences of the loss, which is in f32.
    fn check(&mut self) {
        self.loss();
        let gradients: Vec<Option<Vec<f32>>> =
            self.inputs.iter().map(|(_, grad, _)| grad.map(|g| self.session.read(g).expect("download"))).collect();
        for (k, gradient) in gradients.into_iter().enumerate() {
            let Some(gradient) = gradient else { continue };
            let (x, _, values) = self.inputs[k].clone();
            for i in 0..values.len() {
                let truth = derivative(
                    |moved| {
                        let mut values = values.clone();
                        values[i] = moved as f32;
                        self.session.write(x, &values).expect("upload");
                        self.loss()
                    },
                    f64::from(values[i]),
                    0.03,
                );
                let error = (f64::from(gradient[i]) - truth).abs();
                assert!(error < 3e-4 * (1.0 + truth.abs()), "input {k}, {i}: {} and {truth}", gradient[i]);
            }
            self.session.write(x, &values).expect("upload");
        }
    }
}

/// The loss of a small model with embeddings of unit length, factors of a text, a mean embedding and its error.
#[test]
fn inputs_that_are_sought_have_gradients() {
    let mut rec = Recorder::new();
    let z = rec.input("z", &[B, L, D], DType::F32);
    let m = rec.input("m", &[B, 2], DType::F32);
    let features = rec.input("features", &[B, D], DType::F32);
    let target = rec.input("target", &[B, L, D], DType::F32);
    for x in [z, m, features] {
        rec.seek(x);
    }
    let table = rec.table("table", &[V, D], Init::Zeros);
    let e = rec.unit_rows(table, 1e-8);
    let x = rec.scale_rows(z, m, Chunk { index: 1, of: 2 });
    let w = rec.param("w", &[D, D], Init::Zeros);
    let shift = rec.linear(features, w, None, Activation::Tanh);
    let x = rec.add_rows(x, shift, galatea_autograd::Rows::Batch);
    let x = rec.linear(x, w, None, Activation::GeluErf);
    let x = rec.scale(x, 1.5);
    let logits = rec.linear(x, e, None, Activation::None);
    let p = rec.softmax(logits);
    let x_0_hat = rec.mix(p, e);
    let weight = rec.constant(&[B, L], vec![0.3, 1.0, 0.0, 2.0, 0.7, 0.1]);
    let (loss, _) = rec.squared_error(x_0_hat, target, weight);
    let mut recorded = Recorded::new(rec, loss, &[z, m, features, target]);
    assert!(recorded.inputs[3].1.is_none(), "nobody asked for the target's gradient");
    recorded.check();
}

#[test]
fn a_level_moves_what_it_corrupts() {
    let mut rec = Recorder::new();
    let x_0 = rec.input("x_0", &[B, L, D], DType::F32);
    let level = rec.input("level", &[B, 2], DType::F32);
    for x in [x_0, level] {
        rec.seek(x);
    }
    let (x_t, _) = rec.corrupt_gaussian(x_0, level);
    let x_t = rec.activate(x_t, Activation::Tanh);
    let zeros = rec.constant(&[B, L, D], vec![0.0; B * L * D]);
    let weight = rec.constant(&[B, L], vec![0.5; B * L]);
    let (loss, _) = rec.squared_error(x_t, zeros, weight);
    Recorded::new(rec, loss, &[x_0, level]).check();
}

#[test]
fn wishes_guide_a_frozen_model() {
    let mut rec = Recorder::new();
    rec.freeze();
    let z = rec.input("z", &[B, L, D], DType::F32);
    rec.seek(z);
    let w = rec.param("w", &[V, D], Init::Zeros);
    let logits = rec.linear(z, w, None, Activation::None);
    let wishes = rec.input("wishes", &[3, Wish::LEN], DType::U32);
    let weight = rec.input("weight", &[3], DType::F32);
    let loss = rec.wishes(logits, wishes, weight);
    let mut recorded = Recorded::new(rec, loss, &[z]);
    assert!(recorded.session.param(0, Part::Grad).expect("download").is_none(), "a frozen parameter has no gradient");
    let words = [[1, 0, 0], [2, Wish::ANY, 0], [3, Wish::ALL, 1]].concat();
    recorded.session.write(wishes, &words).expect("upload");
    recorded.session.write(weight, &[2.0f32, 1.0, 0.5]).expect("upload");
    recorded.check();
}

/// f(x) g(x) with g a constant has the gradient f'(x) g(x), for parameters and inputs alike.
#[test]
fn what_is_recorded_without_a_gradient_is_a_constant() {
    let record = |constant: bool| {
        let mut rec = Recorder::new();
        let x = rec.input("x", &[B, L, D], DType::F32);
        rec.seek(x);
        let w = rec.param("w", &[D, D], Init::Zeros);
        let model = |rec: &mut Recorder| rec.linear(x, w, None, Activation::Tanh);
        let first = if constant { rec.without_gradient(model) } else { model(&mut rec) };
        let sum = rec.add(x, first);
        let y = rec.linear(sum, w, None, Activation::None);
        let zeros = rec.constant(&[B, L, D], vec![0.0; B * L * D]);
        let weight = rec.constant(&[B, L], vec![0.5; B * L]);
        let (loss, _) = rec.squared_error(y, zeros, weight);
        (Recorded::new(rec, loss, &[x]), first, y)
    };
    let (mut whole, ..) = record(false);
    whole.check();
    // By hand: dw of the last layer alone, with the first as it is.
    let (mut cut, ..) = record(true);
    cut.loss();
    let (w, x) = (values(D * D, 3), values(B * L * D, 0));
    let hidden = |row: usize, o: usize| (0..D).map(|i| w[o * D + i] * x[row * D + i]).sum::<f32>().tanh();
    let input = |row: usize, i: usize| x[row * D + i] + hidden(row, i);
    let output = |row: usize, o: usize| (0..D).map(|i| w[o * D + i] * input(row, i)).sum::<f32>();
    let dw = cut.session.param(0, Part::Grad).expect("download").expect("trained");
    for o in 0..D {
        for i in 0..D {
            let truth: f32 = (0..B * L).map(|row| output(row, o) * input(row, i)).sum();
            assert!((dw[o * D + i] - truth).abs() < 1e-4 * (1.0 + truth.abs()), "{} and {truth}", dw[o * D + i]);
        }
    }
}
