"""`ens data check`, `ens data manifest`, `ens data taxonomy`, `ens data generate`."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated, cast

import typer

from ensemble_kit.cli.data_report import report
from ensemble_kit.cli.options import DEFAULT_RECIPE, Fixes, Json, RecipeName, as_named, given
from ensemble_kit.cli.printed import as_json, show, tell

app = typer.Typer(no_args_is_help=True, help="Look at a data set before training, or draw one.")


@app.command("check")
def check(
    data: Annotated[Path | None, typer.Argument(envvar="ENS_DATA", help="The data set.")] = None,
    named: Annotated[Path | None, typer.Option("--data", help="The same, as an option.")] = None,
    recipe: RecipeName = DEFAULT_RECIPE,
    folds: Annotated[int | None, typer.Option(envvar="ENS_FOLDS", help="Number of folds.")] = None,
    val_ratio: Annotated[float | None, typer.Option(envvar="ENS_VAL_RATIO", help="One validation share.")] = None,
    extra: Annotated[str | None, typer.Option(envvar="ENS_EXTRA", help="A second data set, for training only.")] = None,
    extra_where: Annotated[
        str | None, typer.Option(envvar="ENS_EXTRA_WHERE", help="Classes whose extra photos are taken: age=>=60.")
    ] = None,
    fixes: Fixes = None,
    manifest: Annotated[
        Path | None, typer.Option(help="Hashes written by ens data manifest; names every file that is not as it was.")
    ] = None,
    errors: Annotated[Path | None, typer.Option(help="A csv file to write: path and problem of each finding.")] = None,
    decode: Annotated[bool, typer.Option(help="Decode every photo, to find the broken ones.")] = True,
    json: Json = False,
) -> None:
    """Print people, photos per class and per fold, ages around the borders, and every problem by file."""
    from ensemble_kit.data.check import check_data
    from ensemble_kit.errors import DataError
    from ensemble_kit.files import write_csv
    from ensemble_kit.recipe.load import load_recipe
    from ensemble_kit.recipe.run import data_root, read_extra_part

    second = None if extra is None else str(Path(extra).resolve())
    division = {"folds": folds, "val_ratio": val_ratio, "extra": second, "extra_where": extra_where}
    division["fixes"] = as_named(fixes)
    chosen = load_recipe(recipe).with_data(given(division))
    report = check_data(
        data_root(chosen, named or data),
        chosen.schema,
        layout=chosen.data.layout,
        folds=chosen.data.folds,
        seed=chosen.data.fold_seed,
        val_ratio=chosen.data.val_ratio,
        fixes=chosen.fixes_file(),
        extra=read_extra_part(chosen),
        manifest=manifest,
        decode=decode,
    )
    if errors is not None:
        write_csv(errors, [("path", "problem"), *((found.path, found.problem) for found in report.problems)])
    show(report, json)
    if report.altered:
        raise DataError(f"{manifest}: {len(report.altered):,} files are not as they were when it was written")


@app.command("manifest")
def manifest(
    data: Annotated[Path | None, typer.Argument(envvar="ENS_DATA", help="The data set.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")] = Path("manifest.sha256"),
    recipe: RecipeName = DEFAULT_RECIPE,
    json: Json = False,
) -> None:
    """Write the SHA-256 of every photo and table, as sha256sum does: ens data check --manifest tells what changed."""
    from ensemble_kit.data.manifest import write_manifest
    from ensemble_kit.recipe.load import load_recipe
    from ensemble_kit.recipe.run import data_root

    chosen = load_recipe(recipe)
    root = data_root(chosen, data)
    count = write_manifest(out, root, chosen.schema, layout=chosen.data.layout)
    if json:
        print(as_json({"manifest": out, "files": count}))
        return
    print(f"{out}: {count:,} files")
    tell(f"next: ens data check {root} --manifest {out}")


@app.command("taxonomy")
def taxonomy(
    data: Annotated[Path, typer.Argument(help="A table, or the folder of samples.csv or samples.parquet.")],
    columns: Annotated[str, typer.Option("--columns", help="The attributes, coarsest first: kind,coarse,fine.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The paths file to write, for [schema] paths of a recipe.")],
    json: Json = False,
) -> None:
    """Write the paths of a taxonomy: the combinations of labels that a table's training part shows."""
    from ensemble_kit.data.plain import schema_from_table
    from ensemble_kit.errors import UsageError
    from ensemble_kit.recipe.taxonomy import write_paths

    names = [name.strip() for name in columns.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise UsageError(f'--columns: expected distinct columns such as kind,coarse,fine; found "{columns}"')
    schema = schema_from_table(data, names, part="train")
    write_paths(out, schema)
    if json:
        counts = {a.name: len(a.classes) for a in schema.attributes}
        print(as_json({"paths_file": out, "paths": schema.n_joint, "classes": counts}))
        return
    classes = ", ".join(f"{a.name} {len(a.classes)}" for a in schema.attributes)
    tell(f"{out}: {schema.n_joint} paths ({classes})")
    tell(f'next: under [schema] write taxonomy = {dumps(names)} and paths = "{out.name}"')


@app.command("generate")
def generate(
    out: Annotated[Path, typer.Argument(help="A new folder.")],
    people: Annotated[int, typer.Option(min=1, help="Training people, seven photos each.")] = 100,
    eval_people: Annotated[int | None, typer.Option(min=1, help="Evaluation people; default a third.")] = None,
    size: Annotated[str, typer.Option(help="Photo size in pixels: one number, or height,width.")] = "512,384",
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same photos.")] = 0,
    eval_like: Annotated[
        str, typer.Option(help="training, or shifted: more men and more people of 60 and above, as the real one has.")
    ] = "training",
    json: Json = False,
) -> None:
    """Draw faces in the competition's tree, with answers: train, eval/info.csv, eval/answers.csv."""
    from ensemble_kit.cli.progress import TerminalWatcher
    from ensemble_kit.data.generated import EvalLike, generate_faces

    with TerminalWatcher(stderr=json) as watcher:
        watcher.begin("drawing", 1)
        counts = generate_faces(
            out,
            people=people,
            eval_people=eval_people,
            size=parse_size(size),
            seed=seed,
            eval_like=cast(EvalLike, eval_like),
            progress=lambda done, total: watcher.advance(done / total),
        )
    if json:
        print(as_json({"data": out, **counts}))
        return
    print(f"{out}: " + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items()))
    tell(f"next: ens data check {out}")


def parse_size(text: str) -> tuple[int, int]:
    """`"64"` -> (64, 64), `"512,384"` -> (512, 384): height before width."""
    from ensemble_kit.errors import UsageError

    parts = text.replace("x", ",").split(",")
    if len(parts) > 2 or not all(part.strip().isdigit() for part in parts):
        raise UsageError(f'--size: expected one number or height,width; found "{text}"')
    sides = [int(part) for part in parts]
    if not 16 <= min(sides) <= max(sides) <= 8192:
        raise UsageError(f'--size: expected 16 to 8192 pixels; found "{text}"')
    return sides[0], sides[-1]


def add_to(parent: typer.Typer) -> None:
    app.command("report")(report)
    parent.add_typer(app, name="data")
