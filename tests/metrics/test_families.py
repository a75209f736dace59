"""The rarer metrics against slow transcriptions of their definitions, and the identities they must satisfy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tgfbench.metrics import correlate, filters, fmi, piqe, structure
from tgfbench.metrics.base import Metric, MetricInputs
from tgfbench.metrics.fmi import FMI
from tgfbench.metrics.mef import MEFMSSSIM, MEFSSIM, mef_map
from tgfbench.metrics.multiscale import QM, QSF
from tgfbench.metrics.perceptual import Qcb, Qcv
from tgfbench.metrics.petrovic import Labf, Nabf, PetrovicQabf
from tgfbench.metrics.phase_congruency import QP, phase_congruency
from tgfbench.metrics.piqe import PIQE
from tgfbench.metrics.structure import QC, QW, QY
from tgfbench.metrics.viff import VIFF
from tgfbench.metrics.vifvec import VIFWavelet


def scene(seed: int, height: int = 72, width: int = 69) -> Tensor:
    """A smooth random image with edges, whole grey levels, float64 (1, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 1, 9, 9, generator=generator, dtype=torch.float64)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear", align_corners=True)[0]
    noise = torch.rand(1, height, width, generator=generator, dtype=torch.float64)
    image = 200 * smooth + 20 * noise
    image[:, height // 3 : height // 2, width // 4 : width // 2] += 30
    return image.round().clamp(0, 255)


def score(metric: Metric, fused: Tensor, infrared: Tensor, visible: Tensor) -> float:
    return float(metric(MetricInputs(fused, visible, infrared)))


IDENTITY = {
    QM(normalised=True): 1.0,
    QSF(): 0.0,
    VIFF(): 1.0,
    VIFWavelet(peak=1): 1.0,
    MEFSSIM(): 1.0,
    MEFMSSSIM(): 1.0,
    FMI(feature="edge"): 1.0,
    FMI(feature="wavelet"): 1.0,
}


@pytest.mark.parametrize("metric", IDENTITY, ids=repr)
def test_one_image_three_times_is_perfect(metric: Metric) -> None:
    image = scene(3)
    assert score(metric, image, image, image) == pytest.approx(IDENTITY[metric], rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("metric", [QM(), QW(), Qcb(), Qcv(), QP(), VIFF(), VIFWavelet()], ids=lambda m: m.info.name)
def test_flat_sources_give_nan(metric: Metric) -> None:
    assert math.isnan(score(metric, scene(4), torch.full((1, 72, 69), 80.0), torch.full((1, 72, 69), 90.0)))


@pytest.mark.parametrize("metric", [QC(), QY()], ids=lambda metric: metric.info.name)
def test_flat_patches_are_defined_unless_rounding_may_decide(metric: Metric) -> None:
    fused, infrared, visible = (scene(seed) for seed in (5, 6, 7))
    for image in (fused, infrared, visible):
        image[:, 30:50, 20:50] = 0
    assert math.isfinite(score(metric, fused, infrared, visible))
    shifted = [image + 4 for image in (fused, infrared, visible)]
    assert score(type(metric)(), *shifted) == pytest.approx(score(metric, fused, infrared, visible), abs=0.05)
    if isinstance(metric, QC):
        assert math.isnan(score(QC(flat_patches="rounding noise"), fused, infrared, visible))


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), gain=st.sampled_from([0.5, 1.0, 2.0]), offset=st.integers(0, 20))
def test_stretched_metrics_ignore_gain_and_offset(seed: int, gain: float, offset: int) -> None:
    images = [(scene(seed + i, 40, 48) / 4).round() * 2 for i in range(3)]
    changed = [gain * image + offset for image in images]
    for metric in (Qcb(), Qcv()):
        assert score(metric, *changed) == pytest.approx(score(metric, *images), rel=1e-6)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), height=st.integers(3, 40), width=st.integers(3, 40))
def test_petrovic_shares_sum_to_one(seed: int, height: int, width: int) -> None:
    images = [scene(seed + i, height, width) for i in range(3)]
    assert sum(score(metric, *images) for metric in (PetrovicQabf(), Labf(), Nabf())) == pytest.approx(1, rel=1e-12)


def test_flat_fused_image_has_no_spatial_frequency() -> None:
    assert score(QSF(), torch.full((1, 72, 69), 5.0), scene(8), scene(9)) == -1


# --- Feature mutual information ---------------------------------------------------------------------------------------


def window_information(fused: np.ndarray, source: np.ndarray) -> float:
    """Transcription of the definition for one pair of 3 x 3 windows, by nested loops."""
    if (fused == source).all() or (np.ptp(fused) == 0 and np.ptp(source) == 0):
        return 1.0
    pdfs = []
    for window in (fused, source):
        flat = window.flatten(order="F")
        scaled = np.ones(9) if np.ptp(flat) == 0 else (flat - flat.min()) / np.ptp(flat)
        pdfs.append(scaled / scaled.sum())
    f, a = pdfs
    if np.ptp(fused) == 0 or np.ptp(source) == 0:
        return 0.0
    if 1.0 in (f.max(), a.max()):
        return 0.0  # all on one position: nothing to share
    correlation = np.corrcoef(f, a)[0, 1]
    index = np.arange(1, 10)
    deviations = [math.sqrt((index**2 * p).sum() - (index * p).sum() ** 2) for p in pdfs]
    big_f, big_a = np.cumsum(f), np.cumsum(a)
    bound = np.zeros((10, 10))
    for i in range(9):
        for j in range(9):
            upper, lower = min(big_f[i], big_a[j]), max(big_f[i] + big_a[j] - 1, 0)
            bound[i + 1, j + 1] = upper if correlation >= 0 else lower
    possible = (bound[1:, 1:] - np.outer(big_f, big_a)).sum() / (deviations[0] * deviations[1])
    mixing = correlation / possible
    coupled = np.diff(np.diff(bound, axis=0), axis=1)
    joint = mixing * coupled + (1 - mixing) * np.outer(f, a)

    def entropy(p: np.ndarray) -> float:
        p = p[np.abs(p) > 1e-14]
        return float(-(p * np.log2(np.abs(p))).sum())

    return 2 * (entropy(f) + entropy(a) - entropy(joint)) / (entropy(f) + entropy(a))


def slow_fmi(fused: np.ndarray, infrared: np.ndarray, visible: np.ndarray) -> float:
    values = [
        window_information(fused[r : r + 3, c : c + 3], source[r : r + 3, c : c + 3])
        for source in (infrared, visible)
        for r in range(fused.shape[0] - 2)
        for c in range(fused.shape[1] - 2)
    ]
    return float(np.mean(values))


@pytest.mark.parametrize("feature", ["none", "edge", "gradient"])
def test_fmi_equals_its_transcription(feature: fmi.Feature) -> None:
    images = [scene(seed, 14, 13) for seed in (10, 11, 12)]
    for image in images:
        image[:, :5, :6] = 40
    maps = [fmi.feature_map(image, feature)[0].numpy() for image in images]
    assert score(FMI(feature=feature), *images) == pytest.approx(slow_fmi(*maps), rel=1e-9)


def test_dct_feature_preserves_energy() -> None:
    image = scene(13, 21, 30)
    coefficients = fmi.feature_map(image, "dct")
    assert float(coefficients.square().sum()) == pytest.approx(float(image.square().sum()), rel=1e-12)
    assert float(coefficients[0, 0, 0]) == pytest.approx(float(image.sum()) / math.sqrt(21 * 30), rel=1e-12)


# --- Multi-exposure fusion --------------------------------------------------------------------------------------------


def test_mef_map_equals_patches_built_one_by_one() -> None:
    fused, infrared, visible = (scene(seed, 15, 14)[0].numpy() for seed in (14, 15, 16))
    offsets = np.arange(11) - 5.0
    weights = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    weights /= weights.sum()
    expected = np.zeros((5, 4))
    for row, column in np.ndindex(expected.shape):
        f, *sources = (image[row : row + 11, column : column + 11] for image in (fused, infrared, visible))
        centred = [patch - patch.mean() for patch in sources]
        strengths = [np.linalg.norm(patch) + 0.001 for patch in centred]
        consistency = np.linalg.norm(sum(centred)) / sum(np.linalg.norm(patch) for patch in centred)
        power = min(math.tan(math.pi / 2 * consistency), 10)
        shares = np.array([(strength / 11) ** power for strength in strengths])
        shares /= shares.sum()
        desired = sum(w * patch / e for w, patch, e in zip(shares, centred, strengths, strict=True))
        desired *= max(strengths) / np.linalg.norm(desired)
        r_mean, f_mean = (weights * desired).sum(), (weights * f).sum()
        covariance = (weights * (desired - r_mean) * (f - f_mean)).sum()
        variances = (weights * ((desired - r_mean) ** 2 + (f - f_mean) ** 2)).sum()
        expected[row, column] = (2 * covariance + 7.65**2) / (variances + 7.65**2)
    found = mef_map(*(torch.from_numpy(image)[None] for image in (fused, infrared, visible)))[0].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-9)


# --- Phase congruency -------------------------------------------------------------------------------------------------


def slow_phase_congruency(image: np.ndarray) -> np.ndarray:
    """Kovesi's definition with complex filters, for even sizes."""
    height, width = image.shape
    down, across = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)
    radius, angle = np.hypot(down, across), np.arctan2(-down, across)
    low_pass = 1 / (1 + (radius / 0.45) ** 30)
    radius[0, 0] = 1
    total_energy = total_amplitude = np.zeros_like(image)
    for orientation in range(6):
        turn = np.abs(np.angle(np.exp(1j * (angle - orientation * math.pi / 6))))
        spread = np.exp(-(turn**2) / (2 * (math.pi / 6 / 1.2) ** 2))
        filters = []
        for scale in range(4):
            log_gabor = np.exp(-(np.log(radius * 3 * 2.1**scale) ** 2) / (2 * math.log(0.55) ** 2)) * low_pass
            log_gabor[0, 0] = 0
            filters.append(log_gabor * spread)
        responses = np.stack([np.fft.ifft2(np.fft.fft2(image) * band) for band in filters])
        amplitudes = np.abs(responses)
        mean = responses.sum(0) / (np.abs(responses.sum(0)) + 1e-4)
        along = (responses * mean.conj()).real.sum(0)
        energy = along - np.abs((responses * mean.conj()).imag).sum(0)
        spatial = np.stack([np.fft.ifft2(band).real for band in filters]) * math.sqrt(height * width)
        noise = np.median(amplitudes[0] ** 2) / math.log(2) / (filters[0] ** 2).sum()
        tau = math.sqrt(noise * (spatial.sum(0) ** 2).sum())
        threshold = tau * (math.sqrt(math.pi / 2) + 2 * math.sqrt(2 - math.pi / 2)) / 1.7
        width_measure = amplitudes.sum(0) / (amplitudes.max(0) + 1e-4) / 4
        weight = 1 / (1 + np.exp(10 * (0.5 - width_measure)))
        total_energy = total_energy + weight * np.maximum(energy - threshold, 0)
        total_amplitude = total_amplitude + amplitudes.sum(0)
    return total_energy / (total_amplitude + 1e-4)


def test_phase_congruency_equals_complex_filters() -> None:
    image = scene(17, 48, 40)
    found = phase_congruency(image).congruency[0].numpy()
    np.testing.assert_allclose(found, slow_phase_congruency(image[0].numpy()), rtol=1e-8, atol=1e-11)


def test_phase_congruency_of_a_batch_equals_singles() -> None:
    batch = torch.cat([scene(18, 33, 40), scene(19, 33, 40)])
    together = phase_congruency(batch).maps()
    for index in range(2):
        for maps, single in zip(together, phase_congruency(batch[index : index + 1]).maps(), strict=True):
            torch.testing.assert_close(maps[index], single[0], rtol=1e-12, atol=0)


# --- Wavelet VIF and PIQE ---------------------------------------------------------------------------------------------


def test_pyramid_equals_pyrtools() -> None:
    pyramids = pytest.importorskip("pyrtools").pyramids
    from tgfbench.metrics import vifvec

    image = scene(20, 97, 80)
    bands = vifvec._subbands(MetricInputs(image), "fused", 255)
    expected = pyramids.SteerablePyramidSpace(image[0].numpy(), height=4, order=5, edge_type="reflect1")
    for index, band in enumerate(bands):
        wanted = expected.pyr_coeffs[(index // 2, (0, 3)[index % 2])]
        height, width = band.shape[1:]
        assert (height, width) == (wanted.shape[0] // 3 * 3, wanted.shape[1] // 3 * 3)
        np.testing.assert_allclose(band[0].numpy(), wanted[:height, :width], rtol=0, atol=1e-10)


@pytest.mark.parametrize("level", [0.0, 7.0, 255.0])
def test_piqe_of_a_flat_image_is_worst(level: float) -> None:
    assert float(PIQE()(MetricInputs(torch.full((1, 37, 40), level)))) == 100


def test_piqe_of_grey_equals_colour() -> None:
    grey = scene(21, 64, 49)
    in_colour = PIQE(colour=True)(MetricInputs(grey, fused_rgb=grey[:, None].expand(-1, 3, -1, -1)))
    assert float(PIQE()(MetricInputs(grey))) == float(in_colour)


# --- One function, two backends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("border", ["mirror", "replicate"])
def test_correlation_backends_agree(border: correlate.Border) -> None:
    images = torch.cat([scene(22, 20, 23), scene(23, 20, 23)])
    kernel = np.random.default_rng(0).normal(size=(7, 7))
    found = [backend(images, kernel, border) for backend in (correlate._in_opencv, correlate._in_torch)]
    torch.testing.assert_close(*found, rtol=1e-11, atol=1e-9)


@pytest.mark.parametrize("border", ["valid", "zero", "replicate", "mirror", "symmetric"])
@pytest.mark.parametrize("taps", [(3, 3), (11, 7), (31, 31)])
def test_filter_backends_agree(border: filters.Border, taps: tuple[int, int]) -> None:
    images = torch.cat([scene(26, 35, 38), scene(27, 35, 38)])
    across, down = (np.random.default_rng(length).normal(size=length) for length in taps)
    found = [backend(images, across, down, border) for backend in (filters.separable, filters._separable_torch)]
    torch.testing.assert_close(*found, rtol=1e-11, atol=1e-9)


def test_row_order_backends_agree_to_the_last_bit() -> None:
    images = torch.cat([scene(24, 20, 23), scene(25, 20, 23).square()])
    assert torch.equal(structure._row_by_row_average(images), structure._row_by_row_in_torch(images))


def test_piqe_kernel_keeps_its_single_precision_sum() -> None:
    assert piqe._kernel().sum() == pytest.approx(1 + 1.135e-8, abs=1e-11)
