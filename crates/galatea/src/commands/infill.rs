//! `galatea infill`: texts in which some tokens are given.

use super::generate::{Options, generate};
use crate::failure::Usage;
use crate::template::{self, Part};
use galatea_train::{Generator, Vocabulary};

/// Arguments of `galatea infill`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  galatea infill --model runs/mine --at 5:blue --at 12:sea       the 5th token, the 12th token
  galatea infill --model runs/mine 'once there was a ___ {3} .'  one gap, then three
  galatea infill --model runs/mine --prompt 'To be' --count 5    how it goes on
  galatea infill --model runs/answers --prompt 'two and two'     what a model of pairs answers
  galatea infill --model runs/mine --suffix 'the end .'          how it came to that

Positions count from 1. `___`, `[MASK]` and `{1}` are a gap of one token, `{3}` of three. A template begins at the first \
position; what follows it is free, unless --length says how many tokens the text has: the rest of the row is then padding. \
What the model does not decide it cannot miss: given tokens never change.")]
pub(crate) struct Args {
    /// A text with gaps, from the first position
    #[arg(value_name = "TEMPLATE")]
    template: Option<String>,
    /// One given token, as POSITION:TOKEN; may be repeated
    #[arg(long, value_name = "N:TOKEN")]
    at: Vec<String>,
    /// A text that stands at the start
    #[arg(long, value_name = "TEXT", conflicts_with = "template")]
    prompt: Option<String>,
    /// A text that stands at the end
    #[arg(long, value_name = "TEXT")]
    suffix: Option<String>,
    /// Tokens of the text: the rest of the row is padding
    #[arg(long, value_name = "N")]
    length: Option<usize>,
    #[command(flatten)]
    options: Options,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if args.template.is_none()
        && args.at.is_empty()
        && args.prompt.is_none()
        && args.suffix.is_none()
        && args.length.is_none()
    {
        let hint = "say it with --at 5:blue, a template as in 'the ___ sat', --prompt or --suffix; `galatea sample` needs nothing";
        return Err(Usage::new("nothing is given that the text should hold", hint).into());
    }
    generate(&args.options, |generator| given(args, generator))
}

/// The token of every position that somebody asked for.
fn given(args: &Args, generator: &Generator) -> anyhow::Result<Vec<Option<u32>>> {
    let vocabulary = generator.vocabulary();
    let mut canvas = Given { tokens: vec![None; generator.len()], by: vec![""; generator.len()], vocabulary };
    let mut end = generator.len();
    if let Some(length) = args.length {
        if length == 0 || length > end {
            return Err(past_the_end("--length", length, end));
        }
        for position in length + 1..=generator.len() {
            canvas.put(position, vocabulary.pad(), "--length")?;
        }
        end = length;
    }
    let text = args.template.as_deref().map(template::parse).transpose()?;
    let prompt = args.prompt.as_deref().map(|text| vec![Part::Text(text.to_owned())]);
    let mut position = 1;
    for part in text.or(prompt).unwrap_or_default() {
        match part {
            Part::Gap(width) => position += width,
            Part::Text(text) => {
                for id in template::encode(vocabulary, &text)? {
                    canvas.put(position, id, if args.prompt.is_some() { "--prompt" } else { "the template" })?;
                    position += 1;
                }
            }
        }
    }
    if position - 1 > end {
        return Err(past_the_end(if args.prompt.is_some() { "--prompt" } else { "the template" }, position - 1, end));
    }
    if let Some(suffix) = &args.suffix {
        let ids = template::encode(vocabulary, suffix)?;
        if ids.len() > end {
            return Err(past_the_end("--suffix", ids.len(), end));
        }
        for (id, position) in ids.iter().zip(end + 1 - ids.len()..) {
            canvas.put(position, *id, "--suffix")?;
        }
    }
    for at in &args.at {
        let (position, id) = template::at(vocabulary, at)?;
        canvas.put(position, id, "--at")?;
    }
    Ok(canvas.tokens)
}

/// Positions with a token, and who put it there.
struct Given<'a> {
    tokens: Vec<Option<u32>>,
    by: Vec<&'static str>,
    vocabulary: &'a Vocabulary,
}

impl Given<'_> {
    fn put(&mut self, position: usize, id: u32, by: &'static str) -> anyhow::Result<()> {
        let len = self.tokens.len();
        let place = position.checked_sub(1).and_then(|index| self.tokens.get_mut(index));
        let Some(place) = place else { return Err(past_the_end(by, position, len)) };
        match *place {
            Some(other) if other != id => {
                let (new, old) = (self.vocabulary.token(id), self.vocabulary.token(other));
                let message =
                    format!("position {position} is `{old}` by {} and `{new}` by {by}", self.by[position - 1]);
                Err(Usage::new(message, "leave one of them out, or move it").into())
            }
            _ => {
                *place = Some(id);
                self.by[position - 1] = by;
                Ok(())
            }
        }
    }
}

fn past_the_end(who: &str, position: usize, len: usize) -> anyhow::Error {
    let message = format!("{who} asks for position {position}, and the text has positions 1 to {len}");
    Usage::new(message, "positions count tokens, from 1").into()
}
