"""What do hostile clients cost the others? A server on one core; attackers, good clients and a probe on the other.

    python benchmarks/attacks.py [--model Ti/16] [--seconds 10] [--only NAME ...]

For each attack: how long `/healthz` took on a new connection (goal: p99 ≤ 1 s), what the good clients got compared with
the same clients without an attack in the turns before and after (goal: ≥ 50 %, no error), how far the memory of the
server's processes grew, and the statuses that the attackers saw (0: the connection was closed). Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from common import classifier, photo

from vitrail.console import table

GOOD, BODY = 4, 16_000_000  # clients; bytes of the largest body that is accepted
Address = tuple[str, int]
Attack = Callable[[Address, float, "Counter[int]"], Awaitable[None]]


async def send(address: Address, head: str, body: bytes = b"", host: str = "127.0.0.1") -> int:
    """One request on a connection of its own: its status, 0 where the connection ended before it."""
    writer = None
    try:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(f"{head}\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        writer.write(body)
        line = await asyncio.wait_for(reader.readline(), 60)
        await asyncio.wait_for(reader.read(), 0.001 if b"200" not in line else 5)
        return int(line.split()[1])
    except TimeoutError:
        return int(line.split()[1]) if "line" in locals() and line else -1
    except (OSError, IndexError, ValueError):
        return 0
    finally:
        if writer is not None:
            writer.transport.abort()


async def repeat(address: Address, end: float, seen: Counter[int], head: str, body: bytes, parallel: int) -> None:
    async def one() -> None:
        while time.monotonic() < end:
            seen[await send(address, head + "\r\nConnection: close", body)] += 1

    await asyncio.gather(*(one() for _ in range(parallel)))


INFER = "POST /v2/models/model/infer HTTP/1.1\r\nContent-Type: application/json"


async def many_outputs(address: Address, end: float, seen: Counter[int]) -> None:
    """One output asked for 10,000 times."""
    tensor = {"name": "pixels", "datatype": "UINT8", "shape": [1, 3, 224, 224], "data": [7] * 150_528}
    outputs = [{"name": "probabilities"}] * 10_000
    await repeat(address, end, seen, INFER, json.dumps({"inputs": [tensor], "outputs": outputs}).encode(), 2)


async def objects(address: Address, end: float, seen: Counter[int]) -> None:
    """8 bodies of 16 MB of small objects at a time."""
    body = b'{"inputs":[{"data":[' + b'{"":0},' * (BODY // 7 - 8) + b"0]}]}"
    await repeat(address, end, seen, INFER, body, 8)


async def brackets(address: Address, end: float, seen: Counter[int]) -> None:
    """8 bodies of 16 MB of empty lists at a time."""
    body = b'{"inputs":[{"data":[' + b"[]," * (BODY // 3 - 20) + b"0]}]}"
    await repeat(address, end, seen, INFER, body, 8)


async def allowed_values(address: Address, end: float, seen: Counter[int]) -> None:
    """8 bodies at a time with as many small objects as are still parsed."""
    body = b'{"inputs":[{"data":[' + b'{"":0},' * 800_000 + b"0]}]}"
    await repeat(address, end, seen, INFER, body, 8)


async def flood(address: Address, start: bytes, block: bytes, amount: int, seen: Counter[int]) -> None:
    try:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(start)
        with suppress(OSError):
            for _ in range(amount // len(block)):
                writer.write(block)
                await writer.drain()
        line = await asyncio.wait_for(reader.readline(), 5)
        seen[int(line.split()[1])] += 1
        writer.transport.abort()
    except (OSError, IndexError, TimeoutError):
        seen[0] += 1


async def long_header(address: Address, end: float, seen: Counter[int]) -> None:
    """One header of 300 MB, again and again."""
    while time.monotonic() < end:
        await flood(address, b"GET /healthz HTTP/1.1\r\nX: ", b"x" * 64_000, 300_000_000, seen)


async def many_headers(address: Address, end: float, seen: Counter[int]) -> None:
    """A million small headers, again and again."""
    while time.monotonic() < end:
        await flood(address, b"GET /healthz HTTP/1.1\r\n", b"a: b\r\n" * 10_000, 6_000_000, seen)


async def hold(address: Address, end: float, seen: Counter[int], start: bytes, number: int, drip: bytes) -> None:
    """``number`` connections that send ``start``, then ``drip`` each second; what became of them is counted."""

    async def one() -> None:
        try:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(start)
            answer = asyncio.create_task(reader.readline())
            while time.monotonic() < end and not answer.done():
                await asyncio.wait([answer], timeout=1)
                writer.write(drip)
            seen[(int(answer.result().split()[1]) if answer.result() else 0) if answer.done() else -1] += 1
            writer.transport.abort()
        except (OSError, IndexError):
            seen[0] += 1

    await asyncio.gather(*(one() for _ in range(number)))


async def half_sent(address: Address, end: float, seen: Counter[int]) -> None:
    """50 requests whose headers never end."""
    await hold(address, end, seen, b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n", 50, b"a: b\r\n")


async def byte_a_second(address: Address, end: float, seen: Counter[int]) -> None:
    """100 bodies that arrive a byte a second."""
    start = b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\nContent-Length: 100000\r\n\r\n"
    await hold(address, end, seen, start, 100, b"x")


async def connections(address: Address, end: float, seen: Counter[int]) -> None:
    """1,000 connections that say nothing."""
    await hold(address, end, seen, b"", 1000, b"")


ATTACKS: dict[str, Attack] = {
    each.__name__: each
    for each in (
        many_outputs,
        objects,
        brackets,
        allowed_values,
        long_header,
        many_headers,
        half_sent,
        byte_a_second,
        connections,
    )
}


async def good(address: Address, end: float, seen: Counter[int]) -> None:
    """Clients that send one picture after the other."""
    file = io.BytesIO()
    photo(1, 460, 390).save(file, "JPEG", quality=90)
    head = "POST /v1/predict HTTP/1.1\r\nContent-Type: image/jpeg"
    await repeat(address, end, seen, head, file.getvalue(), GOOD)


async def probe(address: Address, end: float) -> list[float]:
    """Seconds of each request to ``/healthz``; 60 of one that was not answered."""
    taken = []
    while (begun := time.monotonic()) < end:
        status = await send(address, "GET /healthz HTTP/1.1\r\nConnection: close")
        taken.append(time.monotonic() - begun if status == 200 else 60.0)
        await asyncio.sleep(0.05)
    return taken


def _client(load: Attack, address: Address, seconds: float) -> Counter[int]:
    seen: Counter[int] = Counter()
    asyncio.run(load(address, time.monotonic() + seconds, seen))
    return seen


def _probe(address: Address, seconds: float) -> list[float]:
    return asyncio.run(probe(address, time.monotonic() + seconds))


class Memory(threading.Thread):
    """The largest sum of what the server's processes hold alone or share with each other, in MB."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peak, self.over = pid, 0.0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.05):
            self.peak = max(self.peak, resident(self.pid))

    def stop(self) -> float:
        self.over.set()
        self.join()
        return self.peak


def resident(pid: int) -> float:
    """MB of a process and all that descend from it (pages that several share count once)."""
    total = 0
    for number in family(pid):
        with suppress(OSError):
            text = Path(f"/proc/{number}/smaps_rollup").read_text()
            total += int(re.search(r"Pss:\s+(\d+)", text)[1])  # type: ignore[index]
    return total / 1000


def family(pid: int) -> list[int]:
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found


def start(weights: Path, log: Path, core: str) -> tuple[subprocess.Popen[bytes], Address]:
    command = ["taskset", "-c", core, sys.executable, "-m", "vitrail", "serve", f"model={weights}", "--port", "0"]
    with log.open("w") as file:
        process = subprocess.Popen([*command, "--device", "cpu"], stderr=file)
    while not (found := re.search(r"serving at (\S+)", log.read_text())):
        if process.poll() is not None:
            raise SystemExit(log.read_text())
        time.sleep(0.2)
    parts = urlsplit(found[1])
    return process, (str(parts.hostname), int(parts.port or 0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="Ti/16")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--only", nargs="*", choices=ATTACKS, default=list(ATTACKS))
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder, multiprocessing.get_context("spawn").Pool(3) as pool:
        classifier(options.model).save(weights := Path(folder) / "model.safetensors")
        server, address = start(weights, Path(folder) / "log", "1")
        os.sched_setaffinity(0, {0})
        for pid in family(os.getpid())[1:]:
            if pid != server.pid and pid not in family(server.pid):
                os.sched_setaffinity(pid, {0})
        try:
            pool.apply(_client, (good, address, 3))
            for name in options.only:
                calm = pool.apply(_client, (good, address, options.seconds / 2))[200] / (options.seconds / 2)
                before = resident(server.pid)
                memory = Memory(server.pid)
                memory.start()
                attacked = pool.apply_async(_client, (ATTACKS[name], address, options.seconds))
                probed = pool.apply_async(_probe, (address, options.seconds))
                beside = pool.apply(_client, (good, address, options.seconds))
                health, statuses, peak = probed.get(), attacked.get(), memory.stop()
                share = beside[200] / options.seconds / calm
                rows.append(
                    [
                        name,
                        f"{1000 * np.quantile(health, 0.99):.0f}, {1000 * max(health):.0f}",
                        f"{share:.2f}",
                        dict(beside),
                        f"{before:.0f} + {peak - before:.0f}",
                        dict(statuses),
                    ]
                )
                print(*rows[-1], flush=True)
        finally:
            server.terminate()
            print("exit code", server.wait())
    print(table(["attack", "health p99, max, ms", "good", "statuses", "memory, MB", "attackers'"], rows))


if __name__ == "__main__":
    main()
