"""The one list of settings with their defaults, reading recipes, and running them."""

from ensemble_kit.recipe.files import find_recipe, recipe_names
from ensemble_kit.recipe.load import Recipe, load_recipe
from ensemble_kit.recipe.settings import CombineSettings, DataSettings, TrainSettings

__all__ = [
    "CombineSettings",
    "DataSettings",
    "Recipe",
    "TrainSettings",
    "find_recipe",
    "load_recipe",
    "recipe_names",
]
