"""The charts of the report, as SVG to stand inside a page."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from kinrec.trainer.measuring import KINREC

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from kinrec.bundle.v1.manifest_pb2 import EpochRecord
    from kinrec.trainer.evaluation import Evaluation

# Told apart by those who see colours differently: Okabe & Ito, "Color Universal Design", 2008.
_COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#8c6d00", "#e69f00", "#666666")
_MARKERS = "osD^vP*X"
_SMALL, _WIDE = (4.2, 2.9), (4.6, 4.0)  # inches: text keeps its size on a phone
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "kinrec",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#777777",
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "legend.frameon": False,
}


def _new(size: tuple[float, float], x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_axisbelow(True)
    return figure, axes


def _svg(figure: Figure, label: str) -> str:
    """Give the SVG element alone, with a label for those who hear the page."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    element = text.getvalue()
    element = element[element.index("<svg") :]
    return element.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def draw_epochs(epochs: Sequence[EpochRecord], best: int) -> list[tuple[str, str]]:
    """Draw loss, learning rate and validation NDCG@10 by epoch: pairs of title and SVG."""
    charts = (
        ("Loss", "loss"),
        ("Learning rate", "learning_rate"),
        ("NDCG@10 on held-out events", "ndcg_at_10"),
    )
    numbers = [epoch.epoch for epoch in epochs]
    drawn = []
    with mpl.rc_context(_STYLE):
        for place, (title, field) in enumerate(charts):
            figure, axes = _new(_SMALL, "epoch", "")
            values = [getattr(epoch, field) for epoch in epochs]
            axes.plot(numbers, values, color=_COLOURS[place + 1], marker=".")
            axes.axvline(best, color="#999999", linestyle=":", linewidth=1.2)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            drawn.append((title, _svg(figure, f"{title} by epoch")))
    return drawn


def draw_accuracy_and_coverage(evaluation: Evaluation) -> str:
    """Draw each method by how many people it serves well and how much of the catalogue it shows."""
    with mpl.rc_context(_STYLE):
        figure, axes = _new(_WIDE, "Coverage@10: share of the items shown to anyone", "HR@10")
        for place, result in enumerate(evaluation.results):
            lower, upper = result.intervals["HR@10"]
            hits = result.measures["HR@10"]
            axes.errorbar(
                result.measures["Coverage@10"],
                hits,
                yerr=[[max(0.0, hits - lower)], [max(0.0, upper - hits)]],
                linestyle="",
                label=result.method,
                elinewidth=1.0,
                **_look(result.method, place),
            )
        axes.xaxis.set_major_formatter(FuncFormatter(_percent))
        axes.yaxis.set_major_formatter(FuncFormatter(_percent))
        axes.set_ylim(bottom=0.0)
        _legend(figure)
        return _svg(figure, "HR@10 against coverage, by method")


def draw_by_length(evaluation: Evaluation) -> str:
    """Draw Recall@10 by how long a person's history is."""
    buckets = list(evaluation.people_by_length)
    with mpl.rc_context(_STYLE):
        figure, axes = _new(_WIDE, "events in a person's history", "Recall@10")
        for place, result in enumerate(evaluation.results):
            axes.plot(
                range(len(buckets)),
                [result.by_length[bucket]["Recall@10"] for bucket in buckets],
                label=result.method,
                linewidth=2.6 if result.method == KINREC else 1.1,
                **_look(result.method, place),
            )
        axes.set_xticks(range(len(buckets)), buckets)
        axes.yaxis.set_major_formatter(FuncFormatter(_percent))
        axes.set_ylim(bottom=0.0)
        _legend(figure)
        return _svg(figure, "Recall@10 by length of history, by method")


def draw_differences(evaluation: Evaluation) -> str:
    """Draw the paired differences of NDCG@10 to each baseline with their intervals."""
    others = [result for result in evaluation.results if result.method != KINREC]
    with mpl.rc_context(_STYLE):
        figure, axes = _new(_WIDE, "NDCG@10 of kinrec less that of the method", "")
        for place, result in enumerate(others):
            difference = result.differences["NDCG@10"]
            lower, upper = difference.interval
            axes.plot((lower, upper), (place, place), color=_COLOURS[0], linewidth=2.2)
            axes.plot(difference.mean, place, color=_COLOURS[0], marker="o")
        axes.axvline(0.0, color="#555555", linewidth=1.0)
        axes.set_yticks(range(len(others)), [result.method for result in others])
        axes.set_ylim(len(others) - 0.5, -0.5)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        return _svg(figure, "Differences of NDCG@10 between kinrec and each method")


def _look(method: str, place: int) -> dict[str, Any]:
    return {
        "color": _COLOURS[place % len(_COLOURS)],
        "marker": _MARKERS[place % len(_MARKERS)],
        "markersize": 9.0 if method == KINREC else 5.5,
        "zorder": 3.0 if method == KINREC else 2.0,
    }


def _legend(figure: Figure) -> None:
    figure.legend(loc="outside lower center", ncols=3, fontsize=8.5, handletextpad=0.4)


def _percent(value: float, _: object) -> str:
    return f"{100 * value:g} %"
