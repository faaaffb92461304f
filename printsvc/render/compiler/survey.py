"""All that WeasyPrint is asked to draw of a form, and which difference goes with which axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from printsvc.domain.form import PageData
from printsvc.render.compiler.drawing import SLOT, Box, Drawing, compile_error, draw
from printsvc.render.compiler.merge import Flag, FlagOf, Node, merge
from printsvc.render.compiler.variants import LONGER, Path, base_page, list_axes, text_at, with_value, without_unknown
from printsvc.render.formfile import Form
from printsvc.render.stamp.axes import FILLED, ROW, SIZE
from printsvc.render.stamp.compiled import Axis
from printsvc.render.template import FormLibrary


@dataclass(frozen=True, slots=True)
class Survey:
    """All that WeasyPrint was asked to draw: at each size, and each axis at each other value.

    A slot that stands elsewhere in a variant is another slot there, by another name: `elsewhere` has these, with the
    slot's own name and the variant at each size.
    """

    base: Drawing
    longer: Drawing
    sizes: Sequence[Drawing]
    variants: Sequence[tuple[Axis, str, Drawing]]
    blanks: Mapping[str, str]
    elsewhere: Mapping[str, tuple[str, Sequence[Drawing]]]

    def places(self) -> dict[str, tuple[str, Sequence[Drawing]]]:
        """Every place of every slot: its own name, and the drawings at each size."""
        return {name: (name, self.sizes) for name in self.base.boxes} | dict(self.elsewhere)

    def all(self) -> list[Drawing]:
        there = [drawing for _, drawings in self.elsewhere.values() for drawing in drawings]
        return [*self.sizes, *(drawing for _, _, drawing in self.variants), *there]


def survey_form(library: FormLibrary, form: Form, paths: Mapping[str, Path], page: PageData) -> Survey:
    form_id = form.form_id
    names = list(paths)

    def at_size(index: int) -> dict[str, int]:
        return {name: min(index, len(form.rule(name).sizes_pt) - 1) for name in names}

    base = draw(library, form_id, page, at_size(0))
    if set(base.boxes) != set(names):
        missing = sorted(set(names) ^ set(base.boxes))
        raise compile_error(form_id, "it is in form.toml or in the page, but not in both", missing[0])
    for name, path in paths.items():
        if [text for text, _, _ in base.boxes[name].lines] != [text_at(page, path)]:
            raise compile_error(form_id, "it shows something else than its text", name)
    longer_page = base_page(form, library.sample(form_id), dict(paths), LONGER)
    longer = draw(library, form_id, {**longer_page, "qr": "1" * 10}, at_size(0))
    steps = max(len(form.rule(name).sizes_pt) for name in names)
    sizes = [base, *(draw(library, form_id, page, at_size(index)) for index in range(1, steps))]
    _compare(form_id, base, longer, "a slot's text changes what is not its own")
    blanks: dict[str, str] = {}
    if form.doses:
        unknown = draw(library, form_id, without_unknown(form, page), at_size(0))
        for name in names:
            if len(paths[name]) == 3 and not form.rule(name).required:
                blanks[name] = " ".join(text for text, _, _ in unknown.boxes[name].lines)
        gone = {name for name, blank in blanks.items() if not blank}
        _compare(form_id, _without_slots(base, gone), unknown, "a row with unknown fields changes more than these")
    variants = []
    elsewhere: dict[str, tuple[str, Sequence[Drawing]]] = {}
    for axis in list_axes(form, dict(paths)):
        changed = []
        for value in axis.values[1:]:
            variant_page = with_value(form, page, axis, value)
            drawing = draw(library, form_id, variant_page, at_size(0))
            names_there = {
                name: f"{name}~{axis.kind}{axis.subject}.{value}"
                for name, box in drawing.boxes.items()
                if box.lines and _place(box) != _place(base.boxes[name])
            }
            for name in names_there:
                if axis.kind == ROW and paths[name][:2] != ("rows", int(axis.subject)):
                    raise compile_error(form_id, f"it moves when row {axis.subject} is {value}", name)
            if names_there:
                more = max(len(form.rule(name).sizes_pt) for name in names_there)
                steps_there = [draw(library, form_id, variant_page, at_size(index)) for index in range(more)]
                elsewhere |= {alias: (name, steps_there) for name, alias in names_there.items()}
                drawing = _renamed(drawing, names_there)
            changed.append((axis, value, drawing))
            if axis.kind == FILLED:
                for name, path in paths.items():
                    if path == (axis.subject,) and name in drawing.boxes:
                        blanks[name] = " ".join(text for text, _, _ in drawing.boxes[name].lines)
        if any(d.pages != base.pages or d.structure != base.structure for _, _, d in changed):
            variants += changed
    return Survey(base, longer, sizes, variants, blanks, elsewhere)


def _place(box: Box) -> tuple[int, float, float, float]:
    # Not to the last bit: what stands before a box may have been added up in another order.
    return box.page, round(box.left, 5), round(box.width, 5), round(box.baseline, 5)


def _renamed(drawing: Drawing, names: Mapping[str, str]) -> Drawing:
    def rename(node: Node) -> Node:
        at = b"@" if node.label.startswith(b"@" + SLOT) else b""
        name = slot_name(node.label.removeprefix(at))
        if name is not None and name in names:
            head = node.label.partition(b"\n")
            return Node(at + SLOT + names[name].encode() + head[1] + head[2], node.kids)
        return Node(node.label, tuple(map(rename, node.kids)))

    return replace(drawing, pages=tuple(map(rename, drawing.pages)), structure=rename(drawing.structure))


def moving_slots(drawn: Survey, paths: Mapping[str, Path]) -> list[str]:
    """The slots that are painted at another time at another size: positioned at one, not at the other."""
    moved: set[str] = set()

    def note(node: Node) -> Flag:
        moved.update(name for leaf in list_leaves(node) if (name := slot_name(leaf)) is not None)
        return Flag(0, 0, 1, 0)

    for drawing in drawn.sizes[1:]:
        for before, after in zip(drawn.base.pages, drawing.pages, strict=True):
            merge(before, [(note, after)])
    return [name for name in paths if name in moved]


def flag_variants(form: Form, drawn: Survey, axes: Sequence[Axis]) -> list[tuple[FlagOf, Drawing]]:
    """Each variant with what tells the flag of a difference in it."""

    def always(axis: Axis, value: str) -> FlagOf:
        index = axes.index(axis)
        flag = Flag(index, axis.values.index(value), len(axis.values), index * 100 + axis.values.index(value))
        return lambda _: flag

    moving = {axis.subject: index for index, axis in enumerate(axes) if axis.kind == SIZE}

    def of_slot(size: int) -> FlagOf:
        def flag_of(node: Node) -> Flag | None:
            names = {name for leaf in list_leaves(node) if (name := slot_name(leaf)) is not None}
            if len(names) != 1 or not names <= moving.keys():
                slot = min(names, default="") or _beside([drawn.base, drawn.sizes[size]], node)
                raise compile_error(form.form_id, "a slot's size changes what is not its own", slot)
            index = moving[names.pop()]
            count = len(axes[index].values)
            # A slot with fewer sizes than others stands at its last one from then on: that was seen already.
            return Flag(index, size, count, index * 100) if size < count else None

        return flag_of

    variants = [(always(axis, value), drawing) for axis, value, drawing in drawn.variants]
    return variants + [(of_slot(size), drawing) for size, drawing in enumerate(drawn.sizes) if size]


def _without_slots(drawing: Drawing, names: set[str]) -> Drawing:
    def strip(node: Node) -> Node:
        kids = []
        for kid in node.kids:
            name = slot_name(kid.label.removeprefix(b"@")) or slot_name(kid.label)
            if name in names:
                continue
            stripped = strip(kid)
            if stripped.kids or not kid.kids or not any(slot_name(g.label.removeprefix(b"@")) for g in kid.kids):
                kids.append(stripped)
        return Node(node.label, tuple(kids))

    return replace(drawing, pages=tuple(map(strip, drawing.pages)), structure=strip(drawing.structure))


def _compare(form_id: str, one: Drawing, other: Drawing, what: str) -> None:
    for before, after in zip((*one.pages, one.structure), (*other.pages, other.structure), strict=True):
        if before != after:
            raise compile_error(form_id, what, _near(before, after))


def _near(before: Node, after: Node) -> str:
    """The slot that stands last before the first difference; "" if there is none."""
    last = ""
    for one, other in zip(list_leaves(before), list_leaves(after), strict=False):
        if one != other:
            break
        last = slot_name(one) or last
    return last


def _beside(drawings: Sequence[Drawing], node: Node) -> str:
    """The slot that is drawn next after a node without one, as after its clip, or else last before it; "" for none."""
    sought = list_leaves(node)[0]
    for page in (page for drawing in drawings for page in drawing.pages):
        leaves = list_leaves(page)
        if sought in leaves:
            at = leaves.index(sought)
            near = [*leaves[at:], *reversed(leaves[:at])]
            return next((name for label in near if (name := slot_name(label)) is not None), "")
    return ""


def list_leaves(node: Node) -> list[bytes]:
    return [node.label] if not node.kids else [leaf for kid in node.kids for leaf in list_leaves(kid)]


def slot_name(label: bytes) -> str | None:
    return label.removeprefix(SLOT).partition(b"\n")[0].decode() if label.startswith(SLOT) else None
