"""Measure again what benchmarks/README.md states.

All but ``photographs``, ``cold_start`` and ``robustness`` need nothing. Run them alone on the machine: whatever else
runs is measured with them.
"""

import argparse
import platform
from functools import partial
from pathlib import Path

from benchmarks import (
    cold_start,
    duplicates,
    intake,
    logging_cost,
    ordering,
    photographs,
    pipeline,
    rendering,
    report_page,
    robustness,
)
from flowers.config.provenance import git_commit


def main() -> None:
    """Read the command line and print each measurement as a table."""
    measurements = {
        "pipeline": pipeline.measure,
        "rendering": rendering.measure,
        "logging_cost": logging_cost.measure,
        "ordering": ordering.measure,
        "duplicates": duplicates.measure,
        "intake": intake.measure,
        "report_page": report_page.measure,
    }
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    of_photographs = {"cold_start": cold_start.measure, "robustness": robustness.measure}
    known = [*measurements, *of_photographs]
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}; default: all but the last two"
    )
    use = "class folders, for the last two; without a NAME: train on them and test"
    parser.add_argument("--photographs", type=Path, metavar="DIR", help=use)
    parser.add_argument("--weights", type=Path, metavar="FILE", help="of MobileNetV2, to be fine-tuned on them")
    options = parser.parse_args()
    if unknown := set(options.names) - set(known):
        parser.error(f"no measurement is called {', '.join(sorted(unknown))}: choose of {', '.join(known)}")
    for name in of_photographs.keys() & set(options.names):
        if not (options.photographs and options.weights):
            parser.error(f"{name} needs --photographs and --weights")
        measurements[name] = partial(of_photographs[name], options.photographs, options.weights)
    print(f"commit {git_commit()}, Python {platform.python_version()}, {platform.processor() or platform.machine()}")
    names = options.names or ([] if options.photographs else list(measurements))
    for name in names:
        show(name, measurements[name]())
    if options.photographs and not options.names:
        show("photographs", photographs.measure(options.photographs, options.weights))


def show(name: str, rows: list[tuple[str, str]]) -> None:
    """Print rows as a Markdown table."""
    print(f"\n## {name}\n\n| what | measured |\n|---|---|")
    for what, figure in rows:
        print(f"| {what} | {figure} |")
    print(flush=True)


if __name__ == "__main__":
    main()
