"""A WebSocket client and a WebSocket origin by the `websockets` package, WebSockets over HTTP/2 by
`h2` (RFC 8441), and over HTTP/3 by `aioquic` (RFC 9220).

    ws.py origin                          an origin at a free port, which it prints
    ws.py h1 HOST:PORT [--ca FILE]        echo, ping, fragments, large messages, close with a code
    ws.py h2 HOST:PORT                    the same over a stream of HTTP/2 in clear
    ws.py h3 HOST:PORT                    the same over a stream of HTTP/3
    ws.py hold HOST:PORT                  says `open`, then echoes once for each line of its input
"""

import asyncio
import json
import socket
import ssl
import sys

import h2.config
import h2.connection
import h2.events
from aioquic.asyncio import QuicConnectionProtocol
from aioquic.asyncio import connect as connect_quic
from aioquic.h3.connection import H3_ALPN, H3Connection, Setting
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StreamReset
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.frames import Frame, Opcode

LARGE = 300_000


async def origin():
    async def talk(socket):
        if socket.request.path == "/greet":
            # Right behind the 101, before the client has said anything.
            await socket.send("welcome")
        async for message in socket:
            if message == "seen":
                await socket.send(json.dumps(list(socket.request.headers.raw_items())))
            elif message == "bye":
                await socket.close(4001, "as asked")
            else:
                await socket.send(message)

    async with serve(talk, "127.0.0.1", 0, subprotocols=["chat"], max_size=None, ping_interval=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().create_future()


def target(authority):
    host, port = authority.rsplit(":", 1)
    return host, int(port)


async def open_h1(authority, ca, path="/echo"):
    host, port = target(authority)
    scheme, context = "ws", None
    if ca:
        scheme, context = "wss", ssl.create_default_context(cafile=ca)
    url = f"{scheme}://first.test:{port}{path}"
    return await connect(url, host=host, port=port, ssl=context, subprotocols=["chat"], max_size=None, proxy=None)


async def by_h1(authority, ca):
    async with await open_h1(authority, ca) as client:
        assert client.subprotocol == "chat", client.subprotocol
        await client.send("hello")
        assert await client.recv() == "hello"
        await (await client.ping())
        await client.send(["in ", "three ", "pieces"])
        assert await client.recv() == "in three pieces"
        large = bytes(range(256)) * (LARGE // 256)
        await client.send(large)
        assert await client.recv() == large
        await client.send("seen")
        fields = {name.lower(): value for name, value in json.loads(await client.recv())}
        await client.send("bye")
        await client.wait_closed()
        assert (client.close_code, client.close_reason) == (4001, "as asked"), client.close_code
    async with await open_h1(authority, ca, "/greet") as client:
        assert await client.recv() == "welcome"
    return fields


def message(peer):
    """Takes a message, its opcode and bytes, from what has come in `peer.data`; yields where more has to come."""

    def read(count):
        while len(peer.data) < count:
            yield
        found, peer.data = peer.data[:count], peer.data[count:]
        return found

    whole = b""
    while True:
        frame = yield from Frame.parse(read, mask=False, max_size=None)
        whole += frame.data
        if frame.fin:
            return frame.opcode, whole


class Stream:
    """One WebSocket on an HTTP/2 connection; frames by `websockets`, the rest by `h2`."""

    def __init__(self, authority):
        self.socket = socket.create_connection(target(authority), timeout=60)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.h2.initiate_connection()
        self.flush()
        self.data, self.head, self.ended, self.extended = b"", None, False, False
        while not self.extended:
            self.step()

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def step(self):
        piece = self.socket.recv(65536)
        assert piece, "the connection was closed"
        for event in self.h2.receive_data(piece):
            if isinstance(event, h2.events.RemoteSettingsChanged):
                self.extended |= self.h2.remote_settings.enable_connect_protocol == 1
            elif isinstance(event, h2.events.ResponseReceived):
                self.head = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h2.events.DataReceived):
                self.data += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
                self.ended = True
        self.flush()

    def ask(self, path, number=1):
        self.number, self.head, self.ended = number, None, False
        fields = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":authority", "first.test")]
        fields += [(":path", path), ("sec-websocket-version", "13"), ("sec-websocket-protocol", "chat")]
        self.h2.send_headers(number, fields)
        self.flush()
        while self.head is None:
            self.step()
        return self.head

    def send(self, frame):
        data = frame.serialize(mask=True)
        while data:
            room = min(self.h2.local_flow_control_window(self.number), self.h2.max_outbound_frame_size, len(data))
            if room == 0:
                self.step()
                continue
            self.h2.send_data(self.number, data[:room])
            data = data[room:]
            self.flush()

    def receive(self):
        parser = message(self)
        try:
            while True:
                next(parser)
                self.step()
        except StopIteration as parsed:
            return parsed.value


def by_h2(authority):
    stream = Stream(authority)
    head = stream.ask("/echo")
    assert head[":status"] == "200" and head["sec-websocket-protocol"] == "chat", head
    assert not {"connection", "upgrade", "sec-websocket-accept"} & set(head), head
    stream.send(Frame(Opcode.TEXT, b"hello"))
    assert stream.receive() == (Opcode.TEXT, b"hello")
    large = bytes(range(256)) * (LARGE // 256)
    stream.send(Frame(Opcode.BINARY, large))
    assert stream.receive()[1] == large
    stream.send(Frame(Opcode.TEXT, b"seen"))
    fields = {name.lower(): value for name, value in json.loads(stream.receive()[1])}
    stream.send(Frame(Opcode.TEXT, b"bye"))
    opcode, closed = stream.receive()
    assert opcode == Opcode.CLOSE and closed[:2] == (4001).to_bytes(2, "big"), closed
    stream.send(Frame(Opcode.CLOSE, closed))
    while not stream.ended:
        stream.step()
    # Where there is no WebSocket, an answer must not open one.
    head = stream.ask("/plain", 3)
    assert head[":status"] not in ("200", "101"), head
    return fields | {"refused": head[":status"]}


class Quic(QuicConnectionProtocol):
    """WebSockets on an HTTP/3 connection, one after another."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.number, self.head, self.data, self.ended = None, None, b"", None
        self.news = asyncio.Event()

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            self.ended = f"closed {event.error_code} {event.reason_phrase}"
        elif isinstance(event, StreamReset) and event.stream_id == self.number:
            self.ended = f"reset {event.error_code:#x}"
        for event in self.http.handle_event(event):
            if getattr(event, "stream_id", None) != self.number:
                continue
            if isinstance(event, HeadersReceived):
                self.head = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, DataReceived):
                self.data += event.data
            if event.stream_ended:
                self.ended = "ended"
        self.news.set()

    async def more(self):
        assert self.ended is None, self.ended
        self.news.clear()
        await asyncio.wait_for(self.news.wait(), 60)

    async def ask(self, path, method="CONNECT", protocol="websocket"):
        self.number = self._quic.get_next_available_stream_id()
        self.head, self.data, self.ended = None, b"", None
        fields = [(":method", method), (":protocol", protocol), (":scheme", "https"), (":authority", "first.test")]
        fields += [(":path", path), ("sec-websocket-version", "13"), ("sec-websocket-protocol", "chat")]
        self.http.send_headers(self.number, [(name.encode(), value.encode()) for name, value in fields])
        self.transmit()
        while self.head is None:
            await self.more()
        return self.head

    def send(self, frame):
        self.http.send_data(self.number, frame.serialize(mask=True), end_stream=False)
        self.transmit()

    async def receive(self):
        parser = message(self)
        try:
            while True:
                next(parser)
                await self.more()
        except StopIteration as parsed:
            return parsed.value


async def by_h3(authority):
    host, port = target(authority)
    config = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name="first.test")
    config.verify_mode = ssl.CERT_NONE
    async with connect_quic(host, port, configuration=config, create_protocol=Quic) as client:
        while client.http.received_settings is None:
            await client.more()
        assert client.http.received_settings[Setting.ENABLE_CONNECT_PROTOCOL] == 1
        head = await client.ask("/echo")
        assert head[":status"] == "200" and head["sec-websocket-protocol"] == "chat", head
        assert not {"connection", "upgrade", "sec-websocket-accept"} & set(head), head
        client.send(Frame(Opcode.TEXT, b"hello"))
        assert await client.receive() == (Opcode.TEXT, b"hello")
        large = bytes(range(256)) * (LARGE // 256)
        client.send(Frame(Opcode.BINARY, large))
        assert (await client.receive())[1] == large
        client.send(Frame(Opcode.TEXT, b"seen"))
        fields = {name.lower(): value for name, value in json.loads((await client.receive())[1])}
        client.send(Frame(Opcode.TEXT, b"bye"))
        opcode, closed = await client.receive()
        assert opcode == Opcode.CLOSE and closed[:2] == (4001).to_bytes(2, "big"), closed
        client.send(Frame(Opcode.CLOSE, closed))
        while client.ended is None:
            await client.more()
        assert client.ended == "ended", client.ended
        # Where there is no WebSocket, an answer must not open one.
        refused = (await client.ask("/plain"))[":status"]
        other = (await client.ask("/echo", protocol="connect-udp"))[":status"]
        try:
            malformed = (await client.ask("/echo", method="GET"))[":status"]
        except AssertionError as error:
            malformed = str(error)
        return fields | {"refused": refused, "other": other, "malformed": malformed}


async def hold(authority):
    async with await open_h1(authority, None) as client:
        print("open", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            await client.send(line)
            print(await client.recv(), end="", flush=True)


def main():
    command, rest = sys.argv[1], sys.argv[2:]
    if command == "origin":
        asyncio.run(origin())
    elif command == "h1":
        print(json.dumps(asyncio.run(by_h1(rest[0], rest[2] if len(rest) > 1 else None))))
    elif command == "h2":
        print(json.dumps(by_h2(rest[0])))
    elif command == "h3":
        print(json.dumps(asyncio.run(by_h3(rest[0]))))
    elif command == "hold":
        asyncio.run(hold(rest[0]))
    else:
        sys.exit(__doc__)


main()
