"""The README's picture of the rendered photographs: `python -m benchmarks.montage`.

Shows the first images of each species as the pipeline made them (`make repro` first), none chosen by hand.
"""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

TILE_PX, GAP_PX, LABEL_PX = 96, 4, 104
INK, PAPER = (40, 44, 50), (255, 255, 255)


def main() -> None:
    """Write docs/sample.jpg and docs/species.jpg."""
    sample = sorted(folder for folder in Path("artifacts/download/sample").iterdir() if folder.is_dir())
    save([(folder.name, sorted(folder.glob("*.jpg"))[:8]) for folder in sample], Path("docs/sample.jpg"))
    others = next(Path("runs/data").glob("species-*/"))
    firsts = [sorted(folder.glob("*.jpg"))[0] for folder in sorted(others.iterdir())]
    save([("", firsts[start : start + 8]) for start in range(0, len(firsts), 8)], Path("docs/species.jpg"), named=True)


def save(rows: list[tuple[str, list[Path]]], target: Path, named: bool = False) -> None:
    """Paste rows of photographs below each other, with a label before each row or a name under each photograph."""
    font = ImageFont.load_default(14)
    small = ImageFont.load_default(11)
    left = 0 if named else LABEL_PX
    under = 16 if named else 0
    step = TILE_PX + GAP_PX
    columns = max(len(files) for _, files in rows)
    page = Image.new("RGB", (left + columns * step - GAP_PX, len(rows) * (step + under) - GAP_PX), PAPER)
    draw = ImageDraw.Draw(page)
    for row, (label, files) in enumerate(rows):
        top = row * (step + under)
        draw.text((left - 10, top + TILE_PX // 2), label, fill=INK, font=font, anchor="rm")
        for column, file in enumerate(files):
            with Image.open(file) as image:
                page.paste(image.resize((TILE_PX, TILE_PX)), (left + column * step, top))
            if named:
                name = file.parent.name.replace("_", " ")
                middle = (left + column * step + TILE_PX // 2, top + TILE_PX + 1)
                draw.text(middle, name, fill=INK, font=small, anchor="ma")
    target.parent.mkdir(parents=True, exist_ok=True)
    page.save(target, quality=88)


if __name__ == "__main__":
    main()
