"""LDFusion for inference: the network of ``network.py``, rearranged without approximation.

- Maps are channels-last. Moments of the norms are accumulated in float64: statistics over a whole image, taken in
  float32 by channels-last kernels, cost two digits at 640x480.
- Instance norm before ReLU is a subtraction of the mean; the positive factor folds into the next convolution. What
  instance norm removes again, a bias before it, is not added.
- A transposed convolution of stride 2 is four convolutions, one per parity of output row and column. Its norm is
  applied while the four maps are interleaved.
- The 3x3 convolutions of the residual blocks are Winograd convolutions.
- The last stage is interleaved in strips, and only where the fused image needs it. Its 7x7 convolution to one channel
  is a 1x7 convolution to seven maps, which are shifted and added.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tgfbench.methods._fast import FastNetwork, as_image, channel_moments, strips
from tgfbench.methods._winograd import winograd_convolve, winograd_kernel
from tgfbench.methods.ldfusion.network import (
    EPSILON,
    ContentEncoder,
    LDFusionNetwork,
    ResidualBlock,
    SampleNorm,
    StyleEncoder,
)

CPU_ROWS = 32
"""Rows of a strip of the last stage on the CPU; elsewhere the image is one strip."""
BORDER = 3


class FastLDFusion(FastNetwork[LDFusionNetwork]):
    """LDFusion, its last stage in strips of rows; later changes of the reference's weights are not seen."""

    @torch.inference_mode()
    def __init__(self, reference: LDFusionNetwork, rows: int | None = None) -> None:
        super().__init__(reference, rows)
        encoders = reference.Enc.content_encoder1.model, reference.Enc.content_encoder2.model
        blocks = [layer for layers in (*encoders, reference.Dec.model_local) for layer in layers]
        self._kernels = {
            conv: winograd_kernel(conv.weight)
            for block in blocks
            if isinstance(block, ResidualBlock)
            for conv in _convolutions(block.block)
        }
        layers = reference.Dec.model_up
        stages = [layer for layer in layers if isinstance(layer, nn.ConvTranspose2d)]
        norms = [layer for layer in layers if isinstance(layer, SampleNorm)]
        self._stages = [_Stage(stage, norm) for stage, norm in zip(stages, norms, strict=True)]

    def compute(self, *, visible: Tensor, infrared: Tensor) -> Tensor:
        """Return the part of ``tanh_full`` that the fused image needs.

        Args:
            visible, infrared: as for ``LDFusionNetwork.forward``.

        Returns:
            Float (B, 1, H, W) in (-1, 1), not yet clamped.
        """
        return torch.cat([self._fuse(*pair) for pair in zip(visible[:, 0], infrared[:, 0], strict=True)])

    def by_reference(self, **inputs: Tensor | None) -> Tensor:
        height, width = inputs["visible"].shape[-2:]  # type: ignore[union-attr]
        return self.reference(**inputs)["tanh_full"][..., :height, :width]

    def _fuse(self, visible: Tensor, infrared: Tensor) -> Tensor:
        encoder = self.reference.Enc
        visible, infrared = (_mirrored(image[..., None], BORDER) for image in (visible, infrared))
        styles = [_style(encoder.style_encoder1, visible), _style(encoder.style_encoder2, infrared)]
        contents = [self._content(encoder.content_encoder1, visible), self._content(encoder.content_encoder2, infrared)]
        x = self._restyle(torch.cat(contents, dim=-1), torch.cat(styles, dim=1))
        for stage in self._stages[:-1]:
            parts = stage(x)
            x = parts.interleaved(0, parts.height, 0, parts.width)
        return self._paint(self._stages[-1](x), *(side - 2 * BORDER for side in visible.shape[:2]))

    def _content(self, encoder: ContentEncoder, padded: Tensor) -> Tensor:
        """Return (h, w, C) from the mirrored image (H, W, 1)."""
        first, *convolutions = _convolutions(encoder.model)
        x = _convolve(padded, first.weight, first)
        for conv in convolutions:
            scale = _centre(x)
            x = _convolve(x.relu_(), conv.weight * scale[:, None, None], conv)
        x = x.mul_(_centre(x)).relu_()
        for block in encoder.model:
            if isinstance(block, ResidualBlock):
                one, two = _convolutions(block.block)
                y = winograd_convolve(_mirrored(x, 1), self._kernels[one])
                scale = _centre(y)
                y = winograd_convolve(_mirrored(y.relu_(), 1), self._kernels[two] * scale[:, None])
                x = x.addcmul_(y, _centre(y))
        return x

    def _restyle(self, x: Tensor, style: Tensor) -> Tensor:
        """Return the content (h, w, C) in the style (1, style_dim)."""
        decoder = self.reference.Dec
        parameters = decoder.mlp(style)[0].chunk(2 * len(decoder.model_local))
        for number, block in enumerate(decoder.model_local):
            assert isinstance(block, ResidualBlock)
            one, two = _convolutions(block.block)
            first, second = parameters[2 * number : 2 * number + 2]
            y = _adapt(winograd_convolve(_mirrored(x, 1), self._kernels[one]), first).relu_()
            x = x + _adapt(winograd_convolve(_mirrored(y, 1), self._kernels[two]), second)
        return x

    def _paint(self, parts: _Parities, height: int, width: int) -> Tensor:
        """Return (1, 1, H, W)."""
        (conv,) = _convolutions(self.reference.Dec.model_up)
        # What a row of the kernel contributes is a map of its own.
        weight = conv.weight[0].transpose(0, 1)[:, :, None].contiguous()
        fused = weight.new_empty(height, width)
        for start, stop in strips(height, self.rows or (CPU_ROWS if fused.device.type == "cpu" else height)):
            strip = parts.interleaved(start - BORDER, stop + BORDER, -BORDER, width + BORDER)
            taps = F.conv2d(as_image(strip), weight)[0]
            shifted = torch.stack([tap[dy : dy + stop - start] for dy, tap in enumerate(taps)])
            torch.sum(shifted, dim=0, out=fused[start:stop])
        assert conv.bias is not None
        return fused.add_(conv.bias).tanh_()[None, None]


class _Stage:
    """A transposed convolution (5x5, stride 2) and the norm behind it.

    Row 2m + p of the result draws on input rows m, m - 1 and, for parity p = 0, on m - 2; columns alike.
    """

    def __init__(self, conv: nn.ConvTranspose2d, norm: SampleNorm) -> None:
        self.conv, self.norm = conv, norm
        self.weights = {
            (p, q): conv.weight[:, :, p::2, q::2].transpose(0, 1).flip(2, 3) for p in (0, 1) for q in (0, 1)
        }

    def __call__(self, x: Tensor) -> _Parities:
        """Return the result for (h, w, C)."""
        parts = {
            (p, q): _from_image(F.conv2d(as_image(x), weight, self.conv.bias, padding=(2 - p, 2 - q)))
            for (p, q), weight in self.weights.items()
        }
        mean, deviation = _moments(list(parts.values()))
        scale = self.norm.gamma.double() / (deviation + EPSILON)
        shift = self.norm.beta.double() - mean * scale
        return _Parities(parts, scale.to(x.dtype), shift.to(x.dtype))


@dataclass(frozen=True)
class _Parities:
    """A map before its norm and ReLU, as four parts (h, w, C): every second row and column, from p and q on.

    Attributes:
        parts: by (p, q).
        scale, shift: (C) of the norm.
    """

    parts: dict[tuple[int, int], Tensor]
    scale: Tensor
    shift: Tensor

    @property
    def height(self) -> int:
        return len(self.parts[0, 0]) + len(self.parts[1, 0])

    @property
    def width(self) -> int:
        return self.parts[0, 0].shape[1] + self.parts[0, 1].shape[1]

    def interleaved(self, top: int, bottom: int, left: int, right: int) -> Tensor:
        """Return (bottom - top, right - left, C), a section after norm and ReLU.

        Negative rows and columns are mirrored; rows and columns beyond the last one are not asked for.
        """
        above, before = max(-top, 0), max(-left, 0)
        out = self.scale.new_empty(bottom - top, right - left, len(self.scale))
        for (p, q), part in self.parts.items():
            rows, row = _every_second(top + above, bottom, p)
            columns, column = _every_second(left + before, right, q)
            torch.addcmul(self.shift, part[rows, columns], self.scale, out=out[above + row :: 2, before + column :: 2])
        out.relu_()
        for distance in range(1, above + 1):
            out[above - distance] = out[above + distance]
        for distance in range(1, before + 1):
            out[:, before - distance] = out[:, before + distance]
        return out


def _every_second(start: int, stop: int, parity: int) -> tuple[slice, int]:
    """Return which samples of a part fall into ``start`` to ``stop``, and how far from ``start``."""
    offset = (start + parity) % 2
    return slice((start + offset) // 2, (stop - parity + 1) // 2), offset


def _moments(parts: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return mean and unbiased deviation over all numbers of the parts (h, w, C), in float64."""
    moments = [(part.numel() / part.shape[-1], *channel_moments(part.flatten(0, 1))) for part in parts]
    count = sum(part.numel() for part in parts)
    mean = torch.stack([pixels * means.sum() for pixels, means, _ in moments]).sum() / count
    squares = [pixels * (variances + (means - mean).square()).sum() for pixels, means, variances in moments]
    return mean, (torch.stack(squares).sum() / (count - 1)).sqrt()


def _style(encoder: StyleEncoder, padded: Tensor) -> Tensor:
    """Return (1, style_dim) from the mirrored image (H, W, 1)."""
    *convolutions, last = _convolutions(encoder.model)
    x = padded
    for conv in convolutions:
        x = _convolve(x, conv.weight, conv, conv.bias).relu_()
    mean, _ = channel_moments(x.flatten(0, 1))
    return F.linear(mean.to(x.dtype)[None], last.weight.flatten(1), last.bias)


def _convolutions(layers: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in layers.children() if isinstance(layer, nn.Conv2d)]


def _convolve(x: Tensor, weight: Tensor, like: nn.Conv2d, bias: Tensor | None = None) -> Tensor:
    """Convolve (H, W, C) with the stride and padding of ``like``."""
    return _from_image(F.conv2d(as_image(x), weight, bias, like.stride, like.padding))


def _from_image(x: Tensor) -> Tensor:
    """Return (1, C, H, W) as (H, W, C), contiguous."""
    return x[0].permute(1, 2, 0).contiguous()


def _mirrored(x: Tensor, border: int) -> Tensor:
    """Return (H, W, C) with a mirrored border on all sides."""
    return _from_image(F.pad(as_image(x), (border,) * 4, mode="reflect"))


def _centre(x: Tensor) -> Tensor:
    """Subtract each channel's mean from (H, W, C) in place and return the factors (C) that complete instance norm."""
    mean, variance = channel_moments(x.flatten(0, 1))
    x -= mean.to(x.dtype)
    return (variance + EPSILON).rsqrt().to(x.dtype)


def _adapt(x: Tensor, parameters: Tensor) -> Tensor:
    """Apply adaptive instance norm to (H, W, C) in place; ``parameters`` (2C) hold the biases, then the scales."""
    bias, scale = parameters.chunk(2)
    factor = _centre(x)
    return x.mul_(factor * scale).add_(bias)
