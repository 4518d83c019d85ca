"""From a folder of photos to a sample table, folds and decoded photos."""
