"""The command line: each command parses, calls the library once, and prints.

Nothing heavy is imported here or at the top of the command files: `ens --help` has to answer at once.
"""

from __future__ import annotations

import os
import sys

import typer

from ensemble_kit.cli import data, predict, run, train
from ensemble_kit.errors import EnsembleKitError

app = typer.Typer(
    name="ens",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Hierarchical conditional ensembles for multi-attribute image classification.",
    epilog="ens quickstart shows the whole thing in a few minutes, on photos it draws itself.",
)
run.add_to(app)
train.add_to(app)
predict.add_to(app)
data.add_to(app)


def main() -> None:
    """The entry point `ens`. Errors made on purpose end in one line and their exit code, never in a traceback."""
    try:
        app(prog_name="ens")
    except EnsembleKitError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except SystemExit as stop:
        if stop.code == 130:  # what typer makes of Ctrl-C
            print("stopped; the same command goes on from here", file=sys.stderr)
        raise
    except BrokenPipeError:
        # The reader of our output went away (`| head`); point stdout elsewhere so that the exit stays quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
