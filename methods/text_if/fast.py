"""Text-IF for inference: the network of ``network.py``, rearranged without approximation.

- Maps are channels-last, transformer blocks are computed in strips of rows. Layer norm's weight and bias fold into the
  projection behind it; channel attention and its output projection are one map on the values.
- Nothing stands between the feed-forward parts' first projection and their dense 3x3 convolution, which is most of all
  products: together they are one 3x3 convolution of half the channels, a Winograd convolution where these are many.
- The encoders' features are fused as soon as they are there. At levels 2 and 3 everything pointwise between encoder and
  decoder is one map per source.
- A convolution before a pixel shuffle yields one map per parity of row and column, which are interleaved.
- Level 4, an eighth of the resolution, is the reference itself between encoders and decoder.

Everything before the text is a step of its own, so that the audit computes it once for all prompts.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tgfbench.methods._fast import FastNetwork, Step, as_image, attend_channels, fold_affine, normed_strips
from tgfbench.methods._winograd import winograd_convolve, winograd_kernel
from tgfbench.methods.text_if.network import (
    LEVELS,
    ChannelNorm,
    Encoder,
    TextIFNetwork,
    TransformerBlock,
)

CPU_PIXELS = 2560
"""Pixels of a strip on the CPU; elsewhere the image is one strip."""
WINOGRAD_CHANNELS = 48
"""From so many channels on, Winograd convolutions are faster on the CPU."""


class FastTextIF(FastNetwork[TextIFNetwork]):
    """Text-IF in strips of rows, at every level; later changes of the reference's weights are not seen."""

    @torch.inference_mode()
    def __init__(self, reference: TextIFNetwork, rows: int | None = None) -> None:
        super().__init__(reference, rows)
        self.encode = Step(self._encode)
        on_cpu = reference.output.weight.device.type == "cpu"
        self._entries = {
            block: _entry(block, winograd=on_cpu and block.ffn.project_in.in_channels >= WINOGRAD_CHANNELS)
            for block in reference.modules()
            if isinstance(block, TransformerBlock)
        }

    def compute(self, *, visible: Tensor, infrared: Tensor, text_feature: Tensor) -> Tensor:
        """Return the fused images (B, 3, H, W); arguments are those of ``TextIFNetwork.forward``."""
        texts = text_feature.expand(len(visible), -1)
        parts = zip(visible, infrared.expand(-1, 3, -1, -1), texts, strict=True)
        return torch.stack([self._fuse(vis, ir, text[None]) for vis, ir, text in parts])

    def _fuse(self, visible: Tensor, infrared: Tensor, text: Tensor) -> Tensor:
        """Return (3, H, W)."""
        network, (*joined, x) = self.reference, self.encode(visible, infrared)
        x = network.part("prompt_guidance_4")(x, text)
        x = self._blocks(network.part("decoder_level4"), x[0].permute(1, 2, 0).contiguous())
        for level in (3, 2, 1):
            x = self._join(x, level, joined.pop(), text)
            x = self._blocks(network.part(f"decoder_level{level}"), x)
        x = self._blocks(network.refinement, x)
        return F.conv2d(as_image(x), network.output.weight, padding=1)[0]

    def _encode(self, visible: Tensor, infrared: Tensor) -> list[Tensor]:
        """Return by level what the decoder needs of both images: (h, w, c), and the fused features (1, c, h, w) of 4.

        Args:
            visible, infrared: (3, H, W).
        """
        network, joined = self.reference, dict[int, Tensor]()
        x = self._features(network.encoder_A, visible, 0, joined)
        y = self._features(network.encoder_B, infrared, 1, joined)
        a, b = network.cross_attention(as_image(x), as_image(y))
        return [*joined.values(), network.attention_spatial(network.part("feature_fusion_4")(a, b))]

    def _features(self, encoder: Encoder, image: Tensor, source: int, joined: dict[int, Tensor]) -> Tensor:
        """Return the features of level 4, (h, w, c), and add what the decoder needs of the other levels to ``joined``.

        Args:
            encoder: of the image.
            image: (3, H, W).
            source: 0 for the visible image, 1 for the infrared one.
            joined: (h, w, c) by level; the visible image comes first.
        """
        x = _convolve(image.permute(1, 2, 0), encoder.patch_embed.proj.weight)
        for level in LEVELS[:-1]:
            x = self._blocks(encoder.part(f"encoder_level{level}"), x)
            weight = self._encoder_map(level).chunk(2, dim=1)[source].t()
            flat = x.flatten(0, 1)
            if source == 0:
                joined[level] = (flat @ weight).view(*x.shape[:2], -1)
            else:
                joined[level].view(len(flat), -1).addmm_(flat, weight)
            x = _halve(x, encoder.part(f"down{level}_{level + 1}.body.0").weight)
        return self._blocks(encoder.part("encoder_level4"), x)

    def _encoder_map(self, level: int) -> Tensor:
        """Return (c, 2c), from both encoders' features of a level to what is added to, or put beside, the decoder's."""
        weight = self.reference.part(f"feature_fusion_{level}").fusion_proj.weight.flatten(1)
        if level == 1:
            return weight
        reduce = self.reference.part(f"reduce_chan_level{level}").weight.flatten(1)
        return reduce.chunk(2, dim=1)[1] @ weight

    def _join(self, x: Tensor, level: int, joined: Tensor, text: Tensor) -> Tensor:
        """Return the decoder's input of a level: the features from below, enlarged, modulated and joined.

        Args:
            x: (h/2, w/2, 2c).
            level: 1, 2 or 3.
            joined: the encoders' part, (h, w, c).
            text: (1, D).
        """
        scale, shift = (part[0] for part in self.reference.part(f"prompt_guidance_{level}").affine(text))
        if level == 1:
            out = joined.new_empty(*joined.shape[:2], 2 * len(scale))
            out[..., len(scale) :] = joined
            target = out[..., : len(scale)]
            weight, bias = torch.diag(scale), shift
        else:
            reduce = self.reference.part(f"reduce_chan_level{level}").weight.flatten(1).chunk(2, dim=1)[0]
            weight, bias = fold_affine(reduce, None, scale, shift)
            out = target = joined + bias
        for i, j, part in _doubled(x, self.reference.part(f"up{level + 1}_{level}.body.0").weight):
            cells = target[i::2, j::2]
            if level == 1:
                torch.addcmul(bias, part, scale, out=cells)
            else:
                cells += part @ weight.t()
        return out

    def _blocks(self, blocks: nn.Sequential, x: Tensor) -> Tensor:
        """Return the output of transformer blocks for (H, W, C), which is overwritten."""
        height, width, _ = x.shape
        rows = self.rows or (2 * -(-CPU_PIXELS // (2 * width)) if x.device.type == "cpu" else height)
        other = torch.empty_like(x)
        for block in blocks:
            assert isinstance(block, TransformerBlock)
            entry, attend = _folded(block.norm1, block.attn.qkv), block.attn
            attend_channels(
                x, other, rows, entry, attend.qkv_dwconv.weight, attend.temperature, attend.project_out.weight
            )
            self._feed_forward(block, x, other, rows)
            x, other = other, x
        return x

    def _feed_forward(self, block: TransformerBlock, x: Tensor, out: Tensor, rows: int) -> None:
        """Write the second half of a block's output for (H, W, C) to ``out``."""
        channels, entry = x.shape[-1], self._entries[block]
        leave = block.ffn.project_out.weight.flatten(1)
        for start, stop, strip in normed_strips(x, rows):
            if entry.dim() == 3:
                hidden = winograd_convolve(strip, entry)
            else:
                hidden = F.conv2d(as_image(strip), entry)[0].permute(1, 2, 0)
            hidden = F.gelu(hidden).reshape(-1, hidden.shape[-1])
            unchanged, target = (image[start:stop].view(-1, channels) for image in (x, out))
            torch.addmm(unchanged, hidden, leave.t(), out=target)


def _entry(block: TransformerBlock, winograd: bool) -> Tensor:
    """Return the 3x3 weights, or their ``winograd_kernel``, from normalised pixels and ones to a block's hidden map."""
    projection, bias = _folded(block.norm2, block.ffn.project_in)
    enter = torch.cat([projection, bias[:, None]], dim=1)
    weight = torch.einsum("ohyx,hc->ocyx", block.ffn.dwconv.weight.double(), enter.double()).to(enter.dtype)
    return winograd_kernel(weight) if winograd else weight


def _folded(norm: ChannelNorm, conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a 1x1 convolution behind a layer norm whose own weight and bias are left out."""
    return fold_affine(conv.weight, conv.bias, norm.body.weight, norm.body.bias)


def _convolve(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve (H, W, C) with 3x3 weights, zero-padded."""
    return F.conv2d(as_image(x.contiguous()), weight, padding=1)[0].permute(1, 2, 0).contiguous()


def _halve(x: Tensor, weight: Tensor) -> Tensor:
    """Return (H/2, W/2, 2c) of (H, W, c), convolved before its 2x2 cells are gathered."""
    y = _convolve(x, weight)
    height, width, channels = y.shape
    cells = y.view(height // 2, 2, width // 2, 2, channels).permute(0, 2, 4, 1, 3)
    return cells.reshape(height // 2, width // 2, 4 * channels)


def _doubled(x: Tensor, weight: Tensor) -> Iterable[tuple[int, int, Tensor]]:
    """Yield (i, j, part) of the enlarged (h, w, 2c): the pixels (h, w, c/2) of rows i::2 and columns j::2."""
    for i in (0, 1):
        for j in (0, 1):
            yield i, j, _convolve(x, weight[2 * i + j :: 4])
