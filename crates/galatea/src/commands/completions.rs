//! `galatea completions`: scripts that let a shell complete commands and options.

use crate::cli::Cli;
use clap::CommandFactory;
use clap_complete::Shell;
use std::io::Write;

/// Arguments of `galatea completions`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  galatea completions bash > ~/.local/share/bash-completion/completions/galatea
  galatea completions zsh > \"${fpath[1]}/_galatea\"
  galatea completions fish > ~/.config/fish/completions/galatea.fish")]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    // The generator takes a failing writer for a bug; a vector does not fail.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "galatea", &mut script);
    Ok(std::io::stdout().lock().write_all(&script)?)
}
