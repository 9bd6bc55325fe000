//! Whole programs: gradients, accumulation, tracing, memory.

use galatea_autograd::{
    Activation, AdamW, AttentionMask, DType, Hyper, Init, Muon, Optimizer, Part, Recorder, Rows, Session, Update, Var,
};
use galatea_kernels::{Cpu, Isa};

const BATCH: usize = 2;
const LEN: usize = 5;
const VOCAB: usize = 7;
const D: usize = 8;

/// A small network that uses a parameter twice, broadcasts, gates and attends.
fn network(rec: &mut Recorder, name: &str) -> Var {
    network_with(rec, name, 0.0)
}

/// The same with dropout, whose mask is another one in every micro-batch.
fn network_with(rec: &mut Recorder, name: &str, p_drop: f32) -> Var {
    let ids = rec.input(&format!("ids{name}"), &[BATCH, LEN], DType::U32);
    let target = rec.input(&format!("target{name}"), &[BATCH, LEN], DType::U32);
    let t = rec.input(&format!("t{name}"), &[BATCH], DType::F32);
    let table = rec.table("table", &[VOCAB, D], Init::Normal { std: 0.7 });
    let x = rec.embedding(ids, table);
    let types = rec.table("types", &[VOCAB, D], Init::Normal { std: 0.2 });
    let type_of = rec.embedding(target, types);
    let x = rec.add(x, type_of);
    let p = rec.table("positions", &[LEN, D], Init::Normal { std: 0.3 });
    let x = rec.add_rows(x, p, Rows::Positions);
    let f = rec.time_features(t, D as u32, 100.0, 10.0);
    let c = rec.param("cond", &[3 * D, D], Init::Normal { std: 0.3 });
    let m = rec.linear(f, c, None, Activation::None);
    let chunk = |index| galatea_autograd::Chunk { index, of: 3 };
    let (g, b) = (rec.param("gain", &[D], Init::Ones), rec.param("shift", &[D], Init::Normal { std: 0.1 }));
    let h = rec.layer_norm(x, Some(g), Some(b), 1e-5);
    let h = rec.modulate(h, m, chunk(0), chunk(1));
    let w = rec.param("qkv", &[3 * D, D], Init::Normal { std: 0.4 });
    let qkv = rec.linear(h, w, None, Activation::None);
    let qkv = rec.qk_norm(qkv, 2, 1e-5, 1.5);
    let qkv = rec.rotary(qkv, 2, 100.0);
    let h = rec.attention_dropout(qkv, (2, 2), AttentionMask::Full, None, p_drop);
    let x = rec.gate(x, h, m, chunk(2));
    let h = rec.rms_norm(x, Some(g), 1e-5);
    let (w1, b1) = (rec.param("w1", &[12, D], Init::Normal { std: 0.4 }), rec.param("b1", &[12], Init::Zeros));
    let h = rec.linear(h, w1, Some(b1), Activation::Silu);
    let w2 = rec.param("w2", &[D, 12], Init::Normal { std: 0.4 });
    let h = rec.linear(h, w2, None, Activation::None);
    let x = rec.add(x, h);
    let w3 = rec.param("w3", &[12, D], Init::Normal { std: 0.4 });
    let h = rec.linear(x, w3, None, Activation::None);
    let h = rec.swiglu(h);
    let w4 = rec.param("w4", &[D, 6], Init::Normal { std: 0.4 });
    let h = rec.linear(h, w4, None, Activation::None);
    // Both outputs are used, then the norm alone.
    let (x, h) = rec.add_rms_norm(x, h, p_drop, Some(g), 1e-5);
    let (_, x) = rec.add_layer_norm(x, h, 0.0, None, Some(b), 1e-5);
    let logits = rec.linear(x, table, None, Activation::None);
    let weight = rec.constant(&[BATCH, LEN], (0..BATCH * LEN).map(|i| 0.05 * (i % 4) as f32).collect());
    rec.cross_entropy(logits, target, weight, Some(3)).0
}

fn fill(session: &mut Session<Cpu>, name: &str, shift: u32) {
    let input = |session: &Session<Cpu>, what: &str| session.plan().input(&format!("{what}{name}")).expect("recorded");
    let (ids, target, t) = (input(session, "ids"), input(session, "target"), input(session, "t"));
    let at = |i: usize, k: u32| (i as u32 * k + shift) % VOCAB as u32;
    let targets: Vec<u32> = (0..BATCH * LEN).map(|i| at(i, 5)).map(|v| if v == 3 { 4 } else { v }).collect();
    session.write(ids, &(0..BATCH * LEN).map(|i| at(i, 3)).collect::<Vec<_>>()).expect("upload");
    session.write(target, &targets).expect("upload");
    session.write(t, &[0.3f32, 0.8]).expect("upload");
}

fn gradients(session: &Session<Cpu>) -> Vec<Vec<f32>> {
    (0..session.plan().params().len())
        .map(|i| session.param(i, Part::Grad).expect("download").expect("gradients"))
        .collect()
}

#[test]
fn gradients_of_a_whole_network_equal_finite_differences() {
    let mut rec = Recorder::new();
    let loss = network_with(&mut rec, "", 0.25);
    rec.backward(loss);
    let mut session = Session::new(Cpu::with(2, Isa::detect()), rec.finish(&[loss])).expect("memory");
    session.init(3).expect("init");
    fill(&mut session, "", 1);
    session.run().expect("run");
    let gradients = gradients(&session);
    for (index, gradient) in gradients.iter().enumerate() {
        let (values, path) = (
            session.param(index, Part::Value).expect("download").expect("values"),
            session.plan().params()[index].path.clone(),
        );
        let largest = gradient.iter().fold(1e-2f32, |m, g| m.max(g.abs()));
        for i in (0..values.len()).step_by(3) {
            // Four points cancel the cubic term, so that a step large enough for f32 is still accurate.
            let mut at = |delta: f32| {
                let mut moved = values.clone();
                moved[i] += delta;
                session.set_param(index, Part::Value, &moved).expect("upload");
                session.run().expect("run");
                f64::from(session.read::<f32>(loss).expect("download")[0])
            };
            let h = 0.04f32;
            let slope = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * f64::from(h));
            let error = (slope - f64::from(gradient[i])).abs();
            assert!(error < 5e-3 * f64::from(largest) + 2e-5, "{path}[{i}]: {} against {slope}", gradient[i]);
        }
        session.set_param(index, Part::Value, &values).expect("upload");
    }
}

/// loss = |cast(a) - 0|^2 with a in bf16: its gradient 2 a is made in bf16 and comes back in f32.
#[test]
fn a_cast_turns_back_in_the_backward_pass() {
    let mut rec = Recorder::new();
    let a = rec.param("a", &[3, 4], Init::Normal { std: 1.0 });
    let half = rec.cast(a, DType::Bf16);
    assert_eq!(rec.cast(half, DType::Bf16), half);
    assert_eq!(rec.cast(a, DType::F32), a);
    let zero = rec.constant(&[3, 4], vec![0.0; 12]);
    let (zero, w) = (rec.cast(zero, DType::Bf16), rec.constant(&[3], vec![1.0; 3]));
    let loss = rec.squared_error(half, zero, w).0;
    rec.backward(loss);
    let mut session = Session::new(Cpu::with(1, Isa::detect()), rec.finish(&[loss])).expect("memory");
    session.init(3).expect("init");
    session.run().expect("run");
    let values = session.param(0, Part::Value).expect("download").expect("values");
    for (a, gradient) in values.iter().zip(&gradients(&session)[0]) {
        assert!((2.0 * a - gradient).abs() <= 2.0 * a.abs() / 256.0, "{a}: {gradient}");
        assert_eq!(gradient.to_bits() & 0xffff, 0, "a number that bf16 has");
    }
}

#[test]
fn two_backward_passes_add_their_gradients() {
    let single = |shift| {
        let mut rec = Recorder::new();
        let loss = network(&mut rec, "");
        rec.backward(loss);
        let mut session = Session::new(Cpu::with(1, Isa::detect()), rec.finish(&[loss])).expect("memory");
        session.init(3).expect("init");
        fill(&mut session, "", shift);
        session.run().expect("run");
        gradients(&session)
    };
    let mut rec = Recorder::new();
    for name in [".0", ".1"] {
        let loss = network(&mut rec, name);
        rec.backward(loss);
    }
    let mut session = Session::new(Cpu::with(1, Isa::detect()), rec.finish(&[])).expect("memory");
    session.init(3).expect("init");
    fill(&mut session, ".0", 1);
    fill(&mut session, ".1", 4);
    // Twice: nothing is left over from a run.
    for _ in 0..2 {
        session.run().expect("run");
        for ((sum, a), b) in gradients(&session).iter().zip(single(1)).zip(single(4)) {
            for ((sum, a), b) in sum.iter().zip(a).zip(b) {
                assert!((sum - (a + b)).abs() < 1e-5, "{sum} {a} {b}");
            }
        }
    }
}

/// AdamW averages in its own pass, Muon's matrices are averaged after it: each parameter once, as it is after the step.
#[test]
fn every_parameter_is_averaged_once_whichever_rule_moved_it() {
    let adamw = AdamW { beta_1: 0.9, beta_2: 0.99, eps: 1e-8, weight_decay: 0.1 };
    let matrices = Muon { momentum: 0.9, iterations: 3, weight_decay: 0.1 };
    for optimizer in [Optimizer::AdamW(adamw), Optimizer::Muon { matrices, rest: adamw }] {
        let mut rec = Recorder::new();
        let loss = network(&mut rec, "");
        rec.backward(loss);
        rec.update(Update { optimizer, ema: true, norm: true });
        let mut session = Session::new(Cpu::with(2, Isa::detect()), rec.finish(&[loss])).expect("memory");
        session.init(3).expect("init");
        fill(&mut session, "", 1);
        let hyper = session.plan().input("hyper").expect("recorded");
        let mut h = [1.0f32; Hyper::LEN];
        (h[Hyper::LR], h[Hyper::MUON_LR], h[Hyper::EMA_DECAY]) = (1e-2, 1e-2, 0.75);
        session.write(hyper, &h).expect("upload");
        let part = |session: &Session<Cpu>, part| {
            let one = |i| session.param(i, part).expect("download").expect("kept");
            (0..session.plan().params().len()).map(one).collect::<Vec<_>>()
        };
        let (start, before) = (part(&session, Part::Value), part(&session, Part::Ema));
        session.run().expect("run");
        let (moved, after) = (part(&session, Part::Value), part(&session, Part::Ema));
        assert!(start.iter().zip(&moved).all(|(start, moved)| start != moved), "{optimizer:?} moves everything");
        for ((before, moved), after) in before.iter().zip(&moved).zip(&after) {
            for ((before, moved), after) in before.iter().zip(moved).zip(after) {
                assert_eq!(*after, before + 0.25 * (moved - before));
            }
        }
    }
}

/// Without a clip AdamW moves a matrix while its gradient is made: the same bits, and no gradient in memory.
#[test]
fn a_step_without_a_norm_has_the_bits_of_one_that_never_clips() {
    let adamw = AdamW { beta_1: 0.9, beta_2: 0.99, eps: 1e-8, weight_decay: 0.1 };
    for (dtype, ema) in [(DType::F32, false), (DType::F32, true), (DType::Bf16, false), (DType::Bf16, true)] {
        let train = |norm| {
            let mut rec = Recorder::with_precision(dtype);
            let loss = network_with(&mut rec, "", 0.1);
            rec.backward(loss);
            rec.update(Update { optimizer: Optimizer::AdamW(adamw), ema, norm });
            let plan = rec.finish(&[loss]);
            let count = |name: &str| plan.program().insts().iter().filter(|inst| inst.op.name() == name).count();
            // Every matrix, and of the tables the one that a single op reads.
            let fused = [count("linear_dw_adamw"), count("embedding_adamw"), count("embedding_grad")];
            assert_eq!(fused, if norm { [0, 0, 2] } else { [6, 1, 1] });
            let mut session = Session::new(Cpu::with(2, Isa::detect()), plan).expect("memory");
            session.init(3).expect("init");
            fill(&mut session, "", 1);
            let hyper = session.plan().input("hyper").expect("recorded");
            let mut h = [1.0f32; Hyper::LEN];
            (h[Hyper::LR], h[Hyper::EMA_DECAY], h[Hyper::MAX_NORM]) = (1e-2, 0.9, f32::INFINITY);
            session.write(hyper, &h).expect("upload");
            for step in 0..4 {
                session.set_rng(1, step).expect("upload");
                session.run().expect("run");
            }
            let parts = [Part::Value, Part::Moment1, Part::Moment2, Part::Ema];
            let count = session.plan().params().len();
            let all = parts.iter().flat_map(|&part| (0..count).map(move |i| (i, part)));
            all.map(|(i, part)| session.param(i, part).expect("download")).collect::<Vec<_>>()
        };
        assert_eq!(train(true), train(false), "{dtype:?} with an average: {ema}");
    }
}

#[test]
fn the_number_of_threads_changes_no_bit_of_a_training_step() {
    let train = |threads| {
        let mut rec = Recorder::new();
        let loss = network(&mut rec, "");
        rec.backward(loss);
        let adamw = AdamW { beta_1: 0.9, beta_2: 0.99, eps: 1e-8, weight_decay: 0.1 };
        rec.update(Update { optimizer: Optimizer::AdamW(adamw), ema: true, norm: true });
        let mut session = Session::new(Cpu::with(threads, Isa::detect()), rec.finish(&[loss])).expect("memory");
        session.init(3).expect("init");
        fill(&mut session, "", 1);
        let hyper = session.plan().input("hyper").expect("recorded");
        let mut h = [1.0f32; Hyper::LEN];
        (h[Hyper::LR], h[Hyper::EMA_DECAY]) = (1e-2, 0.9);
        session.write(hyper, &h).expect("upload");
        (0..5).for_each(|_| session.run().expect("run"));
        (0..session.plan().params().len()).map(|i| session.param(i, Part::Ema).expect("download")).collect::<Vec<_>>()
    };
    assert_eq!(train(1), train(3));
}

#[test]
fn trace_names_the_first_nan() {
    let mut rec = Recorder::new();
    let loss = network(&mut rec, "");
    rec.backward(loss);
    let mut session = Session::new(Cpu::with(1, Isa::detect()), rec.finish(&[loss])).expect("memory");
    session.init(3).expect("init");
    fill(&mut session, "", 1);
    assert_eq!(session.trace().expect("run"), None);
    let index = session.plan().params().iter().position(|p| p.path == "w2").expect("recorded");
    session.set_param(index, Part::Value, &[f32::NAN; D * 12]).expect("upload");
    let fault = session.trace().expect("run").expect("a NaN");
    assert_eq!((fault.op, fault.write, fault.element), ("linear", 0, 0), "{fault}");
}

#[test]
fn activations_share_memory_and_the_listing_shows_it() {
    let mut rec = Recorder::new();
    let loss = network(&mut rec, "");
    rec.backward(loss);
    let plan = rec.finish(&[loss]);
    let listing = plan.summary().to_string();
    assert!(listing.contains("attention_grad") && listing.contains("without reuse"), "{listing}");
    assert!(plan.cost().flops > 10_000);
    let work = plan.program().region_bytes()[galatea_tensor::Region::Work.index()];
    let mut inference = Recorder::new();
    let loss = network(&mut inference, "");
    let inference = inference.finish(&[loss]);
    let forward = inference.program().region_bytes()[galatea_tensor::Region::Work.index()];
    assert!(forward < work, "{forward} {work}");
    assert_eq!(inference.program().region_bytes()[galatea_tensor::Region::Grad.index()], 0);
}

#[test]
#[should_panic(expected = "linear: expected x [.., i], w [o, i]")]
fn a_wrong_shape_panics_where_it_is_recorded() {
    let mut rec = Recorder::new();
    let x = rec.input("x", &[2, 3], DType::F32);
    let w = rec.param("w", &[4, 5], Init::Zeros);
    rec.linear(x, w, None, Activation::None);
}
