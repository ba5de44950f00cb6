//! `tidegate completions`: the completion script of a shell.

use std::io::Write as _;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::Cli;

/// Print the completion script of a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tidegate completions bash > /usr/share/bash-completion/completions/tidegate
  tidegate completions zsh > /usr/share/zsh/site-functions/_tidegate
  tidegate completions fish > /usr/share/fish/vendor_completions.d/tidegate.fish")]
pub(super) struct Args {
    /// Shell
    shell: Shell,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "tidegate", &mut script);
    Ok(std::io::stdout().lock().write_all(&script)?)
}
