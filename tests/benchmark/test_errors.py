"""Hints: close names first, whatever their case, then what there is."""

from __future__ import annotations

import pytest

from tgfbench.benchmark.errors import counted, first_line, listed, suggest


@pytest.mark.parametrize("asked", ["QABF", "Qabff", "qab"])
def test_a_close_name_is_found_in_any_case_and_printed_as_it_is_written(asked: str) -> None:
    assert suggest(asked, ["EN", "Qabf", "SSIM"]).startswith("did you mean Qabf? ")


def test_names_that_differ_in_case_only_are_all_suggested() -> None:
    assert "did you mean VIF or vif?" in suggest("Viff", ["vif", "VIF"])


def test_a_name_like_none_gets_the_list_alone() -> None:
    assert suggest("zzz", ["EN"]) == "available: EN"
    assert suggest("zzz", []) == "available: none"


def test_numbers_and_lists_are_worded_for_one_and_for_many() -> None:
    assert [counted(0), counted(1), counted(2, "pair"), counted(2, "box", "boxes")] == [
        *("0 images", "1 image", "2 pairs", "2 boxes")
    ]
    assert listed("abc") == "a, b, c"
    assert listed("abc", 2, "; ") == "a; b; … (3 in all)"


def test_an_error_of_a_library_is_told_in_a_line_even_where_it_says_nothing() -> None:
    assert first_line(OSError("\nno such file\n  in the cache")) == "no such file"
    assert first_line(ValueError()) == "ValueError"
