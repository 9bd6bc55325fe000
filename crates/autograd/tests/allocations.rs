//! A run allocates nothing: counted by an allocator of this test binary's own.

use galatea_autograd::{
    Activation, AdamW, AttentionMask, DType, Hyper, Init, Limit, Link, Muon, Optimizer, Recorder, Session, Update,
};
use galatea_kernels::{Cpu, Isa};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

struct Counting;
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes unchanged to `System`.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: as the trait demands of the caller.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: as the trait demands of the caller.
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Held by a test while it counts: the counter sees the whole process.
static COUNTING: Mutex<()> = Mutex::new(());

#[track_caller]
fn assert_runs_allocate_nothing(session: &mut Session<Cpu>) {
    // A thread sizes its scratch when it first takes a part of a run, which a small program may leave to the other thread for
    // a while, and the harness allocates beside a test now and then. What a run allocates is seen in every batch of runs.
    let batch = |session: &mut Session<Cpu>| {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for _ in 0..300 {
            session.run().expect("run");
        }
        ALLOCATIONS.load(Ordering::Relaxed) - before
    };
    let counts: Vec<usize> = (0..8).map(|_| batch(session)).collect();
    assert!(counts.contains(&0), "allocations in batches of 300 runs: {counts:?}");
}

#[test]
fn inference_with_int8_weights_allocates_nothing() {
    let counting = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut rec = Recorder::with_int8_weights(DType::Bf16);
    let x = rec.input("x", &[2, 40, 64], DType::F32);
    let (w, b) = (rec.param("w", &[100, 64], Init::Normal { std: 0.1 }), rec.param("b", &[100], Init::Zeros));
    let y = rec.linear(x, w, Some(b), Activation::Gelu);
    let mut session = Session::new(Cpu::with(2, Isa::detect()), rec.finish(&[y])).expect("memory");
    session.init(1).expect("init");
    assert_runs_allocate_nothing(&mut session);
    drop(counting);
}

#[test]
fn a_training_step_allocates_nothing() {
    let counting = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
    let (batch, len, d, vocab) = (4, 16, 32, 50);
    let mut rec = Recorder::new();
    let x_0 = rec.input("x_0", &[batch, len], DType::U32);
    let alpha_bar = rec.input("alpha_bar", &[batch, 1], DType::F32);
    let weight = rec.input("weight", &[batch, 1, 3], DType::F32);
    let x_t = rec.corrupt_tokens(x_0, alpha_bar, Limit::Mask(49));
    let table = rec.table("embed", &[vocab, d], Init::Normal { std: 0.1 });
    let x = rec.embedding(x_t, table);
    let gain = rec.param("gain", &[d], Init::Ones);
    let h = rec.rms_norm(x, Some(gain), 1e-5);
    let w = rec.param("qkv", &[3 * d, d], Init::Normal { std: 0.1 });
    let qkv = rec.linear(h, w, None, Activation::None);
    let qkv = rec.qk_norm(qkv, 2, 1e-5, 1.5);
    let qkv = rec.rotary(qkv, 2, 1e4);
    let h = rec.attention(qkv, 2, AttentionMask::Full, None);
    let x = rec.add(x, h);
    let h = rec.layer_norm(x, Some(gain), None, 1e-5);
    let (w1, b1) = (rec.param("w1", &[64, d], Init::Normal { std: 0.1 }), rec.param("b1", &[64], Init::Zeros));
    let h = rec.linear(h, w1, Some(b1), Activation::Gelu);
    let h = rec.dropout(h, 0.1);
    let w2 = rec.param("w2", &[d, 64], Init::Normal { std: 0.1 });
    let h = rec.linear(h, w2, None, Activation::None);
    let x = rec.add(x, h);
    let logits = rec.linear(x, table, None, Activation::None);
    let w = rec.token_weight(x_0, x_t, weight, Some(49));
    let (loss, _) = rec.cross_entropy(logits, x_0, w, Some(49));
    let terms = rec
        .constant(&[batch, 1, 3, 12], [0.0, 0.3, 0.2, 0.7, 0.3, 0.7, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0].repeat(3 * batch));
    let (divergence, _) = rec.divergence(logits, (x_0, x_t), terms, w, Link::Softmax, Some(49));
    let loss = rec.add(loss, divergence);
    rec.backward(loss);
    let rest = AdamW { beta_1: 0.9, beta_2: 0.99, eps: 1e-8, weight_decay: 0.01 };
    let matrices = Muon { momentum: 0.95, iterations: 5, weight_decay: 0.0 };
    rec.update(Update { optimizer: Optimizer::Muon { matrices, rest }, ema: true, norm: true });
    let mut session = Session::new(Cpu::with(2, Isa::detect()), rec.finish(&[loss])).expect("memory");
    session.init(1).expect("init");
    session.write(x_0, &vec![7u32; batch * len]).expect("upload");
    session.write(alpha_bar, &vec![0.5f32; batch]).expect("upload");
    session.write(weight, &vec![0.01f32; 3 * batch]).expect("upload");
    let hyper = session.plan().input("hyper").expect("recorded");
    let mut values = [1.0f32; Hyper::LEN];
    (values[Hyper::LR], values[Hyper::MUON_LR], values[Hyper::EMA_DECAY]) = (1e-3, 1e-2, 0.9);
    session.write(hyper, &values).expect("upload");
    assert_runs_allocate_nothing(&mut session);
    assert!(session.read::<f32>(loss).expect("download")[0].is_finite());
    drop(counting);
}
