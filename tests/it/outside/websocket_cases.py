"""Cases of RFC 6455 against the `websockets` package: `serve` echoes by it, `run PORT HOST` says what each case gets.

The client is bare bytes, so that it can be wrong; what comes back through a gateway must be what comes back directly.
"""

import asyncio
import hashlib
import json
import socket
import struct
import sys
import threading

KEY = b"\x37\xfa\x21\x3d"


def frame(first, body=b"", masked=True, length=None):
    size = len(body)
    head = bytes([first])
    bit = 0x80 if masked else 0
    if length is not None:
        head += length
    elif size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += bytes([bit | 126]) + struct.pack(">H", size)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", size)
    if not masked:
        return head + body
    return head + KEY + bytes(byte ^ KEY[at % 4] for at, byte in enumerate(body))


def text(body):
    return frame(0x81, body)


def close(code=None, reason=b""):
    return frame(0x88, b"" if code is None else struct.pack(">H", code) + reason)


BYE = close(1000)


def cases():
    for size in (0, 1, 125, 126, 127, 128, 65535, 65536, 200_000):
        yield f"text of {size}", text(b"*" * size) + BYE
        yield f"binary of {size}", frame(0x82, b"\xfe" * size) + BYE
    for size in (0, 5, 125):
        yield f"ping of {size}", frame(0x89, b"p" * size) + BYE
    yield "ping that is too long", frame(0x89, b"p" * 126) + BYE
    yield "pong unasked", frame(0x8A, b"unasked") + text(b"after") + BYE
    yield "ten pings", b"".join(frame(0x89, b"%d" % at) for at in range(10)) + BYE
    for bits in range(1, 8):
        yield f"reserved bits {bits}", text(b"before") + frame(0x81 | bits << 4, b"x") + BYE
        yield f"reserved bits {bits} of a ping", frame(0x89 | bits << 4, b"x") + BYE
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield f"opcode {opcode}", text(b"before") + frame(0x80 | opcode) + BYE
    yield "two parts", frame(0x01, b"one ") + frame(0x80, b"two") + BYE
    yield "a ping between parts", frame(0x01, b"one ") + frame(0x89, b"p") + frame(0x80, b"two") + BYE
    yield "empty parts", frame(0x01) + frame(0x00) + frame(0x80) + BYE
    yield "a ping in parts", frame(0x09, b"one") + frame(0x80, b"two") + BYE
    yield "a close in parts", frame(0x08, struct.pack(">H", 1000)) + frame(0x80) + BYE
    yield "a continuation of nothing", frame(0x80, b"x") + BYE
    yield "a continuation of nothing, open", frame(0x00, b"x") + BYE
    yield "a text within a text", frame(0x01, b"one") + frame(0x81, b"two") + BYE
    yield "a thousand parts", frame(0x02, b"x") + frame(0x00, b"y") * 998 + frame(0x80, b"z") + BYE
    for name, body in (
        ("good", "κόσμε 😀".encode()),
        ("bad", b"\xce\xba\xe1\xbd\xb9\xed\xa0\x80edited"),
        ("too high", b"\xf4\x90\x80\x80"),
        ("overlong", b"\xc0\xaf"),
        ("cut short", b"\xe2\x82"),
    ):
        yield f"utf-8 {name}", text(body) + BYE
        yield f"utf-8 {name}, in parts", frame(0x01, body[:1]) + frame(0x80, body[1:]) + BYE
    yield "not masked", frame(0x81, b"x", masked=False) + BYE
    yield "length in two bytes for few", frame(0x81, b"x" * 5, length=b"\xfe\x00\x05") + BYE
    yield "length in eight bytes for few", frame(0x81, b"x" * 5, length=b"\xff" + struct.pack(">Q", 5)) + BYE
    yield "length with a sign", frame(0x82, length=b"\xff" + b"\xff" * 8) + BYE
    yield "close without a code", close()
    yield "close of one byte", frame(0x88, b"x")
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
        yield f"close {code}", close(code, b"so long")
    for code in (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535):
        yield f"close {code}", close(code)
    yield "close with a long reason", close(1000, b"r" * 123)
    yield "close with too long a reason", close(1000, b"r" * 124)
    yield "close with a bad reason", close(1000, b"\xff\xff")
    yield "text behind a close", BYE + text(b"late")
    yield "ping behind a close", BYE + frame(0x89, b"late")
    yield "close twice", BYE + close(1001)


def exactly(conn, size):
    data = b""
    while len(data) < size:
        piece = conn.recv(min(size - len(data), 65536))
        if not piece:
            raise EOFError
        data += piece
    return data


def answers(conn):
    """Every frame until the end, large bodies as their hash."""
    seen = []
    try:
        while True:
            first, second = exactly(conn, 2)
            size = second & 0x7F
            if size == 126:
                (size,) = struct.unpack(">H", exactly(conn, 2))
            elif size == 127:
                (size,) = struct.unpack(">Q", exactly(conn, 8))
            body = exactly(conn, size)
            seen.append([first, hashlib.sha1(body).hexdigest() if size > 130 else body.hex()])
    except (EOFError, ConnectionResetError):
        return seen + ["end"]
    except socket.timeout:
        return seen + ["silence"]


def ask(port, host, sent, piece):
    with socket.create_connection(("127.0.0.1", port), timeout=4) as conn:
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        conn.sendall(
            b"GET / HTTP/1.1\r\nHost: " + host.encode() + b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += exactly(conn, 1)
        if not head.startswith(b"HTTP/1.1 101"):
            return [head.decode(errors="replace")]
        try:
            for at in range(0, len(sent), piece):
                conn.sendall(sent[at : at + piece])
        except (BrokenPipeError, ConnectionResetError):
            pass
        return answers(conn)


def run(port, host):
    for name, sent in cases():
        print(json.dumps([name, ask(port, host, sent, len(sent))]), flush=True)
        if len(sent) < 200:
            print(json.dumps([f"{name}, byte by byte", ask(port, host, sent, 1)]), flush=True)


async def compressed(port):
    """The package's own client, which agrees to compress."""
    from websockets.asyncio.client import connect

    async with connect(f"ws://127.0.0.1:{port}/", max_size=None) as socket_:
        assert "permessage-deflate" in socket_.response.headers.get("Sec-WebSocket-Extensions", "")
        for body in ("hello", "x" * 300_000, b"\x00" * 70_000, "κόσμε"):
            await socket_.send(body)
            assert await socket_.recv() == body
        await socket_.send(["in ", "three ", "parts"])
        assert await socket_.recv() == "in three parts"
        await asyncio.wait_for(await socket_.ping(), 8)
    print("compressed and closed with", socket_.close_code, flush=True)


def talk(conn):
    """Answers message by message, in order: each byte is heard before the next, so that no two runs differ."""
    from websockets.frames import Opcode
    from websockets.server import ServerProtocol

    protocol, message, kind = ServerProtocol(max_size=None), b"", None
    with conn:
        while data := conn.recv(65536):
            for byte in data:
                protocol.receive_data(bytes([byte]))
                for event in protocol.events_received():
                    if not hasattr(event, "opcode"):
                        protocol.send_response(protocol.accept(event))
                    elif event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                        kind = kind if event.opcode is Opcode.CONT else event.opcode
                        message += event.data
                        if event.fin:
                            body, message = message, b""
                            try:
                                send = protocol.send_binary if kind is Opcode.BINARY else protocol.send_text
                                if kind is Opcode.TEXT:
                                    body.decode()
                                send(body)
                            except UnicodeDecodeError:
                                protocol.fail(1007)
                for out in protocol.data_to_send():
                    if not out:
                        conn.shutdown(socket.SHUT_WR)
                        return
                    conn.sendall(out)


async def serve():
    from websockets.asyncio.server import serve as listen

    async def echo(socket_):
        async for message in socket_:
            await socket_.send(message)

    def accept(listener):
        while True:
            threading.Thread(target=talk, args=(listener.accept()[0],), daemon=True).start()

    bare = socket.create_server(("127.0.0.1", 0), backlog=100)
    threading.Thread(target=accept, args=(bare,), daemon=True).start()
    async with listen(echo, "127.0.0.1", 0, max_size=None, ping_interval=None) as server:
        print(bare.getsockname()[1], server.sockets[0].getsockname()[1], flush=True)
        await server.wait_closed()


if sys.argv[1] == "serve":
    asyncio.run(serve())
elif sys.argv[1] == "compressed":
    asyncio.run(compressed(int(sys.argv[2])))
else:
    run(int(sys.argv[2]), sys.argv[3])
