"""From sample table to batches: the cache of decoded photos, augmentations, samplers."""
