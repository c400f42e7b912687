"""The blocking client."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, TypeVar

import grpc
from typing_extensions import Self, Unpack

from expertd._connection import Attempts, Retry, call_metadata, channel_options, credentials
from expertd._errors import error_from
from expertd._requests import Message, Prompt, Settings, make_request, turns
from expertd._results import Collector, Delta, Generation, generation_from
from expertd.v1 import (control_pb2, control_pb2_grpc, inference_pb2, inference_pb2_grpc, model_pb2, model_pb2_grpc,
                        tokenizer_pb2, tokenizer_pb2_grpc)

_Answer = TypeVar("_Answer")


class Stream(Iterator[Delta]):
    """The deltas of one answer, as they come. Use it in a `with` block, or close it: that cancels what is left. Not
    thread-safe, but for close."""

    def __init__(self, start: Callable[[float | None], Any], attempts: Attempts, request_id: str,
                 client_is_closed: threading.Event) -> None:
        self._start = start
        self._attempts = attempts
        self._request_id = request_id
        self._call = start(attempts.timeout())
        self._is_closed, self._client_is_closed = threading.Event(), client_is_closed
        self._has_begun = False
        self._collector = Collector()

    def __next__(self) -> Delta:
        while True:
            try:
                event = next(self._call)
            except StopIteration:
                self._collector.end()
                raise
            except grpc.RpcError as failure:
                is_cancelled = self._is_closed.is_set() or self._client_is_closed.is_set()
                error = error_from(failure, self._request_id, is_cancelled)
                pause = None if self._has_begun else self._attempts.pause_after(error)
                if pause is None:
                    raise error from None
                self._is_closed.wait(pause)
                self._call = self._start(self._attempts.timeout())
                if self._is_closed.is_set():  # maybe before there was this call to cancel
                    self._call.cancel()
                continue
            self._has_begun = True
            delta = self._collector.add(event)
            if delta is not None:
                return delta

    @property
    def generation(self) -> Generation:
        """The whole answer. Raises RuntimeError before the last delta was taken."""
        if not self._collector.is_whole:
            raise RuntimeError("the stream has not ended")
        return generation_from(self._collector.response)

    def close(self) -> None:
        self._is_closed.set()
        self._call.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()


class Client:
    """A connection to a server. Thread-safe.

    target: HOST:PORT or unix:PATH. api_key: sent with each call. tls: with the system's authorities; ca_file: with
    those of a PEM file. timeout: seconds that a call may take, attempts and pauses included; None: no limit. Each
    method takes another one. retry: see Retry. options: of the gRPC channel.

    Every method raises an Error.
    """

    def __init__(self, target: str = "127.0.0.1:50051", *, api_key: str | None = None, tls: bool = False,
                 ca_file: str | None = None, timeout: float | None = None, retry: Retry = Retry(),
                 options: Sequence[tuple[str, Any]] = ()) -> None:
        keys = credentials(tls, ca_file)
        self._channel = (grpc.insecure_channel(target, channel_options(options)) if keys is None
                         else grpc.secure_channel(target, keys, channel_options(options)))
        self._metadata = call_metadata(api_key)
        self._timeout, self._retry = timeout, retry
        self._is_closed = threading.Event()
        self._inference = inference_pb2_grpc.InferenceServiceStub(self._channel)
        self._tokenizer = tokenizer_pb2_grpc.TokenizerServiceStub(self._channel)
        self._models = model_pb2_grpc.ModelServiceStub(self._channel)
        self._control = control_pb2_grpc.ControlServiceStub(self._channel)

    def close(self) -> None:
        self._is_closed.set()
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    def _call(self, method: Any, request: Any, timeout: float | None, request_id: str = "") -> Any:
        attempts = Attempts(self._retry, self._timeout if timeout is None else timeout)
        while True:
            try:
                return method(request, timeout=attempts.timeout(), metadata=self._metadata)
            except grpc.RpcError as failure:
                error = error_from(failure, request_id, self._is_closed.is_set())
                pause = attempts.pause_after(error)
                if pause is None:
                    raise error from None
                time.sleep(pause)

    def generate(self, prompt: Prompt, *, timeout: float | None = None, **settings: Unpack[Settings]) -> Generation:
        """The whole answer to a text, token ids, or a conversation."""
        return generation_from(self.call(make_request(prompt, settings), timeout=timeout))

    def stream(self, prompt: Prompt, *, timeout: float | None = None, **settings: Unpack[Settings]) -> Stream:
        """The answer as it is written."""
        return self.stream_call(make_request(prompt, settings), timeout=timeout)

    def chat(self, messages: str | Sequence[Message], *, timeout: float | None = None,
             **settings: Unpack[Settings]) -> Generation:
        """As generate, for a conversation; a text is the user's one turn."""
        return self.generate(turns(messages), timeout=timeout, **settings)

    def stream_chat(self, messages: str | Sequence[Message], *, timeout: float | None = None,
                    **settings: Unpack[Settings]) -> Stream:
        return self.stream(turns(messages), timeout=timeout, **settings)

    def call(self, request: inference_pb2.GenerateRequest, *,
             timeout: float | None = None) -> inference_pb2.GenerateResponse:
        """Generate, in the contract's own messages."""
        response: inference_pb2.GenerateResponse = self._call(self._inference.Generate, request, timeout,
                                                              request.request_id)
        return response

    def stream_call(self, request: inference_pb2.GenerateRequest, *, timeout: float | None = None) -> Stream:
        """StreamGenerate, for a request of the contract."""
        return Stream(lambda left: self._inference.StreamGenerate(request, timeout=left, metadata=self._metadata),
                      Attempts(self._retry, self._timeout if timeout is None else timeout), request.request_id,
                      self._is_closed)

    def tokenize(self, text: str, *, add_special_tokens: bool | None = None,
                 timeout: float | None = None) -> list[int]:
        request = tokenizer_pb2.TokenizeRequest(texts=[text], add_special_tokens=add_special_tokens)
        return list(self._call(self._tokenizer.Tokenize, request, timeout).results[0].ids)

    def detokenize(self, ids: Sequence[int], *, skip_special_tokens: bool | None = None,
                   timeout: float | None = None) -> str:
        request = tokenizer_pb2.DetokenizeRequest(sequences=[inference_pb2.TokenInput(ids=ids)],
                                                  skip_special_tokens=skip_special_tokens)
        text: str = self._call(self._tokenizer.Detokenize, request, timeout).texts[0]
        return text

    def render_chat(self, messages: str | Sequence[Message], *, timeout: float | None = None,
                    **settings: Unpack[Settings]) -> str:
        """The prompt that a conversation becomes."""
        request = make_request(turns(messages), settings)
        render = tokenizer_pb2.RenderChatRequest(model=request.model, chat=request.chat)
        text: str = self._call(self._tokenizer.RenderChat, render, timeout).text
        return text

    def model(self, name: str = "", *, timeout: float | None = None) -> model_pb2.Model:
        """The model of that name; by default the one that is served."""
        model: model_pb2.Model = self._call(self._models.GetModel, model_pb2.GetModelRequest(name=name), timeout).model
        return model

    def models(self, *, timeout: float | None = None) -> list[model_pb2.Model]:
        """All models. The timeout is that of each page."""
        models: list[model_pb2.Model] = []
        page = ""
        while True:
            answer = self._call(self._models.ListModels, model_pb2.ListModelsRequest(page_token=page), timeout)
            models.extend(answer.models)
            page = answer.next_page_token
            if not page:
                return models

    def server_info(self, *, timeout: float | None = None) -> control_pb2.GetServerInfoResponse:
        info: control_pb2.GetServerInfoResponse = self._call(
            self._control.GetServerInfo, control_pb2.GetServerInfoRequest(), timeout)
        return info

    def load(self, *, timeout: float | None = None) -> control_pb2.Load:
        """What the server does now: requests that run and wait, blocks of the cache, tokens a second."""
        load: control_pb2.Load = self._call(self._control.GetLoad, control_pb2.GetLoadRequest(), timeout).load
        return load

    def is_ready(self, *, timeout: float = 5) -> bool:
        """Whether a server answers, and takes requests. Raises nothing."""
        try:
            load: control_pb2.Load = self._control.GetLoad(
                control_pb2.GetLoadRequest(), timeout=timeout, metadata=self._metadata).load
        except grpc.RpcError:
            return False
        return load.healthy and not load.draining
