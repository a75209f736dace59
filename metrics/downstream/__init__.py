"""Downstream tasks: what a detector or a segmenter makes of fused images."""
