"""Whether the stamp draws what WeasyPrint drew: asked of each compiled form before it is used."""

from __future__ import annotations

from printsvc.domain.form import PageData
from printsvc.render.compiler.drawing import TM, Drawing, compile_error, draw
from printsvc.render.compiler.survey import Survey
from printsvc.render.compiler.variants import list_axes, probes, slot_paths
from printsvc.render.formfile import Form
from printsvc.render.stamp.compiled import CompiledForm
from printsvc.render.stamp.layout import place_line
from printsvc.render.stamp.stamper import Stamper, number_text
from printsvc.render.stamp.wayout import NeedsWeasyPrint
from printsvc.render.template import FormLibrary


def check_drawings(compiled: CompiledForm, form: Form, drawn: Survey) -> None:
    """RenderError if a slot's short texts are drawn otherwise than the stamp would, at any of its sizes."""
    stamper = Stamper(compiled)
    for setter in stamper.slots:
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
                    raise compile_error(
                        form.form_id, "its text is not set as HarfBuzz sets it, or not aligned so", slot.name
                    )


def check_whole(library: FormLibrary, compiled: CompiledForm, form: Form, page: PageData) -> None:
    """RenderError if the merged variants are not what WeasyPrint draws, for several axes at once and for the sample."""
    stamper = Stamper(compiled)
    # All of them: one that shows nothing by itself may show something together with another.
    axes = list_axes(form, slot_paths(form))
    for probe in [library.sample(form.form_id), *probes(form, page, axes)]:
        try:
            ours = stamper.content(probe)
            fit = stamper.fit(probe)
        except NeedsWeasyPrint:
            continue
        except KeyError as error:  # drawn without its slot being there
            slot = str(error.args[0])
            raise compile_error(form.form_id, "its variants do not add up, at or after this slot", slot) from error
        drawing = draw(library, form.form_id, probe, dict.fromkeys(form.slot_names(), 0) | fit)
        for number, (one, other) in enumerate(zip(ours, drawing.streams, strict=True)):
            if one.rstrip() != other.rstrip():
                raise compile_error(
                    form.form_id,
                    "its variants do not add up, at or after this slot",
                    _near(drawing, number, one, other),
                )


def _near(drawing: Drawing, page: int, ours: bytes, theirs: bytes) -> str:
    """The slot that is drawn last before the first difference, or the first one of the page."""
    places = {(run.x, run.y): name for name, box in drawing.boxes.items() if box.page == page for run in box.runs}
    last = next(iter(places.values()), "")
    for one, other in zip(ours.split(b"\n"), theirs.split(b"\n"), strict=False):
        match = TM.fullmatch(other)
        last = places.get((match[1], match[2]), last) if match else last
        if one != other:
            break
    return last
