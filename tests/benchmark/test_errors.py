"""Hints: close names first, whatever their case, then what there is."""

from __future__ import annotations

import pytest

from tgfbench.benchmark.errors import suggest


@pytest.mark.parametrize("asked", ["QABF", "Qabff", "qab"])
def test_a_close_name_is_found_in_any_case_and_printed_as_it_is_written(asked: str) -> None:
    assert suggest(asked, ["EN", "Qabf", "SSIM"]).startswith("did you mean Qabf? ")


def test_names_that_differ_in_case_only_are_all_suggested() -> None:
    assert "did you mean VIF or vif?" in suggest("Viff", ["vif", "VIF"])


def test_a_name_like_none_gets_the_list_alone() -> None:
    assert suggest("zzz", ["EN"]) == "available: EN"
    assert suggest("zzz", []) == "available: none"
