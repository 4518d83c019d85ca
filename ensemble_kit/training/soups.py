"""Soups: the average of several checkpoints' weights as one checkpoint (Wortsman et al. 2022)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ensemble_kit.arrays import IntArray
from ensemble_kit.card import Card, read_card
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.errors import DataError
from ensemble_kit.files import sha256_json, write_bytes
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.models.checkpoint import save_checkpoint
from ensemble_kit.models.compute import choose_compute, num_threads
from ensemble_kit.models.heads import Network
from ensemble_kit.named import name_of
from ensemble_kit.training.averaging import mean_network, moving_norms
from ensemble_kit.training.folder import FoldFolder
from ensemble_kit.training.job import ExpertJob
from ensemble_kit.training.rows import choose_rows, groups_sha256
from ensemble_kit.training.session import Session
from ensemble_kit.training.soup_rules import Rule, find_soup


@dataclass(frozen=True)
class Soup:
    """What averaging came to.

    Attributes:
        path: where the average was written; None when it was not kept.
        members: the checkpoints that were averaged, of `n_found`.
        macro_f1: of the average, on the photos that the fold holds out.
        best: the highest macro F1 of a single checkpoint, and which one.
    """

    title: str
    path: Path | None
    members: tuple[Path, ...]
    n_found: int
    macro_f1: float
    best: tuple[Path, float]

    def __str__(self) -> str:
        path, score = self.best
        if len(self.members) < 2:
            return f"{self.title}: no average is as good as {path.stem} alone (macro F1 {score:.3f}); nothing changed"
        told = f"average of {len(self.members)} of {self.n_found}, macro F1 {self.macro_f1:.3f}"
        if self.path is None:
            return f"{self.title}: {told}, below {path.stem} alone ({score:.3f}); not kept"
        return f"{self.title}: {told}; {path.stem} alone has {score:.3f}; kept as {self.path}"


def soup_fold(
    job: ExpertJob, *, table: SampleTable, folds: IntArray, photos: PhotoCache, folder: Path, kind: str | Rule
) -> Soup:
    """Averages the checkpoints that one training kept (`keep = "every N"`); the average becomes the fold's checkpoint.

    The batch norms get fresh statistics over the fold's training photos. It is kept only when its macro F1 on the
    held-out photos is not below the best single checkpoint's; the trained one then stays as `trained.safetensors`,
    and `oof.npy` and `DONE` are the average's. Killed while it writes, the same call mends the fold.

    Args:
        job, table, folds, photos, folder: as they were trained with, see `train_fold`.
        kind: a name of SOUPS, or a rule of one's own.

    Raises:
        UsageError: an unknown kind.
        DataError: the fold is not finished, holds another training, or has fewer than two checkpoints.
    """
    find_soup(kind)
    files = FoldFolder(folder, job.identity(table, folds))
    with files.locked(), _session(job, table, folds, photos, files) as session:
        if not files.is_done() and not files.trained.is_file():
            raise DataError(f"{folder}: not trained to its end; train it first")
        soup = average_kept(session, kind)
        if soup.path is not None:
            session.history = files.read_history()
            session.finish()
        return soup


def end_with_soup(session: Session) -> None:
    """The end of a training with `job.soup`: the average takes the kept checkpoint's place, DONE is still to come."""
    if len({read_card(path).tensors_sha256 for path in _kept_by(session.files)}) > 1:
        session.notices.append(str(average_kept(session, session.job.soup)))
    else:
        told = f'one checkpoint was kept (keep = "{session.job.keep}"), so there is no soup of several'
        session.notices.append(f"{session.job.name}, fold {session.job.fold}: {told}")


def average_kept(session: Session, kind: str | Rule) -> Soup:
    """Averages what a training kept; where the average is no worse it becomes the fold's checkpoint.

    The out-of-fold predictions and DONE are then to be written anew.
    """
    files = session.files
    soup, network, card = _cook(session, _kept_by(files), kind)
    session.held_out = None  # of another network than the one that is kept
    if network is None:
        return soup
    if not files.trained.is_file():
        write_bytes(files.trained, files.best.read_bytes())
    save_checkpoint(files.best, network, card)
    return replace(soup, path=files.best)


def _kept_by(files: FoldFolder) -> list[Path]:
    """What a training kept: its last epoch, also where a soup has taken that one's place, and each N-th."""
    last = files.trained if files.trained.is_file() else files.best
    return [last, *sorted(files.path.glob("epoch*.safetensors"))]


def soup_files(
    paths: Sequence[Path],
    out: Path,
    job: ExpertJob,
    *,
    table: SampleTable,
    folds: IntArray,
    photos: PhotoCache,
    kind: str | Rule,
) -> Soup:
    """Averages any checkpoints of one expert and fold, of several trainings as well, into `out`; kept as `soup_fold`.

    Args:
        job: says on which rows the average is refreshed and scored.

    Raises:
        UsageError: an unknown kind.
        DataError: fewer than two checkpoints, ones of unlike networks or experts, or one that was trained on people
            whom the fold holds out.
    """
    find_soup(kind)
    files = FoldFolder(out.parent, job.identity(table, folds))
    with _session(job, table, folds, photos, files) as session:
        soup, network, card = _cook(session, paths, kind)
        if network is None:
            return soup
        save_checkpoint(out, network, card)
        return replace(soup, path=out)


@contextmanager
def _session(
    job: ExpertJob, table: SampleTable, folds: IntArray, photos: PhotoCache, files: FoldFolder
) -> Iterator[Session]:
    """The fold's rows, network and scores, as they were while it trained."""
    photos.check(table, job.preprocess)
    with ExitStack() as stack:
        stack.enter_context(num_threads(job.threads))
        compute = choose_compute(job.device, job.precision, job.channels_last)
        yield Session(job, table, photos, files, choose_rows(job, table, folds, photos), compute)


def _cook(session: Session, paths: Sequence[Path], kind: str | Rule) -> tuple[Soup, Network | None, Card]:
    """The average that the rule chooses; no network when it is not to be kept."""
    found = {card.tensors_sha256: (path, network, card) for path, network, card in _read(session, paths)}
    names, networks, cards = (list(column) for column in zip(*found.values(), strict=True))
    where = f"{session.job.name}, fold {session.job.fold}"
    if len(networks) < 2:
        raise DataError(
            f"{where}: expected two or more checkpoints to average, found {len(networks)}; "
            'train with --keep "every 1", or name checkpoints of several trainings'
        )
    alone = [session.score(network, card.train["epoch"]) for network, card in zip(networks, cards, strict=True)]
    scores = [metrics["macro_f1"] for metrics in alone]
    best = max(range(len(scores)), key=lambda i: scores[i])
    epoch = int(cards[best].train["epoch"])

    def mixed(members: Sequence[int]) -> Network:
        chosen = [networks[i] for i in sorted(members)]
        network: Network = mean_network(chosen)
        session.refresh(network, moving_norms(network, chosen), epoch)
        return network

    def score_of(members: Sequence[int]) -> float:
        return scores[members[0]] if len(members) == 1 else session.score(mixed(members), epoch)["macro_f1"]

    with session.compute.autocast():
        members = sorted(find_soup(kind)(scores, score_of))
        network = mixed(members) if len(members) > 1 else networks[members[0]]
    metrics = session.score(network, epoch) if len(members) > 1 else alone[members[0]]
    told = tuple(names[i] for i in members)
    soup = Soup(where, None, told, len(names), metrics["macro_f1"], (names[best], scores[best]))
    card = _card(session, epoch, metrics, kind, [(cards[i], scores[i]) for i in members])
    is_kept = len(members) > 1 and metrics["macro_f1"] >= scores[best]
    return soup, network if is_kept else None, card


def _read(session: Session, paths: Sequence[Path]) -> Iterator[tuple[Path, Network, Card]]:
    held_out = groups_sha256(session.table, session.rows.held_out)
    first: tuple[Path, dict[str, Any]] | None = None
    for path in paths:
        network, card = session.kept.load(path)
        session.compute.place(network)
        if card.train["held_out_groups_sha256"] != held_out:
            raise DataError(
                f"{path}: was not trained with the people held out that {session.job.name}, fold {session.job.fold} "
                "holds out: the average could not be scored; name checkpoints of one fold"
            )
        kind = _kind(card)
        if first is None:
            first = (path, kind)
        unlike = [key for key, value in kind.items() if sha256_json(value) != sha256_json(first[1][key])]
        if unlike:
            raise DataError(f"{path}: another {unlike[0]} than {first[0]}; only like networks can be averaged")
        yield path, network, card


def _kind(card: Card) -> dict[str, Any]:
    """What two checkpoints must share to be averaged."""
    written = card.to_json()
    network = {key: value for key, value in written["backbone"].items() if key != "init"}
    return {"network": network, **{key: written[key] for key in ("schema", "condition", "heads", "preprocess")}}


def _card(
    session: Session, epoch: int, metrics: Mapping[str, float], kind: str | Rule, members: Sequence[tuple[Card, float]]
) -> Card:
    """The card of the best member's epoch, which says what was averaged."""
    card = session.kept.card(epoch, metrics)
    averaged = [
        {
            "tensors_sha256": member.tensors_sha256,
            "seed": member.train["seed"],
            "epoch": member.train["epoch"],
            "init": member.backbone["init"],
            "macro_f1": score,
        }
        for member, score in members
    ]
    return replace(card, train={**card.train, "soup": {"kind": name_of(kind), "of": averaged}})
