"""HTTP/3 connections whose life is not quiet, on aioquic. Each prints one JSON object.

    h3_moves.py migrate HOST:PORT      asks, goes on from another address and port, and asks again
    h3_moves.py retry HOST:PORT COUNT  begins COUNT handshakes that it does not go on with, then asks
    h3_moves.py drain HOST:PORT        asks for `/first-then-wait=1500`, says `open`, and waits for the GOAWAY; then asks for more
"""

import asyncio
import json
import ssl
import sys

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, StreamDataReceived, StreamReset

PATIENCE = 60
# An idle connection and a handshake that hangs live longer than any of this takes.
IDLE = 600
# Handshakes that are begun at once, and seconds after which those that nobody answered are begun again.
BATCH = 16
AGAIN = 1
NAME = "first.test"
# The server's control stream is the first that it opens.
CONTROL = 3
GOAWAY = 7


def configuration():
    config = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name=NAME)
    config.verify_mode = ssl.CERT_NONE
    config.idle_timeout = IDLE
    return config


def number(data, at):
    """A number of variable length (RFC 9000 section 16), and where it ends."""
    size = 1 << (data[at] >> 6)
    return int.from_bytes(data[at:at + size], "big") & ((1 << (8 * size - 2)) - 1), at + size


class Client(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.answers, self.control = {}, b""
        self.ended = asyncio.get_running_loop().create_future()

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            if not self.ended.done():
                self.ended.set_result(event.error_code)
            for answer in self.answers.values():
                self.end(answer, f"closed {event.error_code}")
            return
        if isinstance(event, StreamReset) and event.stream_id in self.answers:
            return self.end(self.answers[event.stream_id], f"reset {event.error_code:#x}")
        if isinstance(event, StreamDataReceived) and event.stream_id == CONTROL:
            self.control += event.data
        for event in self.http.handle_event(event):
            answer = self.answers.get(getattr(event, "stream_id", None))
            if answer is None:
                continue
            if isinstance(event, HeadersReceived):
                answer["status"] = int(dict(event.headers)[b":status"])
            elif isinstance(event, DataReceived):
                answer["text"] += event.data.decode("latin-1")
            if event.stream_ended:
                self.end(answer, None)

    @staticmethod
    def end(answer, error):
        if not answer["done"].done():
            answer["error"] = error
            answer["done"].set_result(None)

    def ask(self, path):
        stream = self._quic.get_next_available_stream_id()
        answer = {"status": None, "text": "", "error": None, "done": asyncio.get_running_loop().create_future()}
        self.answers[stream] = answer
        pairs = [(":method", "GET"), (":scheme", "https"), (":authority", NAME), (":path", path)]
        self.http.send_headers(stream, [(n.encode(), v.encode()) for n, v in pairs], end_stream=True)
        self.transmit()
        return answer

    async def whole(self, answer):
        await asyncio.wait_for(asyncio.shield(answer["done"]), PATIENCE)
        return {key: answer[key] for key in ("status", "text", "error")}

    def goaway(self):
        """What the last GOAWAY says."""
        found, at = None, 1
        while at < len(self.control):
            kind, at = number(self.control, at)
            length, at = number(self.control, at)
            if kind == GOAWAY:
                found = number(self.control, at)[0]
            at += length
        return found


class Elsewhere(asyncio.DatagramProtocol):
    """Another socket of the same client."""

    def __init__(self, client):
        self.client, self.received = client, 0

    def datagram_received(self, data, address):
        self.received += 1
        # To the connection it is the server that it has known all along.
        self.client.datagram_received(data, self.client._quic._network_paths[0].addr)


async def migrate(host, port):
    async with connect(host, port, configuration=configuration(), create_protocol=Client) as client:
        before = await client.whole(client.ask("/see"))
        first = client._transport
        transport, elsewhere = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: Elsewhere(client), local_addr=("127.0.0.2", 0)
        )
        send = transport.sendto
        # The address that the connection knows is one of the first socket's family.
        transport.sendto = lambda data, _: send(data, (host, port))
        client._transport = transport
        client.change_connection_id()
        answers = [await client.whole(client.ask("/see")) for _ in range(3)]
        first.close()
        answers.append(await client.whole(client.ask("/large=2000000")))
        answers[-1]["text"] = len(answers[-1]["text"])
        return {"before": before, "after": answers, "received": elsewhere.received}


class Hanging(asyncio.DatagramProtocol):
    """Handshakes that are begun and not gone on with."""

    def __init__(self):
        self.unanswered, self.answered = {}, asyncio.Event()

    def datagram_received(self, data, address):
        # To the id that a client has chosen for itself (RFC 9000 section 17.2): by a handshake or a Retry.
        self.unanswered.pop(data[6:6 + data[5]], None)
        if not self.unanswered:
            self.answered.set()

    async def begin(self, count, transport, server):
        """Begins so many, which are few enough for any buffer of packets, and waits until the server has seen each."""
        now = asyncio.get_running_loop().time()
        for _ in range(count):
            quic = QuicConnection(configuration=configuration())
            quic.connect(server, now=now)
            self.unanswered[quic.host_cid] = [data for data, _ in quic.datagrams_to_send(now=now)]
        self.answered.clear()
        while self.unanswered:
            for data in [data for packets in self.unanswered.values() for data in packets]:
                transport.sendto(data)
            try:
                await asyncio.wait_for(self.answered.wait(), AGAIN)
            except asyncio.TimeoutError:
                continue


async def retry(host, port, count):
    loop = asyncio.get_running_loop()
    transport, hanging = await loop.create_datagram_endpoint(Hanging, remote_addr=(host, port))
    for at in range(0, int(count), BATCH):
        await hanging.begin(min(BATCH, int(count) - at), transport, (host, port))
    async with connect(host, port, configuration=configuration(), create_protocol=Client) as client:
        answer = await client.whole(client.ask("/name"))
        answer["retried"] = client._quic._retry_source_connection_id is not None
    transport.close()
    return answer


async def drain(host, port):
    async with connect(host, port, configuration=configuration(), create_protocol=Client) as client:
        slow = client.ask("/first-then-wait=1500")
        while not slow["text"]:
            await asyncio.sleep(0.01)
        print("open", flush=True)
        while client.goaway() is None:
            await asyncio.sleep(0.01)
        late = await client.whole(client.ask("/name"))
        slow = await client.whole(slow)
        code = await asyncio.wait_for(asyncio.shield(client.ended), PATIENCE)
        return {"goaway": client.goaway(), "slow": slow, "late": late, "code": code}


if __name__ == "__main__":
    mode, authority, *words = sys.argv[1:]
    name, number_of_port = authority.rsplit(":", 1)
    run = {"migrate": migrate, "retry": retry, "drain": drain}[mode]
    print(json.dumps(asyncio.run(run(name, int(number_of_port), *words))), flush=True)
