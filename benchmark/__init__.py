"""Foundations (registry, images, text, weights) and, above everything else, the engine and the command line."""
