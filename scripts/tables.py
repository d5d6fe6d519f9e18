"""Prints the tables of docs/results.md from evaluated stores: ``scripts/tables.py models/*``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

MEASURES = ("HR@10", "Precision@10", "NDCG@10", "MRR@10", "Coverage@10")
SOURCES = ("sequence", "similar_users", "factors", "transitions", "history", "popularity")


def main() -> None:
    """Print a table of methods for each store, and one of what each source adds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stores", nargs="+", type=Path, help="stores whose newest version counts")
    parser.add_argument("--short", action="store_true", help="one row for each store instead")
    args = parser.parse_args()
    found = [(store.name, *_read(store)) for store in args.stores]
    if args.short:
        print("| store | HR@10 | NDCG@10 | 95 % | Coverage@10 |\n|---|---|---|---|---|")
        for name, evaluation, _ in found:
            kinrec = evaluation["methods"]["kinrec"]
            values = [_number(kinrec["measures"][one]) for one in ("HR@10", "NDCG@10")]
            interval = _interval(kinrec["intervals"]["NDCG@10"])
            coverage = _number(kinrec["measures"]["Coverage@10"])
            print(f"| {name} | {' | '.join(values)} | {interval} | {coverage} |")
        return
    for name, evaluation, _ in found:
        print(f"\n{name}, {evaluation['people']:,} people\n")
        print(_methods(evaluation["methods"]))
    print("\n| log | blend | " + " | ".join(SOURCES) + " |\n" + "|---" * (len(SOURCES) + 2) + "|")
    for name, _, manifest in found:
        print(_sources(name, manifest["validation"]))
    print(
        "\n| log | blend | corrected | more | hidden units | discount |\n|---|---|---|---|---|---|"
    )
    for name, _, manifest in found:
        print(_correction(name, manifest))


def _read(store: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    bundle = max(path.parent for path in store.glob("*/evaluation.json"))
    return tuple(
        json.loads((bundle / name).read_text("utf-8"))
        for name in ("evaluation.json", "manifest.json")
    )


def _methods(methods: dict[str, Any]) -> str:
    head = ["method", *MEASURES[:3], "95 % of NDCG@10", *MEASURES[3:], "kinrec less it, NDCG@10"]
    head.append("kinrec's coverage beside its")
    rows = [head, ["---"] * len(head)]
    own = methods["kinrec"]["measures"]["Coverage@10"]
    for name, method in methods.items():
        values = [_number(method["measures"][measure]) for measure in MEASURES]
        difference, coverage = "", ""
        if name != "kinrec":
            found = method["differences"]["NDCG@10"]
            low, high = found["interval"]
            difference = f"{found['mean']:+.4f} ({low:+.4f} to {high:+.4f})"
            coverage = f"{own / method['measures']['Coverage@10']:.2f}"
        interval = _interval(method["intervals"]["NDCG@10"])
        rows.append([name, *values[:3], interval, *values[3:], difference, coverage])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _sources(name: str, validation: dict[str, Any]) -> str:
    without = validation["without_source_ndcg_at_10"]
    cells = [
        f"{_number(validation['source_ndcg_at_10'][source])}, "
        + (_number(without[source]) if source in without else "not asked")
        for source in SOURCES
    ]
    return f"| {name} | {_number(validation['blend_ndcg_at_10'])} | {' | '.join(cells)} |"


def _correction(name: str, manifest: dict[str, Any]) -> str:
    blend, validation = manifest["blend"], manifest["validation"]
    discount = f"{blend.get('popularity_discount', 0.0):g}"
    if "ranker" not in blend:
        return f"| {name} | | not corrected | | | {discount} |"
    plain, ranked = validation["unranked_ndcg_at_10"], validation["ranked_ndcg_at_10"]
    hidden = len(blend["ranker"]["hidden_biases"])
    more = f"{100 * (ranked / plain - 1):.1f} %"
    return f"| {name} | {_number(plain)} | {_number(ranked)} | {more} | {hidden} | {discount} |"


def _number(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")


def _interval(interval: tuple[float, float]) -> str:
    return f"{_number(interval[0])} to {_number(interval[1])}"


if __name__ == "__main__":
    main()
