"""Foundations (registry, images, text encoders, weights) and, above everything else, the engine and the command line."""
