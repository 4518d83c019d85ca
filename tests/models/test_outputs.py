"""Ordinal and regression outputs are log-probabilities over columns, checked against plain formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit  # type: ignore[import-untyped]
from scipy.stats import norm  # type: ignore[import-untyped]
from torch import Tensor

from ensemble_kit.errors import UsageError
from ensemble_kit.models.outputs import OUTPUTS, Ordinal, Outputs, Part, Regression

EDGES = (20.0, 30.0, 40.0, 60.0)
NUMBERS = torch.tensor([[0.3, -1.0], [-2.0, 0.5], [4.0, -3.0]])


def test_ordinal_columns_are_differences_of_sigmoids() -> None:
    output = Ordinal(Part(5, "ordinal"))
    with torch.no_grad():
        output.gaps.add_(torch.tensor([0.4, -0.3, 0.1]))
    thresholds = output.thresholds.detach().numpy().astype(np.float64)
    assert (np.diff(thresholds) > 0).all()
    scores = NUMBERS[:, :1]
    below = expit(thresholds - scores.numpy())
    expected = np.diff(np.column_stack([np.zeros(3), below, np.ones(3)]), axis=1)
    np.testing.assert_allclose(output(scores).detach().exp().numpy(), expected, atol=1e-6)


def test_an_untrained_ordinal_output_holds_every_column_equally_likely() -> None:
    probs = Ordinal(Part(61, "ordinal"))(torch.zeros(1, 1)).detach().exp()
    np.testing.assert_allclose(probs.numpy(), 1 / 61, atol=1e-5)


def test_regression_columns_are_the_gaussian_mass_between_the_edges() -> None:
    output = Regression(Part(5, "regression", EDGES))
    mean, spread = (part.numpy()[:, 0] for part in output.mean_and_spread(NUMBERS.double()))
    assert mean[0] == pytest.approx(40 + 20 * 0.3)
    assert spread[0] == pytest.approx(20 * (np.log1p(np.exp(-1)) + 0.01))
    cuts = np.array([-np.inf, *EDGES, np.inf])
    expected = np.diff(norm.cdf((cuts - mean[:, None]) / spread[:, None]), axis=1)
    np.testing.assert_allclose(output(NUMBERS).exp().numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("output", ["ordinal", "regression"])
def test_log_probabilities_sum_to_one_and_stay_finite_far_out(output: str) -> None:
    part = Part(61, output, tuple(np.arange(1.0, 61.0)))
    module = Outputs([part])
    for value in (-60.0, 0.0, 60.0):
        numbers = torch.tensor([[value, -20.0]])[:, : part.n_numbers].requires_grad_()
        logits = module(numbers)
        assert torch.isfinite(logits).all()
        assert float(logits.detach().exp().sum()) == pytest.approx(1, abs=1e-5)
        logits[0, 30].backward()
        assert torch.isfinite(numbers.grad).all()  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["ordinal", "regression"])
def test_gradients(name: str) -> None:
    part = Part(5, name, EDGES)
    module = OUTPUTS[name](part).double()  # type: ignore[misc]
    numbers = NUMBERS[:, : part.n_numbers].double().requires_grad_()

    def log_probs(numbers: Tensor, *parameters: Tensor) -> Tensor:
        if name == "ordinal":
            return torch.func.functional_call(_LogProbs(module), dict(zip(NAMES, parameters, strict=True)), (numbers,))  # type: ignore[no-any-return]
        return module.log_probs(numbers)

    parameters = [p.detach().clone().requires_grad_() for p in module.parameters()]
    assert torch.autograd.gradcheck(log_probs, (numbers, *parameters))


NAMES = ("inner.first", "inner.gaps")


class _LogProbs(torch.nn.Module):
    def __init__(self, inner: torch.nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, numbers: Tensor) -> Tensor:
        return self.inner.log_probs(numbers)  # type: ignore[operator, no-any-return]


def test_heads_side_by_side_keep_to_their_own_columns() -> None:
    parts = [Part(3), Part(3, "ordinal"), Part(5, "regression", EDGES)]
    module = Outputs(parts)
    numbers = torch.rand(2, 6)
    logits = module(numbers)
    assert logits.shape == (2, 11)
    assert torch.equal(logits[:, :3], numbers[:, :3])
    assert torch.equal(logits[:, 3:6], Ordinal(parts[1])(numbers[:, 3:4]))
    closed = torch.zeros(11, dtype=torch.bool)
    closed[[1, 7]] = True
    module.close(closed)
    assert (module(numbers)[:, closed] < -9e3).all()
    assert torch.equal(module(numbers)[:, ~closed], logits[:, ~closed])


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"n_columns": 3, "output": "ordnal"}, 'no output "ordnal"; did you mean "ordinal"'),
        ({"n_columns": 3, "output": "regression"}, r"measured as a number \(with borders\)"),
        ({"n_columns": 1, "output": "ordinal"}, "at least 2 columns, found 1"),
    ],
)
def test_bad_parts(part: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Part(**part)  # type: ignore[arg-type]


def test_a_column_far_in_the_right_tail_keeps_its_digits() -> None:
    """Its mass is a difference of two numbers that both round to 1, unless it is taken from the other side."""
    output = Regression(Part(5, "regression", EDGES))
    numbers = torch.tensor([[-10.0, 0.0]])
    mean, spread = (float(part) for part in output.mean_and_spread(numbers.double()))
    low, high = (norm.logsf((edge - mean) / spread) for edge in (40.0, 60.0))
    assert low < -80
    expected = low + np.log1p(-np.exp(high - low))
    assert float(output(numbers)[0, 3]) == pytest.approx(expected, rel=1e-5)
