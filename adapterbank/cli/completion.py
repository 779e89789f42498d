"""Shell completion: commands, options, and the names in the bank."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from adapterbank.cli.command import command


@command(
    "completion",
    examples=(
        'eval "$(adapterbank completion bash)"',
        "adapterbank completion zsh > ~/.zfunc/_adapterbank",
        "adapterbank completion fish > ~/.config/fish/completions/adapterbank.fish",
    ),
)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion_command(shell: str) -> None:
    """Print the completion script of a shell."""
    from adapterbank.cli.main import root

    complete = get_completion_class(shell)
    assert complete is not None
    click.echo(complete(root, {}, "adapterbank", "_ADAPTERBANK_COMPLETE").source())
