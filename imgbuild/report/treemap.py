"""What is in the layers: areas as large as files, to be opened down to them; and the same as a table.

Without JavaScript, layers and what is at their top are drawn; the page's script draws it anew, from the data beside it, and lets
directories be opened.
"""

from __future__ import annotations

from imgbuild.hints import Iterator
from imgbuild.light import json
from imgbuild.report import Report, ReportLayer
from imgbuild.report.files import Files, largest
from imgbuild.report.markup import Html, element, one_line, short, visible
from imgbuild.report.quantities import count_text, number_text, share_text, size_text
from imgbuild.report.squarify import Rectangle, squarify

_PLACE = Rectangle(0, 0, 1000, 420)
"""What is drawn without knowing how wide the reader's page is, in units of which the picture is 1000 by 420."""
_LARGEST = 20
_SHADES = 8


def treemap(report: Report) -> Html:
    """The section's content."""
    if not report.layers:
        text = "The image has no layers." if report.of_image else "No layer was made."
        return element("p", text, class_="note")
    listed = [layer for layer in report.layers if layer.files is not None and layer.files.size]
    several = " for this machine's platform" if len(report.build.platforms) > 1 else ""
    intro = f"The layers of the image{several}" if report.of_image else "The layers that the steps made"
    total = sum(_whole(layer) for layer in report.layers)
    stored = sum(layer.size for layer in report.layers)
    words = (
        f"{intro}, the lowest first: {count_text(len(report.layers), 'layer')}, {size_text(total)} of files, {size_text(stored)} stored."
    )
    picture = _picture(report, listed) if listed else element("p", "There are no files in them, as far as they are known.", class_="note")
    return element("div", element("p", words), picture, _table(report, total), class_="layers")


def data(report: Report) -> Html:
    """What the script draws from: of each file and directory its name, bytes, files, and what is in it (0: a file; 1: a directory that is
    not opened)."""
    layers = [_packed(f"{layer.number} · {_title(layer)}", layer.files) for layer in report.layers if layer.files and layer.files.size]
    text = json.dumps(["all layers", sum(layer[1] for layer in layers), sum(layer[2] for layer in layers), layers], separators=(",", ":"))
    # Nothing in it ends the element.
    safe = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return Html(f'<script type="application/json" id="files">{safe}</script>')


def _packed(name: str, files: Files) -> list[object]:
    inside: object = [_packed(child.name, child) for child in files.children] or (1 if files.directory else 0)
    return [visible(name), files.size, files.count, inside]


def _picture(report: Report, listed: list[ReportLayer]) -> Html:
    drawn = element(
        "svg",
        list(_areas(listed)),
        class_="static",
        width="100%",
        height=_PLACE.height,
        role="img",
        aria_label="Layers by the size of their files; the table below says the same",
    )
    frame = element("div", drawn, id="treemap", class_="treemap")
    crumbs = element("nav", element("ol", id="crumbs"), aria_label="Opened directories", class_="crumbs js")
    hint = element("p", "Arrow keys go from area to area, Enter opens one, Backspace goes back.", class_="hint js")
    return element("div", crumbs, frame, hint, data(report))


def _areas(listed: list[ReportLayer]) -> Iterator[Html]:
    ordered = sorted(listed, key=lambda layer: (-_whole(layer), layer.number))
    for layer, place in zip(ordered, squarify([_whole(layer) for layer in ordered], _PLACE), strict=True):
        assert layer.files is not None
        shade = f"a{layer.number % _SHADES}"
        inner = [child for child in layer.files.children if child.size]
        inner.sort(key=lambda child: (-child.size, child.name))
        parts = [_area(child, part, shade) for child, part in zip(inner, squarify([child.size for child in inner], place), strict=True)]
        yield _layer_area(layer, place, shade, parts)


def _layer_area(layer: ReportLayer, place: Rectangle, shade: str, parts: list[Html]) -> Html:
    """A layer's area with those that are in it."""
    x, y, wide, high = _percent(place)
    label = element(
        "svg", element("text", f"{layer.number} · {_title(layer)}", x=6, y=15, class_="name"), x=x, y=y, width=wide, height=high
    )
    return element(
        "g", element("title", _said(layer)), parts, element("rect", x=x, y=y, width=wide, height=high, class_=f"whole {shade}"), label
    )


def _area(child: Files, place: Rectangle, shade: str) -> Html:
    x, y, wide, high = _percent(place)
    return element("rect", x=x, y=y, width=wide, height=high, class_=f"part {shade}")


def _percent(place: Rectangle) -> tuple[str, str, str, str]:
    across, down = 100 / _PLACE.width, 100 / _PLACE.height
    return (
        f"{number_text(place.x * across)}%",
        f"{number_text(place.y * down)}%",
        f"{number_text(place.width * across)}%",
        f"{number_text(place.height * down)}%",
    )


def _table(report: Report, total: int) -> Html:
    rows = [_row(layer, total) for layer in report.layers]
    heads = [("Layer", ""), ("Files", "n"), ("Size", "n"), ("Share", ""), ("Stored", "n"), ("Largest files", "")]
    head = element("tr", [element("th", word, scope="col", class_=kind or None) for word, kind in heads])
    table = element("table", element("thead", head), element("tbody", rows), class_="layer-table")
    return element("div", table, class_="scroll", tabindex=0, role="region", aria_label="Layers")


def _row(layer: ReportLayer, total: int) -> Html:
    whole = _whole(layer)
    name = element("code", short(layer.instruction, 90) or layer.diff_id[:19], title=one_line(layer.instruction)[:2000] or layer.diff_id)
    link = (
        element("a", element("span", f"#{layer.step}", class_="num"), href=f"#step-{layer.step}")
        if layer.step
        else element("span", "base", class_="place")
    )
    width = f"{number_text(100 * whole / total if total else 0)}%"
    area = element("rect", width=width, height=8, y=3, rx=1.5, class_=f"whole a{layer.number % _SHADES}")
    bar = element("svg", area, width="100%", height=14, aria_hidden="true")
    return element(
        "tr",
        element("th", f"{layer.number} ", link, " ", name, scope="row"),
        element("td", _counted(layer), class_="n"),
        element("td", size_text(whole), class_="n"),
        element("td", element("div", bar, element("span", share_text(whole, total)), class_="share")),
        element("td", size_text(layer.size), class_="n"),
        element("td", _largest(layer)),
    )


def _counted(layer: ReportLayer) -> str:
    if layer.files is None:
        return "not kept"
    gone = f", {layer.deleted:,} deleted" if layer.deleted else ""
    return f"{layer.files.count:,}{gone}"


def _largest(layer: ReportLayer) -> Html | None:
    found = largest(layer.files, _LARGEST) if layer.files is not None else []
    if not found:
        return None
    items = [element("li", element("code", path), " ", element("span", size_text(size), class_="place")) for path, size in found]
    path, size = found[0]
    summary = element("summary", element("code", short(path.rpartition("/")[2], 32)), f" {size_text(size)}")
    return (
        element("details", summary, element("ol", items))
        if len(found) > 1
        else element("span", element("code", path), f" {size_text(size)}")
    )


def _said(layer: ReportLayer) -> str:
    count = count_text(layer.files.count if layer.files else None, "file")
    return f"layer {layer.number}: {_title(layer)}; {count}, {size_text(_whole(layer))}"


def _title(layer: ReportLayer) -> str:
    return short(layer.instruction, 80) or layer.diff_id[:19]


def _whole(layer: ReportLayer) -> int:
    return layer.files.size if layer.files is not None else layer.uncompressed
