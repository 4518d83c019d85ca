"""Draws the generated faces: who, how they look, and every part of a photo."""
