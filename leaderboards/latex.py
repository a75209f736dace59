"""Boards as LaTeX (booktabs): the file compiles alone, and ``\\input`` takes its tables into a paper."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from tgfbench.leaderboards.board import Board
from tgfbench.leaderboards.layout import READING, Cell, Layout, Row, lay_out
from tgfbench.leaderboards.overall import Overall, overall_boards
from tgfbench.leaderboards.text import NOT_AVAILABLE

WIDE = 7
"""Boards with more metrics than this are shrunk to the width of the text."""

_PREAMBLE = r"""% Compiles alone; \input takes the tables into a paper that loads booktabs, graphicx and [T1]{fontenc}.
\expandafter\ifx\csname @nodocument\endcsname\relax\else
\documentclass[a4paper]{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage{booktabs,graphicx}
\usepackage[margin=15mm,landscape]{geometry}
\def\tgfbenchalone{}
\newcommand\tgfbenchbreak{\clearpage}
\begin{document}
\fi
\providecommand\tgfbenchbreak{}
"""
_NAMED = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "|": r"\textbar{}", "<": r"\textless{}",
    ">": r"\textgreater{}", '"': r"\textquotedbl{}", "'": r"\textquoteright{}", "`": r"\textasciigrave{}",
    "-": "-{}", "?": "?{}", "!": "!{}", "[": "{[}", "]": "{]}", "*": "{*}",
    "↑": r"\(\uparrow\)", "↓": r"\(\downarrow\)", "≈": r"\(\approx\)", "×": r"\(\times\)", "±": r"\(\pm\)",
    "−": r"\(-\)", "–": r"\textendash{}", "—": r"\textemdash{}", "…": r"\dots{}", "·": r"\textperiodcentered{}",
    "§": r"\S{}", "’": r"\textquoteright{}", "‘": r"\textquoteleft{}", "“": r"\textquotedblleft{}",
    "”": r"\textquotedblright{}", "µ": r"\(\mu\)", "²": r"\(^2\)", "\u00a0": "~",
}  # fmt: skip


def render_latex(boards: Sequence[Board], introduction: Sequence[str] = ()) -> str:
    """Render one table per board: best bold, second best underlined, ties with the best marked, notes below."""
    words = "\\par\n".join(map(latex_text, (*introduction, READING)))
    parts = [_PREAMBLE + "\\begin{quote}\\footnotesize\n" + words + "\n\\end{quote}\n"]
    parts += [_overall(overall, number) for number, overall in enumerate(overall_boards(boards), start=1)]
    parts += [_table(lay_out(board), _label(board, number)) for number, board in enumerate(boards, start=1)]
    return "\n".join(parts) + "\\ifdefined\\tgfbenchalone\\expandafter\\enddocument\\fi\n"


def latex_text(text: str) -> str:
    """Escape text so that LaTeX prints it literally with any engine; letters outside Latin-1 become code points."""
    return "".join(_character(char) for char in unicodedata.normalize("NFC", text))


def _character(char: str) -> str:
    if char in _NAMED:
        return _NAMED[char]
    if " " <= char <= "~" or ("À" <= char <= "ÿ" and char.isalpha()):
        return char
    return f"\\texttt{{U+{ord(char):04X}}}"


def _label(board: Board, number: int) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", f"{board.dataset}-{board.split}-{board.protocol}".lower()).strip("-")
    return f"tab:tgfbench-{number}-{name}"


def _table(layout: Layout, label: str) -> str:
    caption = [layout.heading + "."]
    if layout.differences:
        caption.append(f"Differs from the main board: {'; '.join(layout.differences)}.")
    caption += [f"{fact}." for fact in layout.facts]
    wide = len(layout.columns) > WIDE
    titles = [*layout.heads, *layout.columns]
    lines = [
        r"\begin{table}[htbp]",
        r"\centering\footnotesize",
        rf"\caption{{{latex_text(' '.join(caption))}}}\label{{{label}}}",
        r"\resizebox{\linewidth}{!}{%" if wide else r"\begingroup",
        rf"\begin{{tabular}}{{@{{}}l{'r' * (len(titles) - 1)}@{{}}}}",
        r"\toprule",
        " & ".join(latex_text(title) for title in titles) + r" \\",
        r"\midrule",
        *(_row(row) for row in layout.rows),
        r"\bottomrule",
        r"\end{tabular}" + ("}" if wide else r"\endgroup"),
    ]
    notes = [*layout.findings, *layout.footnotes]
    if layout.reported:
        lines += ["", r"\medskip", *_reported(layout)]
    if notes:
        lines += [
            "",
            r"\medskip\begin{minipage}{\linewidth}\scriptsize\raggedright",
            *(latex_text(note) + r"\par" for note in notes),
            r"\end{minipage}",
        ]
    return "\n".join([*lines, r"\end{table}", r"\tgfbenchbreak", ""])


def _overall(overall: Overall, number: int) -> str:
    titles, *rows = overall.cells()
    caption = latex_text(". ".join((overall.heading, *overall.notes)))
    lines = [
        r"\begin{table}[htbp]",
        r"\centering\footnotesize",
        rf"\caption{{{caption}}}\label{{tab:tgfbench-overall-{number}}}",
        rf"\begin{{tabular}}{{@{{}}l{'r' * (len(titles) - 1)}@{{}}}}",
        r"\toprule",
        " & ".join(map(latex_text, titles)) + r" \\",
        r"\midrule",
        *("{}" + " & ".join(map(latex_text, row)) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
        r"\tgfbenchbreak",
        "",
    ]
    return "\n".join(lines)


def _row(row: Row) -> str:
    marks = rf"\textsuperscript{{{latex_text(' '.join(row.marks))}}}" if row.marks else ""
    cells = [f"{{}}{latex_text(row.label)}{marks}", *map(_number, row.head)]
    text = " & ".join([*cells, *(_cell(cell) for cell in row.cells)]) + r" \\"
    if any(cell.interval for cell in row.cells):
        text += "\n{}" + " &" * len(cells) + " " + " & ".join(map(_interval, row.cells)) + r" \\"
    return text


def _interval(cell: Cell) -> str:
    if cell.deviation:
        return rf"{{\tiny \(\pm\){_number(cell.deviation)}}}"
    return rf"{{\tiny {{[}}{_number(cell.low)}, {_number(cell.high)}{{]}}}}" if cell.low else ""


def _cell(cell: Cell) -> str:
    text = {"best": r"\textbf{%s}", "second": r"\underline{%s}"}.get(cell.emphasis, "%s") % _number(cell.text)
    return text + (r"\,\(\approx\)" if cell.tied else "")


def _number(text: str) -> str:
    """Return a rounded number with a real minus sign; inside text mode, so that bold stays bold."""
    if text == NOT_AVAILABLE or not text.startswith("-"):
        return latex_text(text)
    return r"\(-\)" + latex_text(text[1:])


def _reported(layout: Layout) -> list[str]:
    lines = [r"\begin{tabular}{@{}llrrrl@{}}", r"\toprule"]
    lines.append(r"Method & Metric & Reported & Measured here & Gap & Source \\")
    lines.append(r"\midrule")
    for row in layout.reported:
        numbers = [_number(text) for text in (row.value, row.measured, row.gap)]
        cells = ["{}" + latex_text(row.label), latex_text(row.metric), *numbers, latex_text(row.source)]
        lines.append(" & ".join(cells) + r" \\")
    return [*lines, r"\bottomrule", r"\end{tabular}"]
