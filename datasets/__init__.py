"""Samples and the datasets that serve them.

``load_dataset(name)`` opens a registered dataset; ``Dataset``, ``DatasetInfo``, ``Sample``, ``Texts``, ``Labels`` and
``Problem`` are the contracts of ``tgfbench.datasets.base``. Importing this package imports neither numpy nor a loader.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tgfbench.benchmark.options import check_options
from tgfbench.benchmark.registry import Registry, subclass_of

if TYPE_CHECKING:
    from tgfbench.datasets.base import Dataset, DatasetInfo, Labels, Problem, Sample, Texts

__all__ = ["DATASETS", "Dataset", "DatasetInfo", "Labels", "Problem", "Sample", "Texts", "load_dataset"]


def _check(loaded: object) -> str | None:
    base = importlib.import_module("tgfbench.datasets.base")
    return subclass_of(base.Dataset)(loaded)


DATASETS: Registry[type[Dataset]] = Registry("datasets", check=_check)


def load_dataset(name: str, root: str | Path | None = None, split: str = "test", **options: Any) -> Dataset:
    """Open a dataset.

    Args:
        name: a registry name; case, ``-`` and ``_`` do not matter. ``msrs+haze:3`` degrades what it names, see
            ``tgfbench.datasets.degradations.grammar``.
        root: the folder that holds the dataset's folder, or the dataset's folder itself; None reads the environment
            variable ``TGFBENCH_DATA`` (datasets without files need none).
        split: one of the dataset's splits.
        **options: keyword arguments of the dataset's constructor; strings are converted to the annotated type.

    Returns:
        An ordered, iterable collection of samples with ``keys``, ``problems`` and ``fingerprint()``.

    Raises:
        UsageError: unknown name, degradation, split or option, or no root.
        DataError: the folder is missing, empty or of another layout.
    """
    if "+" in name:
        from tgfbench.datasets.degradations.dataset import DegradedDataset
        from tgfbench.datasets.degradations.grammar import parse_name

        base, chain, seed = parse_name(name)
        return DegradedDataset(load_dataset(base, root, split, **options), chain, seed)
    dataset = DATASETS.load(name)
    checked = check_options(f"opening the dataset {dataset.info.name}", dataset, options, ("root", "split"))
    return dataset(root=root, split=split, **checked)  # type: ignore[call-arg]  # Dataset leaves the constructor open


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("tgfbench.datasets.base"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
