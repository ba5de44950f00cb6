"""HTTP/2 clients that look at the order in which things come, in clear, by the `h2` package.

    h2_streams.py hints HOST:PORT PATH        prints the link of each interim answer as it comes, then the status and the content
    h2_streams.py urgent HOST:PORT PATH       asks for PATH three times, and once more as the most urgent; what came of the others while
                                              that answer did, as JSON
    h2_streams.py updated HOST:PORT PATH      the same, but that the last one becomes so by PRIORITY_UPDATE
    h2_streams.py equal HOST:PORT PATH        the same, but that all are alike
    h2_streams.py patient HOST:PORT PATH      as `urgent`, but that the most urgent answer is taken slowly
"""

import json
import socket
import struct
import sys
import time

import h2.config
import h2.connection
import h2.events
import h2.settings

PATIENCE = 60
# So that nothing but the socket holds an answer back.
WINDOW = 2**31 - 1
# Bytes a second that a slow client takes.
PACE = 6_000_000
# Little room for what is sent and not read.
ROOM = 65_536


def connect(authority, room=None):
    host, port = authority.rsplit(":", 1)
    stream = socket.socket()
    if room:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    stream.settimeout(PATIENCE)
    stream.connect((host, int(port)))
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    client.local_settings = h2.settings.Settings(
        client=True, initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: WINDOW}
    )
    client.initiate_connection()
    client.increment_flow_control_window(WINDOW - 65_535)
    return stream, client


def fields(path, *more):
    return [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", path), *more]


def events(stream, client):
    """What comes, until the connection ends."""
    while True:
        stream.sendall(client.data_to_send())
        data = stream.recv(65_536)
        if not data:
            return
        yield from client.receive_data(data)


def hints(authority, path):
    stream, client = connect(authority)
    client.send_headers(1, fields(path), end_stream=True)
    status, content = None, b""
    for event in events(stream, client):
        if isinstance(event, h2.events.InformationalResponseReceived):
            found = dict(event.headers)
            print(found[b":status"].decode(), len(found), found[b"link"].decode(), flush=True)
        elif isinstance(event, h2.events.ResponseReceived):
            status = dict(event.headers)[b":status"].decode()
        elif isinstance(event, h2.events.DataReceived):
            content += event.data
        elif isinstance(event, h2.events.StreamEnded):
            return print(status, content.decode(), flush=True)


def urgent(authority, path, last="u=0", update=b"", pace=None):
    stream, client = connect(authority, ROOM)
    for number in (1, 3, 5):
        client.send_headers(number, fields(path, ("priority", "u=5, i")), end_stream=True)
    client.send_headers(7, fields(path, ("priority", last)), end_stream=True)
    stream.sendall(client.data_to_send() + update)
    ended, meanwhile, begun, came = [], 0, False, {}
    for event in events(stream, client):
        if isinstance(event, h2.events.DataReceived):
            number = event.stream_id
            came[number] = came.get(number, 0) + len(event.data)
            begun = begun or number == 7
            if begun and 7 not in ended and number != 7:
                meanwhile += len(event.data)
            if pace and 7 not in ended:
                time.sleep(len(event.data) / pace)
        elif isinstance(event, h2.events.StreamEnded):
            ended.append(event.stream_id)
            if len(ended) == 4:
                break
    return print(json.dumps({"ended": ended, "meanwhile": meanwhile, "came": sorted(came.values())}))


def updated(authority, path):
    # RFC 9218 section 7.1: a frame of type 16 on stream 0.
    payload = struct.pack("!I", 7) + b"u=0"
    urgent(authority, path, "u=5", struct.pack("!I", len(payload))[1:] + bytes([16, 0, 0, 0, 0, 0]) + payload)


def equal(authority, path):
    urgent(authority, path, "u=5")


def patient(authority, path):
    urgent(authority, path, pace=PACE)


if __name__ == "__main__":
    mode, authority, path = sys.argv[1:4]
    modes = {"hints": hints, "urgent": urgent, "updated": updated, "equal": equal, "patient": patient}
    modes[mode](authority, path)
