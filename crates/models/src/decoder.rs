//! The autoregressive twin of the encoder: the same parameters under the same names, each position blind to later ones.

use crate::attend::{Attend, caches};
use crate::encoder::{Encoder, TimeInput, config};
use crate::{Error, Positions};
use galatea_autograd::{AttentionMask, Recorder, Var};

/// An encoder read from left to right. What is computed at a position never changes again, so a text is written one
/// position at a time with the keys and values of those before it kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoder {
    encoder: Encoder,
    capacity: usize,
}

impl Decoder {
    /// The twin of `encoder` for texts of at most `capacity` tokens.
    ///
    /// # Errors
    /// If the encoder is no model; if it has learned positions, whose row would have to be looked up by the number of
    /// positions so far, which is only known in a run; if it is told a time, which a text without noise has not; or if the
    /// capacity is 0.
    pub fn new(encoder: Encoder, capacity: usize) -> Result<Self, Error> {
        encoder.validate()?;
        let learned = match encoder.positions {
            Positions::Learned => Some("\"learned\""),
            Positions::LearnedRotary => Some("\"learned-rotary\""),
            Positions::None | Positions::Rotary => None,
        };
        if let Some(found) = learned {
            return Err(config("positions", "\"rotary\" or \"none\" for a decoder that keeps a cache", found));
        }
        if encoder.time == TimeInput::Given {
            return Err(config("time", "\"none\" for a decoder: its text has no noise", "\"given\""));
        }
        if capacity == 0 {
            return Err(config("capacity", "at least one position", capacity));
        }
        Ok(Self { encoder, capacity })
    }

    /// The most positions of a text.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Hidden states [batch, len, d_model] of inputs of that shape, all at once, as in training.
    pub fn body(&self, rec: &mut Recorder, x: Var) -> Var {
        self.encoder.body_with(rec, x, None, &Attend::Earlier)
    }

    /// Keys and values of every layer, [batch, capacity, d_model] each: the inputs `cache.{layer}.k` and `.v`. What they
    /// hold beyond the positions so far is never read, so a new text needs no clearing.
    pub fn caches(&self, rec: &mut Recorder, batch: usize) -> Vec<(Var, Var)> {
        caches(rec, self.encoder.layers, [batch, self.capacity, self.encoder.d_model])
    }

    /// Hidden states [batch, n, d_model] of n new positions x of that shape, without dropout. `past` u32 [1] positions are in
    /// `caches`, one (keys, values) for each layer as [`Decoder::caches`] makes them, which a run extends.
    ///
    /// # Panics
    /// If there are not as many caches as layers; in a run, if `past + n` exceeds the capacity.
    #[track_caller]
    pub fn body_cached(&self, rec: &mut Recorder, x: Var, past: Var, caches: &[(Var, Var)]) -> Var {
        assert_eq!(caches.len(), self.encoder.layers, "one cache for each layer");
        // A text is written with all units, as it is read in evaluation.
        let encoder = Encoder { dropout: 0.0, ..self.encoder.clone() };
        encoder.body_with(
            rec,
            x,
            None,
            &Attend::Cached { past, position: past, capacity: self.capacity, mask: AttentionMask::Causal, caches },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Nonlinearity, Norm, NormPlace};
    use galatea_autograd::{DType, Part, Session};
    use galatea_kernels::{Cpu, Isa};
    use galatea_tensor::bf16;

    const BATCH: usize = 3;
    const LEN: usize = 11;
    const D: usize = 32;

    fn encoder(norm_place: NormPlace, positions: Positions) -> Encoder {
        let (norm, bias) = match norm_place {
            NormPlace::Pre => (Norm::Rms, false),
            NormPlace::Post => (Norm::Layer, true),
        };
        Encoder {
            d_model: D,
            layers: 3,
            heads: 4,
            d_ff: 48,
            norm_place,
            norm,
            activation: Nonlinearity::Gelu,
            bias,
            positions,
            qk_norm: norm_place == NormPlace::Pre,
            ..Encoder::default()
        }
    }

    fn input(i: usize) -> f32 {
        ((i * 37 + 11) % 29) as f32 / 14.0 - 1.0
    }

    /// The same values for both: drawn by name, and none of them zero, since a pre-norm block that begins as the identity
    /// would prove nothing.
    fn load(session: &mut Session<Cpu>) {
        for index in 0..session.plan().params().len() {
            let param = &session.plan().params()[index];
            let salt: usize = param.path.bytes().map(usize::from).sum();
            let scale = if param.shape.rank() == 1 { 0.5 } else { 1.0 / (param.shape.cols() as f32).sqrt() };
            let values: Vec<f32> = (0..param.shape.len()).map(|i| scale * input(i * 7 + salt)).collect();
            session.set_param(index, Part::Value, &values).expect("upload");
        }
    }

    fn session(rec: Recorder, h: Var) -> Session<Cpu> {
        let mut session = Session::new(Cpu::with(2, Isa::detect()), rec.finish(&[h])).expect("memory");
        load(&mut session);
        session
    }

    fn read(session: &Session<Cpu>, h: Var, dtype: DType) -> Vec<f32> {
        if dtype == DType::F32 {
            return session.read(h).expect("download");
        }
        let half: Vec<bf16> = session.read(h).expect("download");
        half.into_iter().map(f32::from).collect()
    }

    /// The largest difference between all positions at once and `n` of them at a time.
    fn difference(encoder: Encoder, dtype: DType, n: usize) -> f32 {
        let decoder = Decoder::new(encoder, LEN).expect("a decoder");
        let mut rec = Recorder::with_precision(dtype);
        let x = rec.input("x", &[BATCH, LEN, D], DType::F32);
        let h = decoder.body(&mut rec, x);
        let mut whole = session(rec, h);
        whole.write(x, &(0..BATCH * LEN * D).map(input).collect::<Vec<_>>()).expect("upload");
        whole.run().expect("run");
        let truth = read(&whole, h, dtype);

        let mut rec = Recorder::with_precision(dtype);
        let x = rec.input("x", &[BATCH, n, D], DType::F32);
        let past = rec.input("past", &[1], DType::U32);
        let caches = decoder.caches(&mut rec, BATCH);
        let h = decoder.body_cached(&mut rec, x, past, &caches);
        let mut step = session(rec, h);
        let paths = |session: &Session<Cpu>| session.plan().params().iter().map(|p| p.path.clone()).collect::<Vec<_>>();
        assert_eq!(paths(&step), paths(&whole));
        // What is in a cache beyond the past must not matter.
        for (k, v) in caches {
            for cache in [k, v] {
                let len = BATCH * LEN * D;
                match dtype {
                    DType::F32 => step.write(cache, &vec![1e3f32; len]).expect("upload"),
                    _ => step.write(cache, &vec![bf16::from_f32(1e3); len]).expect("upload"),
                }
            }
        }
        let mut largest = 0.0f32;
        for from in (0..LEN - LEN % n).step_by(n) {
            let rows = (0..BATCH).flat_map(|b| (b * LEN + from) * D..(b * LEN + from + n) * D);
            let values: Vec<f32> = rows.clone().map(input).collect();
            step.write(x, &values).expect("upload");
            step.write(past, &[from as u32]).expect("upload");
            step.run().expect("run");
            let found = read(&step, h, dtype);
            largest = found.iter().zip(rows).fold(largest, |max, (x, i)| max.max((x - truth[i]).abs()));
        }
        largest
    }

    #[test]
    fn position_by_position_equals_the_causal_whole() {
        for place in [NormPlace::Pre, NormPlace::Post] {
            for positions in [Positions::None, Positions::Rotary] {
                for n in [1, 2] {
                    let exact = difference(encoder(place, positions), DType::F32, n);
                    assert!(exact < 1e-4, "{place:?} {positions:?}, {n} at a time in f32: {exact}");
                    // Hidden states of a few units, of which bf16 keeps eight bits.
                    let rounded = difference(encoder(place, positions), DType::Bf16, n);
                    assert!(rounded < 0.1, "{place:?} {positions:?}, {n} at a time in bf16: {rounded}");
                }
            }
        }
    }

    #[test]
    fn later_positions_change_nothing_before_them() {
        let decoder = Decoder::new(encoder(NormPlace::Post, Positions::None), LEN).expect("a decoder");
        let mut rec = Recorder::new();
        let x = rec.input("x", &[1, LEN, D], DType::F32);
        let h = decoder.body(&mut rec, x);
        let mut session = session(rec, h);
        let mut hidden = |changed: usize| -> Vec<f32> {
            let values = (0..LEN * D).map(|i| if i < changed * D { input(i) } else { -input(i) });
            session.write(x, &values.collect::<Vec<_>>()).expect("upload");
            session.run().expect("run");
            session.read(h).expect("download")
        };
        let (whole, half) = (hidden(LEN), hidden(LEN / 2));
        let cut = LEN / 2 * D;
        assert_eq!(whole[..cut], half[..cut]);
        assert_ne!(whole[cut..], half[cut..]);
    }

    #[test]
    fn what_a_cache_cannot_serve_is_refused_with_its_field() {
        let fields = |encoder, capacity| match Decoder::new(encoder, capacity) {
            Err(Error::Config { field, .. }) => field,
            other => panic!("expected a configuration that is refused, found {other:?}"),
        };
        let plain = encoder(NormPlace::Pre, Positions::Rotary);
        for positions in [Positions::Learned, Positions::LearnedRotary] {
            assert_eq!(fields(encoder(NormPlace::Pre, positions), LEN), "positions");
        }
        assert_eq!(fields(Encoder { time: TimeInput::Given, ..plain.clone() }, LEN), "time");
        assert_eq!(fields(Encoder { heads: 5, ..plain.clone() }, LEN), "heads");
        assert_eq!(fields(plain, 0), "capacity");
    }
}
