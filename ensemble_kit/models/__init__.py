"""Networks: backbones, heads, checkpoints, and the device they run on. Needs torch."""
