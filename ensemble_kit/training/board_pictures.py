"""What TensorBoard is shown of an epoch besides numbers: confusion, the worst photos, and where the network looks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch

from ensemble_kit.arrays import ByteArray, FloatArray, IntArray
from ensemble_kit.card import Head
from ensemble_kit.data.decode import Preprocess
from ensemble_kit.errors import UsageError
from ensemble_kit.models.compute import Compute, choose_compute
from ensemble_kit.models.heads import Network
from ensemble_kit.schema import Schema

N_WORST, N_LOOKED = 8, 4
"""Photos: of the highest loss, and the first of the validation photos, the same ones every time."""
MOST_EPOCHS = 20
"""Of a longer training only so many epochs are drawn, spread evenly, and the last one."""


def is_drawn(epoch: int, epochs: int) -> bool:
    """Whether an epoch's pictures are written.

    Examples:
        >>> [epoch for epoch in range(1, 101) if is_drawn(epoch, 100)][:4]
        [5, 10, 15, 20]
        >>> all(is_drawn(epoch, 12) for epoch in range(1, 13))
        True
    """
    return epoch % -(-epochs // MOST_EPOCHS) == 0 or epoch == epochs


class Pictures:
    """Draws an epoch. Nothing here touches the training: the network is copied, no random number is drawn.

    Args:
        say: told once, in words, where maps cannot be drawn.
    """

    def __init__(
        self,
        schema: Schema,
        heads: Sequence[Head],
        photos: ByteArray,
        rows: IntArray,
        preprocess: Preprocess,
        compute: Compute,
        say: Callable[[str], None],
    ):
        self.schema, self.heads, self.photos, self.rows, self.preprocess = schema, heads, photos, rows, preprocess
        self.compute: Compute = choose_compute(compute.device.type, "fp32", channels_last=False)
        self.say, self.can_look = say, True

    def draw(self, network: Network, parts: Sequence[FloatArray], truth: IntArray) -> dict[str, ByteArray]:
        """Name -> pixels `(height, width, 3)`.

        Args:
            network: the one that was scored.
            parts: of each head its probabilities `(n_photos, n_classes)` for the validation photos, in classes.
            truth: `(n_photos, n_heads)` class numbers, -1 = not labelled.
        """
        found: dict[str, ByteArray] = {}
        for place, (head, probs) in enumerate(zip(self.heads, parts, strict=True)):
            name = "" if len(self.heads) == 1 else f"/{','.join(head.attributes)}"
            found |= {key + name: pixels for key, pixels in self._of_head(head, probs, truth[:, place]).items()}
            looked = self._looked(network, head, probs, truth[:, place])
            if looked is not None:
                found[f"looks_at{name}"] = looked
        return found

    def _of_head(self, head: Head, probs: FloatArray, truth: IntArray) -> dict[str, ByteArray]:
        from ensemble_kit.report.board import Tile, draw_confusion, draw_tiles

        labelled = np.flatnonzero(truth >= 0)
        if not len(labelled):
            return {}
        names = self._names(head)
        said, true = probs[labelled].argmax(axis=1), truth[labelled]
        counts = np.zeros((len(names), len(names)), dtype=np.int64)
        np.add.at(counts, (true, said), 1)
        own = probs[labelled, true]
        worst = np.argsort(own, kind="stable")[:N_WORST]
        tiles = [
            Tile(
                self._photo(int(labelled[n])),
                [f"{probs[labelled[n], said[n]]:.2f} {names[said[n]]}", f"{own[n]:.2f} is true: {names[true[n]]}"],
                bool(said[n] != true[n]),
            )
            for n in worst
        ]
        return {
            "confusion": draw_confusion(counts, names, f"{','.join(head.attributes)}: true against answered"),
            "worst": draw_tiles(tiles, "validation photos of the highest loss"),
        }

    def _looked(self, network: Network, head: Head, probs: FloatArray, truth: IntArray) -> ByteArray | None:
        if not self.can_look:
            return None
        from ensemble_kit.explaining.cam import whole_map
        from ensemble_kit.explaining.looking import class_columns
        from ensemble_kit.explaining.stages import find_stages
        from ensemble_kit.report.board import Tile, draw_tiles

        names, rows = self._names(head), range(min(N_LOOKED, len(probs)))
        tiles = []
        try:
            own = copy.deepcopy(network).float().to(memory_format=torch.contiguous_format).eval()
            stages = find_stages(own, self.preprocess.seen)
            for row in rows:
                said = int(probs[row].argmax())
                wanted = dict(zip(head.attributes, self._classes(head)[said], strict=True))
                columns = class_columns(head, self.schema, wanted)
                photo = np.asarray(self.photos[self.rows[row]])[None]
                (heat,) = whole_map(own, stages, photo, self.preprocess, columns, head.outputs, self.compute)
                true = f"true: {names[truth[row]]}" if truth[row] >= 0 else "not labelled"
                lines = [f"{probs[row, said]:.2f} {names[said]}", true]
                tiles.append(Tile(self._photo(row), lines, bool(0 <= truth[row] != said), heat))
        except UsageError as error:
            self.can_look = False
            self.say(f"TensorBoard gets no maps of where the network looks: {error}")
            return None
        return draw_tiles(tiles, "what speaks for the answer") if tiles else None

    def _photo(self, row: int) -> ByteArray:
        """What the network sees of a validation photo."""
        photo = np.asarray(self.photos[self.rows[row]])
        height, width = self.preprocess.seen
        top, left = (photo.shape[0] - height) // 2, (photo.shape[1] - width) // 2
        return photo[top : top + height, left : left + width]

    def _classes(self, head: Head) -> list[tuple[str, ...]]:
        return [tuple(row) for row in self.schema.block(head.attributes).class_rows()]

    def _names(self, head: Head) -> list[str]:
        return [" / ".join(row) for row in self._classes(head)]
