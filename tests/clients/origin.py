"""An HTTP/1.1 origin for what nginx cannot be asked: trailers, slow pieces, digests of what arrived.

Speaks from the protocol's text alone (RFC 9112), so that the proxy meets another reader of it. Never trusts a length:
what it answers is what it received.
"""

import asyncio
import hashlib
import json
import sys
from urllib.parse import parse_qs, urlsplit

PIECE = 65536


class Gone(Exception):
    """The client closed the connection."""


async def read_header(reader):
    try:
        block = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        raise Gone from error
    lines = block.decode("latin-1").split("\r\n")[:-2]
    method, target, version = lines[0].split(" ")
    fields = [tuple(part.strip() for part in line.split(":", 1)) for line in lines[1:]]
    return method, target, version, fields


def first(fields, name):
    return next((value for field, value in fields if field.lower() == name), None)


async def body_pieces(reader, fields, trailers):
    """Yields the body; puts the trailer fields into `trailers`."""
    if (first(fields, "transfer-encoding") or "").lower() == "chunked":
        while True:
            size = int((await reader.readline()).split(b";")[0], 16)
            if size == 0:
                break
            left = size
            while left:
                piece = await reader.read(min(left, PIECE))
                if not piece:
                    raise Gone
                left -= len(piece)
                yield piece
            await reader.readexactly(2)
        while (line := await reader.readline()) not in (b"\r\n", b""):
            name, value = line.decode("latin-1").split(":", 1)
            trailers[name.lower()] = value.strip()
        return
    left = int(first(fields, "content-length") or 0)
    while left:
        piece = await reader.read(min(left, PIECE))
        if not piece:
            raise Gone
        left -= len(piece)
        yield piece


def simple(writer, status, body, kind="application/json", head=False):
    header = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(header.encode() + (b"" if head else body))


def chunk(piece):
    return b"%x\r\n%s\r\n" % (len(piece), piece)


def pattern(size):
    """Bytes that a client can check without being told them."""
    block = bytes(range(256)) * 256
    return (block * (size // len(block) + 1))[:size]


async def answer(reader, writer):
    method, target, _, fields = await read_header(reader)
    parts = urlsplit(target)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    name = parts.path.removeprefix("/app")
    trailers = {}
    if name == "/echo":
        # Each piece goes back before the next is read.
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/octet-stream\r\n\r\n")
        async for piece in body_pieces(reader, fields, trailers):
            writer.write(chunk(piece))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        return
    digest, size = hashlib.sha256(), 0
    async for piece in body_pieces(reader, fields, trailers):
        digest.update(piece)
        size += len(piece)
    if name == "/digest":
        seen = {"bytes": size, "sha256": digest.hexdigest(), "trailers": trailers}
        simple(writer, "200 OK", json.dumps(seen).encode())
    elif name == "/headers":
        seen = {"method": method, "target": target, "fields": fields}
        simple(writer, "200 OK", json.dumps(seen).encode(), head=method == "HEAD")
    elif name == "/trailers":
        writer.write(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\nContent-Type: text/plain\r\n\r\n"
            + chunk(b"body\n")
            + b"0\r\nX-Sum: 42\r\n\r\n"
        )
    elif name == "/drip":
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/plain\r\n\r\n")
        for number in range(int(query.get("n", 5))):
            writer.write(chunk(b"piece %d\n" % number))
            await writer.drain()
            await asyncio.sleep(int(query.get("ms", 200)) / 1000)
        writer.write(b"0\r\n\r\n")
    elif name == "/cut":
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (int(query["n"]) + 1) + pattern(int(query["n"])))
        await writer.drain()
        raise Gone
    elif name == "/upgrade":
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
            # Of the key that RFC 6455 section 1.3 takes as its example. What follows comes back as it is, frames or not.
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )
        while piece := await reader.read(PIECE):
            writer.write(piece)
            await writer.drain()
        raise Gone
    elif name == "/bytes":
        simple(writer, "200 OK", pattern(int(query.get("n", 0))), "application/octet-stream", head=method == "HEAD")
    elif name == "/slow":
        await asyncio.sleep(int(query.get("ms", 1000)) / 1000)
        simple(writer, "200 OK", b"slow\n", "text/plain")
    elif name == "/status":
        simple(writer, f"{int(query['code'])} As Asked", b"asked\n", "text/plain")
    else:
        simple(writer, "404 Not Found", b"no such thing\n", "text/plain")


async def connection(reader, writer):
    try:
        while True:
            await answer(reader, writer)
            await writer.drain()
    except (Gone, ConnectionError):
        pass
    finally:
        writer.close()


async def main(address, port):
    server = await asyncio.start_server(connection, address, int(port), limit=1 << 20, backlog=1024)
    print("ready", flush=True)
    await server.serve_forever()


asyncio.run(main(*sys.argv[1:3]))
