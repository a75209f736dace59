"""Fusing one pair under many prompts without encoding its images every time.

What a network computes before it reads the text is the same for every prompt. Which of its modules those are is found
out, not declared: on a small crop, a few prompts are fused and the modules noted whose inputs were equal every time.
Those then answer a repeated input from memory. Outputs stay the same to the last bit, which is checked on that crop;
a method that this does not suit (state of its own, arithmetic outside modules) is left alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from tgfbench.benchmark.engines import fuse_sample
from tgfbench.benchmark.errors import TgfbenchError

if TYPE_CHECKING:
    from tgfbench.datasets.base import Sample
    from tgfbench.methods.base import FusionMethod

PROBE_SIDE = 128
"""Side of the crop on which modules are watched, in pixels."""

PROBE_TEXTS = 4
"""Texts under which they are watched; some methods take two texts for the same, such as an empty and a neutral one."""

Call = tuple[Any, ...]
"""The arguments of one call of a module, by position and by name."""


class Reuse:
    """Fuses with one method, remembering what does not depend on the prompt, pair by pair.

    Args:
        method: a method whose networks are ``nn.Module`` attributes of it; any other is simply called.

    Attributes:
        modules: names of the modules whose outputs are reused; empty until the first pair, and where nothing suits.
    """

    def __init__(self, method: FusionMethod) -> None:
        self.method = method
        self.modules: tuple[str, ...] = ()
        self._networks = {name: value for name, value in vars(method).items() if isinstance(value, nn.Module)}
        self._probed = not self._networks
        self._memories: list[_Memory] = []

    def fuse(self, sample: Sample, text: str, mask: np.ndarray | None = None) -> np.ndarray:
        """Fuse afresh, with nothing from memory; see ``engines.fuse_sample``."""
        return fuse_sample(self.method, sample, text, mask)

    @contextmanager
    def pair(self, sample: Sample, texts: tuple[str, ...], mask: np.ndarray | None = None) -> Iterator[Fuse]:
        """Yield a function that returns the fused uint8 (H, W, 3) of this pair for a text, from memory where it can.

        Args:
            sample: the pair.
            texts: the texts that will be asked for; a few of them find out what to remember.
            mask: as for ``engines.fuse_sample``.
        """
        if not self._probed and len(texts) > 1:
            self._probed = True
            self._probe(sample, texts[:: -(-len(texts) // PROBE_TEXTS)], mask)
        try:
            yield lambda text: self._remembering(sample, text, mask)
        finally:
            for memory in self._memories:
                memory.forget()

    def _remembering(self, sample: Sample, text: str, mask: np.ndarray | None) -> np.ndarray:
        for memory in self._memories:
            memory.begin()
        with _answering(self._memories):
            return fuse_sample(self.method, sample, text, mask)

    def _probe(self, sample: Sample, texts: tuple[str, ...], mask: np.ndarray | None) -> None:
        """Find the modules to remember on a crop, and keep them only if they change no pixel."""
        rows, columns = (slice(0, min(PROBE_SIDE, side)) for side in sample.infrared.shape)
        crop = dataclasses.replace(
            sample, visible=sample.visible[rows, columns], infrared=sample.infrared[rows, columns]
        )
        cut = None if mask is None else mask[rows, columns]
        try:
            self._memories = self._find(crop, texts, cut)
        except TgfbenchError:
            # The crop does not suit the method: it goes without.
            self._memories = []
        self.modules = tuple(memory.name for memory in self._memories)

    def _find(self, crop: Sample, texts: tuple[str, ...], cut: np.ndarray | None) -> list[_Memory]:
        named = {f"{own}.{n}" if n else own: m for own, net in self._networks.items() for n, m in net.named_modules()}
        watched = [_Watched(module) for module in named.values()]
        with _answering(watched):
            for text in texts:
                for watch in watched:
                    watch.begin()
                fuse_sample(self.method, crop, text, cut)
        constant = {name for name, watch in zip(named, watched, strict=True) if watch.constant}
        outermost = sorted(name for name in constant if not _inside(name, constant))
        texts = texts[:2]
        plain = [fuse_sample(self.method, crop, text, cut) for text in texts]
        # Networks that write into what modules give or take need copies, which cost a tenth of a fusion.
        for copying in (False, True):
            self._memories = [_Memory(name, named[name], copying) for name in outermost]
            # Twice: the second answer to the first text comes from memory, too.
            remembered = [self._remembering(crop, text, cut) for text in (*texts, *texts)]
            agreed = copying or not any(memory.missed for memory in self._memories)
            for memory in self._memories:
                memory.forget()
            if agreed and all(map(np.array_equal, [*plain, *plain], remembered)):
                # A module that others call is not asked where they answer from memory.
                return [memory for memory in self._memories if memory.answered]
        return []


Fuse = Callable[[str], np.ndarray]


class _Watched:
    """Tells whether a module was called with equal inputs in every fusion."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._calls: list[list[Call]] = []

    def begin(self) -> None:
        """A fusion begins."""
        self._calls.append([])

    def __call__(self, forward: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        self._calls[-1].append(_copy((arguments, named)))
        return forward(*arguments, **named)

    @property
    def constant(self) -> bool:
        """Whether it was called, equally in all fusions, with at least one tensor."""
        first, *others = self._calls
        return any(map(_has_tensor, first)) and all(_equal(first, other) for other in others)


class _Memory:
    """Answers the calls of a module from those of earlier fusions, by their number within a fusion.

    Args:
        name: of the module.
        module: the module.
        copying: arguments and answers are kept and given as copies, because others write into them.

    Attributes:
        missed: whether a call had other arguments than the one remembered under its number.
        answered: whether a call was answered from memory.
    """

    def __init__(self, name: str, module: nn.Module, copying: bool) -> None:
        self.name, self.module = name, module
        self._own: Callable[[Any], Any] = _copy if copying else lambda value: value
        self.missed = self.answered = False
        self._known: list[tuple[Call, Any]] = []
        self._next = 0

    def begin(self) -> None:
        """A fusion begins."""
        self._next = 0

    def forget(self) -> None:
        """Free what is remembered."""
        self._known = []

    def __call__(self, forward: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        number, self._next = self._next, self._next + 1
        if number < len(self._known):
            call, answer = self._known[number]
            if _equal(call, (arguments, named)):
                self.answered = True
                return self._own(answer)
            self.missed = True
            return forward(*arguments, **named)
        call = self._own((arguments, named))
        answer = forward(*arguments, **named)
        if number == len(self._known):
            self._known.append((call, self._own(answer)))
        return answer


@contextmanager
def _answering(listeners: list[Any]) -> Iterator[None]:
    """Have listeners answer the calls of their modules for a while."""
    own = [(listener.module, listener.module.__dict__.get("forward")) for listener in listeners]
    for listener in listeners:
        forward = listener.module.forward

        def answer(*arguments: Any, _listener: Any = listener, _forward: Any = forward, **named: Any) -> Any:
            return _listener(_forward, *arguments, **named)

        listener.module.forward = answer
    try:
        yield
    finally:
        for module, before in own:
            if before is None:
                # Without an attribute of the instance the class's method shows again.
                module.__dict__.pop("forward", None)
            else:
                module.forward = before


def _inside(name: str, others: set[str]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:length]) in others for length in range(1, len(parts)))


def _copy(value: Any) -> Any:
    """Return a copy whose tensors share no memory with the original."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {name: _copy(item) for name, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(_copy, value))
    if type(value) in (tuple, list):
        return type(value)(_copy(item) for item in value)
    return value


def _equal(first: Any, second: Any) -> bool:
    """Tell whether two calls have the same structure and equal values; objects of unknown kinds are never equal."""
    if isinstance(first, Tensor):
        if first is second:
            return True
        return isinstance(second, Tensor) and first.dtype == second.dtype and torch.equal(first, second)
    if type(first) is not type(second):
        return False
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(_equal(first[name], second[name]) for name in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(_equal, first, second))
    return isinstance(first, int | float | str | bool | torch.Size | type(None)) and first == second


def _has_tensor(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_tensor, value.values()))
    return any(map(_has_tensor, value)) if isinstance(value, list | tuple) else isinstance(value, Tensor)
