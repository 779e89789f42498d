"""The root of the command tree. A command's module is imported when the command is used, not before."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from adapterbank import __version__
from adapterbank.cli.command import Group
from adapterbank.cli.failures import report
from adapterbank.cli.session import Session

# Section → command → (module of this package, its short help, so that --help imports none of them).
COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Adapters": {
        "register": ("register", "Put adapters into the bank: each directory becomes an immutable version."),
        "list": ("adapters", "List versions."),
        "search": ("adapters", "List the versions that an expression selects."),
        "show": ("adapters", "Show everything about one version."),
        "history": ("adapters", "Show all versions of a name and every move of its aliases."),
        "export": ("adapters", "Write a version as a PEFT directory, bit for bit as it was registered."),
        "alias": ("aliases", "Set, list and remove aliases: movable names for versions."),
        "tag": ("labels", "Set or remove tags of a version."),
        "metric": ("labels", "Set metrics of a version."),
        "note": ("labels", "Write the note of a version."),
        "model": ("models", "Add, alias, join and list base models."),
    },
    "Stored forms": {
        "encode": ("encode", "Code versions on their own: a small form of each, with a stated error."),
        "basis": ("bases", "Build, inspect and change bases: collections of coded adapters, or RMM (arXiv 2510.14163)."),
        "reconstruct": ("reconstruct", "Write a version from its stored form alone."),
        "compact": ("compact", "Keep versions at another level, in fewer bytes."),
    },
    "Merges": {
        "merge": ("merges", "Merge adapters into a new version, with its recipe."),
        "methods": ("methods", "List the merge methods with what they need and where they come from, and the preparations."),
        "explain": ("explain", "Show what went into a merge and where its adapters are against each other."),
        "compare": (
            "explain",
            "Run several methods on the same adapters and put residual, norm, time and scores beside each other.",
        ),
        "recipe": ("recipes", 'Show a merge\'s recipe, and write it as a file that "merge --recipe" takes.'),
        "replay": ("merges", "Merge again from the recipe and compare."),
        "revert": ("merges", "Hand back the constituents of a merge."),
        "blend": ("explain", "Write a weighted sum of adapters as a PEFT directory; nothing is stored."),
        "cluster": (
            "explain",
            "Sort adapters into groups by the cosines of their ΔW (Sub-MoE, arXiv 2506.23266), and merge each group if asked.",
        ),
        "calibrate": ("calibrate", "Learn from data what a merge needs, and store it as artefacts."),
        "coefficients": (
            "artefacts",
            "List, show, compare and export learned coefficients: how much of each adapter each module gets.",
        ),
        "artefacts": (
            "artefacts",
            "List and remove what calibration made: statistics of versions, coefficients over several.",
        ),
    },
    "Servers": {
        "materialize": (
            "servers",
            "Write versions as canonical directories DIR/NAME@N: one rank, scaling 1, as servers read them.",
        ),
        "launch-flags": ("servers", "Print how a server is started so that it can serve these versions from this bank."),
        "load": ("servers", "Have a running SGLang load a version: its directory is written first."),
    },
    "Upkeep": {
        "init": ("upkeep", "Make an empty bank."),
        "demo": ("demo", "Run the whole way on real adapters and print a table."),
        "doctor": ("upkeep", "Say how this bank is set up and what is wrong with it."),
        "upgrade": ("upkeep", "Bring the schema of a bank up to date; a backup is kept."),
        "verify": ("upkeep", "Check stored bytes and rows against their digests."),
        "gc": ("upkeep", "Delete objects that nothing refers to, and what killed processes left behind."),
        "remove": ("upkeep", "Remove versions that nothing else needs."),
        "completion": ("completion", "Print the completion script of a shell."),
    },
}
_PLACES = {name: place for section in COMMANDS.values() for name, place in section.items()}


class Root(Group):
    """Lists its commands from the table and imports the one that is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_PLACES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _PLACES:
            return None
        module = importlib.import_module(f"adapterbank.cli.{_PLACES[cmd_name][0]}")
        found = getattr(module, f"{cmd_name.replace('-', '_')}_command")
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section, commands in COMMANDS.items():
            with formatter.section(section):
                formatter.write_dl([(name, short) for name, (_, short) in commands.items()])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = "adapterbank",
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Run and exit: 0, or the status of the failure (see :mod:`adapterbank.cli.failures`)."""
        arguments = tuple(sys.argv[1:] if args is None else args)
        session = extra.pop("obj", None) or Session()
        session.arguments = arguments
        try:
            status = super().main(list(arguments), prog_name, complete_var, standalone_mode=False, obj=session, **extra)
        except Exception as error:  # the one place where exceptions become exit statuses
            sys.exit(report(error, session))
        sys.exit(status if isinstance(status, int) else 0)


@click.group(
    "adapterbank",
    cls=Root,
    examples=(
        "adapterbank init",
        "adapterbank register out/sql --name sql --alias prod",
        "adapterbank basis build b1 sql@1 math@2 --max-error 0.35",
    ),
)
@click.version_option(__version__, prog_name="adapterbank")
def root() -> None:
    """A bank for LoRA adapters: versions, exact bytes, bases, merges, measured errors.

    REF is a name (its newest version), name@3, name@alias or a sha256: prefix. Wherever REF... stands, @FILE takes
    references from a file (one a line, # comments) and --where EXPR takes those that an expression selects.
    """


def main() -> NoReturn:
    """The console script. Text that the terminal cannot show is escaped, never an error."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    root.main()


if __name__ == "__main__":
    main()
