"""Folding: of many spans that are alike, a few are shown, and one row stands for the others.

A request that executes the same statement 500 times, or an event that causes 500 others, stays readable. What failed is not
folded.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from console.stores.model import Span

RUN = 3
"""So many equal statements one after the other are folded into one row."""
MOST_ALIKE = 8
"""So many spans of one parent that are alike are shown; of more, the first SHOWN."""
SHOWN = 3
MOST_FAILED = 20
"""So many failed ones among them are shown too."""
MOST_STATEMENTS = 40
"""So many different statements of one parent are shown; of more, the first half."""


@dataclass(slots=True)
class Fold:
    """Spans that are alike, and which one row stands for: `first` is the first of them, `inner` counts the spans below them."""

    first: Span
    spans: list[Span] = field(default_factory=list)
    inner: int = 0

    @property
    def id(self) -> str:
        """Its id: that of the first span."""
        return self.first.span_id

    @property
    def what(self) -> str:
        """Their name, or what they are if they have different ones."""
        return self.first.name if all(span.name == self.first.name for span in self.spans) else "other statements"

    @property
    def count(self) -> int:
        """How many spans are alike."""
        return len(self.spans)

    @property
    def ended(self) -> int:
        """When the last one ended."""
        return max(span.ended for span in self.spans)

    @property
    def total(self) -> int:
        """How long all of them took, in nanoseconds."""
        return sum(span.ended - span.begun for span in self.spans)


class Tree:
    """The spans of a story by their parents. Spans whose parent is not known are at the top."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.by_id = {span.span_id: span for span in spans}
        self._children: dict[str, list[Span]] = defaultdict(list)
        for span in sorted(self.by_id.values(), key=lambda one: one.begun):
            self._children[span.parent_id].append(span)
        self._cut_cycles()
        self._failing: dict[str, bool] = {}

    def children(self, span_id: str) -> list[Span]:
        """The children of a span, in the order of their begin."""
        return self._children.get(span_id, [])

    def tops(self) -> list[str]:
        """The ids of the unknown parents of the spans at the top."""
        return [parent for parent in self._children if parent not in self.by_id]

    def below(self, span: Span) -> Iterator[Span]:
        """A span and all below it."""
        todo = [span]
        while todo:
            one = todo.pop()
            yield one
            todo += self._children.get(one.span_id, ())

    def is_failing(self, span: Span) -> bool:
        """Whether it, or one below it, failed or was retried."""
        known = self._failing.get(span.span_id)
        if known is None:
            known = any(one.error is not None or one.happenings for one in self.below(span))
            self._failing[span.span_id] = known
        return known

    def _cut_cycles(self) -> None:
        """Spans that are their own ancestors, which only a broken program sends, become spans at the top."""
        reached: set[str] = set()
        for top in self.tops():
            for child in self._children[top]:
                reached.update(one.span_id for one in self.below(child))
        for span in list(self.by_id.values()):
            if span.span_id in reached:
                continue
            self._children[span.parent_id].remove(span)
            self._children[f"cycle-{span.span_id}"].append(span)
            reached.update(one.span_id for one in self.below(span))


def fold(tree: Tree, opened: Iterable[str] = ()) -> tuple[list[Span], list[Fold]]:
    """The spans to show, in no order, and the folds in place of the others. Folds with an id in `opened` are shown in full."""
    opened = frozenset(opened)
    shown: list[Span] = []
    folds: list[Fold] = []
    todo = tree.tops()
    while todo:
        visible, more = _fold_children(tree, tree.children(todo.pop()), opened)
        folds += more
        shown += visible
        todo += [span.span_id for span in visible]
    return shown, folds


def _fold_children(tree: Tree, children: list[Span], opened: frozenset[str]) -> tuple[list[Span], list[Fold]]:
    chosen = _Chosen(tree, opened)
    for run in _runs(children):
        chosen.fold(run)
    alike: dict[tuple[str, ...], list[Span]] = defaultdict(list)
    for span in chosen.open_among(children):
        alike[_likeness(span)].append(span)
    for spans in alike.values():
        if len(spans) > MOST_ALIKE:
            chosen.fold([span for span in spans[SHOWN:] if not tree.is_failing(span)])
            chosen.fold([span for span in spans[SHOWN:] if tree.is_failing(span)][MOST_FAILED:])
    statements = [span for span in chosen.open_among(children) if is_sql(span) and span.error is None]
    if len(statements) > MOST_STATEMENTS:
        chosen.fold(statements[MOST_STATEMENTS // 2 :])
    return [span for span in children if span.span_id not in chosen.hidden], chosen.folds


class _Chosen:
    """What was decided about the children of a span: spans that a fold stands for are hidden, unless it is opened."""

    def __init__(self, tree: Tree, opened: frozenset[str]) -> None:
        self.folds: list[Fold] = []
        self.hidden: set[str] = set()
        self._decided: set[str] = set()
        self._tree = tree
        self._opened = opened

    def fold(self, spans: list[Span]) -> None:
        """Fold these spans, if they are several."""
        if len(spans) < 2:
            return
        ids = {span.span_id for span in spans}
        self._decided |= ids
        if spans[0].span_id in self._opened or "all" in self._opened:
            return
        self.hidden |= ids
        inner = sum(sum(1 for _ in self._tree.below(span)) - 1 for span in spans)
        self.folds.append(Fold(spans[0], spans, inner))

    def open_among(self, children: Iterable[Span]) -> list[Span]:
        """Those about which nothing was decided yet."""
        return [span for span in children if span.span_id not in self._decided]


def _runs(children: list[Span]) -> Iterator[list[Span]]:
    """Equal statements that follow each other."""
    run: list[Span] = []
    for span in children:
        if run and is_sql(span) and span.error is None and _likeness(span) == _likeness(run[0]):
            run.append(span)
            continue
        if len(run) >= RUN:
            yield run
        run = [span] if is_sql(span) and span.error is None else []
    if len(run) >= RUN:
        yield run


def _likeness(span: Span) -> tuple[str, ...]:
    statement = str(span.attributes.get("db.query.text") or "")
    return (span.kind, span.name, span.process, statement)


def is_sql(span: Span) -> bool:
    """Whether it is a statement to a database."""
    return span.kind == "CLIENT" and "db.system.name" in span.attributes
