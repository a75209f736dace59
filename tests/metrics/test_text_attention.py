"""Text attention: the blend, confidence files, and TextFusion's own pairs end to end."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.io import savemat

from tgfbench.benchmark.errors import DataError, MetricError
from tgfbench.benchmark.images import read_infrared
from tgfbench.metrics import load_protocol
from tgfbench.metrics.text_attention import read_confidences, read_text_references


def test_confidences_of_numbered_and_of_other_pairs(tmp_path) -> None:
    path = tmp_path / "c.mat"
    savemat(path, {"Confidence": np.array([[0.1, 0.2, 0.3]])})
    assert read_confidences(path, ["3", "1"]) == {"3": 0.3, "1": 0.1}
    assert read_confidences(path, ["a", "b", "c"]) == {"a": 0.1, "b": 0.2, "c": 0.3}
    with pytest.raises(DataError, match="3 confidences for 2 pairs"):
        read_confidences(path, ["a", "b"])


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("c.csv", "key,confidence\na,0.5\n", "no confidence for 'b'"),
        ("c.csv", "key,confidence\na,0.5\nb,1.5\n", "1.5 for 'b'"),
        ("c.csv", "name,value\na,0.5\n", "the columns key and confidence"),
        ("c.csv", "key,confidence\na,x\nb,1\n", "the columns key and confidence"),
        ("c.mat", "not a MATLAB file", "c.mat"),
    ],
)
def test_bad_confidence_files_are_named(tmp_path, name: str, content: str, complaint: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DataError, match=complaint):
        read_confidences(path, ["a", "b"])


def test_a_mat_file_without_the_vector_is_refused(tmp_path) -> None:
    path = tmp_path / "c.mat"
    savemat(path, {"C": np.zeros(3)})
    with pytest.raises(DataError, match="the variables C"):
        read_confidences(path, ["1"])


def test_textfusion_protocol_on_its_own_pairs(shared) -> None:
    folder = shared / "data" / "captions" / "textfusion"
    references = read_text_references(
        folder / "reference_text_guided_images" / "TNO_test30", folder / "IVT_TNO_test30_textConfidence.mat", ["1", "2"]
    )
    assert references["1"].confidence == 0 and references["2"].confidence == pytest.approx(0.37531163)
    protocol = load_protocol("textfusion")
    for key, found in references.items():
        visible, infrared = (read_infrared(folder / "IVT_test_TNO" / kind / f"{key}.png") for kind in ("vis", "ir"))
        fused = np.maximum(visible, infrared)
        scores = protocol.evaluate(fused, visible, infrared, reference=found.reference, confidence=found.confidence)
        assert list(scores) == ["Qabf+", "SSIM+", "VIF+"] and all(0 < value < 1 for value in scores.values())
        plain = protocol.evaluate(fused, visible, infrared, reference=found.reference, confidence=0)
        assert (scores == plain) == (found.confidence == 0)


def test_without_a_reference_the_metric_says_what_it_needs() -> None:
    image = np.random.default_rng(0).integers(0, 256, (80, 90)).astype(np.uint8)
    with pytest.raises(MetricError, match="no reference"):
        load_protocol("textfusion").evaluate(image, image, image)
