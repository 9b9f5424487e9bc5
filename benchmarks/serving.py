"""What does HTTP cost, and what happens at the limit? A server on loopback, asked by a second process.

    python benchmarks/serving.py [--model S/16] [--seconds 10] [--rounds 3]

* bare: the model alone on batches of 8 whose pixels are ready, and the same from the JPEGs on,
* saturated: as many requests of one image as the queue takes (goal: ≥ 90 % of bare),
* at 3 times the bare rate: what is answered and what is refused (goal: accepted ≥ 90 % of capacity, p99 of refusals ≤
  100 ms, memory that stays),
* at 0.7 of the saturated rate: latencies (goal: no error, p99 ≤ batch wait + 3 batch times).

The first three take turns, and medians count. Weights are random, images 460 × 390 JPEGs. The server, and what is
measured without it, have one core, the clients another (Linux). About three minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np
import torch
from common import classifier, photo

from vitrail.console import table

BATCH, WAIT, QUEUE = 8, 0.005, 64
NUM_IMAGES = 64
CLIENTS, SERVER = {0}, {1}  # cores


class Answer(NamedTuple):
    """Seconds from when it was due, and the status; 0 stands for a connection that broke."""

    seconds: float
    status: int


def photos() -> list[bytes]:
    images = []
    for i in range(NUM_IMAGES):
        file = io.BytesIO()
        photo(i, 460, 390).save(file, "JPEG", quality=90)
        images.append(file.getvalue())
    return images


def images_per_second(batch: Callable[[], object], seconds: float) -> float:
    batch()
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        batch()
        done += BATCH
    return done / (time.perf_counter() - started)


class Client:
    """Connections that are kept, as a proxy keeps them; one request of one image each time."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname, parts.port
        self.idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, image: bytes, due: float) -> Answer:
        while self.idle and self.idle[-1][0].at_eof():  # closed by the server, having been idle for long
            self.idle.pop()
        try:
            connection = self.idle.pop() if self.idle else await asyncio.open_connection(self.host, self.port)
            reader, writer = connection
            head = "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
            head += f"Content-Length: {len(image)}"
            writer.write(head.encode() + b"\r\n\r\n" + image)
            answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = re.search(r"content-length: (\d+)", answer)
            await reader.readexactly(int(length[1]) if length else 0)
        except (OSError, asyncio.IncompleteReadError):
            return Answer(time.perf_counter() - due, 0)
        self.idle.append(connection)
        return Answer(time.perf_counter() - due, int(answer.split()[1]))


async def _closed(client: Client, images: list[bytes], seconds: float, amount: float) -> list[Answer]:
    """``amount`` requests at any time."""
    answers, end = [], time.perf_counter() + seconds

    async def one_after_the_other(start: int) -> None:
        number = start
        while (due := time.perf_counter()) < end:
            answers.append(await client.post(images[number % NUM_IMAGES], due))
            number += 1

    await asyncio.gather(*(one_after_the_other(i) for i in range(int(amount))))
    return answers


async def _open(client: Client, images: list[bytes], seconds: float, amount: float) -> list[Answer]:
    """``amount`` requests a second, whether or not those before were answered."""
    started, tasks = time.perf_counter(), []
    for number in range(int(seconds * amount)):
        due = started + number / amount
        await asyncio.sleep(due - time.perf_counter())
        tasks.append(asyncio.create_task(client.post(images[number % NUM_IMAGES], due)))
    return list(await asyncio.gather(*tasks))


Load = Callable[[Client, list[bytes], float, float], Awaitable[list[Answer]]]


def ask(load: Load, url: str, images: list[bytes], seconds: float, amount: float) -> tuple[list[Answer], float]:
    """Answers, and the seconds until the last one, measured in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_ask, (load, url, images, seconds, amount))


def _ask(load: Load, url: str, images: list[bytes], seconds: float, amount: float) -> tuple[list[Answer], float]:
    pin(CLIENTS)
    started = time.perf_counter()
    answers = asyncio.run(load(Client(url), images, seconds, amount))  # type: ignore[arg-type]
    return answers, time.perf_counter() - started


def pin(cores: set[int]) -> None:
    """This process and those that it starts."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, cores)


def start(weights: Path, log: Path) -> tuple[subprocess.Popen[bytes], str]:
    """A server and its address."""
    options = ["--port", "0", "--batch-size", str(BATCH), "--batch-wait", str(WAIT), "--queue", str(QUEUE)]
    command = [sys.executable, "-m", "vitrail", "serve", str(weights), "--device", "cpu", *options]
    with log.open("w") as file:
        process = subprocess.Popen(command, stderr=file)
    while not (found := re.search(r"serving at (\S+)", log.read_text())):
        if process.poll() is not None:
            raise SystemExit(log.read_text())
        time.sleep(0.1)
    return process, found[1]


def peak_memory(pid: int) -> float:
    """MB of the process and those that it started, each at its peak."""
    peaks = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "status").read_text()
        except OSError:
            continue
        if str(pid) in (folder.name, re.search(r"PPid:\s+(\d+)", status)[1]):  # type: ignore[index]
            peaks += [int(kb) / 1000 for kb in re.findall(r"VmHWM:\s+(\d+)", status)]
    return sum(peaks)


def percentile(answers: list[Answer], share: float) -> str:
    """Milliseconds."""
    return f"{1000 * np.quantile([answer.seconds for answer in answers], share):.0f}" if answers else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="S/16")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    pin(SERVER)
    torch.set_num_threads(1)
    images, predictor = photos(), classifier(options.model)
    pixels = torch.stack([predictor.preprocess.pixels(predictor.read(image)) for image in images[:BATCH]])
    rates: dict[str, list[float]] = {"bare": [], "from JPEG": [], "served": [], "crowded": []}
    crowd: list[Answer] = []
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        predictor.save(weights := Path(folder) / "model.safetensors")
        server, url = start(weights, Path(folder) / "log")
        try:
            for _ in range(options.rounds):
                rates["bare"].append(images_per_second(lambda: predictor.predict_pixels(pixels), options.seconds / 2))
                rates["from JPEG"].append(
                    images_per_second(lambda: predictor.predict(images[:BATCH]), options.seconds / 2)
                )
                for name, load, amount in (("served", _closed, 4 * BATCH), ("crowded", _open, 3 * rates["bare"][-1])):
                    peaks.append(peak_memory(server.pid))
                    answers, taken = ask(load, url, images, options.seconds, amount)
                    rates[name].append(sum(a.status == 200 for a in answers) / taken)
                crowd += answers
            peaks.append(peak_memory(server.pid))
            bare, jpeg, served, crowded = (statistics.median(values) for values in rates.values())
            calm, _ = ask(_open, url, images, 2 * options.seconds, 0.7 * served)
        finally:
            server.terminate()
            code = server.wait()
    accepted = [answer for answer in crowd if answer.status == 200]
    refused = [answer for answer in crowd if answer.status == 503]
    bound = 1000 * (WAIT + 3 * BATCH / bare)
    rows = [
        ["bare, images/s", f"{bare:.1f}", ""],
        ["from JPEG, images/s", f"{jpeg:.1f}", ""],
        [
            "served, images/s",
            f"{served:.1f}",
            f"{served / bare:.2f} of bare (≥ 0.90), {served / jpeg:.2f} of from JPEG",
        ],
        ["at 0.7: statuses", dict(Counter(a.status for a in calm)), "200 only"],
        ["at 0.7: p50, p99, ms", f"{percentile(calm, 0.5)}, {percentile(calm, 0.99)}", f"p99 ≤ {bound:.0f}"],
        ["at 3: statuses", dict(Counter(a.status for a in crowd)), "200 and 503 only"],
        ["at 3: accepted, images/s", f"{crowded:.1f}", f"{crowded / served:.2f} (≥ 0.90)"],
        ["at 3: p99 of the accepted, ms", percentile(accepted, 0.99), f"queue of {QUEUE}"],
        ["at 3: p50, p99 of refusals, ms", f"{percentile(refused, 0.5)}, {percentile(refused, 0.99)}", "p99 ≤ 100"],
        ["at 3: peak memory, MB", f"{peaks[1]:.0f} → {peaks[-1]:.0f}", ""],
        ["exit code after SIGTERM", code, "0"],
    ]
    print(f"ViT {options.model}, batches of {BATCH}, {torch.get_num_threads()} threads, random weights")
    print(table(["what", "measured", "goal"], rows))


if __name__ == "__main__":
    main()
