"""NDCG@10 on the test events against minutes of training, of RecTools' SASRec.

What `benchmarks/curve.py` prints for kinrec, with the same split and the same ranking over all items
that are not in the history. It runs in an environment of its own:

    python -m venv rectools-env
    rectools-env/bin/pip install "rectools[torch]==0.19.0" torch==2.13.0 "numpy<2" polars
    OMP_NUM_THREADS=1 rectools-env/bin/python benchmarks/sasrec.py events.parquet
"""

import argparse
import logging
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

CUTOFF = 10


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("events", type=Path, help="a Parquet file of events")
    parser.add_argument("--epochs", type=int, default=30, help="at most (%(default)s)")
    parser.add_argument("--every", type=int, default=3, help="epochs between tests (%(default)s)")
    parser.add_argument("--minutes", type=float, default=30, help="at most (%(default)s)")
    parser.add_argument("--factors", type=int, default=128, help="(%(default)s)")
    parser.add_argument("--dropout", type=float, default=0.2, help="(%(default)s)")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    train, history, test = split(pl.read_parquet(args.events).to_dict(as_series=False))
    model = SASRecModel(
        session_max_len=50,
        n_factors=args.factors,
        dropout_rate=args.dropout,
        epochs=args.epochs,
        deterministic=True,
    )
    dataset, asked = Dataset.construct(train), Dataset.construct(history)
    spent = 0.0
    for epoch in range(args.every, args.epochs + 1, args.every):
        before = time.process_time()
        model.fit_partial(dataset, min_epochs=args.every, max_epochs=args.every)
        spent += time.process_time() - before
        found = model.recommend(test[Columns.User].unique(), asked, k=CUTOFF, filter_viewed=True)
        ndcg, hits = measure(found, test)
        print(
            f"{epoch}/{args.epochs}  {spent / 60:.2f} min  NDCG@10 {ndcg:.4f}  HR@10 {hits:.4f}",
            flush=True,
        )
        if spent > 60 * args.minutes:
            break


def split(
    events: dict[str, list[object]],
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Give the training part, the histories to ask with, and the last event of everyone."""
    frame = pd.DataFrame(
        {
            Columns.User: events["user_id"],
            Columns.Item: events["item_id"],
            Columns.Weight: 1.0,
            Columns.Datetime: pd.to_datetime(events["timestamp"], unit="s"),
        }
    ).sort_values([Columns.User, Columns.Datetime], kind="stable")
    from_end = frame.groupby(Columns.User).cumcount(ascending=False)
    enough = frame.groupby(Columns.User)[Columns.Item].transform("size") > 2
    history, test = frame[(from_end > 0) | ~enough], frame[(from_end == 0) & enough]
    return frame[(from_end > 1) | ~enough], history, test


def measure(found: pd.DataFrame, test: pd.DataFrame) -> tuple[float, float]:
    """Give NDCG@10 and HR@10 of one item to find for each person."""
    joined = test.merge(found, on=[Columns.User, Columns.Item], how="left")
    gains = (1.0 / np.log2(joined[Columns.Rank] + 1.0)).fillna(0.0)
    return gains.mean(), (gains > 0).mean()


if __name__ == "__main__":
    main()
