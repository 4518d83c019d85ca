"""The command line: each command parses, calls the library once, and prints.

Nothing heavy is imported here or at the top of the command files: `ens --help` has to answer at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Annotated

import typer

from ensemble_kit.cli import (
    answer,
    answers,
    beliefs,
    combine,
    compare_runs,
    data,
    diagnose,
    explain,
    fit,
    gallery,
    predict,
    recipes,
    report,
    run,
    soup,
    structures,
    train,
    tune,
)
from ensemble_kit.cli.help import with_panels
from ensemble_kit.cli.printed import plain_streams
from ensemble_kit.errors import EnsembleKitError, StoppedError

app = typer.Typer(
    name="ens",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Hierarchical conditional ensembles for multi-attribute image classification.",
    epilog="ens quickstart shows the whole thing in a few minutes, on photos it draws itself.",
)


@app.callback()
def about(
    version: Annotated[bool, typer.Option("--version", is_eager=True, help="Print the version.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        print(f"ensemble_kit {installed('ensemble_kit')}")
        raise typer.Exit


run.add_to(app)
train.add_to(app)
combine.add_to(app)
predict.add_to(app)
answer.add_to(app)
explain.add_to(app)
diagnose.add_to(app)
report.add_to(app)
fit.add_to(app)
gallery.add_to(app)
answers.add_to(app)
compare_runs.add_to(app)
beliefs.add_to(app)
data.add_to(app)
recipes.add_to(app)
soup.add_to(app)
structures.add_to(app)
tune.add_to(app)
with_panels(app)


def _stop(number: int, frame: object) -> None:  # noqa: ARG001
    raise StoppedError("stopped; the same command goes on from here")


def main() -> None:
    """The entry point `ens`. Errors made on purpose end in one line and their exit code, never in a traceback."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _stop)  # while it trains, a training has its own handler
    with plain_streams():
        try:
            app(prog_name="ens")
        except EnsembleKitError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(error.exit_code)
        except BrokenPipeError:
            # The reader of our output went away (`| head`); point stdout elsewhere so that the exit stays quiet.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)
        except OSError as error:
            print(
                f"error: {error.filename or 'file'}: {error.strerror}; name a place that can be written",
                file=sys.stderr,
            )
            sys.exit(3)
        except (MemoryError, RuntimeError) as error:
            memory = sys.modules.get("ensemble_kit.models.memory")  # torch is not imported for a message
            if not (isinstance(error, MemoryError) if memory is None else memory.ran_out(error)):
                raise
            print(f"error: out of memory ({' '.join(str(error).split())[:200] or 'no more of it'})", file=sys.stderr)
            sys.exit(2)
        except SystemExit as stop:
            if stop.code == 130:  # what typer makes of Ctrl-C
                print("stopped; the same command goes on from here", file=sys.stderr)
            raise
