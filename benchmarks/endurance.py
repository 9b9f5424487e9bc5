"""Does a server lose a request when it ends or its models die, and does its memory grow?

    python benchmarks/endurance.py [--requests 5000] [--soak 20000]

* SIGTERM while clients post on new and on kept connections, again and again until so many requests were sent: those
  that were reset or closed without an answer (goal: 0; refused connections after the listening ended are none),
* the models' process killed with -9 in the middle: each request is answered, ready again within 7 s,
* a soak of good and bad bodies: memory of all processes after the first thousand and at the end (goal: ≤ 1 MB growth
  for 1,000 requests).

The clients have one core, the server another (Linux). They heed Retry-After.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import multiprocessing
import multiprocessing.pool
import os
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

from attacks import Address, family, resident, send, start
from common import classifier, photo

CLIENTS, SECONDS = 8, 2.0
POST = "POST /v1/predict HTTP/1.1\r\nContent-Type: "


def encoded(seed: int) -> bytes:
    file = io.BytesIO()
    photo(seed, 120, 90).save(file, "JPEG", quality=85)
    return file.getvalue()


async def post_on(address: Address, seconds: float, seen: Counter[str], keep: bool) -> None:
    """One request after the other, on a connection each or on one that is kept, until nobody listens."""
    body, end = encoded(1), time.monotonic() + seconds
    head = f"{POST}image/jpeg\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    head += "\r\n" if keep else "Connection: close\r\n\r\n"
    reader = writer = None
    while time.monotonic() < end:
        if writer is None:
            try:
                reader, writer = await asyncio.open_connection(*address)
            except ConnectionRefusedError:
                return
            except OSError:
                seen["reset"] += 1
                continue
        assert reader is not None
        try:
            writer.write(head.encode() + body)
            answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
            length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
            await reader.readexactly(length)
            seen[answer.split()[1].decode()] += 1
            if b"connection: close" in answer.lower():
                writer.close()
                writer = None
            if b"retry-after: 1" in answer.lower():
                await asyncio.sleep(1)
        except TimeoutError:
            seen["no answer"] += 1
            return
        except (OSError, asyncio.IncompleteReadError):
            seen["reset"] += 1
            writer = None


def clients(address: Address, seconds: float) -> Counter[str]:
    async def all_of_them(seen: Counter[str]) -> None:
        await asyncio.gather(*(post_on(address, seconds, seen, keep=i % 2 == 0) for i in range(CLIENTS)))

    seen: Counter[str] = Counter()
    asyncio.run(all_of_them(seen))
    return seen


def ends(weights: Path, log: Path, wanted: int, pool: multiprocessing.pool.Pool) -> Counter[str]:
    seen: Counter[str] = Counter()
    while sum(seen.values()) < wanted:
        server, address = start(weights, log, "1")
        posting = pool.apply_async(clients, (address, 120))
        time.sleep(SECONDS)
        server.terminate()
        seen += posting.get()
        seen["exit code other than 0"] += server.wait() != 0
        print("ends:", dict(seen), flush=True)
    return seen


def killed(weights: Path, log: Path, pool: multiprocessing.pool.Pool) -> tuple[Counter[str], float]:
    server, address = start(weights, log, "1")
    try:
        posting = pool.apply_async(clients, (address, 12))
        time.sleep(SECONDS)
        (model,) = [pid for pid in family(server.pid) if "vitrail models" in Path(f"/proc/{pid}/comm").read_text()]
        os.kill(model, signal.SIGKILL)
        began = time.monotonic()
        time.sleep(0.3)
        while asyncio.run(send(address, "GET /readyz HTTP/1.1\r\nConnection: close")) != 200:
            time.sleep(0.1)
        seconds = time.monotonic() - began
        return posting.get(), seconds
    finally:
        server.terminate()
        server.wait()


def bodies() -> list[tuple[str, bytes]]:
    good, random = [encoded(i) for i in range(16)], Random(0)
    form = b"--b\r\nContent-Disposition: form-data; name=a; filename=a\r\n\r\n%s\r\n--b--\r\n"
    return [
        *((f"{POST}image/jpeg", each) for each in good),
        *((f"{POST}image/jpeg", each[: len(each) // 2]) for each in good[:4]),
        *((f"{POST}multipart/form-data; boundary=b", form % each) for each in good[:4]),
        (f"{POST}application/json", b"{"),
        (f"{POST}application/json", b"[" * 100_000),
        (f"{POST}application/json", b'{"images":[' + b"[]," * 100_000 + b"0]}"),
        (f"{POST}image/png", random.randbytes(100_000)),
        ("GET /metrics HTTP/1.1", b""),
        ("GET /" + "x" * 70_000 + " HTTP/1.1", b""),
    ]


def soaking(address: Address, number: int) -> Counter[int]:
    async def some(part: int, seen: Counter[int]) -> None:
        kinds = bodies()
        for i in range(number // CLIENTS):
            head, body = kinds[(i * CLIENTS + part) % len(kinds)]
            seen[await send(address, head + "\r\nConnection: close", body)] += 1

    async def all_of_them(seen: Counter[int]) -> None:
        await asyncio.gather(*(some(i, seen) for i in range(CLIENTS)))

    seen: Counter[int] = Counter()
    asyncio.run(all_of_them(seen))
    return seen


def soak(weights: Path, log: Path, number: int, pool: multiprocessing.pool.Pool) -> None:
    server, address = start(weights, log, "1")
    try:
        seen, done, first, memory = Counter[int](), 0, 0.0, 0.0
        while done < number:
            seen += pool.apply(soaking, (address, 1000))
            done += 1000
            memory = resident(server.pid)
            first = first or memory
            print(f"soak: {done} requests, {memory:.0f} MB", flush=True)
        growth = (memory - first) / max(1, done / 1000 - 1)
        print(f"soak: {dict(seen)}; {growth:.2f} MB for 1,000 requests after the first thousand (≤ 1)")
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="Ti/16")
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--soak", type=int, default=20_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, multiprocessing.get_context("spawn").Pool(1) as pool:
        for pid in family(os.getpid()):
            os.sched_setaffinity(pid, {0})
        log = Path(folder) / "log"
        classifier(options.model).save(weights := Path(folder) / "model.safetensors")
        print("SIGTERM:", dict(ends(weights, log, options.requests, pool)))
        seen, seconds = killed(weights, log, pool)
        print(f"killed: {dict(seen)}; ready again after {seconds:.1f} s (≤ 7)")
        soak(weights, log, options.soak, pool)


if __name__ == "__main__":
    main()
