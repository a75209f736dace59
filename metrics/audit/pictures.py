"""Pictures of an audit: a sheet of prompts, outputs and differences per sample, and a summary over methods."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tgfbench.metrics.audit.locality import change_map
from tgfbench.metrics.audit.measures import Target
from tgfbench.metrics.audit.prompts import Prompt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 5
SHOWN = ("empty", "matching", "focus", "absent", "contradictory", "nonsense", "paraphrase", "other", "right", "wrong")
"""Kinds of prompts on a sheet, in this order; of several paraphrases the first is shown."""
LEAST_SCALE = 8.0
"""Grey levels at the top of the colour scale of differences, at least: noise must not look like an effect."""
_INK: dict[str, Any] = {"edgecolor": "#202020", "linewidth": 0.4}
_COLOURS = ("#3b6ea5", "#c8783c", "#5b8c5a")


def sheet(title: str, prompts: Sequence[Prompt], outputs: Mapping[str, np.ndarray], targets: Sequence[Target]) -> bytes:
    """Draw one sample: every prompt with its output above and, below, what it changes against the empty prompt.

    Args:
        title: method and sample.
        prompts: of the sample.
        outputs: uint8 (H, W, 3) by prompt id; prompts without one are left out.
        targets: the labelled objects; the named one is outlined, all of them where none is named.

    Returns:
        A PNG file; the same arguments give the same bytes with one version of matplotlib.
    """
    empty = next(outputs[prompt.id] for prompt in prompts if prompt.kind == "empty")
    shown = _shown(prompts, outputs)
    changes = {prompt.id: change_map(outputs[prompt.id], empty) for prompt in shown}
    top = max(LEAST_SCALE, *(float(np.quantile(change, 0.995)) for change in changes.values()))
    rows = -(-len(shown) // COLUMNS)
    height, width = empty.shape[:2]
    figure = _figure(2.6 * COLUMNS, rows * (5.2 * height / width + 0.9) + 0.5)
    figure.suptitle(f"{title}: output, and its change against the empty prompt (0 to {top:.0f} grey levels)", size=10)
    axes = figure.subplots(2 * rows, COLUMNS, squeeze=False)
    for place in axes.flat:
        place.set_axis_off()
    for number, prompt in enumerate(shown):
        row, column = divmod(number, COLUMNS)
        above, below = axes[2 * row][column], axes[2 * row + 1][column]
        above.imshow(outputs[prompt.id])
        above.set_title(_caption(prompt), size=6.5)
        below.imshow(changes[prompt.id], cmap="magma", vmin=0, vmax=top)
        for target in targets:
            if prompt.names in ("", target.name):
                for place, colour in ((above, "#00ff7f"), (below, "#ffffff")):
                    place.contour(target.mask, levels=[0.5], colors=colour, linewidths=0.6)
    return _png(figure)


def summary(audits: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> bytes:
    """Draw the statistics of several methods on the same images as bars with their intervals.

    Args:
        audits: contents of ``audit.json``, finished.
        labels: a name for each.
    """
    panels: tuple[tuple[str, tuple[str, ...], float | None], ...] = (
        ("movement, in noise floors", ("presence / floor", "meaning / floor", "object movement / floor"), 1.0),
        ("wording against meaning", ("paraphrase / meaning", "nonsense response / sense response"), 1.0),
        ("specificity of place", ("specificity", "specificity over best"), 0.0),
    )
    figure = _figure(12, 1.6 + 0.5 * len(audits))
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for place, (title, statistics, chance) in zip(axes, panels, strict=True):
        _bars(place, audits, statistics)
        place.axvline(chance, color="#202020", linewidth=0.8, linestyle=":")
        place.set_title(title, size=9)
        place.tick_params(labelsize=8)
        place.legend(fontsize=7, frameon=False, loc="best")
    axes[0].set_yticks(range(len(audits)), labels)
    axes[0].invert_yaxis()
    return _png(figure)


def _bars(place: Axes, audits: Sequence[Mapping[str, Any]], statistics: Sequence[str]) -> None:
    thickness = 0.8 / len(statistics)
    for offset, (statistic, colour) in enumerate(zip(statistics, _COLOURS, strict=False)):
        found = [audit["result"]["estimates"].get(statistic) or {} for audit in audits]
        at = np.arange(len(audits)) + (offset - (len(statistics) - 1) / 2) * thickness
        value, low, high = (
            np.array([np.nan if one.get(name) is None else one[name] for one in found], dtype=np.float64)
            for name in ("value", "low", "high")
        )
        reach = np.nan_to_num(np.stack([value - low, high - value]).clip(min=0))
        values = np.nan_to_num(value)
        place.barh(at, values, thickness, xerr=reach, color=colour, label=statistic, error_kw={"lw": 0.8}, **_INK)


def _shown(prompts: Sequence[Prompt], outputs: Mapping[str, np.ndarray]) -> list[Prompt]:
    found = []
    for kind in SHOWN:
        own = [prompt for prompt in prompts if prompt.kind == kind and prompt.id in outputs]
        found += own[:1] if kind == "paraphrase" else own
    return found


def _caption(prompt: Prompt) -> str:
    said = textwrap.shorten(prompt.text, 90, placeholder=" …") or "(nothing)"
    # A dollar sign would start a formula.
    return "\n".join([prompt.id, *textwrap.wrap(said, 44)]).replace("$", r"\$")


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
