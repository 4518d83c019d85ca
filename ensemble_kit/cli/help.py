"""`--help` as plain text of 80 columns: long lists of options and commands stand under headings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    import typer

ROUTING = "How answers are read"
MACHINE = "Machine"
FITTING = "How it is searched"
TRUTH = "What answers are held against"

COMMANDS = {
    "Begin": ("quickstart", "run", "data", "recipes"),
    "Train": ("train", "train-mask", "train-gender", "train-age", "tune", "soup", "beliefs", "structures"),
    "Answer": ("predict", "combine", "answer", "fit"),
    "Look": ("evaluate", "diagnose", "report", "gallery", "explain", "compare-runs", "card"),
    "Submissions": ("vote", "compare", "check-submission", "estimate"),
}
"""The commands of `ens` by what they are for; each stands once."""


class PanelledCommand(TyperCommand):
    """Options under the headings that their `rich_help_panel` names, those without one first."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        panels: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for parameter in self.get_params(ctx):
            told = parameter.get_help_record(ctx)
            if told is not None:
                plain = "Arguments" if parameter.param_type_name == "argument" else "Options"
                panels.setdefault(getattr(parameter, "rich_help_panel", None) or plain, []).append(told)
        _write(formatter, panels.items())


class PanelledGroup(TyperGroup):
    """Commands with a whole sentence each, those of `ens` under headings."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        found = {name: one for name in self.list_commands(ctx) if (one := self.get_command(ctx, name)) is not None}
        told = {name: one.get_short_help_str(limit=200) for name, one in found.items() if not one.hidden}
        panels = {title: [name for name in names if name in told] for title, names in COMMANDS.items()}
        if set(told) != {name for names in panels.values() for name in names}:
            panels = {"Commands": list(told)}
        _write(formatter, ((title, [(name, told[name]) for name in names]) for title, names in panels.items()))


def _write(formatter: Any, panels: Iterable[tuple[str, list[tuple[str, str]]]]) -> None:
    for title, rows in panels:
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows)


def with_panels(app: typer.Typer) -> None:
    """Gives an app, and the apps inside it, help of this kind."""
    app.info.cls = PanelledGroup
    for command in app.registered_commands:
        command.cls = PanelledCommand
    for group in app.registered_groups:
        group.cls = PanelledGroup
        if group.typer_instance is not None:
            with_panels(group.typer_instance)
