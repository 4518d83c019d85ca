"""The mask task as a recipe writes it: what the tests of recipes have in common."""

from __future__ import annotations

SCHEMA_TEXT = """
[schema]
mask = ["worn", "incorrect", "not_worn"]
gender = ["male", "female"]
age = { classes = ["<30", "30-59", ">=60"], borders = [30, 60] }
"""
GRAPH_TEXT = '[graph]\nmask = []\ngender = []\nage = ["mask"]\n'
NO_EDGES_TEXT = "[graph]\nmask = []\ngender = []\nage = []\n"
