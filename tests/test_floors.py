"""Imports point down only, the lower floors know no torch, and importing is cheap and does nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import ensemble_kit

PACKAGE = Path(ensemble_kit.__file__).parent

FLOORS = [
    {"errors", "arrays", "leftovers", "shown", "threads"},
    {"files", "locks", "named", "stopping", "columns"},
    {"own_code"},
    {"ids", "schema"},
    {"graph", "conditions"},
    {"predictions"},
    {"routing", "voting", "metrics", "calibration", "card", "coverage"},
    {"plan", "decisions", "hooks", "checked"},
    {"joint"},
    {"descent", "trace"},
    {"panel"},
    {"combined"},
    {"data", "submission"},
    {"current"},
    {"runs", "ensemble"},
    {"selection", "shift"},
    {"stacking", "cutting"},
    {"voters", "cascading"},
    {"fitted"},
    {"classifier"},
    {"structure_report"},
    {"structures", "submissions"},
    {"diagnosis"},
    {"structure_search"},
    {"report"},
    {"models", "loading"},
    {"backends", "explaining", "windows"},
    {"training", "inference"},
    {"answering"},
    {"pages"},
    {"data_report", "gallery", "run_report"},
    {"recipe"},
    {"tuning"},
    {"cli"},
    {"__main__"},
]
FLOOR_OF = {name: number for number, floor in enumerate(FLOORS) for name in floor}
TORCH_FLOORS = {"backends", "models", "windows", "loading", "explaining", "training", "inference"}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def floor_name(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            yield str(node.module)


def test_every_module_has_a_floor() -> None:
    assert {floor_name(path) for path in modules()} == set(FLOOR_OF)


def test_imports_point_down() -> None:
    upward = []
    for path in modules():
        own = floor_name(path)
        for name in imports(path):
            if name.startswith("ensemble_kit."):
                other = name.split(".")[1]
                if other != own and FLOOR_OF[other] >= FLOOR_OF[own]:
                    upward.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert upward == []


def test_only_the_torch_floors_import_torch() -> None:
    allowed = TORCH_FLOORS
    found = {
        floor_name(path)
        for path in modules()
        for name in imports(path)
        if name.split(".")[0] in ("torch", "torchvision")
    }
    assert found <= allowed


def loaded_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_command_line_starts_light() -> None:
    heavy = {"torch", "torchvision", "pandas", "sklearn", "matplotlib", "albumentations", "pydantic", "cv2", "numpy"}
    assert loaded_after("import ensemble_kit.cli") & heavy == set()


def test_combining_imports_neither_torch_nor_pandas() -> None:
    code = "from ensemble_kit import current, recipe, runs, structures, submission; import ensemble_kit.recipe.combine"
    assert loaded_after(code) & {"torch", "torchvision", "pandas", "sklearn", "matplotlib", "albumentations"} == set()


def test_public_names() -> None:
    assert ensemble_kit.__all__ == sorted(ensemble_kit.__all__)
    assert dir(ensemble_kit) == ensemble_kit.__all__
    for name in ensemble_kit.__all__:
        assert getattr(ensemble_kit, name) is not None
    assert loaded_after("import ensemble_kit\nensemble_kit.ConditionalEnsemble") & {"torch", "pandas"} == set()
