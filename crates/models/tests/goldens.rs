//! The two models against the original implementations, tensor by tensor.

use galatea_autograd::{DType, Part, Recorder, Session, Var};
use galatea_fixtures::{Fixture, relative_to_max};
use galatea_kernels::Cpu;
use galatea_models::{Dit, Encoder, Model, Norm, NormPlace, Positions, TimeInput};
use std::path::Path;

fn fixture(name: &str) -> Fixture {
    Fixture::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name))
}

fn load(session: &mut Session<Cpu>, golden: &Fixture, name: impl Fn(&str) -> String) {
    for index in 0..session.plan().params().len() {
        let path = session.plan().params()[index].path.clone();
        let values = golden.vec_f32(&format!("param.{}", name(&path)));
        session.set_param(index, Part::Value, &values).expect("upload");
    }
}

fn f64s(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

#[track_caller]
fn close(what: &str, found: &[f32], truth: &[f64], tolerance: f64) {
    let error = relative_to_max(&f64s(found), truth);
    assert!(error <= tolerance, "{what}: relative to the largest {error:.2e} > {tolerance:.0e}");
}

fn check_gradients(session: &Session<Cpu>, golden: &Fixture, tolerance: f64, expected: usize) {
    let mut checked = 0;
    for (index, param) in session.plan().params().iter().enumerate() {
        let found = session.param(index, Part::Grad).expect("download").expect("a training program has gradients");
        close(&param.path, &found, &golden.vec(&format!("grad.{}", param.path)), tolerance);
        checked += 1;
    }
    assert_eq!(checked, expected);
}

/// The textbook's script: embeddings, Gaussian noise, a post-norm encoder without time or positions, noise prediction.
#[test]
fn the_textbooks_encoder_is_one_configuration() {
    let golden = fixture("seed_model.safetensors");
    let (names, shape): (Vec<&str>, Vec<usize>) = (golden.names().collect(), golden.get("input_ids").shape().to_vec());
    assert!(names.contains(&"loss"), "{names:?}");
    let (batch, len) = (shape[0], shape[1]);
    let encoder = Encoder {
        d_model: 16,
        layers: 3,
        heads: 8,
        d_ff: 32,
        norm_place: NormPlace::Post,
        norm: Norm::Layer,
        activation: galatea_models::Nonlinearity::Relu,
        bias: true,
        positions: Positions::None,
        time: TimeInput::None,
        qk_norm: false,
        qk_gain: 1.0,
        dropout: 0.0,
        d_embed: 0,
    };
    encoder.validate().expect("a model");
    let mut rec = Recorder::new();
    let ids = rec.input("ids", &[batch, len], DType::U32);
    let noise = rec.input("noise", &[batch, len, 16], DType::F32);
    let scaled_noise = rec.input("scaled noise", &[batch, len, 16], DType::F32);
    let table = rec.table("embed.weight", &[31, 16], galatea_autograd::Init::Zeros);
    let e = rec.embedding(ids, table);
    // x_t = sqrt(1 - beta) e + sqrt(beta) noise with the recorded noise: the signal is a Gaussian corruption without noise.
    let level = rec.input("level", &[batch, 2], DType::F32);
    let (signal, _) = rec.corrupt_gaussian(e, level);
    let x_t = rec.add(signal, scaled_noise);
    let prediction = encoder.body(&mut rec, x_t, None, None);
    let elements = batch * len * 16;
    let w = rec.constant(&[batch, len], vec![1.0 / elements as f32; batch * len]);
    let (loss, _) = rec.squared_error(prediction, noise, w);
    rec.backward(loss);
    let mut session = Session::new(Cpu::new(), rec.finish(&[loss, prediction])).expect("memory");
    load(&mut session, &golden, str::to_owned);
    let beta = golden.vec("timestep")[0] / 1000.0;
    session.write(ids, &golden.ids("input_ids")).expect("upload");
    session.write(noise, &golden.vec_f32("noise")).expect("upload");
    let scaled: Vec<f32> = golden.vec("noise").iter().map(|n| (beta.sqrt() * n) as f32).collect();
    session.write(scaled_noise, &scaled).expect("upload");
    session.write(level, &[((1.0 - beta).sqrt() as f32), 0.0].repeat(batch)).expect("upload");
    session.run().expect("run");
    close("prediction", &session.read::<f32>(prediction).expect("download"), &golden.vec("predicted_noise"), 1e-4);
    close("loss", &session.read::<f32>(loss).expect("download"), &golden.vec("loss"), 1e-6);
    check_gradients(&session, &golden, 1e-4, 1 + 3 * 12);
}

struct DitProgram {
    session: Session<Cpu>,
    logits: Var,
    nll: Var,
    loss: Var,
}

/// The DiT on the golden's canvas, with the golden's per-row weight dsigma / expm1(sigma).
fn dit(golden: &Fixture, sigma: &[f32]) -> DitProgram {
    let shape = golden.get("x").shape().to_vec();
    let (batch, len) = (shape[0], shape[1]);
    let dit = Dit { d_model: 32, layers: 2, heads: 4, cond_dim: 16, time_conditioning: true, ..Dit::default() };
    let mut rec = Recorder::new();
    let x_t = rec.input("x_t", &[batch, len], DType::U32);
    let x_0 = rec.input("x_0", &[batch, len], DType::U32);
    let time = rec.input("sigma", &[batch], DType::F32);
    let weight = rec.input("weight", &[batch], DType::F32);
    let logits = Model::Dit(dit).logits(&mut rec, 29, x_t, time, None);
    let w = rec.masked_weight(x_t, weight, 28);
    let (loss, nll) = rec.cross_entropy(logits, x_0, w, Some(28));
    rec.backward(loss);
    let mut session = Session::new(Cpu::new(), rec.finish(&[loss, nll, logits])).expect("memory");
    load(&mut session, golden, str::to_owned);
    session.write(x_t, &golden.ids("x")).expect("upload");
    session.write(x_0, &golden.ids("x0")).expect("upload");
    session.write(time, sigma).expect("upload");
    let rate = golden.vec("dsigma").into_iter().zip(golden.vec("sigma"));
    let weights: Vec<f32> = rate.map(|(d, s)| (d / s.exp_m1() / (batch * len) as f64) as f32).collect();
    session.write(weight, &weights).expect("upload");
    session.run().expect("run");
    DitProgram { session, logits, nll, loss }
}

#[test]
fn dit_equals_mdlm_logits_loss_and_gradients() {
    let golden = fixture("dit_mdlm.safetensors");
    let DitProgram { session, logits, nll, loss } = dit(&golden, &golden.vec_f32("sigma"));
    close("logits", &session.read::<f32>(logits).expect("download"), &golden.vec("logits"), 1e-4);
    close("loss", &session.read::<f32>(loss).expect("download"), &golden.vec("loss"), 1e-5);
    let (x, subs, x_0) = (golden.ids("x"), golden.vec("log_p_subs"), golden.ids("x0"));
    let nll = session.read::<f32>(nll).expect("download");
    for n in (0..x.len()).filter(|&n| x[n] == 28) {
        let truth = -subs[n * 29 + x_0[n] as usize];
        assert!((f64::from(nll[n]) - truth).abs() <= 1e-4 * truth.abs().max(1.0), "token {n}: {} {truth}", nll[n]);
    }
    check_gradients(&session, &golden, 1e-3, 1 + 4 + 2 * 10 + 5);
}

#[test]
fn dit_without_time_is_dit_at_sigma_zero() {
    let golden = fixture("dit_mdlm.safetensors");
    let batch = golden.get("x").shape()[0];
    let DitProgram { session, logits, .. } = dit(&golden, &vec![0.0; batch]);
    close("logits", &session.read::<f32>(logits).expect("download"), &golden.vec("logits_sigma0"), 1e-4);
}
