"""Hierarchical conditional ensembles for multi-attribute image classification."""
