"""Searching a recipe's settings: which trial comes next, training it, pruning, and what the search may claim."""
