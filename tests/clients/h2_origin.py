"""An HTTP/2 origin in clear by the `h2` package, told by the path what to do; prints its port.

    h2_origin.py STREAMS      lets clients open so many streams at once

`/count` answers how many connections and how many streams at once there were. `/refuse` is refused the first time, `/leave`
is met by a GOAWAY that has not seen it the first time, `/freeze` makes its connection deaf and dumb, `/early` is preceded by
two interim responses, `/echo` answers with body and trailers of the request; all else with a text after a while.
"""

import asyncio
import json
import sys

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings

STREAMS = int(sys.argv[1])
WHILE = 0.02
seen = {"connections": 0, "streams": 0, "done": set()}


class Origin(asyncio.Protocol):
    def connection_made(self, transport):
        seen["connections"] += 1
        self.transport, self.requests, self.open, self.frozen = transport, {}, 0, False
        self.waiting = {}
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, validate_inbound_headers=True))
        streams = {h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: STREAMS}
        self.h2.local_settings = h2.settings.Settings(client=False, initial_values=streams)
        self.h2.initiate_connection()
        self.flush()

    def flush(self):
        self.transport.write(self.h2.data_to_send())

    def data_received(self, data):
        if self.frozen:
            return
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                self.open += 1
                seen["streams"] = max(seen["streams"], self.open)
                self.requests[event.stream_id] = [dict(event.headers), b"", []]
            elif isinstance(event, h2.events.DataReceived):
                self.requests[event.stream_id][1] += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.TrailersReceived):
                self.requests[event.stream_id][2] = event.headers
            elif isinstance(event, h2.events.StreamEnded):
                self.answer(event.stream_id)
            elif isinstance(event, h2.events.WindowUpdated):
                self.pump()
            elif isinstance(event, h2.events.StreamReset):
                self.requests.pop(event.stream_id, None)
                self.open -= 1
            elif isinstance(event, h2.events.ConnectionTerminated):
                self.transport.close()
                return
        self.flush()

    def answer(self, stream):
        headers, body, trailers = self.requests[stream]
        path = headers[b":path"].decode()
        first = path not in seen["done"]
        seen["done"].add(path)
        if path == "/refuse" and first:
            self.open -= 1
            self.h2.reset_stream(stream, h2.errors.ErrorCodes.REFUSED_STREAM)
        elif path == "/leave" and first:
            self.h2.close_connection(h2.errors.ErrorCodes.NO_ERROR, last_stream_id=stream - 2)
            self.flush()
            asyncio.get_running_loop().call_later(WHILE, self.transport.close)
        elif path == "/freeze" and first:
            self.frozen = True
        elif path == "/echo":
            self.send(stream, body, trailers)
        elif path == "/count":
            self.send(stream, json.dumps({key: seen[key] for key in ("connections", "streams")}).encode())
        elif path == "/early":
            for hint in ("</one.css>; rel=preload", "</two.css>; rel=preload"):
                self.h2.send_headers(stream, [(":status", "103"), ("link", hint)])
            self.send(stream, b"after the hints")
        else:
            text = json.dumps({name.decode(): value.decode() for name, value in headers.items()}).encode()
            asyncio.get_running_loop().call_later(WHILE, self.send, stream, text)

    def send(self, stream, body, trailers=()):
        if stream not in self.requests or self.transport.is_closing():
            return
        self.h2.send_headers(stream, [(":status", "200"), ("x-origin", "h2")])
        self.waiting[stream] = [body, list(trailers)]
        self.pump()
        self.flush()

    def pump(self):
        for stream, (body, trailers) in list(self.waiting.items()):
            while body:
                room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(body))
                if not room:
                    break
                self.h2.send_data(stream, body[:room])
                body = body[room:]
            self.waiting[stream][0] = body
            if not body:
                if trailers:
                    self.h2.send_headers(stream, trailers, end_stream=True)
                else:
                    self.h2.end_stream(stream)
                del self.waiting[stream]
                self.open -= 1


async def main():
    server = await asyncio.get_running_loop().create_server(Origin, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
