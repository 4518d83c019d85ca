"""From a head's numbers to logits over columns: whatever the head predicts, its softmax is the answer.

An output turns `(n, n_numbers)` into logits `(n, n_columns)`, so no loss, score or prediction knows which it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ensemble_kit.errors import UsageError, nearest

CLOSED = -1e4
"""The logit of a column that is closed: its probability is 0 in every precision, and it has no gradient."""


@dataclass(frozen=True)
class Part:
    """The columns of one head.

    Args:
        n_columns: columns, each a class or a range of numbers.
        output: a name of `OUTPUTS`.
        edges: `n_columns - 1` numbers between the columns, for "regression".

    Raises:
        UsageError: an unknown output, or edges that do not fit the columns.
    """

    n_columns: int
    output: str = "classes"
    edges: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        find_output(self.output)
        if self.output == "classes":
            return
        if self.n_columns < 2:
            raise UsageError(f"output {self.output}: expected at least 2 columns, found {self.n_columns}")
        if self.output == "regression" and (self.edges is None or len(self.edges) != self.n_columns - 1):
            raise UsageError("output regression: needs an attribute that is measured as a number (with borders)")

    @property
    def n_numbers(self) -> int:
        """How many numbers its head gives."""
        return {"classes": self.n_columns, "ordinal": 1, "regression": 2}[self.output]


class ToColumns(nn.Module):
    """Turns a head's numbers into logits over columns; `closed` is added to them (0 or `CLOSED`)."""

    closed: Tensor

    def __init__(self, n_columns: int):
        super().__init__()
        self.register_buffer("closed", torch.zeros(n_columns))

    def forward(self, numbers: Tensor) -> Tensor:
        return self.log_probs(numbers.float()).float() + self.closed

    def log_probs(self, numbers: Tensor) -> Tensor:
        raise NotImplementedError


class Ordinal(ToColumns):
    """Cumulative link (McCullagh 1980): `P(column <= j) = sigmoid(threshold_j - score)` with increasing thresholds.

    The log-probability of a column is the log of a difference of two sigmoids, taken as
    `log sigmoid(b) + log sigmoid(-a) + log(1 - exp(a - b))`, which never underflows.
    """

    def __init__(self, part: Part):
        super().__init__(part.n_columns)
        shares = [(j + 1) / part.n_columns for j in range(part.n_columns - 1)]
        start = torch.tensor([math.log(share / (1 - share)) for share in shares])  # every column equally likely
        self.first = nn.Parameter(start[:1].clone())
        self.gaps = nn.Parameter(torch.log(torch.expm1(start[1:] - start[:-1])))

    @property
    def thresholds(self) -> Tensor:
        """`(n_columns - 1,)` increasing."""
        return torch.cat([self.first, self.first + F.softplus(self.gaps).cumsum(0)])

    def log_probs(self, numbers: Tensor) -> Tensor:
        below = self.thresholds - numbers  # (n, n_columns - 1)
        inner = F.logsigmoid(below[:, 1:]) + F.logsigmoid(-below[:, :-1]) + _log1mexp(F.softplus(self.gaps))
        return torch.cat([F.logsigmoid(below[:, :1]), inner, F.logsigmoid(-below[:, -1:])], dim=1)


class Regression(ToColumns):
    """A Gaussian of the number: two outputs a photo, its mean and its spread, become the log-mass of each column.

    Both are learnt in units of the columns' range, so that rates need not know what is measured.
    """

    edges: Tensor

    def __init__(self, part: Part):
        super().__init__(part.n_columns)
        self.register_buffer("edges", torch.tensor(part.edges, dtype=torch.float32))

    def mean_and_spread(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """`(n, 2)` -> mean and standard deviation `(n, 1)`, in the unit of the edges."""
        low, high = self.edges[0].to(numbers.dtype), self.edges[-1].to(numbers.dtype)
        unit = torch.clamp(high - low, min=1.0) / 2
        spread = F.softplus(numbers[:, 1:]) + 0.01
        return (low + high) / 2 + unit * numbers[:, :1], unit * spread

    def log_probs(self, numbers: Tensor) -> Tensor:
        mean, spread = self.mean_and_spread(numbers.double())
        z = (self.edges.double() - mean) / spread  # (n, n_columns - 1)
        low, high = z[:, :-1], z[:, 1:]
        right = low + high > 0  # on the right the mass is taken of the mirrored range: a tail has no digits there
        low, high = torch.where(right, -high, low), torch.where(right, -low, high)
        below, above = torch.special.log_ndtr(low), torch.special.log_ndtr(high)
        inner = above + _log1mexp(above - below)
        first, last = torch.special.log_ndtr(z[:, :1]), torch.special.log_ndtr(-z[:, -1:])
        return torch.cat([first, inner, last], dim=1)


def _log1mexp(gap: Tensor) -> Tensor:
    """`log(1 - exp(-gap))` for a positive gap."""
    return torch.log(-torch.expm1(-torch.clamp(gap, min=1e-12)))


OUTPUTS: dict[str, Callable[[Part], ToColumns] | None] = {"classes": None, "ordinal": Ordinal, "regression": Regression}
"""Name -> what turns the numbers into columns; None where the numbers are the logits themselves."""


def find_output(name: str) -> Callable[[Part], ToColumns] | None:
    """The output of a name; UsageError when there is none."""
    if name not in OUTPUTS:
        raise UsageError(f'no output "{name}"{nearest(name, OUTPUTS)}')
    return OUTPUTS[name]


class Outputs(nn.Module):
    """The outputs of several heads side by side: numbers `(n, sum of n_numbers)` -> logits `(n, sum of n_columns)`."""

    def __init__(self, parts: Sequence[Part]):
        super().__init__()
        self.n_numbers = [part.n_numbers for part in parts]
        self.n_columns = [part.n_columns for part in parts]
        makers = [find_output(part.output) for part in parts]
        self.parts = nn.ModuleList(make(p) if make else Same(p) for make, p in zip(makers, parts, strict=True))

    def forward(self, numbers: Tensor) -> Tensor:
        pieces = torch.split(numbers, self.n_numbers, dim=1)
        return torch.cat([part(piece) for part, piece in zip(self.parts, pieces, strict=True)], dim=1)

    def close(self, closed: Tensor) -> None:
        """Closes the columns `(n_columns,)` that are True."""
        for part, piece in zip(self.parts, torch.split(closed, self.n_columns), strict=True):
            part.closed.masked_fill_(piece, CLOSED)  # type: ignore[operator]


class Same(ToColumns):
    """Numbers that are the logits already, beside heads of another kind."""

    def __init__(self, part: Part):
        super().__init__(part.n_columns)

    def log_probs(self, numbers: Tensor) -> Tensor:
        return numbers
