"""Experiments: lists of jobs with content keys, one store for their results, one engine."""
