//! The command line: what can be typed, and which module answers.

use crate::commands;
use clap::{Parser, Subcommand};

const ABOUT: &str = "Train diffusion language models on your own text, sample and infill";

const LONG: &str = "\
Train diffusion language models on your own text, sample and infill.

A diffusion language model writes all positions of a text at once: it begins with noise and decides, step by step, what stands \
where. So it can be told any word at any place before it begins.";

const AFTER: &str = "\
Examples:
  galatea demo                                           from nothing to stories that can be checked
  galatea train --data my.txt --out runs/mine            learn a text; Ctrl-C saves, --resume goes on
  galatea sample --model runs/mine --count 3 --visual    watch it write
  galatea infill --model runs/mine 'the ___ sat on {3}'  fill the gaps
  galatea eval --model runs/mine                         bits per character on held-out text

`galatea COMMAND --help` has more. Results go to standard output, everything else to standard error. The exit code is 2 where \
the command line or a configuration asks for something that cannot be, and 1 where something went wrong.";

/// The whole command line.
#[derive(Parser)]
#[command(name = "galatea", version, about = ABOUT, long_about = LONG, after_help = AFTER, max_term_width = 110, args_override_self = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train on a language whose entropy is known, and compare: a tour of everything
    Demo(commands::demo::Args),
    /// Train a model on a text
    Train(Box<commands::train::Args>),
    /// Write texts with a trained model
    Sample(commands::sample::Args),
    /// Write texts in which some tokens are given
    Infill(commands::infill::Args),
    /// Measure a model on held-out text
    Eval(commands::eval::Args),
    /// Show a model's program, parameters and memory
    Inspect(Box<commands::inspect::Args>),
    /// Ask the embedded language for exact answers
    Oracle(commands::oracle::Args),
    /// Look at a text, train and use tokenizers
    Data(commands::data::Args),
    /// Write, show and check configuration files
    Config(commands::config::Args),
    /// Print a completion script for a shell
    Completions(commands::completions::Args),
}

impl Cli {
    /// Does what was asked.
    ///
    /// # Errors
    /// Whatever stopped it; [`crate::failure::report`] tells the user.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        crate::machine::check()?;
        match self.command {
            Command::Demo(args) => commands::demo::run(args),
            Command::Train(args) => commands::train::run(&args),
            Command::Sample(args) => commands::sample::run(&args),
            Command::Infill(args) => commands::infill::run(&args),
            Command::Eval(args) => commands::eval::run(&args),
            Command::Inspect(args) => commands::inspect::run(&args),
            Command::Oracle(args) => commands::oracle::run(args),
            Command::Data(args) => commands::data::run(&args),
            Command::Config(args) => commands::config::run(&args),
            Command::Completions(args) => commands::completions::run(&args),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_option_explains_itself() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} has no description", command.get_name());
            for argument in command.get_arguments().filter(|a| !["help", "version"].contains(&a.get_id().as_str())) {
                assert!(
                    argument.get_help().is_some(),
                    "{} {} has no description",
                    command.get_name(),
                    argument.get_id()
                );
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
