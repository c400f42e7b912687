"""The client for asyncio: the same as the blocking one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Any

import grpc
import grpc.aio
from typing_extensions import Self, Unpack

from expertd._connection import Attempts, Retry, call_metadata, channel_options, credentials
from expertd._errors import Cancelled, error_from
from expertd._requests import Message, Prompt, Settings, make_request, turns
from expertd._results import Collector, Delta, Generation, generation_from
from expertd.v1 import (control_pb2, control_pb2_grpc, inference_pb2, inference_pb2_grpc, model_pb2, model_pb2_grpc,
                        tokenizer_pb2, tokenizer_pb2_grpc)


class AsyncStream(AsyncIterator[Delta]):
    """The deltas of one answer, as they come. Use it in an `async with` block, or close it: that cancels what is left;
    so does cancelling the task that waits for it."""

    def __init__(self, start: Callable[[float | None], Any], attempts: Attempts, request_id: str) -> None:
        self._start = start
        self._attempts = attempts
        self._request_id = request_id
        self._call = start(attempts.timeout())
        self._is_closed = asyncio.Event()
        self._has_begun = False
        self._collector = Collector()

    async def __anext__(self) -> Delta:
        while True:
            try:
                event = await self._call.read()
            except asyncio.CancelledError:
                if self._is_closed.is_set():  # the stream ends, not the task
                    raise Cancelled(grpc.StatusCode.CANCELLED, "the stream was closed",
                                    request_id=self._request_id) from None
                raise
            except grpc.aio.AioRpcError as failure:
                error = error_from(failure, self._request_id)
                pause = None if self._has_begun else self._attempts.pause_after(error)
                if pause is None:
                    raise error from None
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._is_closed.wait(), pause)
                self._call = self._start(self._attempts.timeout())
                if self._is_closed.is_set():
                    self._call.cancel()
                continue
            if event is grpc.aio.EOF:
                self._collector.end()
                raise StopAsyncIteration
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

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        traceback: TracebackType | None) -> None:
        self.close()


class AsyncClient:
    """A connection to a server, for the tasks of one event loop; made within it. Parameters, methods and errors are
    those of Client."""

    def __init__(self, target: str = "127.0.0.1:50051", *, api_key: str | None = None, tls: bool = False,
                 ca_file: str | None = None, timeout: float | None = None, retry: Retry = Retry(),
                 options: Sequence[tuple[str, Any]] = ()) -> None:
        keys = credentials(tls, ca_file)
        self._channel = (grpc.aio.insecure_channel(target, channel_options(options)) if keys is None
                         else grpc.aio.secure_channel(target, keys, channel_options(options)))
        self._metadata = call_metadata(api_key)
        self._timeout, self._retry = timeout, retry
        self._inference = inference_pb2_grpc.InferenceServiceStub(self._channel)
        self._tokenizer = tokenizer_pb2_grpc.TokenizerServiceStub(self._channel)
        self._models = model_pb2_grpc.ModelServiceStub(self._channel)
        self._control = control_pb2_grpc.ControlServiceStub(self._channel)

    async def close(self) -> None:
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        traceback: TracebackType | None) -> None:
        await self.close()

    async def _call(self, method: Any, request: Any, timeout: float | None, request_id: str = "") -> Any:
        attempts = Attempts(self._retry, self._timeout if timeout is None else timeout)
        while True:
            try:
                return await method(request, timeout=attempts.timeout(), metadata=self._metadata)
            except grpc.aio.AioRpcError as failure:
                error = error_from(failure, request_id)
                pause = attempts.pause_after(error)
                if pause is None:
                    raise error from None
                await asyncio.sleep(pause)

    async def generate(self, prompt: Prompt, *, timeout: float | None = None,
                       **settings: Unpack[Settings]) -> Generation:
        return generation_from(await self.call(make_request(prompt, settings), timeout=timeout))

    def stream(self, prompt: Prompt, *, timeout: float | None = None, **settings: Unpack[Settings]) -> AsyncStream:
        return self.stream_call(make_request(prompt, settings), timeout=timeout)

    async def chat(self, messages: str | Sequence[Message], *, timeout: float | None = None,
                   **settings: Unpack[Settings]) -> Generation:
        return await self.generate(turns(messages), timeout=timeout, **settings)

    def stream_chat(self, messages: str | Sequence[Message], *, timeout: float | None = None,
                    **settings: Unpack[Settings]) -> AsyncStream:
        return self.stream(turns(messages), timeout=timeout, **settings)

    async def call(self, request: inference_pb2.GenerateRequest, *,
                   timeout: float | None = None) -> inference_pb2.GenerateResponse:
        response: inference_pb2.GenerateResponse = await self._call(self._inference.Generate, request, timeout,
                                                                    request.request_id)
        return response

    def stream_call(self, request: inference_pb2.GenerateRequest, *, timeout: float | None = None) -> AsyncStream:
        return AsyncStream(lambda left: self._inference.StreamGenerate(request, timeout=left, metadata=self._metadata),
                           Attempts(self._retry, self._timeout if timeout is None else timeout), request.request_id)

    async def tokenize(self, text: str, *, add_special_tokens: bool | None = None,
                       timeout: float | None = None) -> list[int]:
        request = tokenizer_pb2.TokenizeRequest(texts=[text], add_special_tokens=add_special_tokens)
        return list((await self._call(self._tokenizer.Tokenize, request, timeout)).results[0].ids)

    async def detokenize(self, ids: Sequence[int], *, skip_special_tokens: bool | None = None,
                         timeout: float | None = None) -> str:
        request = tokenizer_pb2.DetokenizeRequest(sequences=[inference_pb2.TokenInput(ids=ids)],
                                                  skip_special_tokens=skip_special_tokens)
        text: str = (await self._call(self._tokenizer.Detokenize, request, timeout)).texts[0]
        return text

    async def render_chat(self, messages: str | Sequence[Message], *, timeout: float | None = None,
                          **settings: Unpack[Settings]) -> str:
        request = make_request(turns(messages), settings)
        render = tokenizer_pb2.RenderChatRequest(model=request.model, chat=request.chat)
        text: str = (await self._call(self._tokenizer.RenderChat, render, timeout)).text
        return text

    async def model(self, name: str = "", *, timeout: float | None = None) -> model_pb2.Model:
        request = model_pb2.GetModelRequest(name=name)
        model: model_pb2.Model = (await self._call(self._models.GetModel, request, timeout)).model
        return model

    async def models(self, *, timeout: float | None = None) -> list[model_pb2.Model]:
        models: list[model_pb2.Model] = []
        page = ""
        while True:
            request = model_pb2.ListModelsRequest(page_token=page)
            answer = await self._call(self._models.ListModels, request, timeout)
            models.extend(answer.models)
            page = answer.next_page_token
            if not page:
                return models

    async def server_info(self, *, timeout: float | None = None) -> control_pb2.GetServerInfoResponse:
        info: control_pb2.GetServerInfoResponse = await self._call(
            self._control.GetServerInfo, control_pb2.GetServerInfoRequest(), timeout)
        return info

    async def load(self, *, timeout: float | None = None) -> control_pb2.Load:
        load: control_pb2.Load = (await self._call(self._control.GetLoad, control_pb2.GetLoadRequest(), timeout)).load
        return load

    async def is_ready(self, *, timeout: float = 5) -> bool:
        try:
            answer = await self._control.GetLoad(control_pb2.GetLoadRequest(), timeout=timeout,
                                                 metadata=self._metadata)
        except grpc.aio.AioRpcError:
            return False
        load: control_pb2.Load = answer.load
        return load.healthy and not load.draining
