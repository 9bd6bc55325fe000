//! What int8 weights do to the output of a whole model.

use galatea_autograd::{Activation, DType, Init, Recorder, Session};
use galatea_kernels::Cpu;
use galatea_models::{Encoder, Nonlinearity, Norm, NormPlace, Positions, TimeInput};

const VOCAB: usize = 200;
const WIDTH: usize = 128;
const LEN: usize = 32;

/// The seed's encoder in small: post-norm, ReLU, biases, between a table and a head of its own.
fn logits(mut rec: Recorder) -> (Session<Cpu>, Vec<f32>) {
    let encoder = Encoder {
        d_model: WIDTH,
        layers: 6,
        heads: 8,
        d_ff: 384,
        norm_place: NormPlace::Post,
        norm: Norm::Layer,
        activation: Nonlinearity::Relu,
        bias: true,
        positions: Positions::None,
        time: TimeInput::None,
        qk_norm: false,
        qk_gain: 1.0,
        dropout: 0.0,
        d_embed: 0,
    };
    let ids = rec.input("ids", &[2, LEN], DType::U32);
    let table = rec.table("embed.weight", &[VOCAB, WIDTH], Init::Normal { std: 1.0 });
    let x = rec.embedding(ids, table);
    let h = encoder.body(&mut rec, x, None, None);
    let head = rec.table("lm_head.weight", &[VOCAB, WIDTH], Init::Normal { std: 1.0 / (WIDTH as f32).sqrt() });
    let logits = rec.linear(h, head, None, Activation::None);
    let logits = rec.cast(logits, DType::F32);
    let mut session = Session::new(Cpu::new(), rec.finish(&[logits])).expect("memory");
    session.init(7).expect("init");
    session.write(ids, &(0..2 * LEN as u32).map(|i| i * 37 % VOCAB as u32).collect::<Vec<_>>()).expect("upload");
    session.run().expect("run");
    let logits = session.read(logits).expect("download");
    (session, logits)
}

/// The root of the mean square of the difference, relative to that of the logits.
fn relative(found: &[f32], truth: &[f32]) -> f64 {
    let squares = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>();
    let difference = squares(&mut found.iter().zip(truth).map(|(a, b)| f64::from(a - b)));
    (difference / squares(&mut truth.iter().map(|&b| f64::from(b)))).sqrt()
}

#[test]
fn logits_of_a_small_encoder_stay_within_three_percent() {
    let (_, truth) = logits(Recorder::new());
    for dtype in [DType::F32, DType::Bf16] {
        let (session, found) = logits(Recorder::with_int8_weights(dtype));
        let error = relative(&found, &truth);
        assert!((1e-4..0.03).contains(&error), "relative error {error:.4} in {}", dtype.name());
        // Four matrices a layer, each quantised to less than one percent.
        let errors: Vec<_> = session.int8_errors().collect();
        assert_eq!(errors.len(), 6 * 4);
        assert!(errors.iter().all(|(_, error)| error.rms > 1e-3 && error.rms < 0.01 && error.max <= 0.5 / 127.0));
    }
}
