"""Boards as LaTeX (booktabs): the file compiles alone, and ``\\input`` takes its tables into a paper."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from tgfbench.leaderboards.board import Board
from tgfbench.leaderboards.layout import READING, Cell, Layout, Row, lay_out
from tgfbench.leaderboards.overall import Overall, overall_boards
from tgfbench.leaderboards.text import NOT_AVAILABLE

LONGEST = 40
"""Rows of a table of published numbers; more continue in a further one."""

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
% Shrinks what is wider than the text, or too tall to leave room for its caption and notes.
\providecommand\tgfbenchfit[1]{\sbox0{#1}%
\ifdim\wd0>\linewidth\sbox0{\resizebox{\linewidth}{!}{\usebox0}}\fi
\ifdim\dimexpr\ht0+\dp0\relax>.7\textheight\sbox0{\resizebox*{!}{.7\textheight}{\usebox0}}\fi
\usebox0}
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
    for number, board in enumerate(boards, start=1):
        layout, label = lay_out(board), _label(board, number)
        parts += [_table(layout, label), *_reported(layout, label)]
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
    titles = [*layout.heads, *layout.columns]
    form = f"l{'r' * (len(titles) - 1)}"
    lines = _float(" ".join(caption), label, form, titles, list(map(_row, layout.rows)))
    notes = [*layout.findings, *layout.footnotes]
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
    caption = ". ".join((overall.heading, *overall.notes))
    lines = ["{}" + " & ".join(map(latex_text, row)) + r" \\" for row in rows]
    lines = _float(caption, f"tab:tgfbench-overall-{number}", f"l{'r' * (len(titles) - 1)}", titles, lines)
    return "\n".join([*lines, r"\end{table}", r"\tgfbenchbreak", ""])


def _float(caption: str, label: str, form: str, titles: Sequence[str], rows: Sequence[str]) -> list[str]:
    """Return the lines of a table that is still open, so that notes can follow."""
    return [
        r"\begin{table}[htbp]",
        r"\centering\footnotesize",
        rf"\caption{{{latex_text(caption)}}}\label{{{label}}}",
        rf"\tgfbenchfit{{\begin{{tabular}}{{@{{}}{form}@{{}}}}",
        r"\toprule",
        " & ".join(map(latex_text, titles)) + r" \\",
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}}",
    ]


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


def _reported(layout: Layout, label: str) -> list[str]:
    rows = []
    for row in layout.reported:
        numbers = [_number(text) for text in (row.value, row.measured, row.gap)]
        cells = ["{}" + latex_text(row.label), latex_text(row.metric), *numbers, latex_text(row.source)]
        rows.append(" & ".join(cells) + r" \\")
    tables = []
    titles = ("Method", "Metric", "Reported", "Measured here", "Gap", "Source")
    for start in range(0, len(rows), LONGEST):
        lines = _float(
            f"Published elsewhere and measured here: {layout.heading}.",
            f"{label}-reported-{start // LONGEST + 1}",
            "llrrrl",
            titles,
            rows[start : start + LONGEST],
        )
        tables.append("\n".join([*lines, r"\end{table}", r"\tgfbenchbreak", ""]))
    return tables
