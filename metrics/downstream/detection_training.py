"""Training a detector with ultralytics' own loop, in memory, and continuing it after the last epoch it finished.

The loop, the losses, the optimisers and the augmentations are the library's. Ours is what goes in and what comes out:
labels are handed over as arrays instead of text files; the state after every epoch is plain tensors, written
atomically; every epoch draws from its own random numbers, so that a continued training equals an uninterrupted one
(where a step gathers several batches, the first step after continuing has gathered one); and nothing is validated,
plotted or reported on the way.

Import this module only after ``import_ultralytics``.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ultralytics.data.augment import Albumentations, Compose
from ultralytics.data.dataset import YOLODataset
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils.torch_utils import unwrap_model

from tgfbench.benchmark.errors import UsageError
from tgfbench.benchmark.weights import read_checkpoint, write_checkpoint
from tgfbench.metrics.downstream.base import LabelledSet, Progress
from tgfbench.metrics.downstream.detector import Detector, build_detector, load_detector, read_architecture
from tgfbench.metrics.downstream.ultralytics_library import logging_to

if TYPE_CHECKING:
    from tgfbench.metrics.downstream.detection import DetectionRecipe

STATE = "state.pt"
"""Everything needed to continue, as plain tensors; removed when the training is finished."""


def train_detector(
    images: LabelledSet, recipe: DetectionRecipe, seed: int, folder: Path, device: str, progress: Progress
) -> Detector:
    """Train a detector, or continue a training whose state is in the folder.

    Returns:
        The running mean of the weights after the last epoch, on the CPU.

    Raises:
        UsageError: the architecture cannot be built, or the learning rate makes the loss infinite.
        WeightsError: the recipe's ``start`` is not a detector.
    """
    threads, generators = torch.get_num_threads(), (random.getstate(), np.random.get_state(), torch.get_rng_state())
    try:
        with logging_to(folder / "training.log"):
            training = _Training(images, recipe, seed, folder, device, progress)
            torch.set_num_threads(recipe.cpu_threads or threads)  # the library has set a number of its own
            training.train()
            return training.detector()
    finally:
        torch.set_num_threads(threads)
        random.setstate(generators[0])
        np.random.set_state(generators[1])
        torch.set_rng_state(generators[2])


class _Labels(YOLODataset):
    """The library's dataset with our labels in place of the search for text files."""

    ims: Any
    im_hw0: Any
    im_hw: Any

    def __init__(self, images: LabelledSet, **options: Any) -> None:
        self.labelled = images
        super().__init__(img_path="", **options)

    def get_img_files(self, img_path: Any) -> list[str]:
        return [str(image.path) for image in self.labelled.images]

    def get_labels(self) -> list[dict[str, Any]]:
        labels: list[dict[str, Any]] = []
        for image in self.labelled.images:
            corners = np.asarray(image.boxes, np.float32).reshape(-1, 4)
            centres, sizes = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
            scale = np.array([*image.size, *image.size], np.float32)
            labels.append(
                {
                    "im_file": str(image.path),
                    "shape": image.size[::-1],
                    "cls": np.asarray(image.classes, np.float32).reshape(-1, 1),
                    "bboxes": np.concatenate([centres, sizes], axis=1) / scale,
                    "segments": [],
                    "keypoints": None,
                    "normalized": True,
                    "bbox_format": "xywh",
                }
            )
        return labels

    def cache_images(self) -> None:
        for index in range(self.ni):
            self.ims[index], self.im_hw0[index], self.im_hw[index] = self.load_image(index)

    def build_transforms(self, hyp: Any = None) -> Compose:
        transforms = super().build_transforms(hyp)
        # The library augments further where albumentations happens to be installed; a recipe must say all there is.
        transforms.transforms = [step for step in transforms.transforms if not isinstance(step, Albumentations)]
        return transforms


class _Training(DetectionTrainer):
    model: Any
    ema: Any
    optimizer: Any

    def __init__(
        self, images: LabelledSet, recipe: DetectionRecipe, seed: int, folder: Path, device: str, progress: Progress
    ) -> None:
        self._images, self._recipe, self._seed = images, recipe, seed
        self._folder, self._progress, self._steps = folder, progress, 0
        epochs = recipe.epochs_over(len(images.images))
        super().__init__(
            overrides={
                "model": "detector.yaml",
                "epochs": epochs,
                "batch": recipe.batch,
                "imgsz": recipe.image_size,
                "device": device,
                "workers": 4,
                "cache": "ram",
                "seed": seed,
                "save_dir": str(folder),
                "optimizer": recipe.optimizer,
                "lr0": recipe.learning_rate,
                "lrf": recipe.final_learning_rate,
                "momentum": recipe.momentum,
                "weight_decay": recipe.weight_decay,
                "warmup_epochs": recipe.warmup_epochs,
                "warmup_bias_lr": recipe.warmup_bias_lr,
                "nbs": recipe.nominal_batch,
                "cos_lr": recipe.cosine,
                "close_mosaic": recipe.close_mosaic,
                "mosaic": recipe.mosaic,
                "mixup": recipe.mixup,
                "fliplr": recipe.fliplr,
                "scale": recipe.scale,
                "translate": recipe.translate,
                "hsv_h": recipe.hsv_h,
                "hsv_s": recipe.hsv_s,
                "hsv_v": recipe.hsv_v,
                "patience": epochs + 1,
                "amp": False,  # the library would download a network to try it
                "val": False,
                "plots": False,
                "verbose": False,
                "deterministic": True,
                "pretrained": False,
            }
        )

    def detector(self) -> Detector:
        return Detector(self.ema.ema.float().cpu(), self._detector.architecture, self._detector.classes)

    # What goes in.

    def get_dataset(self) -> dict[str, Any]:
        names = dict(enumerate(self._images.classes))
        return {"train": "train", "val": "train", "nc": len(names), "names": names, "channels": 3}

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> _Labels:
        network: Any = unwrap_model(self.model)
        stride = max(int(network.stride.max()), 32)
        size, options = self.args.imgsz, {"hyp": self.args, "cache": self.args.cache, "data": self.data}
        return _Labels(self._images, imgsz=size, batch_size=batch, augment=True, stride=stride, **options)

    def get_dataloader(self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        # The library wants images to validate on even where it does not validate.
        return super().get_dataloader(dataset_path, batch_size, rank, mode) if mode == "train" else self.train_loader

    def setup_model(self) -> None:
        doing = f"building the detector {self._recipe.model}"
        start = load_detector(self._recipe.start) if self._recipe.start else None
        from_start = start is not None and self._recipe.model.endswith(".pt")
        architecture = start.architecture if start and from_start else read_architecture(self._recipe.model)
        self._detector = build_detector(architecture, self._images.classes, doing)
        if start:
            self._detector.network.load(start.network, verbose=False)
        self.model = self._detector.network

    # What happens on the way.

    def run_callbacks(self, event: str) -> None:
        # The library's own callbacks report to services.
        if event == "on_train_epoch_start":
            self._draw_anew()
        elif event == "on_train_batch_end":
            self._steps += 1
            self._progress(self._steps, self.epochs * len(self.train_loader))

    def _draw_anew(self) -> None:
        """Let this epoch's order and augmentation depend on the seed and the epoch alone."""
        words = np.random.SeedSequence([self._seed, self.epoch]).generate_state(4)
        random.seed(int(words[0]))
        np.random.seed(int(words[1]))
        torch.manual_seed(int(words[2]))
        self.train_loader.generator.manual_seed(int(words[3]))
        self.train_loader.reset()

    def validate(self) -> tuple[dict[str, float], float]:
        return {}, 0.0

    def final_eval(self) -> None:
        pass

    def save_metrics(self, metrics: dict[str, float]) -> None:
        shown = " ".join(f"{key[6:]} {value:.5g}" for key, value in metrics.items() if key.startswith("train/"))
        with (self._folder / "training.log").open("a", encoding="utf-8") as file:
            file.write(f"epoch {self.epoch + 1}/{self.epochs} {shown}\n")

    def _handle_nan_recovery(self, epoch: int) -> bool:
        if self.loss is not None and not bool(self.loss.isfinite()):
            raise UsageError(
                f"training the detector in {self._folder}, epoch {epoch + 1}",
                found="a loss that is not finite",
                hint=f"a smaller learning_rate than {self._recipe.learning_rate:g}",
            )
        return False

    # What is kept.

    def save_model(self) -> bool:
        if self.epoch + 1 == self.epochs:
            return False  # the detector itself follows
        state = {
            "epoch": self.epoch,
            "model": unwrap_model(self.model).state_dict(),
            "mean": self.ema.ema.state_dict(),
            "updates": self.ema.updates,
            "optimizer": self.optimizer.state_dict(),
        }
        write_checkpoint(self._folder / STATE, state)
        return True

    def resume_training(self, ckpt: Any) -> None:
        path = self._folder / STATE
        if not path.is_file():
            return
        state, _ = read_checkpoint(path)
        unwrap_model(self.model).load_state_dict(state["model"])
        self.ema.ema.load_state_dict(state["mean"])
        self.ema.updates = state["updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.start_epoch = state["epoch"] + 1
        self._steps = self.start_epoch * len(self.train_loader)
