"""NDCG@10 against minutes of training, of the encoder that `kinrec train` fits; writes the split too.

    OMP_NUM_THREADS=1 python benchmarks/curve_kinrec.py EVENTS --split SPLIT.npz >> curve.jsonl

One JSON line per epoch, measured on everyone's last event: ranked among all items that are not in the
history, which is all but the last event, by a model that knows no one's last two. The clock stands
while it is measured. `kinrec train` stops at the epoch that is best on validation; here all of the
schedule run. With `--evaluation`, the file that `kinrec evaluate` writes, and `--minutes`, what
`kinrec train` took, there is a line for the whole of what is served as well.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from kinrec.trainer.config import TrainConfig
from kinrec.trainer.encoders import visible_events
from kinrec.trainer.fit import Fit, Task
from kinrec.trainer.metrics import ndcg, ranks_of
from kinrec.trainer.splits import Cases, Split, find_cases
from kinrec.trainer.training import Inputs, load_log
from kinrec.trainer.windows import Windows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kinrec.engine.histories import Histories
    from kinrec.trainer.encoders import SequenceEncoder
    from kinrec.trainer.fit import Epoch, FitState


def main() -> None:
    """Write the split, fit, and print a line after each epoch."""
    args = _arguments()
    torch.set_num_threads(1)
    name = args.events.name.partition(".")[0]
    config = TrainConfig(seed=args.seed, device="cpu")
    log = load_log(Inputs([args.events]), config)
    split = Split()
    training_part = split.training_part(log.histories)
    cases = find_cases(log.histories, split, include_seen=False)
    save_split(args.split, name, len(log.items), training_part, cases)
    if args.evaluation:
        print(json.dumps(_whole(args.evaluation, name, args.minutes)), flush=True)
    clock = Clock()
    task = Task(training_part, len(log.items), len(log.event_types) + 1, None)
    fit = Fit(task, config)
    measured = copy.deepcopy(fit.encoder)

    def measure(state: FitState) -> None:
        cpu, wall = clock.stop()
        measured.load_state_dict(state["mean"])
        quality = _measure(measured, cases, config)
        line = {
            "set": name,
            "model": f"kinrec, {config.encoder} alone",
            "seed": args.seed,
            "epoch": len(fit.history),
            "of": fit.planned_epochs,
            "cpu_s": round(cpu, 1),
            "wall_s": round(wall, 1),
        }
        print(json.dumps(line | quality), flush=True)
        clock.start()

    fit.run(Silent(), measure)


class Clock:
    """Adds up the CPU and the wall time of this process while it is not stopped."""

    def __init__(self) -> None:
        self._cpu = self._wall = 0.0
        self.start()

    def start(self) -> None:
        """Go on."""
        self._since = time.process_time(), time.perf_counter()

    def stop(self) -> tuple[float, float]:
        """Stop, and give the seconds so far: CPU and wall."""
        cpu, wall = self._since
        self._cpu += time.process_time() - cpu
        self._wall += time.perf_counter() - wall
        return self._cpu, self._wall


class Silent(contextlib.AbstractContextManager["Silent", None]):
    """A monitor that shows nothing."""

    def __exit__(self, *error: object) -> None:
        """Do nothing."""

    def step(self) -> None:
        """Do nothing."""

    def epoch(self, epoch: Epoch, epochs: int) -> None:
        """Do nothing."""


def save_split(path: Path, name: str, items: int, training: Histories, cases: Cases) -> None:
    """Write what a model may know, whom it is asked about and with which history, and the targets."""
    np.savez_compressed(
        path,
        name=name,
        items=items,
        train_offsets=training.offsets,
        train_items=training.items,
        query_users=cases.users,
        query_offsets=cases.queries.offsets,
        query_items=cases.queries.items,
        targets=cases.targets,
    )


@torch.no_grad()
def _measure(encoder: SequenceEncoder, cases: Cases, config: TrainConfig) -> dict[str, float]:
    """Give NDCG@10 and HR@10 of an encoder alone; everyone has one target."""
    encoder.eval()
    items = encoder.item_embedding.weight.numpy()
    ranks: NDArray[np.int64] = np.empty(len(cases), np.int64)
    queries = cases.queries.last_sessions(config.cleaning.session_gap)
    limit = visible_events(encoder, 4 * config.window)
    for chosen, (ids, types, gaps, last) in Windows.ends(queries, np.arange(len(cases)), limit):
        vectors = encoder.vectors(ids, types, gaps)[torch.arange(len(last)), last].numpy()
        seen = [cases.queries.user(person).items for person in chosen.tolist()]
        ranks[chosen] = ranks_of(vectors @ items.T, cases.targets[chosen], seen)
    return {
        "ndcg_at_10": round(float(ndcg(ranks, 10).mean()), 5),
        "hr_at_10": round(float((ranks < 10).mean()), 5),
    }


def _whole(evaluation: Path, name: str, minutes: float) -> dict[str, object]:
    measures = json.loads(evaluation.read_text())["methods"]["kinrec"]["measures"]
    return {
        "set": name,
        "model": "kinrec, as served",
        "cpu_s": round(60 * minutes, 1),
        "ndcg_at_10": round(measures["NDCG@10"], 5),
        "hr_at_10": round(measures["HR@10"], 5),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("events", type=Path, help="the event log; its name is that of the set")
    parser.add_argument("--split", type=Path, required=True, help="where to write the split, .npz")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--evaluation", type=Path, help="the evaluation.json of a trained bundle")
    parser.add_argument(
        "--minutes", type=float, default=0.0, help="CPU minutes that training the bundle took"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
