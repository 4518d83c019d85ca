"""How long `ens answer` and `ens predict` take until their first batch is through, against what nobody can spare.

python tests/benchmarks/first_batch.py [--run RUN] [--rounds 5] [--json FILE]

Nobody can spare importing torch and torchvision and loading the weights: a Python that does so and nothing else, into
torchvision's own ResNet18 each; of all checkpoints of the run, and, told beside, of the one that the first batch needs.
The commands run as they are typed, in a process that stops after the first forward pass. Each process is timed from
its start to its end. Without --run, three small trainings on generated photos come first (a minute or two).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from shared import Report, command_seconds, options, over, turn_about

ENS = [sys.executable, "-m", "ensemble_kit"]
PLAIN = """
import sys
import torch, torchvision
from safetensors.torch import load_file
networks = []
for path in sys.argv[1:]:
    found = {name.removeprefix("backbone."): tensor for name, tensor in load_file(path).items()}
    networks.append(torchvision.models.resnet18(num_classes=3))
    networks[-1].load_state_dict(found, strict=False)
"""
UNTIL_FIRST_BATCH = """
import os
import sys
from ensemble_kit.models import compute
softmax = compute._softmax
def first(*args):
    softmax(*args)
    os._exit(0)
compute._softmax = first
from ensemble_kit.cli import main
main()
sys.exit("no batch went through")
"""


def main(argv: Sequence[str] | None = None) -> int:
    parser = options(__doc__, 5)
    parser.add_argument("--run", type=Path, help="a finished run of ResNet18 experts")
    given = parser.parse_args(argv)
    report = Report(__file__, given)
    with tempfile.TemporaryDirectory() as scratch:
        run = given.run or train(Path(scratch), 32 if given.quick else 224)
        compare(report, run, Path(scratch))
    return report.end()


def train(folder: Path, size: int) -> Path:
    """A run of one fold each of a mask, a gender and an age expert."""
    photos, run = folder / "photos", folder / "run"
    shown = {"check": True, "stdout": subprocess.DEVNULL}
    subprocess.run([*ENS, "data", "generate", str(photos), "--people", "16", "--size", str(size)], **shown)  # type: ignore[call-overload]
    for name in ("mask", "gender", "age"):
        words = ["train", name, "--data", str(photos), "--run", str(run), "--weights", "none", "--val-ratio", "0.5"]
        words += ["--epochs", "1", "--batch-size", "4", "--size", str(size)]
        subprocess.run([*ENS, *words], **shown)  # type: ignore[call-overload]
    return run


def compare(report: Report, run: Path, scratch: Path) -> None:
    checkpoints = sorted(map(str, run.glob("experts/*/fold*/best.safetensors")))
    threads = [] if report.given.threads is None else ["--threads", str(report.given.threads)]
    commands = {
        "all": [sys.executable, "-c", PLAIN, *checkpoints],
        "one": [sys.executable, "-c", PLAIN, *checkpoints[:1]],
        "answer": [sys.executable, "-c", UNTIL_FIRST_BATCH, "answer", str(run), "-o", str(scratch / "out"), *threads],
        "predict": [sys.executable, "-c", UNTIL_FIRST_BATCH, "predict", str(run), "--name", "first", *threads],
    }
    commands["answer"] += ["--structure", "independent"] if report.given.run is None else []
    os.environ.pop("ENS_RUN", None)
    for command in commands.values():  # files into the system's cache, and every command ends well
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    clocks = {name: (lambda command=command: command_seconds(command)) for name, command in commands.items()}
    found = turn_about(clocks, report.rounds)
    report.tell(f"{len(checkpoints)} checkpoints; seconds: " + ", ".join(f"{k} {min(v):.2f}" for k, v in found.items()))
    for name in ("answer", "predict"):
        report.add(f"ens {name}, against torch, torchvision and all weights", over(found[name], found["all"]), most=1.2)
    for name in ("answer", "predict"):
        report.add(f"ens {name}, against torch, torchvision and one checkpoint", over(found[name], found["one"]))


if __name__ == "__main__":
    sys.exit(main())
