"""Sweeps: train each shared base model once, fine-tune it many times, on one machine or many."""
