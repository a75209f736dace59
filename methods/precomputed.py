"""Results that already exist: a folder of fused images, scored exactly like a method that runs here."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tgfbench.benchmark.errors import DataError, UsageError, counted, suggest
from tgfbench.benchmark.images import IMAGE_SUFFIXES, images_by_stem, read_visible
from tgfbench.benchmark.weights import Checkpoint, sha256_of
from tgfbench.methods.base import FusionBatch, FusionMethod, MethodInfo


class Precomputed(FusionMethod):
    """Serves fused images from a folder; a file belongs to the sample whose key is its stem.

    Args:
        folder: holds one image per sample, grey or colour, of the sample's size.
        name: what to call the results on a leaderboard.

    Raises:
        DataError: no such folder, no image in it, or two images of one stem.
        UsageError: a name that cannot be part of a path.
    """

    info = MethodInfo(name="precomputed", title="Precomputed results", tags=("precomputed",))

    def __init__(
        self,
        folder: str | Path,
        name: str = "precomputed",
        checkpoint: Checkpoint | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(checkpoint, device)
        if not re.fullmatch(r"\w[\w.+-]*", name):
            raise UsageError(
                "naming precomputed results", found=repr(name), expected="letters, digits and any of _ . + -, no spaces"
            )
        self.folder = Path(folder).expanduser()
        self.files = images_by_stem(self.folder)
        if not self.files:
            raise DataError(
                f"looking for fused images in {self.folder}",
                found="none",
                expected=f"files ending in {', '.join(IMAGE_SUFFIXES)}, each named after its sample",
            )
        if name != self.info.name:
            self.info = self.info.model_copy(update={"name": name, "title": name})  # type: ignore[misc]  # own card

    def fuse(self, batch: FusionBatch) -> Tensor:
        """Read the batch's images from the folder.

        Raises:
            DataError: an image is missing, unreadable or not of its sample's size; names the file.
        """
        size = tuple(batch.visible.shape[-2:])
        images = torch.from_numpy(np.stack([self._read(key, size) for key in batch.keys]))
        return images.to(batch.visible.device).permute(0, 3, 1, 2).float().div_(255).contiguous()

    def unmatched(self, keys: Iterable[str]) -> list[str]:
        """Return the names of the folder's images that belong to none of these sample keys."""
        wanted = set(keys)
        return [path.name for stem, path in self.files.items() if stem not in wanted]

    def provenance(self) -> dict[str, Any]:
        """Return a hash of the images' names and contents; where the folder lies does not matter."""
        return {"images": len(self.files), "images_sha256": self._content_hash}

    @cached_property
    def _content_hash(self) -> str:
        digest = hashlib.sha256()
        for path in self.files.values():
            try:
                content = sha256_of(path)
            except OSError as error:
                raise DataError(
                    f"reading the fused image {path}", found=str(error), expected="a readable file"
                ) from error
            digest.update(f"{path.name}\0{content}\n".encode())
        return digest.hexdigest()

    def _read(self, key: str, size: tuple[int, ...]) -> np.ndarray:
        path = self.files.get(key)
        if path is None:
            raise DataError(
                f"reading the fused image of {key} from {self.folder}",
                found=f"no such file among {counted(len(self.files))}",
                expected=f"{key}.png (or another of {', '.join(IMAGE_SUFFIXES)})",
                hint=suggest(key, self.files),
            )
        pixels = read_visible(path)
        if pixels.shape[:2] != size:
            raise DataError(
                f"reading the fused image {path}",
                found=f"{pixels.shape[1]}x{pixels.shape[0]} pixels",
                expected=f"{size[1]}x{size[0]} pixels, the size of its sources",
                hint="save the fused images at the size of the source pair",
            )
        return pixels
