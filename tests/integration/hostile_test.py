"""Callers that mean harm, or have a bug: bytes that are no message, messages that unfold, uploads that never end. Each
gets its status and is counted, others are served meanwhile, and memory stays bounded."""

import concurrent.futures
import pathlib
import random
import re
import socket
import struct
import time

import grpc
import pytest

from conftest import error_details

MIB = 1 << 20
GENERATE = "expertd.v1.InferenceService/Generate"
METHODS = [GENERATE, "expertd.v1.InferenceService/StreamGenerate", "expertd.v1.TokenizerService/Tokenize",
           "expertd.v1.TokenizerService/Detokenize", "expertd.v1.TokenizerService/RenderChat",
           "expertd.v1.ModelService/ListModels", "expertd.v1.ModelService/GetModel",
           "expertd.v1.ControlService/GetServerInfo", "expertd.v1.ControlService/GetLoad",
           "expertd.v1.ControlService/WatchLoad", "expertd.v1.ControlService/AbortRequest"]


@pytest.fixture(scope="module")
def pb():
    from expertd.v1 import inference_pb2
    return inference_pb2


@pytest.fixture
def channel(server):
    with server.channel([("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]) as channel:
        yield channel


def call(channel, method, payload, **options):
    """Sends bytes as they are; returns the error, or None for OK. Of a stream the first answer is dropped."""
    method = channel.unary_unary("/" + method, request_serializer=bytes, response_deserializer=bytes)
    try:
        method(payload, timeout=120, **options)
    except grpc.RpcError as error:
        return error
    return None


def peak_bytes(server):
    text = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", text).group(1)) * 1024


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_no_message_is_told_and_counted(server, channel, method):
    def counted():
        return (server.metric("expertd_requests_total", method=method, code="INVALID_ARGUMENT"),
                server.metric("expertd_requests_rejected_total", reason="invalid"))
    calls, rejected = counted()

    error = call(channel, method, b"\xff\xff\xff")

    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error_details(error)[0] == "INVALID_PARAMETER"
    wait_until(lambda: counted() == (calls + 1, rejected + 1))


def test_random_and_truncated_bytes_never_do_worse(server, channel, pb):
    rng = random.Random(5)
    request = pb.GenerateRequest(model="another", request_id="x")
    request.sampling.MergeFrom(pb.SamplingParams(temperature=1, n=2, allowed_token_ids=[1, 2]))
    request.chat.messages.add(role=pb.ROLE_USER).parts.add(text="你好")
    whole = request.SerializeToString()
    payloads = [whole[:length] for length in range(len(whole))]
    payloads += [rng.randbytes(rng.randrange(64)) for _ in range(300)]

    for payload in payloads:
        error = call(channel, GENERATE, payload)
        assert error is not None and error_details(error)[0] is not None, payload
        assert error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND,
                                grpc.StatusCode.UNIMPLEMENTED), payload
    assert "libprotobuf" not in server.log_text()


def test_text_that_is_not_utf8_is_named(server, channel, pb):
    request = pb.GenerateRequest()
    request.chat.messages.add(role=pb.ROLE_USER).parts.add(text="fine")
    request.chat.messages.add(role=pb.ROLE_USER).parts.add(text="MARK")

    error = call(channel, GENERATE, request.SerializeToString().replace(b"MARK", b"M\xc3\x28K"))

    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    violation = error_details(error)[1]["BadRequest"].field_violations[0]
    assert violation.field == "chat.messages[1].parts[0].text"
    assert violation.description == "is not UTF-8 at byte 1"


def length_delimited(tag, content):
    length, varint = len(content), b""
    while length > 127:
        varint, length = varint + bytes([length & 127 | 128]), length >> 7
    return bytes([tag]) + varint + bytes([length]) + content


def test_messages_that_unfold_in_memory_are_refused_first(start_server, pb):
    server = start_server()
    before = peak_bytes(server)
    chat_tag = pb.GenerateRequest.DESCRIPTOR.fields_by_name["chat"].number << 3 | 2
    with server.channel([("grpc.max_send_message_length", -1)]) as channel:
        too_large = [call(channel, GENERATE, bytes(70 * MIB)),
                     call(channel, GENERATE, bytes(600 * MIB), compression=grpc.Compression.Gzip)]
        too_fine = [call(channel, GENERATE, length_delimited(chat_tag, b"\x0a\x00" * (20 * MIB))),  # empty messages
                    call(channel, GENERATE, b"\xfa\x07\x00" * (15 * MIB)),  # fields that nobody knows
                    call(channel, GENERATE, length_delimited(chat_tag, b"\x0a\x00" * (20 * MIB)),
                         compression=grpc.Compression.Gzip)]

    for error in too_large:
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert error_details(error)[0] == "MESSAGE_TOO_LARGE"
    for error in too_fine:
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert error_details(error)[0] == "INVALID_PARAMETER"
    wait_until(lambda: server.metric("expertd_requests_rejected_total", reason="message_too_large") == 2)
    # A message as it came and once more in one piece, and some room: far from the gigabytes that they stand for.
    assert peak_bytes(server) - before < 400 * MIB


def test_many_large_requests_at_once_are_bounded_and_their_memory_is_given_back(start_server, pb):
    server = start_server()
    before = server.rss_bytes()
    request = pb.GenerateRequest(text=pb.TextInput(text="x " * (15 * MIB // 2)))
    request.stop.max_tokens = 1
    payload = request.SerializeToString()
    with server.channel([("grpc.max_send_message_length", -1)]) as channel:
        with concurrent.futures.ThreadPoolExecutor(40) as pool:
            errors = list(pool.map(lambda _: call(channel, GENERATE, payload), range(40)))
        peak = peak_bytes(server)
        wait_until(lambda: server.rss_bytes() - before < 150 * MIB)

    reasons = [error_details(error)[0] for error in errors]
    assert set(reasons) <= {"CONTEXT_LENGTH_EXCEEDED", "TOO_MANY_BYTES", None}  # None: gRPC's own, out of its quota
    assert "CONTEXT_LENGTH_EXCEEDED" in reasons
    assert all(e.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED) for e in errors)
    assert peak - before < 1000 * MIB


class Uploads:
    """A connection, written by hand, whose requests are announced as 60 MiB each and sent as far as the server lets."""

    DATA, HEADERS, RST, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 3, 4, 6, 8
    ACK, END_HEADERS = 1, 4

    def __init__(self, port, num_streams):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.settimeout(0.05)
        self.connection_window = self.initial_window = 65535
        self.windows, self.buffer, self.num_sent, self.is_closed = {}, b"", 0, False
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.send(self.SETTINGS, 0, 0)
        headers = {":method": "POST", ":scheme": "http", ":path": f"/{GENERATE}", ":authority": "x", "te": "trailers",
                   "content-type": "application/grpc"}
        block = b"".join(b"\0" + bytes([len(k)]) + k.encode() + bytes([len(v)]) + v.encode()
                         for k, v in headers.items())
        for stream in range(1, 2 * num_streams, 2):
            self.windows[stream] = self.initial_window
            self.send(self.HEADERS, self.END_HEADERS, stream, block)
            self.send_data(stream, b"\0" + struct.pack(">I", 60 * MIB))

    def send(self, kind, flags, stream, payload=b""):
        head = struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream)
        self.socket.sendall(head + payload)

    def send_data(self, stream, data):
        self.connection_window -= len(data)
        self.windows[stream] -= len(data)
        self.num_sent += len(data)
        self.send(self.DATA, 0, stream, data)

    def take(self, kind, flags, stream, payload):
        if kind == self.WINDOW_UPDATE:
            (more,) = struct.unpack(">I", payload)
            if stream == 0:
                self.connection_window += more
            elif stream in self.windows:
                self.windows[stream] += more
        elif kind == self.SETTINGS and not flags & self.ACK:
            for key, value in struct.iter_unpack(">HI", payload):
                if key == 4:  # INITIAL_WINDOW_SIZE
                    self.windows = {s: w + value - self.initial_window for s, w in self.windows.items()}
                    self.initial_window = value
            self.send(self.SETTINGS, self.ACK, 0)
        elif kind == self.PING and not flags & self.ACK:
            self.send(self.PING, self.ACK, 0, payload)
        elif kind == self.RST:
            self.windows.pop(stream, None)

    def pump(self):
        """Takes what has come, and sends what may be sent."""
        try:
            received = self.socket.recv(1 << 16)
            self.is_closed = self.is_closed or not received
            self.buffer += received
            while len(self.buffer) >= 9:
                length = int.from_bytes(self.buffer[:3], "big")
                if len(self.buffer) < 9 + length:
                    break
                stream = int.from_bytes(self.buffer[5:9], "big") & 0x7FFFFFFF
                self.take(self.buffer[3], self.buffer[4], stream, self.buffer[9:9 + length])
                self.buffer = self.buffer[9 + length:]
        except TimeoutError:
            pass
        except OSError:
            self.is_closed = True
        for stream in list(self.windows):
            size = min(16384, self.connection_window, self.windows[stream])
            if size > 0 and not self.is_closed:
                try:
                    self.send_data(stream, bytes(size))
                except OSError:
                    self.is_closed = True


def test_uploads_that_never_end_take_bounded_memory_and_stop_nobody(start_server, pb):
    server = start_server()
    before = peak_bytes(server)
    uploads = [Uploads(server.port, 100) for _ in range(5)]
    request = pb.GenerateRequest(text=pb.TextInput(text="Hello"))
    request.stop.max_tokens = 3

    # 1.5 GiB are offered; what the server does not take in ten seconds, it does not take.
    deadline = time.monotonic() + 10
    while sum(u.num_sent for u in uploads) < 1536 * MIB and not all(u.is_closed for u in uploads):
        if time.monotonic() > deadline:
            break
        for upload in uploads:
            upload.pump()
    reply = server.inference().Generate(request, timeout=60)
    for upload in uploads:
        upload.socket.close()

    assert reply.candidates[0].num_tokens > 0
    assert peak_bytes(server) - before < 1024 * MIB
    wait_until(lambda: server.metric("expertd_requests_total", method=GENERATE, code="CANCELLED") >= 500)
    assert server.metric("expertd_requests_total", method=GENERATE, code="INVALID_ARGUMENT") == 0
    assert server.stop() == 0
