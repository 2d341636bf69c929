"""What all pages share: one HTML file with everything in it, and how numbers and figures are set in it."""

import base64
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jinja2
import matplotlib as mpl
import numpy as np
from jinja2.ext import Extension
from jinja2.lexer import Token
from markupsafe import Markup
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from PIL import Image

from flowers.atomic import whole_file
from flowers.config.compose import find_in_conf, names_in
from flowers.errors import listed
from flowers.report.style import FAINT, INK, RIGHT, WRONG

PHOTOGRAPH = "photograph"
_RENDERED = "flowers.sources.synthetic."


def noun_of(dataset: str) -> str:
    """Say what a picture of a data set is called: what is rendered is an illustration and no photograph.

    Args:
        dataset: Its name; what ``conf/data`` does not know holds photographs.
    """
    if dataset not in names_in("data"):
        return PHOTOGRAPH
    source = OmegaConf.select(OmegaConf.load(find_in_conf(Path(f"conf/data/{dataset}.yaml"))), "source._target_")
    return "illustration" if str(source).startswith(_RENDERED) else PHOTOGRAPH


class _OwnNoun(Extension):
    """Writes another noun where a template itself, and no value in it, says photograph."""

    def filter_stream(self, stream: Iterable[Token]) -> Iterator[Token]:
        noun = str(self.environment.globals["noun"])

        def replace(found: re.Match[str]) -> str:
            article = f"{found[1]}{'n' if noun[0] in 'aeiou' else ''} " if found[1] else ""
            return article + (noun if found[2] == "p" else noun.capitalize())

        for line, kind, text in stream:
            # After a dot it is a name in a script.
            words = re.sub(r"(?<![.\w])(?:([Aa]) )?([Pp])hotograph", replace, text) if kind == "data" else text
            yield Token(line, kind, words)


def open_template(name: str, noun: str = PHOTOGRAPH) -> jinja2.Template:
    """Open a file of `templates`, in which a missing value is an error.

    Names that a page is filled with are escaped; in a text, where each line is a sentence, they stay on one line.

    Args:
        name: The file.
        noun: What its text calls a photograph, see :func:`noun_of`.
    """
    is_text = name.endswith(".txt.jinja")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=not is_text,
        finalize=_on_one_line if is_text else None,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_OwnNoun],
    )
    environment.globals["noun"] = noun
    for each in (percent, points, magnitude, duration, listed, picture_address, svg):
        environment.filters[each.__name__] = each
    return environment.get_template(name)


def _on_one_line(value: Any) -> Any:
    return " ".join(value.splitlines()) if isinstance(value, str) else value


def write_page(out: Path, template: str, noun: str, **values: Any) -> None:
    """Fill a template into a file.

    Args:
        out: The file to write; its folder is made.
        template: A file of `templates`.
        noun: What its text calls a photograph.
        **values: What it is filled with.
    """
    page = open_template(template, noun).render(**values)
    with whole_file(out) as partial:
        partial.write_text(page, encoding="utf-8", errors="backslashreplace")  # of a file's name, any bytes


def sentences(template: str, noun: str, **values: Any) -> list[str]:
    """Fill a text template, of which each line is a sentence; the noun is for photographs."""
    return open_template(template, noun).render(**values).splitlines()


def percent(share: float | None, decimals: int = 1) -> str:
    """Write a share in [0, 1] as a percentage; None and NaN as a dash."""
    return "–" if share is None or np.isnan(share) else f"{100 * share:.{decimals}f} %"


def points(difference: float, bare: bool = False) -> str:
    """Write a difference of shares in percentage points, with or without the word."""
    number = f"{100 * difference:.1f}".replace("-0.0", "0.0")
    return number if bare else f"{number} points"


def magnitude(number: float) -> str:
    """Write a large count in thousands, millions or billions, with three digits."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f}"


def duration(seconds: float) -> str:
    """Write a duration in the two units that matter."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def picture_address(pixels: np.ndarray, quality: int = 82, most_px: int | None = None) -> str:
    """Write a picture as an address that holds the picture itself.

    Args:
        pixels: (H,W,3), or with opacity (H,W,4), uint8.
        quality: Of WebP, up to 100.
        most_px: A longer side is brought down to this; None: it stays.
    """
    stream = io.BytesIO()
    image = Image.fromarray(pixels)
    if most_px is not None:
        image.thumbnail((most_px, most_px), Image.Resampling.LANCZOS)
    image.save(stream, "WEBP", quality=quality)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"


def svg(figure: Figure, salt: str) -> Markup:
    """Write a figure as inline SVG that takes its ink from the page, so that it can be read in dark mode too.

    Args:
        figure: The figure; its background is left out.
        salt: Told apart from those of the page's other figures, and the same in every run.

    Returns:
        The `<svg>` element, without any address in it except the names of XML's own namespaces.
    """
    target = io.StringIO()
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    # Text stays text: smaller, sharper, and found by the browser's search.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(target, format="svg", facecolor="none", metadata=metadata)
    text = target.getvalue()
    text = text[text.index("<svg") :]
    # Groups' names repeat from figure to figure, and nothing refers to them.
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    for color, variable in ((INK, "ink"), (FAINT, "faint"), (WRONG, "wrong"), (RIGHT, "right")):
        text = text.replace(color, f"var(--{variable})")
    # Outlines come with six decimals of a point, which would be most of the page's size.
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\.\d{2})\d+", r"\1", tag[0]), text)
    return Markup(text)  # matplotlib has escaped all names in it
