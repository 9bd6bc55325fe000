//! The autoregressive twin of the sampling work: the same backbone read from left to right, one token a step.

use crate::seed::{MASK, SEED, VOCAB, WIDTH, beside_weights, cpu, encoder, head, recorder, session, table};
use crate::{Launch, launches};
use galatea_autograd::{DType, Recorder, Session, Var};
use galatea_kernels::{Cost, Device, Op};
use galatea_models::{Decoder, Encoder};

/// Texts that grow by one drawn token a step, with their keys and values kept.
pub struct Decoding {
    session: Session<Device>,
    ids: Var,
    past: Var,
    drawn: Var,
    batch: usize,
    capacity: usize,
    key: u32,
}

struct Recorded {
    ids: Var,
    past: Var,
    live: Var,
    drawn: Var,
}

impl Decoding {
    /// `batch` texts of at most `capacity` tokens.
    ///
    /// # Errors
    /// If the type is not computed in, the sizes fit no model, or there is not enough memory.
    pub fn new([batch, capacity]: [usize; 2], dtype: DType, threads: usize) -> Result<Self, String> {
        let mut rec = recorder(dtype)?;
        let Recorded { ids, past, live, drawn } = Self::record(&mut rec, batch, capacity)?;
        let mut session = session(rec.finish(&[drawn]), cpu(threads), None)?;
        session.write(live, &vec![1u32; batch]).expect("an upload in memory");
        Ok(Self { session, ids, past, drawn, batch, capacity, key: 0 })
    }

    /// One step: the last tokens and how many were before them; the next tokens.
    fn record(rec: &mut Recorder, batch: usize, capacity: usize) -> Result<Recorded, String> {
        let ids = rec.input("ids", &[batch, 1], DType::U32);
        let past = rec.input("past", &[1], DType::U32);
        let live = rec.input("live", &[batch, 1], DType::U32);
        let decoder = Decoder::new(Encoder { dropout: 0.0, ..encoder() }, capacity).map_err(|e| e.to_string())?;
        let table = table(rec);
        let x = rec.embedding(ids, table);
        let caches = decoder.caches(rec, batch);
        let h = decoder.body_cached(rec, x, past, &caches);
        let (weight, bias) = head(rec);
        let (drawn, _, _) = rec.linear_sample(h, (weight, Some(bias)), live, 1.0, Some(MASK));
        Ok(Recorded { ids, past, live, drawn })
    }

    /// The launches of the step after `past` tokens: every weight once, and the keys and values of `past + 1` positions.
    ///
    /// A step's footprint is that of all its launches together: before a weight is read again, all others have been, so
    /// none of them is still in a cache that is smaller than the model.
    ///
    /// # Errors
    /// If the type is not computed in.
    pub fn step_launches(batch: usize, past: usize, dtype: DType) -> Result<Vec<Launch>, String> {
        let mut rec = recorder(dtype)?;
        // With a cache as long as this step needs, what is counted by the capacity is counted by the past.
        let Recorded { drawn, .. } = Self::record(&mut rec, batch, past + 1)?;
        let plan = rec.finish(&[drawn]);
        let mut launches = launches(plan.program());
        let (b, v, d, size) = (batch as u64, VOCAB as u64, WIDTH as u64, beside_weights(dtype).size() as u64);
        // Of the table it reads the rows that it looks up, and the head leaves nothing but ids behind.
        let lookup = launches.first_mut().expect("the lookup is recorded first");
        lookup.cost = Cost { flops: 0, bytes: size * 2 * b * d };
        let head = launches.last_mut().expect("the head is recorded last");
        head.cost = Cost { flops: 2 * b * v * d, bytes: size * (v * d + b * d) };
        // A cache is counted as a tensor that is changed, but only its new row is written.
        let attended = size * b * d * (2 * (past as u64 + 1) + 2 + 4);
        for (inst, launch) in plan.program().insts().iter().zip(&mut launches) {
            if let Op::AttentionCached { .. } = inst.op {
                launch.cost.bytes = attended;
            }
        }
        let footprint = launches.iter().map(|launch| launch.cost.bytes).sum();
        launches.iter_mut().for_each(|launch| launch.footprint = footprint);
        Ok(launches)
    }

    /// The launches of `len` steps from an empty text.
    ///
    /// # Errors
    /// If the type is not computed in.
    pub fn launches([batch, len]: [usize; 2], dtype: DType) -> Result<Vec<Launch>, String> {
        let step = |past| Self::step_launches(batch, past, dtype);
        Ok((0..len).map(step).collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// Writes texts of `len` tokens from nothing; the id that diffusion gives to a mask begins them.
    ///
    /// # Panics
    /// If they are longer than the capacity.
    pub fn run(&mut self, len: usize) -> Vec<u32> {
        assert!(len <= self.capacity, "{len} tokens, of {} at most", self.capacity);
        let (mut last, mut texts) = (vec![MASK; self.batch], vec![0; self.batch * len]);
        for past in 0..len {
            last = self.step(&last, past);
            last.iter().enumerate().for_each(|(row, &id)| texts[row * len + past] = id);
        }
        texts
    }

    /// The step after `past` tokens, whatever they were: what it costs does not depend on them.
    ///
    /// # Panics
    /// If the text is full.
    pub fn run_one(&mut self, past: usize) {
        assert!(past < self.capacity, "{past} tokens and one more, of {} at most", self.capacity);
        let last: Vec<u32> = (0..self.batch).map(|row| ((row + past) * 7919) as u32 % MASK).collect();
        self.step(&last, past);
    }

    fn step(&mut self, last: &[u32], past: usize) -> Vec<u32> {
        self.key += 1;
        self.session.write(self.ids, last).expect("an upload in memory");
        self.session.write(self.past, &[past as u32]).expect("an upload in memory");
        self.session.set_rng(SEED, self.key).expect("an upload in memory");
        self.session.run().expect("a program in memory");
        self.session.read(self.drawn).expect("a download in memory")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Sampling;

    #[test]
    fn a_step_reads_every_weight_once_and_the_cache_as_far_as_it_is_filled() {
        let bytes = |past| -> u64 {
            let launches = Decoding::step_launches(1, past, DType::F32).expect("f32");
            launches.iter().map(|launch| launch.cost.bytes).sum()
        };
        let matrices = (6 * (4 * WIDTH * WIDTH + 2 * WIDTH * 2048) + VOCAB * WIDTH) as u64;
        let empty = bytes(0);
        assert!(empty > 4 * matrices && empty < 4 * matrices * 101 / 100, "{empty} of {}", 4 * matrices);
        // Keys and values of six layers.
        let cached = (2 * 6 * WIDTH * 4 * 256) as u64;
        assert_eq!(bytes(256) - empty, cached);
    }

    #[test]
    fn a_token_costs_the_same_arithmetic_in_both_but_for_what_it_attends_to() {
        let sum = |launches: Vec<Launch>| launches.iter().map(|launch| launch.cost.flops).sum::<u64>() as f64;
        let step = sum(Decoding::step_launches(1, 31, DType::F32).expect("f32"));
        let all = sum(Sampling::launches([1, 32, 1], DType::F32).expect("f32"));
        assert!((all / step / 32.0 - 1.0).abs() < 0.01, "{all} for 32, {step} for one");
    }
}
