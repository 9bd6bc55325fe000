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

#[test]
fn options_that_do_not_go_together_are_named() {
    let plain = AncestralOptions::default;
    let new =
        |limit, options| Ancestral::new(exact(limit, 2), process(limit), levels(3), Fixed::none(1, 2), options).err();
    let cases = [
        (MASK, AncestralOptions { rule: Rule::Tweedie, revise: Revise::cap(0.1), ..plain() }, "a revision"),
        (
            Limit::Uniform,
            AncestralOptions { revise: Revise::Confidence { scale: 1.0 }, ..plain() },
            "a revision by confidence",
        ),
        (MASK, AncestralOptions { output: Output::Verbatim, ..plain() }, "an output taken verbatim"),
        (
            MASK,
            AncestralOptions { corrector: Some(Gibbs { sweeps: 1, positions: 1, pick: Pick::Random }), ..plain() },
            "a Gibbs corrector",
        ),
    ];
    for (limit, options, named) in cases {
        let error = new(limit, options.clone());
        assert!(matches!(error, Some(Error::Together { option, .. }) if option == named), "{options:?}: {error:?}");
    }
    let hybrid = galatea_processes::Hybrid::new(4, 3, 0.1, 1.0).expect("sound");
    let of = |options, grid: &[f64]| Ancestral::of(exact(MASK, 2), hybrid, grid, Fixed::none(1, 2), options).err();
    for options in [
        AncestralOptions { rule: Rule::Euler, ..plain() },
        AncestralOptions { rule: Rule::Flow { divergence_free: 0.0 }, ..plain() },
        AncestralOptions { output: Output::Score, ..plain() },
        AncestralOptions { revise: Revise::ForwardBackward, ..plain() },
    ] {
        assert!(matches!(of(options.clone(), &[1.0, 0.0]), Some(Error::Together { .. })), "{options:?}");
    }
    assert!(matches!(of(plain(), &[0.0, 1.0]), Some(Error::Level { parameter: "t", .. })));
    assert!(matches!(of(plain(), &[]), Some(Error::Level { parameter: "the number of levels", .. })));
    assert!(matches!(of(plain(), &[2.0, 0.0]), Some(Error::Level { parameter: "alpha_bar", .. })));
}

#[test]
fn numbers_outside_their_range_are_named() {
    let plain = AncestralOptions::default;
    let new = |options| {
        let process = process(Limit::Uniform);
        let error = Ancestral::new(exact(Limit::Uniform, 2), process, levels(3), Fixed::none(1, 2), options).err();
        match error {
            Some(Error::Parameter { parameter, .. }) => parameter,
            other => panic!("{other:?}"),
        }
    };
    let revise = |revise| new(AncestralOptions { revise, ..plain() });
    assert_eq!(revise(Revise::Renoise { kappa: 1.5 }), "kappa");
    assert_eq!(revise(Revise::Renoise { kappa: f64::NAN }), "kappa");
    assert_eq!(revise(Revise::Profile(vec![1.0; 2])), "the number of kappas");
    assert_eq!(revise(Revise::rescale(-0.1)), "scale");
    assert_eq!(revise(Revise::Loop { sigma: 0.1, t_on: 0.1, t_off: 0.2 }), "t_off");
    let rule = |rule| new(AncestralOptions { rule, ..plain() });
    assert_eq!(rule(Rule::Euler), "the first alpha_bar of Euler's rule");
    assert_eq!(rule(Rule::Flow { divergence_free: -1.0 }), "divergence_free");
    assert!(rule(Rule::Flow { divergence_free: 1.0 }).starts_with("the first alpha_bar of a flow"));
    let gibbs =
        |positions, pick| new(AncestralOptions { corrector: Some(Gibbs { sweeps: 1, positions, pick }), ..plain() });
    assert_eq!(gibbs(0, Pick::Random), "positions");
    assert_eq!(gibbs(1, Pick::Margin { temperature: 0.0 }), "temperature");
}

/// NaN is met wherever a model may put it, and no step is taken with nothing to write.
#[test]
fn every_rule_names_what_it_cannot_read() {
    for rule in [Rule::Posterior, Rule::Sampled, Rule::Tweedie, Rule::Euler, Rule::Flow { divergence_free: 0.0 }] {
        for output in [Output::Clean, Output::Score] {
            let levels = Levels::from_pairs([(0.9, 0.1), (0.4, 0.6)]).expect("descends");
            let options = AncestralOptions { rule, output, ..Default::default() };
            let fixed = Fixed::none(1, 2);
            let sampler =
                Ancestral::new(Broken(f32::NAN), process(Limit::Uniform), levels.clone(), fixed, options.clone());
            let found: Vec<_> = sampler.expect("sound").collect();
            assert_eq!(found, [Err(Failure::Output { row: 0, position: 0 })], "{rule:?} {output:?}");
            let mut given = Fixed::none(1, 2);
            given.write(0, 0, &[1, 0]).expect("inside");
            let sampler = Ancestral::new(Broken(f32::NAN), process(Limit::Uniform), levels, given, options);
            assert_eq!(sampler.expect("sound").finish().expect("nothing to do").calls, 0);
        }
    }
    let guided = Ancestral::new(
        exact(Limit::Uniform, 2),
        process(Limit::Uniform),
        levels(2),
        Fixed::none(1, 2),
        AncestralOptions::default(),
    )
    .expect("sound");
    assert!(matches!(
        guided.guided(exact(Limit::Uniform, 2), f64::NAN),
        Err(Error::Parameter { parameter: "gamma", .. })
    ));
}
