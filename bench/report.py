"""Figures of a bench: printed as a table, appended as JSON lines to bench/results.jsonl."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

RESULTS = Path(__file__).with_name("results.jsonl")


class Figure(TypedDict):
    """One figure and its rival, both taken in the same run; `ratio` is value / rival."""

    name: str
    value: float
    unit: str
    against: str
    ratio: float
    cores: int


def figure(name: str, value: float, unit: str, against: str, rival: float) -> Figure:
    """A figure beside its rival, in the same unit."""
    return Figure(name=name, value=value, unit=unit, against=against, ratio=value / rival, cores=os.cpu_count() or 1)


def report(figures: Iterable[Figure]) -> list[Figure]:
    """Print, write, and hand back."""
    kept = list(figures)
    width = max((len(row["name"]) for row in kept), default=0)
    for row in kept:
        print(
            f"{row['name']:<{width}}  {row['value']:>12,.1f} {row['unit']:<9} {row['ratio']:>6.2f} × {row['against']}"
        )
    with RESULTS.open("a") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in kept)
    return kept
