"""Pictures of an audit: a sheet of prompts, outputs and differences per sample, and a summary over methods."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np

from tgfbench.metrics.audit.locality import change_map
from tgfbench.metrics.audit.measures import Target
from tgfbench.metrics.audit.prompts import Prompt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 5
CELL, GAP, CAPTION, TITLE = 2.5, 0.08, 0.55, 0.4
"""Inches: width of an image, space between images, room for a prompt above it, and for the heading."""
SHOWN = ("empty", "matching", "focus", "absent", "contradictory", "nonsense", "paraphrase", "other", "right", "wrong")
"""Kinds of prompts on a sheet, in this order; of several paraphrases the first is shown."""
LEAST_SCALE = 8.0
"""Grey levels at the top of the colour scale of differences, at least: noise must not look like an effect."""
_INK: dict[str, Any] = {"edgecolor": "#202020", "linewidth": 0.4}
_PANELS: tuple[tuple[str, float, dict[str, str]], ...] = (
    (
        "movement in noise floors\n(dotted: the floor)",
        1.0,
        {"presence / floor": "#3b6ea5", "meaning / floor": "#c8783c", "object movement / floor": "#5b8c5a"},
    ),
    (
        "wording against meaning\n(dotted: as much as meaning and sense)",
        1.0,
        {"paraphrase / meaning": "#8a6bb1", "nonsense response / sense response": "#b5525c"},
    ),
    (
        "share of the change in the named object,\nless that under other words (dotted: chance)",
        0.0,
        {"specificity": "#2a9d9d", "specificity over best": "#c9b458"},
    ),
)
"""Of a summary: title, where the dotted line stands, and colours by statistic; no colour means two things."""


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
    height, width = empty.shape[:2]
    tall = CELL * height / width
    rows = -(-len(shown) // COLUMNS)
    size = (COLUMNS * (CELL + GAP) + GAP, rows * (2 * tall + CAPTION + 2 * GAP) + TITLE)
    figure = _figure(*size)
    scale = f"black: 0, pale yellow: {top:.0f} grey levels"
    heading = (
        f"{title}\noutput above, its change against the empty prompt below ({scale}); "
        "outlined: what is named, or all labelled objects"
    )
    figure.text(0.5, 1 - 0.5 * TITLE / size[1], heading.replace("$", r"\$"), size=9, ha="center", va="center")
    outlines = {target.name: _outline(target.mask) for target in targets}
    for number, prompt in enumerate(shown):
        row, column = divmod(number, COLUMNS)
        left = GAP + column * (CELL + GAP)
        upper = size[1] - TITLE - row * (2 * tall + CAPTION + 2 * GAP) - CAPTION
        above, below = (
            figure.add_axes((left / size[0], low / size[1], CELL / size[0], tall / size[1]))
            for low in (upper - tall, upper - 2 * tall - GAP)
        )
        above.imshow(outputs[prompt.id])
        above.set_title(_caption(prompt), size=6.5)
        below.imshow(changes[prompt.id], cmap="magma", vmin=0, vmax=top)
        named = [outlines[target.name] for target in targets if prompt.names in ("", target.name)]
        for place, colour in ((above, "#00ff7f"), (below, "#ffffff")):
            place.set_axis_off()
            for outline in named:
                place.plot(*outline, color=colour, linewidth=0.6, scalex=False, scaley=False)
    return _png(figure)


def summary(title: str, audits: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> bytes:
    """Draw verdict and statistics of several methods on the same images, as bars with their intervals.

    Args:
        title: names the images.
        audits: contents of ``audit.json``, finished.
        labels: a name for each.
    """
    figure = _figure(13, 1.7 + 0.55 * len(audits), layout="constrained")
    axes = figure.subplots(1, len(_PANELS), sharey=True, squeeze=False)[0]
    for place, (about, chance, colours) in zip(axes, _PANELS, strict=True):
        _bars(place, audits, colours)
        place.axvline(chance, color="#202020", linewidth=0.8, linestyle=":")
        place.set_title(about, size=9)
        place.tick_params(labelsize=8)
    named = [f"{label}\n{audit['result']['verdict']}" for label, audit in zip(labels, audits, strict=True)]
    axes[0].set_yticks(range(len(audits)), [name.replace("$", r"\$") for name in named])
    axes[0].invert_yaxis()
    figure.legend(fontsize=8, frameon=False, loc="outside lower center", ncols=7)
    figure.suptitle(title.replace("$", r"\$"), size=10)
    return _png(figure)


def _bars(place: Axes, audits: Sequence[Mapping[str, Any]], colours: Mapping[str, str]) -> None:
    thickness = 0.8 / len(colours)
    for offset, (statistic, colour) in enumerate(colours.items()):
        found = [audit["result"]["estimates"].get(statistic) or {} for audit in audits]
        at = np.arange(len(audits)) + (offset - (len(colours) - 1) / 2) * thickness
        value, low, high = (
            np.array([np.nan if one.get(name) is None else one[name] for one in found], dtype=np.float64)
            for name in ("value", "low", "high")
        )
        reach = np.nan_to_num(np.stack([value - low, high - value]).clip(min=0))
        values = np.nan_to_num(value)
        place.barh(at, values, thickness, xerr=reach, color=colour, label=statistic, error_kw={"lw": 0.8}, **_INK)
        for row in np.flatnonzero(np.isnan(value)):
            place.text(0, at[row], " n/a", size=6, va="center", color="#606060")


def _outline(mask: np.ndarray) -> tuple[list[float], list[float]]:
    """Return the borders of a mask as x and y of one broken line: NaN lifts the pen."""
    across: list[float] = []
    down: list[float] = []
    for border in cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)[0]:
        closed = [*border[:, 0].tolist(), border[0, 0].tolist()]
        across += [*(x for x, _ in closed), np.nan]
        down += [*(y for _, y in closed), np.nan]
    return across, down


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


def _figure(width: float, height: float, layout: Literal["constrained"] | None = None) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None}, pil_kwargs={"compress_level": 1})
    return buffer.getvalue()
