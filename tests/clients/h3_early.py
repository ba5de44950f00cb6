"""An HTTP/3 client that comes back with early data (0-RTT), on aioquic. Reads commands, answers each with a JSON object a line.

    first                          a connection that brings session tickets and address tokens
    early PATH METHOD [METHOD…]    a new one with a ticket and a token: its requests go out with the first packets, and nothing
                                   more does until all are answered, so that the handshake cannot have ended before
    unproven PATH METHOD           the same without a token, and without holding anything back
    replay                         the packets of the last `early` once more, from another port
"""

import asyncio
import json
import socket
import ssl
import sys

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted

PATIENCE = 60
NAME = "first.test"
# Longest datagram.
DATAGRAM = 2048


class Client(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.muted = False
        self.answers = {}
        self.handshake = None

    def transmit(self):
        if not self.muted:
            super().transmit()

    def quic_event_received(self, event):
        if isinstance(event, HandshakeCompleted):
            self.handshake = {"resumed": event.session_resumed, "accepted": event.early_data_accepted}
        if isinstance(event, ConnectionTerminated):
            for done, _ in self.answers.values():
                if not done.done():
                    done.set_result(f"closed: {event.error_code} {event.reason_phrase}")
            return
        for event in self.http.handle_event(event):
            done, answer = self.answers.get(getattr(event, "stream_id", None), (None, None))
            if done is None:
                continue
            if isinstance(event, HeadersReceived):
                answer["status"] = int(dict(event.headers)[b":status"])
            elif isinstance(event, DataReceived):
                answer["text"] += event.data.decode("latin-1")
            if event.stream_ended and not done.done():
                done.set_result(None)

    def ask(self, method, path):
        stream = self._quic.get_next_available_stream_id()
        done, answer = asyncio.get_running_loop().create_future(), {"status": None, "text": ""}
        self.answers[stream] = (done, answer)
        pairs = [(":method", method), (":scheme", "https"), (":authority", NAME), (":path", path)]
        self.http.send_headers(stream, [(n.encode(), v.encode()) for n, v in pairs], end_stream=True)
        return stream

    async def answered(self, streams):
        for stream in streams:
            error = await asyncio.wait_for(self.answers[stream][0], PATIENCE)
            if error:
                self.answers[stream][1]["error"] = error
        return [self.answers[stream][1] for stream in streams]


class Peer:
    def __init__(self, authority):
        host, port = authority.rsplit(":", 1)
        self.host, self.port = host, int(port)
        self.tickets, self.tokens, self.sent = [], [], []

    def connect(self, wait=True, **more):
        config = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name=NAME, **more)
        config.verify_mode = ssl.CERT_NONE
        config.idle_timeout = PATIENCE
        return connect(
            self.host, self.port, configuration=config, create_protocol=Client, wait_connected=wait,
            session_ticket_handler=self.tickets.append, token_handler=self.tokens.append,
        )

    async def first(self):
        async with self.connect() as client:
            answer, = await client.answered([self.ask_now(client, "GET", "/name")])
            # Tickets and tokens come with the handshake's end or soon after.
            for _ in range(PATIENCE * 100):
                if self.tickets and self.tokens:
                    break
                await asyncio.sleep(0.01)
        return {"tickets": len(self.tickets), "tokens": len(self.tokens), **answer}

    @staticmethod
    def ask_now(client, method, path):
        stream = client.ask(method, path)
        client.transmit()
        return stream

    async def early(self, path, *methods, token=True):
        more = {"token": self.tokens.pop()} if token else {}
        async with self.connect(wait=False, session_ticket=self.tickets.pop(), **more) as client:
            sendto = client._transport.sendto

            def kept(data, address):
                self.sent.append(bytes(data))
                sendto(data, address)

            self.sent = []
            client._transport.sendto = kept
            streams = [client.ask(method, path) for method in methods]
            client.transmit()
            client._transport.sendto = sendto
            client.muted = token
            try:
                answers = await client.answered(streams)
            finally:
                client.muted = False
            client.transmit()
            later, = await client.answered([self.ask_now(client, "POST", "/name")])
            return {"answers": answers, "later": later["status"], **client.handshake}

    async def unproven(self, path, method):
        return await self.early(path, method, token=False)

    async def fresh(self):
        """Comes back where nobody knows it any more."""
        ticket, token = self.tickets.pop(), self.tokens.pop()
        async with self.connect(session_ticket=ticket, token=token) as client:
            answer, = await client.answered([self.ask_now(client, "POST", "/name")])
            return {**answer, **client.handshake}

    async def replay(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as raw:
            raw.setblocking(False)
            received = b""
            for _ in range(PATIENCE):
                # While the server remembers the connection of then, it takes them for that one's.
                for data in self.sent:
                    raw.sendto(data, (self.host, self.port))
                try:
                    received = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(raw, DATAGRAM), 1)
                    break
                except asyncio.TimeoutError:
                    continue
        return {"packets": len(self.sent), "received": len(received)}


async def main(authority):
    peer = Peer(authority)
    for line in sys.stdin:
        command, *words = line.split()
        print(json.dumps(await getattr(peer, command)(*words)), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
