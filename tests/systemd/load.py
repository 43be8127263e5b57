"""Four kinds of clients at once, until standard input ends; then what happened, as JSON.

`new` has a connection for each request, `kept` asks again and again on one, `late` connects, waits 150 ms and asks then,
`long` asks for what takes 1.5 s. A request fails when its connection ends before its answer, or the answer is no 200; one
whose server said goodbye before it was sent is asked again on another connection and is none.
"""

import asyncio
import collections
import json
import random
import sys
import time

ADDRESS = ("127.0.0.1", int(sys.argv[1]))
ANSWERED, FAILED = collections.Counter(), collections.Counter()
FIRST = []
GAPS = [time.monotonic(), 0.0]
running = True


async def answer(reader):
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    await asyncio.wait_for(reader.readexactly(int(fields.get(b"content-length", 0))), 20)
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(head.split(b"\r\n")[0].decode())
    return fields.get(b"connection") != b"close"


def succeeded(kind):
    now = time.monotonic()
    GAPS[:] = [now, max(GAPS[1], now - GAPS[0])]
    ANSWERED[kind] += 1


def failed(kind, why):
    name = "refused" if isinstance(why, ConnectionRefusedError) else f"{type(why).__name__} {why}"[:80]
    FAILED[f"{kind}: {name}"] += 1
    FIRST.append(f"{time.monotonic() - BEGUN:.2f} {kind}: {name}")


async def once(kind, path="/", wait=0.0):
    writer = None
    try:
        reader, writer = await asyncio.open_connection(*ADDRESS)
        await asyncio.sleep(wait)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        await answer(reader)
        succeeded(kind)
    except Exception as why:
        failed(kind, why)
        await asyncio.sleep(0.05)
    finally:
        writer and writer.close()


async def again(kind, pause, **how):
    while running:
        await once(kind, **how)
        await asyncio.sleep(pause)


async def kept():
    while running:
        writer = None
        try:
            reader, writer = await asyncio.open_connection(*ADDRESS)
            while running and not reader.at_eof():
                writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                stays = await answer(reader)
                succeeded("kept")
                if not stays:
                    break
                await asyncio.sleep(random.uniform(0.005, 0.05))
        except Exception as why:
            failed("kept", why)
            await asyncio.sleep(0.05)
        finally:
            writer and writer.close()


async def main():
    global running
    clients = [again("new", 0.01) for _ in range(2)]
    clients += [again("late", 0.0, wait=0.15) for _ in range(20)]
    clients += [again("long", 0.0, path="/long") for _ in range(10)]
    clients += [kept() for _ in range(20)]
    clients = [asyncio.ensure_future(client) for client in clients]
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    running = False
    await asyncio.gather(*clients)


BEGUN = time.monotonic()
asyncio.run(main())
json.dump({"answered": ANSWERED, "failed": FAILED, "first": FIRST[:5], "gap": round(GAPS[1], 2)}, sys.stdout)
