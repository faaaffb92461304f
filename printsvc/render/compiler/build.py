"""The compiler: draws a form's variants, lays them over one another, and takes the slots out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import uharfbuzz as hb

from printsvc.domain.form import FormId, PageData
from printsvc.render.compiler import faces as faces_of
from printsvc.render.compiler.drawing import SLOT, Box, Drawing, compile_error, draw
from printsvc.render.compiler.merge import Flag, FlagOf, Merged, Node, both, merge
from printsvc.render.compiler.objects import ObjectTable, StructureWriter, deflate_piece
from printsvc.render.compiler.variants import (
    LONGER,
    Path,
    base_page,
    list_axes,
    probes,
    slot_paths,
    with_value,
    without_unknown,
)
from printsvc.render.fonts import font_bytes
from printsvc.render.formfile import Form
from printsvc.render.stamp.axes import FACE, FILLED, SIZE
from printsvc.render.stamp.compiled import (
    Axis,
    CompiledForm,
    Condition,
    Face,
    Page,
    Piece,
    QrRules,
    Size,
    Slot,
    Static,
    digest_of,
)
from printsvc.render.stamp.stamper import Stamper
from printsvc.render.stamp.wayout import NeedsWeasyPrint
from printsvc.render.template import FormLibrary

_TOLERANCE_PX: Final = 0.05  # fit.py's
_MARK: Final = re.compile(rb"<</MCID @(\S+)>>")
_TF: Final = re.compile(rb"/(\S+) (\S+) Tf")
_HEX: Final = re.compile(rb"<([0-9a-f]+)>")


@dataclass(frozen=True, slots=True)
class _Drawn:
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


def compile_form(library: FormLibrary, form_id: FormId, *, sources: str = "") -> CompiledForm:
    """Return the compiled form; `sources` is the digest of what it is made from.

    RenderError names the file and the slot if the template cannot be compiled: a slot moves what is not its own, two
    variants do not add up, or its text is drawn in a way that the stamp does not know.
    """
    form = library.form(form_id)
    paths = slot_paths(form)
    page = base_page(form, library.sample(form_id), paths)
    drawn = _draw_all(library, form, paths, page)
    axes = [axis for axis in list_axes(form, paths) if any(a == axis for a, _, _ in drawn.variants)]
    axes += [Axis(SIZE, name, tuple(map(str, range(len(form.rule(name).sizes_pt))))) for name in _moving(drawn, paths)]
    variants = _flagged(form, drawn, axes)
    pages = [merge(drawn.base.pages[n], [(f, d.pages[n]) for f, d in variants]) for n in range(len(drawn.base.pages))]
    structure = merge(drawn.base.structure, [(flag, drawing.structure) for flag, drawing in variants])

    sized = {index for index, axis in enumerate(axes) if axis.kind == SIZE}
    pieces = [_pieces(tree) for tree in pages]
    statics = [_statics(tree) for tree in pages]
    for condition, _ in (static for page_statics in statics for static in page_statics):
        for index, _ in condition:
            if index in sized:
                raise compile_error(form_id, "its size changes what is not its own", axes[index].subject)
    mcids, conditions = _number_marks(pieces)
    conditions = {name: tuple(c for c in cs if c[0] not in sized) for name, cs in conditions.items()}
    faces, face_axes, slots = _slots(library, form, paths, drawn, conditions, mcids, len(axes))
    axes += face_axes
    compiled = _assemble(form, sources, drawn, axes, faces, slots, pieces, statics, mcids, structure, library)
    _check_drawings(compiled, form, drawn)
    _check_whole(library, compiled, form, page)
    return compiled


def _draw_all(library: FormLibrary, form: Form, paths: Mapping[str, Path], page: PageData) -> _Drawn:
    form_id = form.form_id
    names = list(paths)

    def at_size(index: int) -> dict[str, int]:
        return {name: min(index, len(form.rule(name).sizes_pt) - 1) for name in names}

    base = draw(library, form_id, page, at_size(0))
    if set(base.boxes) != set(names):
        missing = sorted(set(names) ^ set(base.boxes))
        raise compile_error(form_id, "it is in form.toml or in the page, but not in both", missing[0])
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
    return _Drawn(base, longer, sizes, variants, blanks, elsewhere)


def _place(box: Box) -> tuple[int, float, float, float]:
    return box.page, box.left, box.width, box.baseline


def _renamed(drawing: Drawing, names: Mapping[str, str]) -> Drawing:
    def rename(node: Node) -> Node:
        at = b"@" if node.label.startswith(b"@" + SLOT) else b""
        name = _slot_name(node.label.removeprefix(at))
        if name in names:
            head = node.label.partition(b"\n")
            return Node(at + SLOT + names[name].encode() + head[1] + head[2], node.kids)
        return Node(node.label, tuple(map(rename, node.kids)))

    return replace(drawing, pages=tuple(map(rename, drawing.pages)), structure=rename(drawing.structure))


def _moving(drawn: _Drawn, paths: Mapping[str, Path]) -> list[str]:
    """The slots that are painted at another time at another size: positioned at one, not at the other."""
    moved: set[str] = set()

    def note(node: Node) -> Flag:
        moved.update(name for leaf in _leaves(node) if (name := _slot_name(leaf)) is not None)
        return Flag(0, 0, 1, 0)

    for drawing in drawn.sizes[1:]:
        for before, after in zip(drawn.base.pages, drawing.pages, strict=True):
            merge(before, [(note, after)])
    return [name for name in paths if name in moved]


def _flagged(form: Form, drawn: _Drawn, axes: Sequence[Axis]) -> list[tuple[FlagOf, Drawing]]:
    """Each variant with what tells the flag of a difference in it."""

    def always(axis: Axis, value: str) -> FlagOf:
        index = axes.index(axis)
        flag = Flag(index, axis.values.index(value), len(axis.values), index * 100 + axis.values.index(value))
        return lambda _: flag

    moving = {axis.subject: index for index, axis in enumerate(axes) if axis.kind == SIZE}

    def of_slot(size: int) -> FlagOf:
        def flag_of(node: Node) -> Flag:
            names = {name for leaf in _leaves(node) if (name := _slot_name(leaf)) is not None}
            if len(names) != 1 or not names <= moving.keys():
                raise compile_error(form.form_id, "a slot's size changes what is not its own", min(names, default=""))
            index = moving[names.pop()]
            return Flag(index, min(size, len(axes[index].values) - 1), len(axes[index].values), index * 100)

        return flag_of

    variants = [(always(axis, value), drawing) for axis, value, drawing in drawn.variants]
    return variants + [(of_slot(size), drawing) for size, drawing in enumerate(drawn.sizes) if size]


def _without_slots(drawing: Drawing, names: set[str]) -> Drawing:
    def strip(node: Node) -> Node:
        kids = []
        for kid in node.kids:
            name = _slot_name(kid.label.removeprefix(b"@")) or _slot_name(kid.label)
            if name in names:
                continue
            stripped = strip(kid)
            if stripped.kids or not kid.kids or not any(_slot_name(g.label.removeprefix(b"@")) for g in kid.kids):
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
    for one, other in zip(_leaves(before), _leaves(after), strict=False):
        if one != other:
            break
        last = _slot_name(one) or last
    return last


def _leaves(node: Node) -> list[bytes]:
    return [node.label] if not node.kids else [leaf for kid in node.kids for leaf in _leaves(kid)]


def _slot_name(label: bytes) -> str | None:
    return label.removeprefix(SLOT).partition(b"\n")[0].decode() if label.startswith(SLOT) else None


@dataclass(frozen=True, slots=True)
class _RawPiece:
    """A stretch of content; of marked content `mark`, of a slot `slot` too, and then `static` is its colour."""

    condition: Condition
    static: bytes
    slot: str = ""
    marks: tuple[bytes, ...] = ()
    depth: int = 0


def _pieces(tree: Merged) -> list[_RawPiece]:
    out: list[_RawPiece] = []

    def add(piece: _RawPiece) -> None:
        if out and not out[-1].slot and not piece.slot and out[-1].condition == piece.condition:
            out[-1] = replace(out[-1], static=out[-1].static + piece.static, marks=out[-1].marks + piece.marks)
        else:
            out.append(piece)

    def walk(node: Merged, condition: Condition) -> None:
        condition = both(condition, node.condition)
        name = _slot_name(node.label)
        if name is not None:
            add(_RawPiece(condition, node.label.partition(b"\n")[2], name))
            return
        group = node.label == b"q" or node.label.endswith((b"BDC", b"BMC"))
        marks = tuple(_MARK.findall(node.label))
        if node.label:
            add(_RawPiece(condition, node.label + b"\n", marks=marks))
        for kid in node.kids:
            walk(kid, condition)
        if group:
            add(_RawPiece(condition, b"Q\n" if node.label == b"q" else b"EMC\n"))

    walk(tree, ())
    return out


def _statics(tree: Merged) -> list[tuple[Condition, bytes]]:
    """The content without the slots, and without the groups that are then empty."""
    out: list[tuple[Condition, bytes]] = []

    def walk(node: Merged, condition: Condition) -> list[tuple[Condition, bytes]]:
        condition = both(condition, node.condition)
        if _slot_name(node.label) is not None:
            return []
        if not node.kids and node.label != b"q":
            return [(condition, node.label + b"\n")]
        inner = [piece for kid in node.kids for piece in walk(kid, condition)]
        if not inner or not node.label:
            return inner
        return [(condition, node.label + b"\n"), *inner, (condition, b"Q\n" if node.label == b"q" else b"EMC\n")]

    for condition, static in walk(tree, ()):
        if out and out[-1][0] == condition:
            out[-1] = (condition, out[-1][1] + static)
        else:
            out.append((condition, static))
    return out


def _number_marks(pages: Sequence[Sequence[_RawPiece]]) -> tuple[dict[bytes, tuple[int, int]], dict[str, Condition]]:
    """Each mark's and slot's page and MCID, and each slot's condition."""
    numbers: dict[bytes, tuple[int, int]] = {}
    conditions: dict[str, Condition] = {}
    for page, pieces in enumerate(pages):
        count = 0
        for piece in pieces:
            names = [SLOT + piece.slot.encode()] if piece.slot else piece.marks
            for name in names:
                if name not in numbers:
                    numbers[name] = (page, count)
                    count += 1
            if piece.slot:
                conditions[piece.slot] = piece.condition
    return numbers, conditions


def _slots(
    library: FormLibrary,
    form: Form,
    paths: Mapping[str, Path],
    drawn: _Drawn,
    conditions: Mapping[str, Condition],
    mcids: Mapping[bytes, tuple[int, int]],
    first_axis: int,
) -> tuple[list[Face], list[Axis], list[Slot]]:
    fonts = {name: font for drawing in drawn.all() for name, font in drawing.fonts.items()}
    places = drawn.places()
    used = dict.fromkeys(
        drawing.boxes[name].runs[0].face for name, drawings in places.values() for drawing in drawings
    )
    order = list(used)
    opened = {
        name: hb.Face(hb.Blob(font_bytes(library._faces, faces_of.find_file(library._faces, fonts[name]).filename)))
        for name in order
    }
    slots = []
    wanted: dict[str, set[str]] = {name: set() for name in order}
    for place, (name, drawings) in places.items():
        rule = form.rule(name)
        boxes = [drawings[min(i, len(drawings) - 1)].boxes[name] for i in range(len(rule.sizes_pt))]
        mine = dict.fromkeys(box.runs[0].face for box in boxes)
        given = faces_of.ALPHABETS.get(str(paths[name][-1]), faces_of.TEXT) + drawn.blanks.get(name, "")
        alphabet = {c for c in given if all(faces_of.glyph_of(opened[face], c) for face in mine)}
        for face in mine:
            wanted[face] |= alphabet
        box = boxes[0]
        slots.append(
            Slot(
                name=place,
                path=paths[name],
                page=box.page,
                required=rule.required,
                blank=drawn.blanks.get(name, ""),
                align=box.align,
                alphabet="".join(sorted(alphabet)),
                language=box.language,
                features=box.features,
                condition=conditions[place],
                mcid=mcids[SLOT + place.encode()][1],
                sizes=tuple(_size(order.index(b.runs[0].face), b, rule.max_lines) for b in boxes),
            )
        )
    faces, axes = [], []
    for index, name in enumerate(order):
        tiers = [set(tier) & wanted[name] for tier in faces_of.TIERS]
        kept = [tier for at, tier in enumerate(tiers) if tier != (tiers[at + 1] if at + 1 < len(tiers) else None)]
        kept[-1] = wanted[name]
        axes.append(Axis(FACE, str(index), tuple(map(str, range(len(kept))))))
        glyphs = {faces_of.glyph_of(opened[name], c) or 0 for c in wanted[name]}
        faces.append(
            Face(
                name=name,
                shaping=faces_of.shaping_font(opened[name], wanted[name]),
                widths=tuple((glyph, faces_of.width_of(opened[name], glyph)) for glyph in sorted(glyphs)),
                tiers=tuple("".join(sorted(tier)) for tier in kept),
                axis=first_axis + index,
            )
        )
    return faces, axes, slots


def _size(face: int, box: Box, max_lines: int) -> Size:
    run = box.runs[0]
    fitting = int((box.bottom + _TOLERANCE_PX - box.first_top) / box.line_height)
    return Size(
        face=face,
        units=round(float(run.size) * 1024),
        size=run.size,
        left=box.left,
        width=box.width,
        baseline=box.baseline,
        line_height=box.line_height,
        lines=min(max_lines, fitting),
    )


def _assemble(
    form: Form,
    sources: str,
    drawn: _Drawn,
    axes: list[Axis],
    faces: list[Face],
    slots: list[Slot],
    pieces: Sequence[Sequence[_RawPiece]],
    statics: Sequence[Sequence[tuple[Condition, bytes]]],
    mcids: Mapping[bytes, tuple[int, int]],
    structure: Merged,
    library: FormLibrary,
) -> CompiledForm:
    pdf = drawn.base.pdf
    table = ObjectTable(pdf)
    root, info, kids, tree, fonts = (table.number() for _ in range(5))
    image_name, image_reference = _qr_image(form.form_id, drawn)
    image = table.number()
    table.replace(image_reference, image)
    page_numbers = [table.number() for _ in pdf.page_references]
    for reference, number in zip(pdf.page_references, page_numbers, strict=True):
        table.replace(reference, number)
    table.replace(pdf.catalog["StructTreeRoot"], tree)
    table.replace(pdf.pages.reference, kids)
    first_page = _object(pdf, pdf.page_references[0])
    resources = _object(pdf, first_page["Resources"])
    table.replace(resources["Font"], fonts)
    _join_resources(form.form_id, resources, drawn, image_name)

    table.put(root, table.value(dict(pdf.catalog)))
    table.put(info, table.value(dict(pdf.info)))
    table.put(kids, b"<</Type/Pages/Count %d/Kids[%s]>>" % (len(page_numbers), b" ".join(b"%d 0 R" % n for n in page_numbers)))
    pages = []
    for index, (number, reference) in enumerate(zip(page_numbers, pdf.page_references, strict=True)):
        static_number, text_number = table.number(), table.number()
        about = {key: value for key, value in _object(pdf, reference).items() if key != "Contents"}
        table.put(number, table.value(about)[:-2] + b"/Contents[%d 0 R %d 0 R]>>" % (static_number, text_number))
        pages.append(_page(form, index, drawn, slots, pieces[index], statics[index], mcids, static_number, text_number))
    writer = StructureWriter(table, page_numbers, mcids)
    writer.write(structure, tree)
    _put_fonts(table, fonts, library, drawn, faces, pages)
    table.close()
    compiled = CompiledForm(
        form_id=form.form_id,
        sources=sources,
        digest="",
        doses=form.doses,
        axes=tuple(axes),
        faces=tuple(faces),
        slots=tuple(slots),
        pages=tuple(pages),
        parts=tuple(table.parts),
        branches=tuple(writer.branches),
        qr=QrRules(form.qr.level, form.qr.min_version, form.qr.max_version, image),
        size=table.size,
        root=root,
        info=info,
    )
    return replace(compiled, digest=digest_of(compiled))


def _object(pdf: Any, reference: bytes) -> Any:
    return pdf.objects[int(reference.split()[0])]


def _images(drawing: Drawing) -> dict[str, Any]:
    page = _object(drawing.pdf, drawing.pdf.page_references[0])
    named = _object(drawing.pdf, page["Resources"])["XObject"]
    return {name: _object(drawing.pdf, reference) for name, reference in named.items()}


def _qr_image(form_id: str, drawn: _Drawn) -> tuple[str, bytes]:
    """The image that is another one with another QR text."""
    one, other = _images(drawn.base), _images(drawn.longer)
    if one.keys() != other.keys():
        raise compile_error(form_id, "its pictures have other names with other data")
    changed = [name for name, thing in one.items() if thing.stream != other[name].stream]
    if len(changed) != 1:
        raise compile_error(form_id, "it must have one QR, and no other picture that depends on the data")
    return changed[0], one[changed[0]].reference


def _join_resources(form_id: str, resources: Any, drawn: _Drawn, image_name: str) -> None:
    """Have the base's resources hold what variants use besides."""
    for drawing in drawn.all():
        page = _object(drawing.pdf, drawing.pdf.page_references[0])
        theirs = _object(drawing.pdf, page["Resources"])
        for name, state in theirs["ExtGState"].items():
            resources["ExtGState"].setdefault(name, state)
        for kind in ("XObject", "Pattern", "Shading"):
            if set(theirs[kind]) - set(resources[kind]):
                raise compile_error(form_id, "a variant has a picture or pattern that the form has not otherwise")


def _page(
    form: Form,
    index: int,
    drawn: _Drawn,
    slots: Sequence[Slot],
    pieces: Sequence[_RawPiece],
    statics: Sequence[tuple[Condition, bytes]],
    mcids: Mapping[bytes, tuple[int, int]],
    static_number: int,
    text_number: int,
) -> Page:
    def numbered(static: bytes) -> bytes:
        return _MARK.sub(lambda match: b"<</MCID %d>>" % mcids[match[1]][1], static)

    names = {slot.name: number for number, slot in enumerate(slots)}
    finished = tuple(Piece(p.condition, numbered(p.static), names[p.slot] if p.slot else -1) for p in pieces)
    states = {name: box.state for name, box in drawn.base.boxes.items() if box.page == index}
    first = next(iter(states.values()), ())
    for name, state in states.items():
        if state != first:
            raise compile_error(form.form_id, "it is turned, clipped or coloured unlike the others", name)
    before = b"q\n" + b"".join(line + b"\n" for line in first) + b"BT\n"
    return Page(
        pieces=finished,
        statics=tuple(Static(c, plain, deflate_piece(plain)) for c, plain in ((c, numbered(p)) for c, p in statics)),
        static_number=static_number,
        text_number=text_number,
        before=before,
        after=b"ET\nQ\n",
    )


def _static_glyphs(pages: Sequence[Page]) -> dict[str, set[int]]:
    """The glyphs of what is always the same, by font."""
    found: dict[str, set[int]] = {}
    for page in pages:
        for static in page.statics:
            glyphs: set[int] = set()
            for line in static.plain.split(b"\n"):
                if font := _TF.fullmatch(line):
                    glyphs = found.setdefault(font[1].decode(), set())
                elif line.endswith(b" TJ"):
                    for run in _HEX.findall(line):
                        glyphs.update(int(run[at : at + 4], 16) for at in range(0, len(run), 4))
    return found


def _put_fonts(
    table: ObjectTable,
    fonts_number: int,
    library: FormLibrary,
    drawn: _Drawn,
    faces: Sequence[Face],
    pages: Sequence[Page],
) -> None:
    static = _static_glyphs(pages)
    fonts = {name: font for drawing in drawn.all() for name, font in drawing.fonts.items()}
    texts: dict[str, dict[int, str]] = {}
    for drawing in drawn.all():
        for name, font in drawing.fonts.items():
            texts.setdefault(name, {}).update(font.to_unicode)
    entries = []
    set_in = {face.name: face for face in faces}
    for name in sorted(static.keys() | set_in.keys()):
        number = table.number()
        entries.append(b"/%s %d 0 R" % (name.encode(), number))
        opened = hb.Face(hb.Blob(font_bytes(library._faces, faces_of.find_file(library._faces, fonts[name]).filename)))
        face = set_in.get(name)
        always = {glyph: texts[name][glyph] for glyph in static.get(name, set())}
        variants: list[tuple[Condition, str]] = [((), "")]
        if face is not None:
            variants = [
                (((face.axis, (tier,)),) if len(face.tiers) > 1 else (), characters)
                for tier, characters in enumerate(face.tiers)
            ]
        descendant, descriptor, file, unicode = (table.number() for _ in range(4))
        base_name = fonts[name].name
        for condition, characters in variants:
            shown = always | {faces_of.glyph_of(opened, c) or 0: c for c in characters}
            widths = {glyph: faces_of.width_of(opened, glyph) for glyph in shown}
            embedded = faces_of.font_file(opened, shown)
            table.put_stream(file, b"/Length1 %d/Filter/FlateDecode" % embedded.length, embedded.data, condition)
            cmap = faces_of.to_unicode(shown)
            import zlib

            table.put_stream(unicode, b"/Filter/FlateDecode", zlib.compress(cmap, 9), condition)
            table.put(
                number,
                b"<</Type/Font/Subtype/Type0/BaseFont%s/Encoding/Identity-H/DescendantFonts[%d 0 R]/ToUnicode %d 0 R>>"
                % (base_name, descendant, unicode),
                condition,
            )
            table.put(
                descendant,
                b"<</Type/Font/Subtype/CIDFontType2/BaseFont%s/CIDSystemInfo<</Registry(Adobe)/Ordering(Identity)"
                b"/Supplement 0>>/CIDToGIDMap/Identity/W%s/FontDescriptor %d 0 R>>"
                % (base_name, faces_of.widths_array(widths), descriptor),
                condition,
            )
            font = fonts[name]
            table.put(
                descriptor,
                b"<</Type/FontDescriptor/FontName%s/Flags %d/FontBBox[0 %d %d %d]/ItalicAngle %d/Ascent %d/Descent %d"
                b"/CapHeight %d/StemV %d/StemH %d/FontFile2 %d 0 R>>"
                % (base_name, font.flags, font.descent, max(widths.values()), font.ascent, font.italic_angle,
                   font.ascent, font.descent, font.ascent, font.stemv, font.stemh, file),
                condition,
            )  # fmt: skip
    table.put(fonts_number, b"<<" + b"".join(entries) + b">>")


def _check_drawings(compiled: CompiledForm, form: Form, drawn: _Drawn) -> None:
    """RenderError if a slot's short texts are drawn otherwise than the stamp would, at any of its sizes."""
    from printsvc.render.stamp.layout import place_line
    from printsvc.render.stamp.stamper import number_text

    stamper = Stamper(compiled)
    for setter in stamper._slots:
        slot = setter.slot
        for index, (size, typesetter) in enumerate(zip(slot.sizes, setter.setters, strict=True)):
            name, drawings = drawn.places()[slot.name]
            checked = [drawings[min(index, len(drawings) - 1)]]
            if not index and name == slot.name:
                checked.append(drawn.longer)
            for drawing in checked:
                box = drawing.boxes[name]
                run = box.runs[0]
                try:
                    body, width = typesetter.set_exactly(run.text)
                except NeedsWeasyPrint:
                    continue  # a digit where the slot's alphabet has none
                line = place_line(slot, size, 0, run.text, body, width)
                ours = (number_text(line.x).encode(), number_text(line.y).encode(), size.size, body)
                if ours != (run.x, run.y, run.size, run.body):
                    raise compile_error(form.form_id, "its text is not set as HarfBuzz sets it, or not aligned so", slot.name)


def _check_whole(library: FormLibrary, compiled: CompiledForm, form: Form, page: PageData) -> None:
    """RenderError if the merged variants are not what WeasyPrint draws, for several axes at once and for the sample."""
    stamper = Stamper(compiled)
    axes = [axis for axis in compiled.axes if axis.kind != FACE]
    for probe in [library.sample(form.form_id), *probes(form, page, axes)]:
        try:
            ours = stamper.content(probe)
            fit = stamper.fit(probe)
        except NeedsWeasyPrint:
            continue
        theirs = draw(library, form.form_id, probe, dict.fromkeys(form.slot_names(), 0) | fit).streams
        for one, other in zip(ours, theirs, strict=True):
            if one.rstrip() != other.rstrip():
                raise compile_error(form.form_id, "its variants do not add up")
