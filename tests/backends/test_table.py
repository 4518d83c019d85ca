"""Choosing a back end: names, precisions, functions, and what is not installed."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import pytest

from ensemble_kit.backends import cpu
from ensemble_kit.backends.form import Forward, Source
from ensemble_kit.backends.table import BACKENDS, compute_of, find_backend
from ensemble_kit.errors import UsageError
from ensemble_kit.recipe.load import load_recipe
from ensemble_kit.recipe.run import check_predict


def mine(source: Source) -> Forward:
    return source.network()


def test_the_table() -> None:
    assert list(BACKENDS) == ["torch", "torch-bf16", "openvino", "openvino-bf16", "openvino-int8"]
    assert [row.least_equal for row in BACKENDS.values()] == [None, 0.995, 0.995, 0.995, 0.99]
    assert all(row.name == name for name, row in BACKENDS.items())


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, "torch"),
        ({"backend": "torch"}, "torch"),
        ({"backend": "torch_bf16"}, "torch-bf16"),
        ({"backend": "openvino", "device": "cpu"}, "openvino"),
        ({"precision": "fp32"}, "torch"),
        ({"precision": "bf16"}, "torch-bf16"),
    ],
)
def test_names_and_precisions(asked: dict[str, Any], found: str) -> None:
    assert find_backend(**asked) is BACKENDS[found]


def test_auto_is_bf16_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    for pays, name in ((True, "torch-bf16"), (False, "torch")):
        monkeypatch.setattr("ensemble_kit.models.compute._bf16_pays", lambda _, pays=pays: pays)
        assert find_backend(precision="auto").name == name


def test_functions_are_told_apart_by_what_they_do() -> None:
    one, two, three = (find_backend(make) for make in (mine, lambda source: source.network(), mine))
    assert one.name == three.name != two.name
    assert one.name.startswith("mine@")
    assert one.least_equal == 0.995


BAD: list[tuple[dict[str, Any], str]] = [
    ({"backend": "openvine"}, r'no back end "openvine"; did you mean "openvino"'),
    ({"backend": "torch", "precision": "bf16"}, 'back end "torch" and precision "bf16" rule each other out; give one'),
    ({"backend": mine, "precision": "auto"}, 'back end "mine@'),
    ({"backend": "openvino", "device": "cuda"}, 'back end "openvino" runs on cpu, found device "cuda"'),
    ({"precision": "fp16"}, 'no precision "fp16"'),
]


@pytest.mark.parametrize(("asked", "message"), BAD)
def test_bad_choices(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_backend(**asked)


@pytest.mark.parametrize("name", ["openvino", "openvino-bf16", "openvino-int8"])
def test_what_is_not_installed_is_said_in_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        if package != "torch":
            raise metadata.PackageNotFoundError(package)
        return "2"

    monkeypatch.setattr(metadata, "version", version)
    message = rf'back end "{name}" needs openvino, which is not installed; pip install "ensemble_kit\[openvino\]"'
    with pytest.raises(UsageError, match=message):
        BACKENDS[name].versions()
    with pytest.raises(UsageError, match=message):
        check_predict(load_recipe("face-mask", [f"predict.backend={name}"]))


def test_a_recipe_that_names_no_back_end_is_refused() -> None:
    with pytest.raises(UsageError, match='no back end "tensor"'):
        check_predict(load_recipe("face-mask", ["predict.backend=tensor"]))


NOTES: list[tuple[str, set[str], str | None]] = [
    ("torch", set(), None),
    ("torch-bf16", set(), "neither AVX512-BF16 nor AMX: it will not be fast"),
    ("torch-bf16", {"amx_bf16"}, None),
    ("torch-bf16", {"avx512_vnni"}, "neither AVX512-BF16 nor AMX"),
    ("openvino", set(), None),
    ("openvino-bf16", set(), "OpenVINO computes in float32 here"),
    ("openvino-bf16", {"avx512_bf16"}, None),
    ("openvino-int8", {"avx512_bf16"}, "no VNNI"),
    ("openvino-int8", {"avx_vnni"}, None),
]


@pytest.mark.parametrize(("name", "has", "note"), NOTES)
def test_a_cpu_without_the_instructions_is_told(
    name: str, has: set[str], note: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "instructions", lambda: frozenset(has))
    found = BACKENDS[name].note(compute_of(BACKENDS[name], "cpu"))
    assert (found is None) == (note is None)
    assert note is None or note in str(found)


def test_inputs_are_made_in_float32_where_the_back_end_runs() -> None:
    for row in BACKENDS.values():
        compute = compute_of(row, "auto")
        assert compute.precision == "fp32"
        assert compute.channels_last
        assert compute.device.type == "cpu" or "cuda" in row.devices


@pytest.mark.parametrize("asked", [{}, {"backend": "torch-bf16"}, {"precision": "fp32"}])
def test_compiling_is_of_torch(asked: dict[str, Any]) -> None:
    plain, found = find_backend(**asked), find_backend(**asked, compiling="default")
    assert (found.name, found.least_equal) == (plain.name, plain.least_equal)
    assert plain.versions() != found.versions() == {**plain.versions(), "compile": "default"}
    assert find_backend(**asked, compiling="off") is plain


@pytest.mark.parametrize("backend", ["openvino", "openvino-int8", mine])
def test_other_back_ends_refuse_to_be_compiled(backend: Any) -> None:
    with pytest.raises(UsageError, match=r"^back end .* compiles by itself or not at all; leave --compile out$"):
        find_backend(backend, compiling="reduce-overhead")
    with pytest.raises(UsageError, match=r'--compile: no way "fast" .known: off, default, reduce-overhead'):
        find_backend("torch", compiling="fast")
