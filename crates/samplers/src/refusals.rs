//! What is refused, what fails, and what an edit between two steps does.

use crate::source::{MASK, TOKENS, ancestral, exact, levels, process, table};
use crate::*;
use galatea_processes::{Denoiser, EmbeddingDenoiser, Limit};
use galatea_schedules::Linear;
use ndarray::{ArrayRef2, ArrayRef3};

#[test]
fn unsound_arguments_are_named() {
    let new = |limit, fixed: Fixed, filter| {
        let options = AncestralOptions { filter, ..Default::default() };
        Ancestral::new(exact(MASK, 2), process(limit), levels(2), fixed, options).err()
    };
    let with = |token| {
        let mut fixed = Fixed::none(2, 4);
        fixed.set(1, 2, token).expect("inside");
        fixed
    };
    let plain = Filter::default;
    let outside = Error::Token { token: 9, row: 1, position: 2, vocab: 3 };
    assert_eq!(new(Limit::Uniform, with(9), plain()), Some(outside.clone()));
    assert_eq!(outside.to_string(), "token 9 at row 1, position 2 is outside the vocabulary of 3 ids");
    assert_eq!(new(MASK, with(3), plain()), Some(Error::FixedMask { mask: 3, row: 1, position: 2 }));
    assert_eq!(new(MASK, Fixed::none(0, 4), plain()), Some(Error::Empty { batch: 0, len: 4 }));
    let all = Filter { forbidden: vec![0, 1, 2], ..plain() };
    assert_eq!(new(MASK, with(1), all), Some(Error::NothingAllowed { vocab: 4 }));
    let beyond = Fixed::none(2, 4).write(0, 3, &[1, 2]).expect_err("one too many");
    assert_eq!(beyond, Error::Position { row: 0, position: 4, token: 2, batch: 2, len: 4 });
    let options = UnmaskingOptions { selection: Selection::Quota { passes: 0 }, ..Default::default() };
    let unmask = |limit, options| Unmasking::new(exact(MASK, 2), process(limit), with(1), options).err();
    assert!(matches!(unmask(MASK, options), Some(Error::Parameter { parameter: "passes", .. })));
    assert_eq!(unmask(Limit::Uniform, UnmaskingOptions::default()), Some(Error::NoMask));
    let embed = |fixed, options| Embedding::new(exact(MASK, 2), &table(), levels(2), fixed, options).err();
    assert_eq!(
        embed(with(3), EmbeddingOptions::default()),
        Some(Error::Token { token: 3, row: 1, position: 2, vocab: 3 })
    );
    let options = EmbeddingOptions { method: Method::Ddim { eta: 1.5 }, ..Default::default() };
    assert!(matches!(embed(with(1), options), Some(Error::Parameter { parameter: "eta", .. })));
    let options = EmbeddingOptions { head_bias: Some(vec![0.0]), ..Default::default() };
    assert!(matches!(embed(with(1), options), Some(Error::Shape { array: "bias", .. })));
    assert!(matches!(Levels::new(&Linear, &[0.0, 1.0]), Err(Error::Level { index: 1, parameter: "t", .. })));
    let rising = Levels::from_pairs([(1.0, 0.5), (0.5, 0.4)]);
    assert!(matches!(rising, Err(Error::Level { index: 1, parameter: "alpha_bar", .. })));
}

#[test]
fn edits_between_steps_are_kept() {
    let mut sampler = ancestral(MASK, 3, 6, Fixed::none(1, 3), 4);
    sampler.write(0, 1, 2).expect("inside");
    let canvas = sampler.finish().expect("infallible");
    assert_eq!(canvas.ids[[0, 1]], 2);

    let options = UnmaskingOptions { selection: Selection::Quota { passes: 3 }, ..Default::default() };
    let mut sampler = Unmasking::new(exact(MASK, 3), process(MASK), Fixed::none(1, 3), options).expect("sound");
    for canvas in sampler.by_ref() {
        canvas.expect("infallible");
    }
    sampler.write(0, 0, TOKENS as u32).expect("inside");
    assert!(!sampler.canvas().decided[[0, 0]]);
    let canvas = sampler.finish().expect("infallible");
    assert!(canvas.ids[[0, 0]] < TOKENS as u32 && canvas.calls == 4);

    let mut fixed = Fixed::none(1, 3);
    fixed.set(0, 0, 1).expect("inside");
    let mut sampler = ancestral(MASK, 3, 6, fixed, 4);
    assert_eq!(sampler.write(0, 0, 2), Err(Error::WriteFixed { row: 0, position: 0, token: 1 }));
    assert_eq!(sampler.write(0, 1, 4), Err(Error::Token { token: 4, row: 0, position: 1, vocab: 4 }));
    assert_eq!(sampler.write(0, 3, 0), Err(Error::Position { row: 0, position: 3, token: 0, batch: 1, len: 3 }));
}

struct Broken(f32);

impl Denoiser for Broken {
    type Error = &'static str;
    fn denoise(&mut self, _: &ArrayRef2<u32>, _: f64, logits: &mut ArrayRef3<f32>) -> Result<(), &'static str> {
        logits.fill(self.0);
        if self.0 == 0.0 { Err("out of memory") } else { Ok(()) }
    }
}

impl EmbeddingDenoiser for Broken {
    type Error = &'static str;
    fn denoise(&mut self, _: &ArrayRef3<f32>, _: f64, x_0_hat: &mut ArrayRef3<f32>) -> Result<(), &'static str> {
        x_0_hat.fill(0.0);
        x_0_hat[[0, 1, 0]] = self.0;
        if self.0 == 0.0 { Err("out of memory") } else { Ok(()) }
    }
}

#[test]
fn failures_end_the_iterator_and_are_named() {
    for (value, failure) in
        [(0.0, Failure::Denoiser("out of memory")), (f32::NAN, Failure::Output { row: 0, position: 0 })]
    {
        let a = Ancestral::new(
            Broken(value),
            process(Limit::Uniform),
            levels(2),
            Fixed::none(1, 2),
            AncestralOptions::default(),
        );
        assert_eq!(a.expect("sound").collect::<Vec<_>>(), [Err(failure.clone())]);
        let b = Unmasking::new(Broken(value), process(MASK), Fixed::none(1, 2), UnmaskingOptions::default());
        assert_eq!(b.expect("sound").collect::<Vec<_>>(), [Err(failure)]);
    }
    for (value, failure) in
        [(0.0, Failure::Denoiser("out of memory")), (f32::NAN, Failure::Output { row: 0, position: 1 })]
    {
        let c = Embedding::new(Broken(value), &table(), levels(2), Fixed::none(1, 2), EmbeddingOptions::default());
        assert_eq!(c.expect("sound").collect::<Vec<_>>(), [Err(failure)]);
    }
}

#[test]
fn nothing_free_needs_no_denoiser() {
    let mut fixed = Fixed::none(1, 2);
    fixed.write(0, 0, &[1, 0]).expect("inside");
    let sampler = Unmasking::new(Broken(0.0), process(MASK), fixed, UnmaskingOptions::default()).expect("sound");
    assert_eq!(sampler.finish().expect("no pass").calls, 0);
}
