"""Objectives of pretraining, each with the trivial predictor that it must beat."""
