"""The files of one fold: state, lock, DONE. A kill at any moment costs no more than what came after the last state."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ensemble_kit.card import Card, Head, read_card
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.files import read_json, replacing, sha256_file, sha256_json, write_json, write_text
from ensemble_kit.leftovers import OWNER, remove_leftovers
from ensemble_kit.locks import hold, let_go
from ensemble_kit.models.memory import ran_out
from ensemble_kit.training.job import FoldResult

FORMAT = "ensemble_kit.training_state"
STATE, PREVIOUS, BEST, OOF = "state.pt", "state.prev.pt", "best.safetensors", "oof.npy"
METRICS, LOCK, DONE = "metrics.jsonl", "lock", "DONE"
TEMPORARY = rf"\..*\.{OWNER}\.tmp"
"""What `files.replacing` calls a file that is being written."""
TRAINED = "trained.safetensors"
"""What training kept, once a soup has taken its place as `best.safetensors`."""


class FoldFolder:
    """The folder of one fold of one expert, and the identity of the training it is for.

    Args:
        path: may not exist yet.
        identity: see `ExpertJob.identity`.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]):
        self.path = Path(path)
        self.identity = dict(identity)
        self.fingerprint = sha256_json(self.identity)
        self.best = self.path / BEST
        self.oof = self.path / OOF
        self.trained = self.path / TRAINED

    def clear(self) -> None:
        """Forgets an earlier training; DONE first, so that a kill leaves no half of it looking finished."""
        for name in (DONE, STATE, PREVIOUS, BEST, OOF, METRICS, TRAINED):
            (self.path / name).unlink(missing_ok=True)
        for pattern in ("epoch*.safetensors", "events.out.tfevents.*"):
            for extra in self.path.glob(pattern):
                extra.unlink()

    def put_back(self) -> None:
        """Undoes a soup that a training was broken off in: what it kept is `best.safetensors` again."""
        if self.trained.is_file():
            os.replace(self.trained, self.best)

    def is_done(self) -> bool:
        """Whether this very training has finished and its files are whole.

        Raises:
            DataError: the folder holds another training.
        """
        if not (self.path / DONE).is_file():
            return False
        done = read_json(self.path / DONE)
        self._refuse_other(done if isinstance(done, dict) else {})
        whole = self._is_whole(done)
        if whole:
            self._drop_states()
        return whole

    def _is_whole(self, done: Mapping[str, Any]) -> bool:
        files = {"best_sha256": self.best, "oof_sha256": self.oof}
        return all(path.is_file() and sha256_file(path) == done.get(key) for key, path in files.items())

    def standing(self) -> tuple[str, int]:
        """How far this very training is, only looking: "done", "begun", "new", or "other" for another one's files.

        The number is of whole epochs that a call of now would not repeat.
        """
        try:
            if (self.path / DONE).is_file():
                done = read_json(self.path / DONE)
                self._refuse_other(done if isinstance(done, dict) else {})
                return ("done", 0) if self._is_whole(done) else ("new", 0)
            state = self.load_state()
        except DataError:
            return "other", 0
        return ("new", 0) if state is None else ("begun", int(state["next_epoch"]) - 1)

    def finish(self, fold: int, heads: Sequence[Head]) -> None:
        hashes = {"best_sha256": sha256_file(self.best), "oof_sha256": sha256_file(self.oof)}
        content = {"fingerprint": self.fingerprint, "fold": fold, **hashes, "identity": self.identity}
        content["heads"] = [head.to_json() for head in heads]
        write_json(self.path / DONE, content)
        self._drop_states()

    def _drop_states(self) -> None:
        for name in (STATE, PREVIOUS):
            (self.path / name).unlink(missing_ok=True)

    def save_state(self, content: Mapping[str, Any]) -> None:
        """Writes `state.pt`; the one before it stays as `state.prev.pt`."""
        head = {"format": FORMAT, "fingerprint": self.fingerprint, "identity": json.dumps(self.identity)}
        state = self.path / STATE
        with replacing(state) as temporary:
            with open(temporary, "wb") as handle:  # a handle: by itself torch does not say that the disk is full
                torch.save(head | dict(content), handle)
            if state.exists():
                os.replace(state, self.path / PREVIOUS)

    def load_state(self) -> dict[str, Any] | None:
        """The newest state that can be read; None when there is none.

        Raises:
            DataError: the state is of another training, or states exist and none can be read.
            UsageError: memory runs out; that says nothing about the state.
        """
        found = [self.path / name for name in (STATE, PREVIOUS) if (self.path / name).is_file()]
        for path in found:
            try:
                _refuse_flipped(path)
                content = torch.load(path, map_location="cpu", weights_only=True)
            except Exception as error:  # torch raises half a dozen kinds for a damaged file
                if ran_out(error):  # a whole one may not fit
                    raise UsageError(f"out of memory while {path} was loaded; see what else uses the machine") from None
                continue
            if not isinstance(content, dict) or content.get("format") != FORMAT:
                continue
            self._refuse_other({**content, "identity": json.loads(content["identity"])})
            return content
        if found:
            raise DataError(f"{found[0]}: the training's state is damaged; train with --restart")
        return None

    def _refuse_other(self, stored: Mapping[str, Any]) -> None:
        if stored.get("fingerprint") != self.fingerprint:
            raise DataError(
                f"{self.path}: holds another training ({difference(stored.get('identity') or {}, self.identity)}); "
                "train with --restart to replace it, or into another run"
            )

    def best_card(self) -> Card | None:
        """The card of `best.safetensors`; None when it is missing or not whole."""
        try:
            return read_card(self.best)
        except DataError:
            return None

    def result(self, *, skipped: bool = False, resumed: bool = False, notices: Sequence[str] = ()) -> FoldResult:
        """What a finished fold holds."""
        card = read_card(self.best)
        return FoldResult(self.path, card.train["epoch"], card.metrics, skipped, resumed, tuple(notices))

    def write_history(self, history: list[dict[str, Any]]) -> None:
        write_text(self.path / METRICS, "".join(json.dumps(line, allow_nan=False) + "\n" for line in history))

    def read_history(self) -> list[dict[str, Any]]:
        """What `write_history` wrote; nothing when it is not there."""
        file = self.path / METRICS
        return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the fold for this process. The system lets go of the lock when a process dies, however it dies.

        Raises:
            UsageError: another process trains this fold now.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        handle = hold(self.path / LOCK, "trained")
        try:
            remove_leftovers(self.path, TEMPORARY)
            yield
        finally:
            let_go(self.path / LOCK, handle)


def _refuse_flipped(path: Path) -> None:
    """Raises ValueError or BadZipFile where a bit of a state is not as it was written: torch itself does not look."""
    with zipfile.ZipFile(path) as parts:
        damaged = parts.testzip()
    if damaged is not None:
        raise ValueError(damaged)


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """`settings.epochs: 4 there, 8 now`: the first few values in which two identities differ."""
    a, b = _flat(old), _flat(new)
    names = [key for key in sorted({*a, *b}) if a.get(key) != b.get(key)]
    parts = [f"{key.removeprefix('settings.')}: {_short(a.get(key))} there, {_short(b.get(key))} now" for key in names]
    return "; ".join(parts[:3]) + ("; ..." if len(parts) > 3 else "") or "of another format"


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    phases = value.get("phases")
    if isinstance(phases, list):  # a training of one phase is told by its settings alone
        named = {"": phases[0]} if len(phases) == 1 else {f"phase {i}.": p for i, p in enumerate(phases, 1)}
        flat |= {"phases": len(phases)}
        for name, phase in named.items():
            flat |= {f"{prefix}{name}{key}": item for key, item in phase.items()}
        value = {key: item for key, item in value.items() if key != "phases"}
    for key, item in value.items():
        nested = isinstance(item, Mapping) and key not in ("schema", "condition")
        flat |= _flat(item, f"{prefix}{key}.") if nested else {f"{prefix}{key}": item}
    return flat


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:36]}..."
