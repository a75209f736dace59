"""tgfbench: a benchmark for text-guided infrared-visible image fusion.

The user entry points live in the folders that own them:
``tgfbench.methods.load_method``, ``tgfbench.datasets.load_dataset``,
``tgfbench.metrics.load_metric`` and ``tgfbench.metrics.load_protocol``.
"""

__version__ = "0.1.0"
