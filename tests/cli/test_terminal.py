"""What a terminal shows and a pipe does not: a bar with the time left, colours, lines broken to its width."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|9[0-7])(?:;\d+)*m")
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
LINE = "age, fold 0, epoch 1/3: loss 0.945, validation loss 0.878, accuracy 0.602, macro F1 0.457   (28 s, 27 photos/s)"
PROGRAM = f"""
import time
from ensemble_kit.cli.progress import TerminalWatcher
with TerminalWatcher() as watcher:
    watcher.begin("training", 4)
    for done in (1, 2, 3):
        watcher.advance(done)
        time.sleep(0.15)
    watcher.say({LINE!r})
"""
PLAIN = {"TERM": "xterm-256color"}


def environment(told: dict[str, str]) -> dict[str, str]:
    unset = ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES")
    return {name: value for name, value in os.environ.items() if name not in unset} | told


def on_a_terminal(told: dict[str, str], columns: int) -> str:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=theirs, stderr=theirs, env=environment(told)) as done:
        os.close(theirs)
        seen = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux tells the end so
                break
            if not part:
                break
            seen += part
    os.close(ours)
    assert done.returncode == 0, seen
    return seen.decode()


def test_a_terminal_has_colours_and_the_time_left() -> None:
    seen = on_a_terminal(PLAIN, 80)
    assert COLOUR.search(seen)
    assert re.search(r"training .*75%.*\d:\d\d:\d\d", ESCAPE.sub("", seen))


def test_no_color_takes_the_colours_and_nothing_else() -> None:
    seen = on_a_terminal(PLAIN | {"NO_COLOR": "1"}, 80)
    assert not COLOUR.search(seen)
    assert "75%" in seen


def test_a_dumb_terminal_gets_lines_alone() -> None:
    seen = on_a_terminal({"TERM": "dumb"}, 80)
    assert "\x1b" not in seen
    assert " ".join(LINE.split()) in " ".join(seen.split())


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_lines_are_as_wide_as_the_terminal(columns: int) -> None:
    seen = ESCAPE.sub("", on_a_terminal(PLAIN, columns))
    assert max(len(line) for line in re.split(r"[\r\n]+", seen)) <= columns
    assert "".join(LINE.split()) in "".join(seen.split())


@pytest.mark.parametrize("told", [PLAIN, {"TERM": "dumb"}])
def test_a_pipe_gets_whole_lines_alone(told: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment(told), check=True
    )
    assert done.stdout == LINE + "\n"
    assert done.stderr == ""
