"""A dataset whose images are degraded on loading."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

from tgfbench.benchmark.errors import UsageError
from tgfbench.datasets.base import Dataset, Labels, Sample
from tgfbench.datasets.degradations.grammar import Degradation, degraded_name
from tgfbench.datasets.degradations.instructions import instructions_for
from tgfbench.datasets.degradations.operators import VERSION, degrade_pair


class DegradedDataset(Dataset):
    """Another dataset with degraded images, instructions that ask to mend them, and clean references.

    ``reference`` is the clean visible image whichever modality is degraded (where the source has a reference already,
    that one): it is what a restoring method should bring back in colour. What an ideal fusion would be is not defined;
    ``clean(key)`` gives the undegraded pair, against which source-based metrics are meaningful.

    ``texts.instruction`` holds the sentences on these degradations alone: an instruction of the source speaks of a flaw
    that the reference has too. Several degradations give sentences that ask to mend all of them. Captions, focus and
    labels stay: no degradation moves anything in the frame.

    Args:
        source: the undegraded dataset.
        chain: at least one degradation; applied in this order.
        seed: of the random patterns, not negative.

    Attributes:
        source, chain, seed: as given.

    Raises:
        UsageError: an empty chain or a negative seed.
    """

    def __init__(self, source: Dataset, chain: tuple[Degradation, ...], seed: int = 0) -> None:
        if not chain or seed < 0:
            found = "no degradation" if not chain else f"seed={seed}"
            expected = "at least one degradation, a seed of at least 0"
            raise UsageError(f"degrading the dataset {source.info.name}", found=found, expected=expected)
        self.source, self.chain, self.seed = source, tuple(chain), seed
        self.split, self.keys, self.problems = source.split, source.keys, source.problems
        what = ", ".join(f"{step.kind} of the {step.modality} images at severity {step.severity}" for step in chain)
        known_problems = (*source.info.known_problems, f"Degraded by computation: {what}; not a recording.")
        # A degraded dataset is an instance with a card of its own, not a class.
        self.info = source.info.model_copy(  # type: ignore[misc]
            update={
                "name": degraded_name(source.info.name, self.chain, seed),
                "title": f"{source.info.title} + {' + '.join(map(str, chain))}",
                "known_problems": known_problems,
            }
        )
        sentences = [instructions_for(step.kind, step.modality) for step in chain]
        self._instructions = tuple(" ".join(together) for together in zip(*sentences, strict=False))

    def clean(self, key: str) -> Sample:
        """Return the undegraded sample of a key.

        Raises:
            UsageError: no such key.
            DataError: a file of this sample cannot be read.
        """
        return self.source.load(key)

    def load(self, key: str) -> Sample:
        """Load and degrade the sample of a key.

        Raises:
            UsageError: no such key.
            DataError: a file of this sample cannot be read.
        """
        clean = self.clean(key)
        visible, infrared = degrade_pair(clean.visible, clean.infrared, self.chain, key, self.seed)
        return dataclasses.replace(
            clean,
            visible=visible,
            infrared=infrared,
            texts=dataclasses.replace(clean.texts, instruction=self._instructions),
            reference=clean.visible if clean.reference is None else clean.reference,
            clean=clean.clean or clean,
        )

    def files(self, key: str) -> dict[str, Path]:
        """Return the files of the undegraded sample by role."""
        return self.source.files(key)

    def complete_count(self) -> int | None:
        return self.source.complete_count()

    def labels(self, key: str) -> Labels | None:
        return self.source.labels(key)

    def fingerprint(self, keys: tuple[str, ...] | None = None) -> str:
        """Return a digest of the source's content and of everything that decides the degradation."""
        content = self.source.fingerprint(self.keys if keys is None else keys)
        parts = [content, VERSION, [str(step) for step in self.chain], self.seed, self._instructions]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
