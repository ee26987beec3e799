"""Scores: probes, baselines, intervals, figures."""
