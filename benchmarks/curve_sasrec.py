"""NDCG@10 against minutes of training, of RecTools' SASRec on the split that curve_kinrec.py wrote.

It runs in a virtual environment of its own, without kinrec:

    pip install "torch==2.13.0" "rectools[torch]==0.19.0" "numpy<2"
    OMP_NUM_THREADS=1 python benchmarks/curve_sasrec.py SPLIT.npz --settings '{"n_factors": 128}'

One JSON line after so many epochs each, until the minutes are over. RecTools trains and recommends;
only the places of the targets among what it recommends are looked up here. The clock stands
while it recommends. For the choice of settings the line says as well how it does on everyone's
second-last event, asked about with what is before that.

On Linux, MALLOC_MMAP_MAX_=0 and MALLOC_TRIM_THRESHOLD_=17179869184 in the environment keep it from
giving its large arrays back to the system at every step, which takes time.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd  # type: ignore[import-untyped, import-not-found, unused-ignore]
import torch
from rectools import Columns  # type: ignore[import-not-found, unused-ignore]
from rectools.dataset import Dataset  # type: ignore[import-not-found, unused-ignore]
from rectools.models import SASRecModel  # type: ignore[import-not-found, unused-ignore]

K = 10


def main() -> None:
    """Train by groups of epochs, and print a line after each."""
    args = _arguments()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    with np.load(args.split) as arrays:
        split = dict(arrays)
    training = _dataset(split["train_offsets"], split["train_items"])
    offsets, items, targets = split["query_offsets"], split["query_items"], split["targets"]
    queries = _dataset(offsets, items)
    # The last event of the history is the one for validation.
    earlier = _dataset(offsets - np.arange(len(offsets)), np.delete(items, offsets[1:] - 1))
    model = SASRecModel.from_config({"cls": "SASRecModel"} | args.settings)
    cpu = wall = 0.0
    epoch = 0
    while cpu < 60 * args.minutes:
        since = time.process_time(), time.perf_counter()
        model.fit_partial(training, min_epochs=args.every, max_epochs=args.every)
        cpu += time.process_time() - since[0]
        wall += time.perf_counter() - since[1]
        epoch += args.every
        line = {
            "set": str(split["name"]),
            "model": "RecTools SASRec",
            "settings": args.settings,
            "seed": args.seed,
            "epoch": epoch,
            "cpu_s": round(cpu, 1),
            "wall_s": round(wall, 1),
        }
        ndcg, hit_rate = _measure(model, queries, targets)
        line |= {"ndcg_at_10": ndcg, "hr_at_10": hit_rate}
        line["validation_ndcg_at_10"], _ = _measure(model, earlier, items[offsets[1:] - 1])
        print(json.dumps(line), flush=True)


def _dataset(offsets: np.ndarray, items: np.ndarray) -> Dataset:
    """Give histories as RecTools takes them; an event's time is its place in the history."""
    lengths = np.diff(offsets)
    places = np.arange(len(items)) - np.repeat(offsets[:-1], lengths)
    frame = pd.DataFrame(
        {
            Columns.User: np.repeat(np.arange(len(lengths)), lengths),
            Columns.Item: items,
            Columns.Weight: 1.0,
            Columns.Datetime: pd.to_datetime(places, unit="s"),
        }
    )
    return Dataset.construct(frame)


def _measure(model: SASRecModel, queries: Dataset, targets: np.ndarray) -> tuple[float, float]:
    """Give NDCG@10 and HR@10: who is recommended nothing, or not the target, counts 0."""
    people = queries.user_id_map.external_ids
    lists = model.recommend(
        people, queries, k=K, filter_viewed=True, on_unsupported_targets="ignore"
    )
    ranks = lists[Columns.Rank].to_numpy()
    found = lists[Columns.Item].to_numpy() == targets[lists[Columns.User].to_numpy(dtype=np.int64)]
    gains = 1.0 / np.log2(ranks[found] + 1.0)
    return round(gains.sum() / len(targets), 5), round(found.sum() / len(targets), 5)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("split", type=Path, help="what curve_kinrec.py wrote, .npz")
    parser.add_argument(
        "--settings", type=json.loads, default={}, help="of SASRecModel, where not its own, JSON"
    )
    parser.add_argument("--minutes", type=float, default=25.0, help="of CPU time in training")
    parser.add_argument("--every", type=int, default=1, help="epochs between measurements")
    parser.add_argument("--seed", type=int, default=42)
    return parser.parse_args()


if __name__ == "__main__":
    main()
