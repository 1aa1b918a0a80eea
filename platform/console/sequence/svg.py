"""Drawing a diagram as SVG. Its look is in stories.css; without it, nothing is legible but nothing is lost either."""

from collections import defaultdict
from collections.abc import Sequence
from html import escape
from urllib.parse import urlencode

from django.utils.safestring import SafeString, mark_safe

from console.sequence.layout import AXIS, COLUMN, ROW, Layout
from console.sequence.model import Bar, Diagram, Lifeline, Step, duration_text

LONGEST_TEXT = 110
WIDTH = 9
"""Width of a bar."""
SHIFT = 4
"""How much a bar inside of another one is shifted to the right."""
HEAD = 44
"""Height of the heading with the names of the lifelines."""
LINE = 16
"""Number of characters of a lifeline's name that fit in one line."""


def heading(diagram: Diagram) -> SafeString:
    """The names of the lifelines, which stay on top while the rows scroll."""
    layout = Layout(diagram)
    parts = [_open(layout.width, HEAD, "lifelines", "aria-hidden='true'")]
    for lifeline in diagram.lifelines:
        x = layout.x(lifeline)
        parts.append(
            f'<g class="lifeline {lifeline.kind}"><rect x="{x - COLUMN / 2 + 4}" y="3" width="{COLUMN - 8}" height="38" rx="5"/>'
        )
        for number, text in enumerate(_lines(lifeline.title)):
            parts.append(f'<text x="{x}" y="{19 + 14 * number}">{escape(text)}</text>')
        parts.append("</g>")
    return mark_safe("".join([*parts, "</svg>"]))  # noqa: S308  every text is escaped


def body(diagram: Diagram, address: str, opened: Sequence[str] = (), selected: str = "") -> SafeString:
    """The rows. Each is a link to `address` with the id of its span, whose details are shown; `selected` is that of one.

    `opened` are the folds that are open, and stay so.
    """
    layout = Layout(diagram)
    query = urlencode([("open", one) for one in opened])
    data = {"details": f"{address}/spans/", "folds": f"{address}/folds/", "opened": query}
    more = "".join(f' data-{name}="{escape(value)}"' for name, value in data.items())
    parts = [
        _open(
            layout.width, layout.height, "sequence", f'role="group" aria-label="Sequence diagram" id="sequence"{more}'
        )
    ]
    parts += _lines_of_lifelines(layout)
    parts += _bars(layout)
    parts += [_pause(layout, pause.y, pause.duration) for pause in layout.pauses]
    steps = diagram.steps
    current = next((step.id for step in steps if step.span_id == selected), steps[0].id if steps else "")
    link = f"{address}?{query}&" if query else f"{address}?"
    for step in steps:
        is_current = step.id == current
        parts.append(_step(layout, step, link, is_current=is_current, is_selected=is_current and bool(selected)))
    return mark_safe("".join([*parts, "</svg>"]))  # noqa: S308  every text is escaped


def _open(width: int, height: int, name: str, more: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="{name}" width="{width}" height="{height}"'
        f' viewBox="0 0 {width} {height}" {more}>'
    )


def _lines(title: str) -> list[str]:
    """A name in at most two lines, broken at a dot or a hyphen if possible."""
    if len(title) <= LINE:
        return [title]
    cut = max((title.rfind(mark, 0, LINE) for mark in ".-"), default=-1)
    cut = cut if cut > LINE // 3 else LINE
    rest = title[cut:]
    return [title[:cut], rest if len(rest) <= LINE else f"…{rest[-(LINE - 1) :]}"]


def _lines_of_lifelines(layout: Layout) -> list[str]:
    return [
        f'<line class="life {lifeline.kind}" x1="{layout.x(lifeline)}" x2="{layout.x(lifeline)}" y1="0" y2="{layout.height}"/>'
        for lifeline in layout.diagram.lifelines
    ]


def _bars(layout: Layout) -> list[str]:
    """The bars of each lifeline; one that begins while another one lasts is shifted."""
    by_lifeline: dict[Lifeline, list[Bar]] = defaultdict(list)
    for bar in layout.diagram.bars:
        by_lifeline[bar.lifeline].append(bar)
    drawn = []
    for lifeline, bars in by_lifeline.items():
        lasting: list[float] = []
        for bar in sorted(bars, key=lambda one: (one.begun, -one.ended)):
            top, bottom = layout.span_of(bar)
            depth = sum(end > top for end in lasting)
            lasting.append(bottom)
            x = layout.x(lifeline) - WIDTH / 2 + min(depth, 6) * SHIFT
            names = f"bar {bar.kind}{' failed' if bar.failed else ''}{' waiting' if bar.is_waiting else ''}"
            drawn.append(f'<rect class="{names}" x="{x}" y="{top:.1f}" width="{WIDTH}" height="{bottom - top:.1f}"/>')
    return drawn


def _pause(layout: Layout, y: float, duration: int) -> str:
    return (
        f'<text class="pause" x="{AXIS - 8}" y="{y + 4:.1f}">⋮ {duration_text(duration)}</text>'
        f'<line class="pause" x1="{AXIS}" x2="{layout.width}" y1="{y:.1f}" y2="{y:.1f}"/>'
    )


def _step(layout: Layout, step: Step, link: str, *, is_current: bool, is_selected: bool) -> str:
    y = layout.row_of[step.id]
    since = duration_text(step.at - layout.diagram.begun)
    names = " ".join(
        [
            "step",
            step.kind,
            *(["failed"] if step.failed else []),
            *(["reply"] if step.is_reply else []),
            *(["fold"] if step.fold else []),
        ]
    )
    target = f"open={step.fold}" if step.fold else f"span={step.span_id}"
    fold = f' data-fold="{step.fold}"' if step.fold else ""
    state = ' aria-current="true"' if is_selected else ""
    x1, x2 = layout.x(step.source), layout.x(step.target)
    return (
        f'<a href="{escape(link)}{target}#{step.id}" id="{step.id}" class="{names}"'
        f' data-span="{step.span_id}" data-parent="{step.parent_id}"{fold}'
        f' tabindex="{0 if is_current else -1}"{state} aria-label="{escape(_label(step, since))}">'
        f'<rect class="row" x="0" y="{y - ROW * 0.68:.1f}" width="{layout.width}" height="{ROW}"/>'
        f'<text class="time" x="{AXIS - 8}" y="{y:.1f}">+{since} </text>'
        f"{_arrow(x1, x2, y)}"
        f'<text class="what" x="{min(x1, x2) + 12}" y="{y - 3:.1f}">{escape(_cut(step.text))}</text></a>'
    )


def _arrow(x1: int, x2: int, y: float) -> str:
    if x1 == x2:
        return f'<circle class="mark" cx="{x1}" cy="{y - 1:.1f}" r="4"/>'
    toward = 1 if x2 > x1 else -1
    return (
        f'<path class="arrow" d="M{x1} {y + 2:.1f}H{x2 - 6 * toward}"/>'
        f'<path class="head" d="M{x2 - toward} {y + 2:.1f}l{-9 * toward} -4v8z"/>'
    )


def _label(step: Step, since: str) -> str:
    """The name of a row for those who do not see it: it begins with the text that others see."""
    where = f"in {step.source.title}" if step.source == step.target else f"{step.source.title} to {step.target.title}"
    more = [where, *(["failed"] if step.failed else []), *(["opens them"] if step.fold else [])]
    return f"+{since} {_cut(step.text)}; {', '.join(more)}"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"
