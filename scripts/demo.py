"""`make demo`: from sample events to answers over gRPC, with the same commands a person would type."""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from kinrec.client import Client, Event

if TYPE_CHECKING:
    from collections.abc import Sequence

KINREC = (sys.executable, "-m", "kinrec.cli")
READY = "kinrec: serving "


def main() -> None:
    """Write sample events, train on them, serve the bundle and ask it about two people."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--dir", type=Path, default=Path("demo"))
    args = parser.parse_args()
    sample, store = args.dir / "sample", args.dir / "models" / "shop"
    start = time.monotonic()
    run("sample-data", f"--users={args.users}", f"--items={args.items}", "--seed=7", "--force",
        f"--out={sample}")  # fmt: skip
    # Fewer epochs than by default: enough for a demonstration.
    run("train", f"--events={sample / 'events.csv'}", f"--items={sample / 'items.csv'}",
        f"--out={store}", "--epochs=15")  # fmt: skip
    run("evaluate", str(store))
    command = [*KINREC, "serve", str(store), "--port=0"]
    say(f"$ kinrec {' '.join(command[3:])}")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            ask(wait_until_ready(server), sample)
        finally:
            server.terminate()
    say(f"\nThat took {time.monotonic() - start:.0f} s. The bundle is in {store}.")


def run(*arguments: str) -> None:
    """Run a kinrec command and stop if it fails."""
    say(f"$ kinrec {' '.join(arguments)}")
    # So small a model gains little by several threads, and loses much where the cores have other work:
    # they wait for each other.
    subprocess.run([*KINREC, *arguments], check=True, env={"OMP_NUM_THREADS": "1", **os.environ})


def wait_until_ready(server: subprocess.Popen[str]) -> str:
    """Wait for the line that says where the server listens, and give the address."""
    if server.stdout is None:
        raise RuntimeError("the server was started without a pipe")
    for line in server.stdout:
        say(line.rstrip())
        if line.startswith(READY):
            return line.split()[-1]
    raise SystemExit("the server ended before it was ready")


def ask(target: str, sample: Path) -> None:
    """Ask about a known and an unseen person through the SDK."""
    with (sample / "items.csv").open(encoding="utf-8", newline="") as file:
        titles = {row["item_id"]: row["title"] for row in csv.DictReader(file)}
    with (sample / "events.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["item_id"] in titles and row["user_id"]]
    known = rows[0]["user_id"]
    stranger = [row for row in rows if row["user_id"] == rows[-1]["user_id"]][-5:]
    events = [Event(row["item_id"], row["event_type"] or None) for row in stranger]
    with Client(target) as client:
        say(f"\nA known person, {known}, who lately did:")
        show_history([row for row in rows if row["user_id"] == known][-5:], titles)
        show(client, titles, user_id=known)
        say("\nA person never seen, who just did:")
        show_history(stranger, titles)
        show(client, titles, events=events)


def show_history(rows: list[dict[str, str]], titles: dict[str, str]) -> None:
    """Print some rows of the log."""
    for row in rows:
        say(f"    {row['event_type']:<8} {titles[row['item_id']]}")


def show(
    client: Client,
    titles: dict[str, str],
    *,
    user_id: str | None = None,
    events: Sequence[Event] = (),
) -> None:
    """Print a person's encoding, similar users and recommendations."""
    encoding = client.encode_sequence(events, user_id=user_id)
    head = ", ".join(f"{value:+.2f}" for value in encoding.vector[:6])
    say(f"  encoding: {len(encoding.vector)} numbers: {head}, …")
    similar = client.similar_users(user_id=user_id, events=events, limit=5).similar_users
    say("  similar users: " + ", ".join(f"{s.user_id} ({s.similarity:.2f})" for s in similar))
    answer = client.recommend(user_id=user_id, events=events, limit=5)
    say(f"  recommendations of model {answer.model_version}:")
    for item in answer.recommendations:
        say(f"    {item.score:<8.3g}  {titles[item.item_id]}")


def say(text: str) -> None:
    """Print at once, so that the lines of child processes come in order."""
    print(text, flush=True)


if __name__ == "__main__":
    main()
