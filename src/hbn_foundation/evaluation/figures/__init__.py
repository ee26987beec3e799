"""Figures of data, trainings and scores, made without `matplotlib.pyplot`'s state."""
