"""Figures of the data, of trainings and of scores."""
