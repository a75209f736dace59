"""TextFusion: a sentence scales the infrared features of a two-stream windowed transformer."""
