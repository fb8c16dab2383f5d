"""Keeps one processor busy for a few seconds and leaves a few files that say when and by whom."""

import json
import os
import time
import uuid

SECONDS = float(os.environ.get("BURN_SECONDS", "3"))
PARTS = 3


def burn(seconds):
    """Counts until `seconds` of wall-clock time have passed."""
    end = time.monotonic() + seconds
    rounds = 0
    while time.monotonic() < end:
        for _ in range(10_000):
            rounds += 1
    return rounds


def main():
    os.makedirs("out", exist_ok=True)
    run = {"id": uuid.uuid4().hex, "start": time.time(), "rounds": []}
    for part in range(PARTS):
        run["rounds"].append(burn(SECONDS / PARTS))
        print(f"tick {part + 1} of {PARTS}", flush=True)
        with open(f"out/part-{part + 1}.txt", "w", encoding="utf-8") as file:
            file.write(f"{run['rounds'][-1]}\n")
    run["end"] = time.time()
    with open("out/run.json", "w", encoding="utf-8") as file:
        json.dump(run, file)


if __name__ == "__main__":
    main()
