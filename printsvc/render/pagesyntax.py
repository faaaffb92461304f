"""What a page.html does with data, read from its syntax tree: whether the stamp can know of every way it may look.

A form is compiled from a few pages. What follows from the data in a way that none of them shows (a word for one person,
a text in capitals, a field that has no slot) would be missing from every paper. So a template may show a text as it is
and ask what `render/stamp/axes.py` asks: whether a row is used or attested, whether it is a first copy, whether a field
is empty. Sizes and the QR's place differ too, but every one of them is drawn when the form is compiled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from jinja2 import Environment, TemplateSyntaxError, nodes

from printsvc.domain.form import DoseRow, PageData
from printsvc.render.formfile import Form

_SAME_TEXT: Final = frozenset(("e", "escape", "string"))
# How a copy's number may be asked about: all of them tell the first copy from the others.
_COPY_TESTS: Final = frozenset((("gt", 1), ("lteq", 1), ("gteq", 2), ("lt", 2), ("eq", 1), ("ne", 1)))


@dataclass(frozen=True, slots=True)
class Misuse:
    """Something in line `line` of page.html that the stamp could not know of; `field` is what it is about, or ""."""

    line: int
    field: str
    vi: str
    en: str


class _Kind(Enum):
    SAME = auto()  # on every paper
    SEEN = auto()  # differs, and each way is compiled
    TEXT = auto()  # of a slot
    COPY = auto()
    ROW = auto()
    ROWS = auto()
    PAGE = auto()
    DRAWN = auto()  # what a macro or a block came to: may be shown


@dataclass(frozen=True, slots=True)
class _Value:
    kind: _Kind
    field: str = ""
    item: _Kind = _Kind.SAME  # of a loop's variable: what its items are


_SAME: Final = _Value(_Kind.SAME)
_SEEN: Final = _Value(_Kind.SEEN)
_DRAWN: Final = _Value(_Kind.DRAWN)
_Scope = dict[str, _Value]


def check_syntax(text: str, form: Form) -> list[Misuse]:
    """Return what the template does with data that it may not, by line; nothing if its syntax is wrong."""
    try:
        tree = Environment(autoescape=True).parse(text)
    except TemplateSyntaxError:
        return []  # said where it is loaded
    reader = _Reader(form)
    reader.read(tree)
    return sorted(reader.found, key=lambda misuse: (misuse.line, misuse.field, misuse.en))


class _Reader:
    """Goes through a template as if it were drawn, each macro with what it is given."""

    def __init__(self, form: Form) -> None:
        self.found: dict[Misuse, None] = {}
        sources = [slot.of.split(".") for slot in form.slots.values()]
        self._slotted = {parts[0] for parts in sources if len(parts) == 1}
        self._row_slotted = {parts[2] for parts in sources if len(parts) == 3 and parts[0] == "rows"}
        self._macros: dict[str, nodes.Macro] = {}
        self._under_way: list[str] = []
        self._globals: _Scope = {
            "page": _Value(_Kind.PAGE),
            "fit": _SEEN,
            "qr": _SEEN,
            "form": _SAME,
            "sheets": _SAME,  # there are none on what is stamped
        }

    def read(self, tree: nodes.Template) -> None:
        self._walk(tree.body, self._globals)

    def _say(self, node: nodes.Node, vi: str, en: str, field: str = "") -> _Value:
        self.found[Misuse(node.lineno, field, vi, en)] = None
        return _SAME  # so that one mistake is told once

    # --- what is done

    def _walk(self, body: Sequence[nodes.Node], scope: _Scope) -> None:
        for node in body:
            self._statement(node, scope)

    def _statement(self, node: nodes.Node, scope: _Scope) -> None:
        match node:
            case nodes.Output():
                for part in node.nodes:
                    if not isinstance(part, nodes.TemplateData):
                        self._show(part, scope)
            case nodes.If():
                self._ask(node.test, scope)
                self._walk(node.body, scope)
                self._walk(node.elif_, scope)
                self._walk(node.else_, scope)
            case nodes.For():
                self._loop(node, scope)
            case nodes.Macro():
                self._macros[node.name] = node
            case nodes.Assign():
                self._bind(node.target, self._value(node.node, scope), scope)
            case nodes.AssignBlock():
                self._walk(node.body, dict(scope))
                self._bind(node.target, _DRAWN, scope)
            case nodes.With():
                inner = dict(scope)
                for target, value in zip(node.targets, node.values, strict=True):
                    self._bind(target, self._value(value, scope), inner)
                self._walk(node.body, inner)
            case nodes.Scope() | nodes.ScopedEvalContextModifier():
                self._walk(node.body, dict(scope))
            case _:
                self._say(
                    node,
                    "Biểu mẫu không được dùng lệnh này: chỉ if, for, macro, set và with.",
                    "A form may not use this statement: only if, for, macro, set and with.",
                )

    def _loop(self, node: nodes.For, scope: _Scope) -> None:
        over = self._value(node.iter, scope)
        item = _SAME
        if over.kind is _Kind.ROWS:
            item = _Value(_Kind.ROW)
        elif over.kind is _Kind.SEEN:
            item = _SEEN
        elif over.kind is not _Kind.SAME:
            self._say(
                node,
                "Không được lặp theo nội dung của một ô.",
                "A loop over a text that differs from person to person.",
                over.field,
            )
        inner = scope | {"loop": _Value(_Kind.SAME, item=item.kind)}
        self._bind(node.target, item, inner)
        if node.test is not None and self._value(node.test, inner).kind is not _Kind.SAME:
            self._say(
                node,
                "Vòng lặp không được chọn dòng: hãy dùng if ở bên trong.",
                "A loop may not choose among the rows: use an if inside it, so that each row keeps its place.",
            )
        self._walk(node.body, inner)
        self._walk(node.else_, scope)

    def _bind(self, target: nodes.Node, value: _Value, scope: _Scope) -> None:
        if isinstance(target, nodes.Name):
            scope[target.name] = value
        elif isinstance(target, nodes.Tuple):
            for part in target.items:
                self._bind(part, value if value.kind in (_Kind.SAME, _Kind.SEEN) else _DRAWN, scope)
        else:  # a namespace: what it holds depends on all that went before
            self._say(target, "Không được dùng namespace.", "A form may not use a namespace.")

    def _show(self, node: nodes.Node, scope: _Scope) -> None:
        value = self._value(node, scope)
        if value.kind in (_Kind.ROW, _Kind.ROWS, _Kind.PAGE):
            self._say(node, "Chỉ được in một mục của trang.", "Only a field of the page can be shown.", value.field)

    def _ask(self, node: nodes.Node, scope: _Scope) -> None:
        """A condition: on what is the same everywhere, or on what the stamp asks too."""
        match node:
            case nodes.Not():
                self._ask(node.node, scope)
            case nodes.And() | nodes.Or():
                self._ask(node.left, scope)
                self._ask(node.right, scope)
            case _:
                value = self._value(node, scope)
                if value.kind in (_Kind.DRAWN, _Kind.ROWS, _Kind.PAGE):
                    self._say(node, "Không được đặt điều kiện này.", "Nobody can ask this of a stamped page.")

    # --- what it is

    def _value(self, node: nodes.Node, scope: _Scope) -> _Value:
        match node:
            case nodes.Name():
                return scope.get(node.name, self._globals.get(node.name, _SAME))
            case nodes.Getattr():
                return self._part(node, self._value(node.node, scope), node.attr)
            case nodes.Getitem():
                return self._item(node, scope)
            case nodes.Call():
                return self._call(node, scope)
            case nodes.Filter():
                return self._filter(node, scope)
            case nodes.Compare():
                return self._compare(node, scope)
            case nodes.Not():
                self._ask(node, scope)
                return _SEEN
            case nodes.And():
                self._ask(node.left, scope)
                return self._either(self._value(node.left, scope), self._value(node.right, scope))
            case nodes.Or():
                return self._either(self._value(node.left, scope), self._value(node.right, scope))
            case nodes.CondExpr():
                self._ask(node.test, scope)
                other = self._value(node.expr2, scope) if node.expr2 is not None else _SAME
                return self._either(_SEEN, self._either(self._value(node.expr1, scope), other))
            case nodes.Test():
                value = self._value(node.node, scope)
                if value.kind is _Kind.ROW and node.name in ("none", "defined"):
                    return _SEEN
                return self._only_plain(node, value)
            case _:
                parts = [
                    self._value(child, scope) for child in node.iter_child_nodes() if isinstance(child, nodes.Expr)
                ]
                whole = _SAME
                for part in parts:
                    whole = self._either(whole, self._only_plain(node, part))
                return whole

    def _either(self, one: _Value, other: _Value) -> _Value:
        """What may be the one or the other, or is made of both."""
        for kind in (_Kind.PAGE, _Kind.ROWS, _Kind.ROW, _Kind.COPY, _Kind.TEXT, _Kind.DRAWN, _Kind.SEEN):
            for value in (one, other):
                if value.kind is kind:
                    return value
        return _SAME

    def _only_plain(self, node: nodes.Node, value: _Value) -> _Value:
        """What something is computed from: it may be the same everywhere, or seen when the form is compiled."""
        if value.kind in (_Kind.SAME, _Kind.SEEN):
            return value
        field = value.field or ("macro" if value.kind is _Kind.DRAWN else "row")
        return self._say(
            node,
            f"{field} chỉ được in nguyên văn, hoặc hỏi xem có trống không.",
            f"{field} differs from person to person: it may only be shown as it is, or be asked whether it is empty.",
            field,
        )

    def _part(self, node: nodes.Node, whole: _Value, name: str) -> _Value:
        match whole.kind:
            case _Kind.PAGE:
                return self._field(node, name)
            case _Kind.ROW:
                return self._row_field(node, name)
            case _Kind.SAME | _Kind.SEEN | _Kind.DRAWN:
                if name in ("previtem", "nextitem") and whole.item is not _Kind.SAME:
                    return _Value(whole.item)
                return whole if whole.kind is not _Kind.DRAWN else _DRAWN
            case _:
                return self._only_plain(node, whole)

    def _field(self, node: nodes.Node, name: str) -> _Value:
        field = f"page.{name}"
        if name == "rows":
            return _Value(_Kind.ROWS, field)
        if name == "more_rows":
            return _SAME
        if name not in PageData.__annotations__:
            return self._say(
                node, f"Dữ liệu của trang không có mục {name}.", f"A page's data have no field {name}.", field
            )
        if name == "copy_number":
            return _Value(_Kind.COPY, field)
        if name not in self._slotted:
            return self._no_slot(node, field)
        return _Value(_Kind.TEXT, field)

    def _row_field(self, node: nodes.Node, name: str) -> _Value:
        field = f"row.{name}"
        if name == "attested":
            return _SEEN
        if name not in DoseRow.__annotations__:
            return self._say(node, f"Dòng mũi tiêm không có mục {name}.", f"A dose's row has no field {name}.", field)
        return _Value(_Kind.TEXT, field) if name in self._row_slotted else self._no_slot(node, field)

    def _no_slot(self, node: nodes.Node, field: str) -> _Value:
        return self._say(
            node,
            f"{field} khác nhau ở mỗi người nhưng không có ô nào trong form.toml.",
            f"{field} differs from person to person, and no slot of form.toml is for it.",
            field,
        )

    def _item(self, node: nodes.Getitem, scope: _Scope) -> _Value:
        whole, key = self._value(node.node, scope), node.arg
        if whole.kind in (_Kind.PAGE, _Kind.ROW) and isinstance(key, nodes.Const) and isinstance(key.value, str):
            return self._part(node, whole, key.value)
        if whole.kind is _Kind.ROWS and isinstance(key, nodes.Const):
            return _Value(_Kind.ROW)
        inner = self._value(key, scope) if not isinstance(key, nodes.Slice) else _SAME
        return self._either(self._only_plain(node, whole), self._only_plain(node, inner))

    def _call(self, node: nodes.Call, scope: _Scope) -> _Value:
        given = [self._value(argument, scope) for argument in node.args]
        named = {keyword.key: self._value(keyword.value, scope) for keyword in node.kwargs}
        name = node.node.name if isinstance(node.node, nodes.Name) else ""
        macro = self._macros.get(name)
        if macro is None:
            whole = self._value(node.node, scope)
            for value in (*given, *named.values()):
                whole = self._either(self._only_plain(node, whole), self._only_plain(node, value))
            return whole
        if name in self._under_way:
            return _DRAWN
        names = [argument.name for argument in macro.args]
        inner = dict(self._globals)
        for argument, default in zip(names[len(names) - len(macro.defaults) :], macro.defaults, strict=True):
            inner[argument] = self._value(default, self._globals)
        inner |= dict(zip(names, given, strict=False)) | named
        self._under_way.append(name)
        self._walk(macro.body, inner)
        self._under_way.pop()
        return _DRAWN

    def _filter(self, node: nodes.Filter, scope: _Scope) -> _Value:
        value = self._value(node.node, scope) if node.node is not None else _DRAWN
        if value.kind is _Kind.ROWS and node.name in ("length", "count"):
            return _SAME
        if value.kind is _Kind.TEXT and (node.name in _SAME_TEXT or _joins(node)):
            return value
        if value.kind is _Kind.DRAWN and node.name == "safe":
            return value
        return self._only_plain(node, value)

    def _compare(self, node: nodes.Compare, scope: _Scope) -> _Value:
        left = self._value(node.expr, scope)
        if left.kind is _Kind.COPY and len(node.ops) == 1:
            (operand,) = node.ops
            if isinstance(operand.expr, nodes.Const) and (operand.op, operand.expr.value) in _COPY_TESTS:
                return _SEEN
        whole = self._only_plain(node, left)
        for operand in node.ops:
            whole = self._either(whole, self._only_plain(node, self._value(operand.expr, scope)))
        return whole


def _joins(node: nodes.Filter) -> bool:
    """Whether it is join(" "), which is how a slot shows a list."""
    return node.name == "join" and [a.value for a in node.args if isinstance(a, nodes.Const)] == [" "]


# --- where a slot is


def line_of_slot(text: str, name: str) -> int:
    """Return the line of page.html where the slot of that full name is written; 0 where it cannot be told.

    A name may be put together: `at + "site"` is found for `rows.0.site`.
    """
    try:
        tree = Environment(autoescape=True).parse(text)
    except TemplateSyntaxError:
        return 0
    markup = _line_of_text(text, f'data-slot="{name}"')
    whole = [node.lineno for node in tree.find_all(nodes.Const) if node.value == name]
    tails = [name.split(".", cut)[-1] for cut in range(1, name.count(".") + 1)]
    parts = [
        node.lineno
        for tail in tails
        for node in tree.find_all((nodes.Add, nodes.Concat))
        if any(isinstance(part, nodes.Const) and part.value == tail for part in node.iter_child_nodes())
    ]
    return next(iter([*([markup] if markup else []), *whole, *parts]), 0)


def line_of_name(text: str, name: str) -> int:
    """Return the first line that uses a variable of that name; 0 where there is none."""
    try:
        found = [
            node.lineno for node in Environment(autoescape=True).parse(text).find_all(nodes.Name) if node.name == name
        ]
    except TemplateSyntaxError:
        return 0
    return min(found, default=0)


def line_of_rule(text: str, name: str) -> int:
    """Return the line of form.toml where the slot of that full name has its rule; 0 where there is none."""
    rule = ".".join("*" if part.isdigit() else part for part in name.split("."))
    return _line_of_text(text, f'[slots."{rule}"]') or _line_of_text(text, f"[slots.{rule}]")


def line_of_failure(error: BaseException) -> int:
    """Return the line of page.html in which drawing it failed; 0 where it was not the template."""
    line = getattr(error, "lineno", None)  # of a syntax error
    if isinstance(line, int):
        return line
    found, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            found = trace.tb_lineno
        trace = trace.tb_next
    return found


def _line_of_text(text: str, needle: str) -> int:
    return next((number for number, line in enumerate(text.splitlines(), 1) if needle in line), 0)
