"""One trainer for every stage: objectives, learning rates, devices, checkpoints."""
