"""The embedded dataset ``sample``: paired road and field scenes, rendered from a seed."""

from tgfbench.datasets.sample.dataset import SampleDataset
from tgfbench.datasets.sample.layout import lay_out
from tgfbench.datasets.sample.rendering import Rendering, render_scene
from tgfbench.datasets.sample.scene import Scene

__all__ = ["Rendering", "SampleDataset", "Scene", "lay_out", "render_scene"]
