//! A decoder that keeps its keys and values, against the whole sequence at once.

use galatea_autograd::{AttentionMask, DType, Recorder, Session};
use galatea_kernels::{Cpu, Isa};

const BATCH: usize = 2;
const LEN: usize = 9;
const HEADS: u32 = 4;
const KV_HEADS: u32 = 2;
const D_HEAD: usize = 6;
const WIDTH: usize = (HEADS + 2 * KV_HEADS) as usize * D_HEAD;
const D: usize = HEADS as usize * D_HEAD;

fn qkv(row: usize) -> impl Iterator<Item = f32> {
    (0..WIDTH).map(move |c| ((row * 31 + c * 17) % 23) as f32 / 11.0 - 1.0)
}

#[test]
fn a_normalised_and_rotated_step_by_a_cache_equals_the_whole_sequence() {
    let session = |rec: Recorder, y| Session::new(Cpu::with(2, Isa::detect()), rec.finish(&[y])).expect("memory");
    let mut rec = Recorder::new();
    let x = rec.input("x", &[BATCH, LEN, WIDTH], DType::F32);
    let normed = rec.grouped_qk_norm(x, HEADS, KV_HEADS, 1e-5, 1.5);
    let turned = rec.grouped_rotary(normed, HEADS, KV_HEADS, 100.0, None);
    let y = rec.grouped_attention(turned, HEADS, KV_HEADS, AttentionMask::Causal, None);
    let mut whole = session(rec, y);
    whole.write(x, &(0..BATCH * LEN).flat_map(qkv).collect::<Vec<f32>>()).expect("upload");
    whole.run().expect("run");
    let truth: Vec<f32> = whole.read(y).expect("download");

    let mut rec = Recorder::new();
    let x = rec.input("x", &[BATCH, 1, WIDTH], DType::F32);
    let past = rec.input("past", &[1], DType::U32);
    let cache = ["k", "v"].map(|name| rec.input(name, &[BATCH, LEN, KV_HEADS as usize * D_HEAD], DType::F32));
    let normed = rec.grouped_qk_norm(x, HEADS, KV_HEADS, 1e-5, 1.5);
    let turned = rec.grouped_rotary(normed, HEADS, KV_HEADS, 100.0, Some((past, LEN)));
    let y = rec.attention_cached(turned, HEADS, KV_HEADS, AttentionMask::Causal, past, (cache[0], cache[1]));
    let mut step = session(rec, y);
    for i in 0..LEN {
        step.write(x, &(0..BATCH).flat_map(|b| qkv(b * LEN + i)).collect::<Vec<f32>>()).expect("upload");
        step.write(past, &[i as u32]).expect("upload");
        step.run().expect("run");
        let found: Vec<f32> = step.read(y).expect("download");
        for (b, found) in found.chunks(D).enumerate() {
            for (found, truth) in found.iter().zip(&truth[(b * LEN + i) * D..]) {
                assert!((found - truth).abs() < 1e-6, "position {i}: {found} instead of {truth}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "attention_cached modifies a tensor of another shape or type")]
fn a_cache_of_another_width_is_refused() {
    let mut rec = Recorder::new();
    let x = rec.input("x", &[1, 1, WIDTH], DType::F32);
    let past = rec.input("past", &[1], DType::U32);
    let [k, v] = [("k", D_HEAD), ("v", 2 * D_HEAD)].map(|(name, width)| rec.input(name, &[1, LEN, width], DType::F32));
    rec.attention_cached(x, HEADS, KV_HEADS, AttentionMask::Causal, past, (k, v));
}
