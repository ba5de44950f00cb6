"""An HTTP/3 client on aioquic: not quinn, so that two implementations meet. Prints one JSON object.

Certificates are checked against the given authority, and the name against the URL's host, whatever address is dialled.
"""

import argparse
import asyncio
import hashlib
import json
import time
from urllib.parse import urlsplit

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StreamReset


class Client(QuicConnectionProtocol):
    """One connection; requests run on it side by side."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.waiting = {}

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            for answer in self.waiting.values():
                self.end(answer, f"connection closed: {event.error_code} {event.reason_phrase}")
            return
        if isinstance(event, StreamReset) and event.stream_id in self.waiting:
            self.end(self.waiting[event.stream_id], f"stream reset: {event.error_code}")
            return
        for http_event in self.http.handle_event(event):
            self.received(http_event)

    def received(self, event):
        answer = self.waiting.get(getattr(event, "stream_id", None))
        if answer is None:
            return
        if isinstance(event, HeadersReceived):
            fields = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
            if answer["status"] is None:
                status = int(dict(fields)[":status"])
                if status >= 200:
                    answer["status"] = status
                    answer["headers"] = fields
            else:
                answer["trailers"] = dict(fields)
        elif isinstance(event, DataReceived):
            answer["arrivals_ms"].append(round((time.monotonic() - answer["started"]) * 1000))
            answer["digest"].update(event.data)
            answer["bytes"] += len(event.data)
            answer["text"] += event.data[: max(0, 4096 - len(answer["text"]))]
        if event.stream_ended:
            self.end(answer, None)

    @staticmethod
    def end(answer, error):
        if not answer["done"].done():
            answer["error"] = error
            answer["done"].set_result(None)

    async def ask(self, args, url):
        loop = asyncio.get_running_loop()
        stream = self._quic.get_next_available_stream_id()
        answer = {
            "status": None, "headers": [], "trailers": {}, "bytes": 0, "text": b"", "error": None,
            "arrivals_ms": [], "digest": hashlib.sha256(), "started": time.monotonic(), "done": loop.create_future(),
        }
        self.waiting[stream] = answer
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        fields = [(":method", args.method), (":scheme", url.scheme), (":authority", url.netloc), (":path", path)]
        fields += [tuple(field.split(": ", 1)) for field in args.header]
        body = args.body_bytes or args.trailer
        self.http.send_headers(stream, [(n.encode(), v.encode()) for n, v in fields], end_stream=not body)
        if body:
            block = bytes(range(256)) * 256
            left = args.body_bytes
            while left:
                piece = block[: min(left, len(block))]
                left -= len(piece)
                self.http.send_data(stream, piece, end_stream=not left and not args.trailer)
                self.transmit()
                await asyncio.sleep(0)
            if args.trailer:
                trailers = [tuple(field.split(": ", 1)) for field in args.trailer]
                self.http.send_headers(stream, [(n.encode(), v.encode()) for n, v in trailers], end_stream=True)
        self.transmit()
        try:
            await asyncio.wait_for(answer["done"], args.timeout)
        except asyncio.TimeoutError:
            answer["error"] = "timed out"
        del self.waiting[stream]
        answer["sha256"] = answer.pop("digest").hexdigest()
        answer["text"] = answer["text"].decode("latin-1")
        answer["ms"] = round((time.monotonic() - answer.pop("started")) * 1000, 3)
        del answer["done"]
        return answer


async def one_connection(args, url, count):
    config = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name=url.hostname)
    config.load_verify_locations(args.ca)
    config.idle_timeout = args.timeout
    try:
        # `connect` offers no deadline of its own before the handshake is done.
        return await asyncio.wait_for(asks(args, url, count, config), args.timeout + args.linger + 1)
    except (asyncio.TimeoutError, OSError) as error:
        return [{"status": None, "error": f"{type(error).__name__}: {error}", "bytes": 0, "text": "", "headers": []}]


async def asks(args, url, count, config):
    host, port = args.connect or url.hostname, url.port or 443
    async with connect(host, port, configuration=config, create_protocol=Client) as client:
        answers = []
        while len(answers) < count and not any(answer["error"] for answer in answers):
            batch = min(args.parallel, count - len(answers))
            answers += await asyncio.gather(*(client.ask(args, url) for _ in range(batch)))
        if args.linger:
            await asyncio.sleep(args.linger)
        return answers


async def main(args):
    url = urlsplit(args.url)
    connections = await asyncio.gather(*(one_connection(args, url, args.count) for _ in range(args.connections)))
    print(json.dumps({"answers": [answer for answers in connections for answer in answers]}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--ca", required=True)
    parser.add_argument("--connect", help="address to dial instead of the URL's host")
    parser.add_argument("--method", default="GET")
    parser.add_argument("--header", action="append", default=[])
    parser.add_argument("--trailer", action="append", default=[])
    parser.add_argument("--body-bytes", type=int, default=0)
    parser.add_argument("--count", type=int, default=1, help="requests on each connection")
    parser.add_argument("--parallel", type=int, default=1, help="requests at a time on each connection")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--linger", type=float, default=0, help="seconds that connections stay open afterwards")
    parser.add_argument("--timeout", type=float, default=10)
    asyncio.run(main(parser.parse_args()))
