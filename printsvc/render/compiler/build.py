"""The compiler: draws a form's variants, lays them over one another, and takes the slots out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import uharfbuzz as hb

from printsvc.domain.form import FormId
from printsvc.errors import InputError, PrintsvcError, RenderError
from printsvc.render.compiler import faces as faces_of
from printsvc.render.compiler.check import check_drawings, check_whole
from printsvc.render.compiler.content import MARK, RawPiece, list_pieces, list_statics, number_marks
from printsvc.render.compiler.drawing import SLOT, Box, Drawing, compile_error
from printsvc.render.compiler.embed import put_fonts
from printsvc.render.compiler.merge import Merged, merge
from printsvc.render.compiler.objects import ObjectTable, StructureWriter
from printsvc.render.compiler.places import check_template, with_place
from printsvc.render.compiler.survey import Survey, flag_variants, moving_slots, survey_form
from printsvc.render.compiler.variants import Path, base_page, list_axes, slot_paths
from printsvc.render.fonts import font_bytes
from printsvc.render.formfile import Form
from printsvc.render.stamp.axes import SIZE
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
from printsvc.render.template import FormLibrary

_TOLERANCE_PX: Final = 0.05  # fit.py's


def compile_form(library: FormLibrary, form_id: FormId, *, sources: str = "") -> CompiledForm:
    """Return the compiled form; `sources` is the digest of what it is made from.

    RenderError names the file, the line and the slot if the template cannot be compiled: a slot moves what is not its
    own, two variants do not add up, its text is drawn in a way that the stamp does not know, or the page depends on
    something of a person that the stamp does not ask.
    """
    try:
        return _compile(library, form_id, sources)
    except RenderError as error:
        raise with_place(library, form_id, error) from error
    except InputError as error:  # of the form's own sample: no page is to be refused for it
        fault = compile_error(form_id, f"it cannot be drawn: {error.en.rstrip('.')}", file="sample.json")
        raise RenderError(fault.en, vi=fault.vi) from error
    except PrintsvcError:
        raise
    except Exception as error:  # a template may be anything: its author gets a message, and other forms are drawn
        raise with_place(
            library, form_id, compile_error(form_id, f"it cannot be compiled: {type(error).__name__}: {error}")
        ) from error


def _compile(library: FormLibrary, form_id: FormId, sources: str) -> CompiledForm:
    form = library.form(form_id)
    check_template(library, form)
    paths = slot_paths(form)
    page = base_page(form, library.sample(form_id), paths)
    drawn = survey_form(library, form, paths, page)
    axes = [axis for axis in list_axes(form, paths) if any(a == axis for a, _, _ in drawn.variants)]
    axes += [
        Axis(SIZE, name, tuple(map(str, range(len(form.rule(name).sizes_pt))))) for name in moving_slots(drawn, paths)
    ]
    variants = flag_variants(form, drawn, axes)
    pages = [merge(drawn.base.pages[n], [(f, d.pages[n]) for f, d in variants]) for n in range(len(drawn.base.pages))]
    structure = merge(drawn.base.structure, [(flag, drawing.structure) for flag, drawing in variants])

    sized = {index for index, axis in enumerate(axes) if axis.kind == SIZE}
    pieces = [list_pieces(tree) for tree in pages]
    statics = [list_statics(tree) for tree in pages]
    for condition, _ in (static for page_statics in statics for static in page_statics):
        for index, _ in condition:
            if index in sized:
                raise compile_error(form_id, "its size changes what is not its own", axes[index].subject)
    mcids, conditions = number_marks(pieces)
    unsized = {
        name: {tuple(part for part in condition if part[0] not in sized) for condition in found}
        for name, found in conditions.items()
    }
    faces, wanted, slots = _slots(library, form, paths, drawn, unsized, mcids)
    compiled = _assemble(form, sources, drawn, axes, faces, wanted, slots, pieces, statics, mcids, structure, library)
    check_drawings(compiled, form, drawn)
    check_whole(library, compiled, form, page)
    return compiled


def _slots(
    library: FormLibrary,
    form: Form,
    paths: Mapping[str, Path],
    drawn: Survey,
    conditions: Mapping[str, set[Condition]],
    mcids: Mapping[bytes, tuple[int, int]],
) -> tuple[list[Face], dict[str, set[str]], list[Slot]]:
    """The faces that slots are set in, what each may have to show, and the slots."""
    fonts = {name: font for drawing in drawn.all() for name, font in drawing.fonts.items()}
    places = drawn.places()
    used = dict.fromkeys(drawing.boxes[name].runs[0].face for name, drawings in places.values() for drawing in drawings)
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
                conditions=tuple(sorted(conditions[place])),
                mcid=mcids[SLOT + place.encode()][1],
                sizes=tuple(_size(order.index(b.runs[0].face), b, rule.max_lines) for b in boxes),
            )
        )
    faces = []
    for name in order:
        glyphs = {faces_of.glyph_of(opened[name], c) or 0 for c in wanted[name]}
        faces.append(
            Face(
                name=name,
                shaping=faces_of.shaping_font(opened[name], wanted[name]),
                widths=tuple((glyph, faces_of.width_of(opened[name], glyph)) for glyph in sorted(glyphs)),
                codes=(),
                program=-1,
            )
        )
    return faces, wanted, slots


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
    drawn: Survey,
    axes: list[Axis],
    faces: list[Face],
    wanted: Mapping[str, set[str]],
    slots: list[Slot],
    pieces: Sequence[Sequence[RawPiece]],
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
    table.put(
        kids, b"<</Type/Pages/Count %d/Kids[%s]>>" % (len(page_numbers), b" ".join(b"%d 0 R" % n for n in page_numbers))
    )
    pages = []
    for index, (number, reference) in enumerate(zip(page_numbers, pdf.page_references, strict=True)):
        static_number, text_number = table.number(), table.number()
        about = {key: value for key, value in _object(pdf, reference).items() if key != "Contents"}
        table.put(number, table.value(about)[:-2] + b"/Contents[%d 0 R %d 0 R]>>" % (static_number, text_number))
        pages.append(_page(form, index, drawn, slots, pieces[index], statics[index], mcids, static_number, text_number))
    writer = StructureWriter(table, page_numbers, mcids)
    writer.write(structure, tree)
    written = put_fonts(table, fonts, library, drawn, faces, wanted, pages)
    objects_number = table.number()
    compiled = CompiledForm(
        form_id=form.form_id,
        sources=sources,
        digest="",
        doses=form.doses,
        axes=tuple(axes),
        faces=written.faces,
        programs=written.programs,
        slots=tuple(slots),
        pages=written.pages,
        streams=tuple(table.streams),
        loose=tuple(table.loose),
        objects_number=objects_number,
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


def _qr_image(form_id: str, drawn: Survey) -> tuple[str, bytes]:
    """The image that is another one with another QR text."""
    one, other = _images(drawn.base), _images(drawn.longer)
    if one.keys() != other.keys():
        raise compile_error(form_id, "its pictures have other names with other data", about="qr")
    changed = [name for name, thing in one.items() if thing.stream != other[name].stream]
    if len(changed) != 1:
        raise compile_error(form_id, "it must have one QR, and no other picture that depends on the data", about="qr")
    return changed[0], one[changed[0]].reference


def _join_resources(form_id: str, resources: Any, drawn: Survey, image_name: str) -> None:
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
    drawn: Survey,
    slots: Sequence[Slot],
    pieces: Sequence[RawPiece],
    statics: Sequence[tuple[Condition, bytes]],
    mcids: Mapping[bytes, tuple[int, int]],
    static_number: int,
    text_number: int,
) -> Page:
    def numbered(static: bytes) -> bytes:
        return MARK.sub(lambda match: b"<</MCID %d>>" % mcids[match[1]][1], static)

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
        statics=tuple(Static(condition, numbered(plain)) for condition, plain in statics),
        static_number=static_number,
        text_number=text_number,
        before=before,
        after=b"ET\nQ\n",
    )
