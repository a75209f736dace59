"""FILM: fusion steered by the BLIP-2 features of a paragraph about each image (ICML 2024)."""
