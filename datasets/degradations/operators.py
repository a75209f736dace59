"""The arithmetic of degradations: one function per kind, physically reasoned, seeded and fast.

Every operator takes an image, uint8 (H, W, 3) visible or (H, W) infrared, the clean image of the other modality, a
severity in [1, 5] (fractions interpolate) and a generator, and returns a new image of the same shape and dtype. Random
patterns do not depend on the severity: a higher one shows the same pattern more strongly. Blur, streaks and glare scale
with the frame, so that a severity looks alike at every resolution; noise, stripes and down-sampling are of pixels.

Models: exposure and noise act on linear light, taken from display values by a power of 2.2; everything else acts on
display values, as the literature on the respective restoration does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from statistics import NormalDist

import cv2
import numpy as np

from tgfbench.datasets.degradations.grammar import Degradation

VERSION = 1
"""Raised whenever pixels change; part of the fingerprint of every degraded dataset."""

GAMMA = 2.2
SHOT_NOISE = 2e-4
"""Variance per unit of linear light: a full well of 5000 electrons."""
READ_NOISE = 1e-3
"""Standard deviation in linear light: 5 electrons of that well."""

Operator = Callable[[np.ndarray, np.ndarray, float, np.random.Generator], np.ndarray]


def low_light(image: np.ndarray, partner: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Under-exposure by 1.5 to 5.5 stops with the noise of a short exposure.

    Linear light x = (v/255)^2.2 is scaled to z = 2^-stops x and disturbed by n ~ N(0, a z + b): photon noise whose
    variance grows with the signal, and read noise (Foi et al., Practical Poissonian-Gaussian noise modeling and fitting
    for single-image raw-data, TIP 2008). The result is 255 (z + n)^(1/2.2). In infrared this is a gain set too low.
    """
    exposed = 2.0 ** -_at(severity, 1.5, 2.5, 3.5, 4.5, 5.5) * _linear_light()
    spread = np.sqrt(SHOT_NOISE * exposed + READ_NOISE**2)
    light = _gaussian(rng, image.shape)
    light *= _look_up(image, spread)
    light += _look_up(image, exposed)
    return _displayed(light)


def over_exposure(image: np.ndarray, partner: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Over-exposure by 0.5 to 2.4 stops: linear light is amplified and clipped where the well is full.

    Light beyond the well spills over its surroundings as veiling glare: a share of the blurred excess is added before
    clipping. In infrared this is a gain set too high.
    """
    light = _look_up(image, 2.0 ** _at(severity, 0.5, 0.9, 1.3, 1.8, 2.4) * _linear_light())
    excess = _shrunk(np.maximum(light - np.float32(1), 0))
    glare = cv2.GaussianBlur(excess, (0, 0), max(0.5, 0.02 * min(excess.shape[:2])))
    light += np.float32(0.15) * _enlarged(glare, image)
    return _displayed(light)


def haze(image: np.ndarray, partner: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Haze by Koschmieder's law of atmospheric scattering.

    I = J t + A (1 - t) with transmission t = exp(-beta d) (Narasimhan and Nayar, Vision and the atmosphere, IJCV 2002).
    The depth d of a single frame is unknown; a plausible one grows from the bottom of the frame to the top and is
    larger where the infrared image is colder than usual (sky, far background) than where it is warm (people, vehicles).
    The density varies smoothly by about a tenth. For the airlight A see ``_airlight``.
    """
    infrared = image if image.ndim == 2 else partner
    density = np.float32(_at(severity, 0.45, 0.8, 1.25, 1.8, 2.6)) * _depth(infrared, rng)
    clear = _enlarged(np.exp(-density), infrared)
    return _blended(image, clear, _airlight(image))


def rain(image: np.ndarray, partner: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Rain: three layers of streaks and the veil of the drops too far away to be told apart.

    Sparse noise is motion-blurred along one falling direction per image, with longer and fewer streaks in nearer
    layers. A streak is semi-transparent, since a drop covers a pixel for a part of the exposure only, and lets the
    bright surroundings shine through (Garg and Nayar, Vision and rain, IJCV 2007); here both take the level of the
    airlight. The veil acts as haze of constant depth (Li et al., Heavy rain image restoration, CVPR 2019).
    """
    height, width = image.shape[:2]
    many = _at(severity, 50, 100, 180, 300, 480)
    opacity = _at(severity, 0.3, 0.36, 0.42, 0.48, 0.55)
    slope = np.tan(np.deg2rad(float(rng.uniform(-20, 20))))
    through = np.ones((height, width), np.float32)
    for count, length, strength in ((many, 0.11, 1.0), (2 * many, 0.065, 0.7), (5 * many, 0.035, 0.45)):
        streaks = _streaks(rng, (height, width), count, max(2, round(length * height)), slope)
        through *= 1 - np.float32(opacity * strength) * streaks
    through *= np.float32(1 - _at(severity, 0.02, 0.05, 0.09, 0.14, 0.2))
    return _blended(image, through, _airlight(image))


def noise(image: np.ndarray, partner: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Additive white Gaussian noise of standard deviation 8, 15, 25, 37 or 50 grey levels, independent per channel."""
    noisy = _gaussian(rng, image.shape)
    noisy *= np.float32(_at(severity, 8, 15, 25, 37, 50))
    noisy += image
    return _rounded(noisy)


def stripe_noise(image: np.ndarray, partner: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Column fixed-pattern noise: each column c is read out by an amplifier of its own, I = (1 + g_c) J + o_c.

    Offsets o_c and gains g_c are Gaussian, of 4 to 26 grey levels and 2 to 12 per cent, a third of their variance
    smooth across columns as after a temperature drift (Tendero et al., Non-uniformity correction of infrared images by
    midway equalization, IPOL 2012).
    """
    width = image.shape[1]
    offsets, gains = (_columns(rng, width) for _ in range(2))
    offsets *= np.float32(_at(severity, 4, 8, 13, 19, 26))
    gains *= np.float32(_at(severity, 0.02, 0.04, 0.06, 0.09, 0.12))
    if image.ndim == 3:
        offsets, gains = (np.repeat(values[:, None], 3, axis=1) for values in (offsets, gains))
    return _rounded(image * (1 + gains) + offsets)


def blur(image: np.ndarray, partner: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Defocus by a Gaussian point spread of 0.9 to 5 pixels standard deviation in a frame of 640x480.

    It scales with the frame down to 320x240 and stays the same in pixels below, where less would hardly be a blur.
    """
    size = min(image.shape[0], 0.75 * image.shape[1]) / 480
    return cv2.GaussianBlur(image, (0, 0), _at(severity, 0.9, 1.6, 2.5, 3.6, 5.0) * max(0.5, size))


def low_contrast(image: np.ndarray, partner: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Tones compressed towards the mean m of the image, v' = m + c (v - m) with c from 0.65 to 0.12, then rounded."""
    mean = float(image.mean())
    table = mean + _at(severity, 0.65, 0.48, 0.34, 0.22, 0.12) * (np.arange(256) - mean)
    return cv2.LUT(image, _rounded(table))


def down_sampling(image: np.ndarray, partner: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """A sensor of 1.5 to 6 times fewer rows and columns: pixel areas averaged, then enlarged bicubically to H x W."""
    height, width = image.shape[:2]
    factor = _at(severity, 1.5, 2, 3, 4, 6)
    size = (max(1, round(width / factor)), max(1, round(height / factor)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


OPERATORS: dict[str, Operator] = {
    "low-light": low_light,
    "over-exposure": over_exposure,
    "haze": haze,
    "rain": rain,
    "noise": noise,
    "stripe-noise": stripe_noise,
    "blur": blur,
    "low-contrast": low_contrast,
    "down-sampling": down_sampling,
}


def degrade_pair(
    visible: np.ndarray, infrared: np.ndarray, chain: tuple[Degradation, ...], key: str, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Degrade a pair; the same key, seed and degradations give the same pixels.

    Args:
        visible: uint8 (H, W, 3) RGB.
        infrared: uint8 (H, W).
        chain: what to do, in this order.
        key: of the pair.
        seed: of the random patterns.

    Returns:
        The pair after all degradations; an image that none of them touches is returned as it is.
    """
    images = {"visible": visible, "infrared": infrared}
    for step in chain:
        # Depth and the like are properties of the scene: read from the clean partner, whatever else is degraded.
        partner = infrared if step.modality == "visible" else visible
        images[step.modality] = OPERATORS[step.kind](
            images[step.modality], partner, step.severity, _generator(step, key, seed)
        )
    return images["visible"], images["infrared"]


def _generator(step: Degradation, key: str, seed: int) -> np.random.Generator:
    """Return the generator of a step; it does not depend on the severity."""
    digest = hashlib.sha256(f"{seed}:{step.kind}:{step.modality}:{key}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


def _at(severity: float, *values: float) -> float:
    return float(np.interp(severity, (1, 2, 3, 4, 5), values))


@cache
def _quantiles() -> np.ndarray:
    """Quantiles of the normal distribution for 2^16 equally likely values, float32."""
    normal = NormalDist()
    return np.array([normal.inv_cdf((i + 0.5) / 65536) for i in range(65536)], np.float32)


def _uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Equally likely values, uint16: raw bits, the same on every platform."""
    return np.frombuffer(rng.bytes(2 * int(np.prod(shape))), "<u2").reshape(shape)


def _gaussian(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal values, float32."""
    return np.take(_quantiles(), _uniform(rng, shape))


def _linear_light() -> np.ndarray:
    return (np.arange(256) / 255) ** GAMMA


def _look_up(image: np.ndarray, table: np.ndarray) -> np.ndarray:
    return cv2.LUT(image, table.astype(np.float32))


@cache
def _display_values() -> np.ndarray:
    """Display values of 2^16 levels of linear light, uint8; fine enough that every display value is reached."""
    return _rounded(255 * (np.arange(65536) / 65535) ** (1 / GAMMA))


def _displayed(light: np.ndarray) -> np.ndarray:
    """Linear light to uint8 display values; changes its argument."""
    light *= np.float32(65535)
    np.clip(light, 0, 65535, out=light)
    return np.take(_display_values(), np.rint(light, out=light).astype(np.uint16))


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _blended(image: np.ndarray, share: np.ndarray, level: float) -> np.ndarray:
    """Return share * image + (1 - share) * level, share float32 (H, W)."""
    shares = share if image.ndim == 2 else cv2.merge([share] * 3)
    mixed = image - np.float32(level)
    mixed *= shares
    mixed += np.float32(level)
    return _rounded(mixed)


def _airlight(image: np.ndarray) -> float:
    """Return the grey level of what haze and drops send to the camera.

    Visible: scattered light, bright by day and dimmer in dark scenes, which light the air less. Infrared: the air's own
    emission; its temperature is taken to be the median of the image.
    """
    if image.ndim == 2:
        return float(np.median(image))
    return 255 * (0.35 + 0.57 * min(1.0, float(image.mean()) / 110))


def _shrunk(image: np.ndarray) -> np.ndarray:
    """Return an eighth of the size, for what varies slowly."""
    size = (max(1, image.shape[1] // 8), max(1, image.shape[0] // 8))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _enlarged(small: np.ndarray, like: np.ndarray) -> np.ndarray:
    return cv2.resize(small, (like.shape[1], like.shape[0]), interpolation=cv2.INTER_LINEAR)


def _depth(infrared: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a plausible relative depth of the scene, float32 of an eighth of the size, about 0.2 to 1.3."""
    warmth = _shrunk(infrared.astype(np.float32))
    height, width = warmth.shape
    warmth = cv2.GaussianBlur(warmth, (0, 0), max(0.5, 0.02 * height))
    cold = np.clip((np.median(warmth) - warmth) / (2 * warmth.std() + 1), -1, 1)
    upwards = np.linspace(1, 0, height, dtype=np.float32)[:, None] ** 1.3
    depth = (0.2 + 0.8 * upwards) * (1 + 0.2 * cold)
    clouds = cv2.resize(_gaussian(rng, (3, 4)), (width, height), interpolation=cv2.INTER_CUBIC)
    return (depth * np.clip(1 + 0.1 * clouds, 0.7, 1.3)).astype(np.float32)


def _streaks(rng: np.random.Generator, shape: tuple[int, int], count: float, length: int, slope: float) -> np.ndarray:
    """Return the coverage of one layer of rain, float32 (H, W) in [0, 1].

    Args:
        rng: places the drops; more drops include the fewer.
        shape: (H, W).
        count: mean number of streaks in the frame.
        length: of a streak, in rows.
        slope: columns that a drop moves per row.
    """
    height, width = shape
    margin = int(np.ceil(abs(slope) * height)) + 1
    drops = _uniform(rng, (height + length, width + 2 * margin)) < min(0.3, count / (height * width)) * 65536
    # A falling drop is a column of its own; the shear gives all of them one direction.
    falling = cv2.boxFilter(drops.astype(np.float32), -1, (1, length), normalize=False, borderType=cv2.BORDER_CONSTANT)
    sheared = np.array([[1, slope, margin - slope * height / 2], [0, 1, length / 2]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    layer = cv2.warpAffine(np.minimum(falling, 1), sheared, (width, height), flags=flags)
    return cv2.GaussianBlur(layer, (0, 0), max(0.4, 0.008 * length))


def _columns(rng: np.random.Generator, width: int) -> np.ndarray:
    """Return one value per column, float32 (W,), a third of their variance smooth, two thirds independent."""
    own, drift = _gaussian(rng, (width,)), _gaussian(rng, (1, 2 + width // 40))
    smooth = cv2.resize(drift, (width, 1), interpolation=cv2.INTER_CUBIC)[0]
    return np.float32(np.sqrt(2 / 3)) * own + np.float32(np.sqrt(1 / 3)) * smooth
