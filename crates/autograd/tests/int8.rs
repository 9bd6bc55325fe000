//! Recordings with int8 weights: what they hold, what they compute, what they refuse.

use galatea_autograd::{Activation, DType, Init, Part, Plan, Recorder, Session, Var};
use galatea_kernels::{Cpu, Isa};
use galatea_tensor::Region;

const ROWS: usize = 12;
const VOCAB: usize = 33;
const D: usize = 64;

/// An embedding, two layers with biases, and a head that is tied to the embedding.
fn network(rec: &mut Recorder) -> Var {
    let ids = rec.input("ids", &[1, ROWS], DType::U32);
    let table = rec.table("table", &[VOCAB, D], Init::Normal { std: 1.0 });
    let x = rec.embedding(ids, table);
    let layer = |rec: &mut Recorder, x, name: &str, o, i, activation| {
        let w = rec.param(&format!("{name}.weight"), &[o, i], Init::Normal { std: 1.0 / (i as f32).sqrt() });
        let b = rec.param(&format!("{name}.bias"), &[o], Init::Normal { std: 0.1 });
        rec.linear(x, w, Some(b), activation)
    };
    let h = layer(rec, x, "up", 4 * D, D, Activation::Gelu);
    let h = layer(rec, h, "down", D, 4 * D, Activation::None);
    let x = rec.add(x, h);
    rec.linear(x, table, None, Activation::None)
}

fn plan(mut rec: Recorder) -> (Plan, Var) {
    let y = network(&mut rec);
    (rec.finish(&[y]), y)
}

fn run(rec: Recorder, threads: usize) -> (Session<Cpu>, Vec<f32>) {
    let half = rec.precision() == DType::Bf16;
    let (plan, y) = plan(rec);
    let ids = plan.input("ids").expect("recorded");
    let mut session = Session::new(Cpu::with(threads, Isa::detect()), plan).expect("memory");
    session.init(3).expect("init");
    session.write(ids, &(0..ROWS as u32).map(|i| i * 7 % VOCAB as u32).collect::<Vec<_>>()).expect("upload");
    session.run().expect("run");
    let y = if half {
        session.read::<galatea_tensor::bf16>(y).expect("download").into_iter().map(f32::from).collect()
    } else {
        session.read(y).expect("download")
    };
    (session, y)
}

fn relative(found: &[f32], truth: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let difference: f64 = found.iter().zip(truth).map(|(a, b)| square(f64::from(a - b))).sum();
    (difference / truth.iter().map(|b| square(f64::from(*b))).sum::<f64>()).sqrt()
}

#[test]
fn int8_weights_change_the_result_by_what_is_documented() {
    let (_, truth) = run(Recorder::new(), 1);
    for dtype in [DType::F32, DType::Bf16] {
        let (_, found) = run(Recorder::with_int8_weights(dtype), 1);
        // Each layer adds about 1 % of its output, and the residual passes beside them.
        let error = relative(&found, &truth);
        assert!((1e-4..0.02).contains(&error), "relative error {error} in {}", dtype.name());
        assert_eq!(found, run(Recorder::with_int8_weights(dtype), 2).1, "two threads");
    }
}

#[test]
fn matrices_are_in_memory_as_int8_and_scales_alone() {
    let bytes = |rec: Recorder| plan(rec).0.program().region_bytes()[Region::Param.index()];
    let padded = |bytes: usize| bytes.next_multiple_of(64);
    let (matrices, scales) = (2 * padded(4 * D * D), padded(4 * 4 * D) + padded(4 * D));
    let biases = padded(4 * 4 * D) + padded(4 * D);
    assert_eq!(bytes(Recorder::new()), 4 * padded(VOCAB * D) + 4 * matrices + biases);
    assert_eq!(bytes(Recorder::with_int8_weights(DType::F32)), 4 * padded(VOCAB * D) + matrices + scales + biases);
    assert_eq!(bytes(Recorder::with_int8_weights(DType::Bf16)), 2 * padded(VOCAB * D) + matrices + scales + biases);
}

#[test]
fn errors_are_reported_by_layer_and_values_are_what_is_multiplied() {
    let (full, _) = run(Recorder::new(), 1);
    let (session, _) = run(Recorder::with_int8_weights(DType::F32), 1);
    assert_eq!(full.int8_errors().count(), 0);
    let errors: Vec<_> = session.int8_errors().collect();
    assert_eq!(errors.iter().map(|(path, _)| *path).collect::<Vec<_>>(), ["up.weight", "down.weight"]);
    let value = |session: &Session<Cpu>, index, part| session.param(index, part).expect("download");
    for (path, error) in errors {
        let index = session.plan().params().iter().position(|p| p.path == path).expect("a parameter");
        let [truth, found] = [&full, &session].map(|session| value(session, index, Part::Value).expect("a value"));
        assert!((relative(&found, &truth) - error.rms).abs() < 1e-6, "{path}: {error:?}");
        // Half a step of 127; normal weights are a third of their row's largest.
        assert!(error.max <= 0.5 / 127.0 && (0.002..0.012).contains(&error.rms), "{path}: {error:?}");
        let q = value(&session, index, Part::Int8).expect("int8");
        let scales = value(&session, index, Part::Scale).expect("scales");
        let cols = q.len() / scales.len();
        assert!(found.iter().enumerate().all(|(at, w)| *w == q[at] * scales[at / cols]));
    }
    let bias = session.plan().params().iter().position(|p| p.path == "up.bias").expect("a parameter");
    assert_eq!(value(&session, bias, Part::Value), value(&full, bias, Part::Value));
    assert_eq!(value(&session, bias, Part::Int8), None);
}

#[test]
#[should_panic(expected = "int8 weights are for inference")]
fn a_backward_pass_is_refused_where_it_is_recorded() {
    let mut rec = Recorder::with_int8_weights(DType::F32);
    let y = network(&mut rec);
    let (target, weight) = (rec.input("target", &[1, ROWS], DType::U32), rec.input("weight", &[1, ROWS], DType::F32));
    let (loss, _) = rec.cross_entropy(y, target, weight, None);
    rec.backward(loss);
}
