"""What both clients share: how to connect, and when to try again."""

from __future__ import annotations

import dataclasses
import pathlib
import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

import grpc

from expertd._errors import Error

_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", 256 << 20),  # log-probabilities of a long prompt pass gRPC's 4 MiB
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5000),
    # A server whose machine has vanished ends a call without a deadline, too: in 40 s.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
)


@dataclasses.dataclass(frozen=True)
class Retry:
    """When a call is tried again: on UNAVAILABLE alone, and a stream only before its first message. The pauses grow
    from `initial` by `factor` up to `maximum` seconds, less a random part of up to a half; a pause that the server asks
    for counts. All attempts together take no longer than the call's timeout."""

    attempts: int = 5
    initial: float = 0.2
    factor: float = 2.0
    maximum: float = 5.0

    def pauses(self) -> Iterator[float]:
        pause = self.initial
        for _ in range(self.attempts - 1):
            yield pause * random.uniform(0.5, 1.0)
            pause = min(pause * self.factor, self.maximum)


class Attempts:
    """The attempts of one call."""

    def __init__(self, retry: Retry, timeout: float | None) -> None:
        self._pauses = retry.pauses()
        self._deadline = None if timeout is None else time.monotonic() + timeout

    def timeout(self) -> float | None:
        """Of the next attempt."""
        return None if self._deadline is None else max(0.001, self._deadline - time.monotonic())

    def pause_after(self, error: Error) -> float | None:
        """Seconds to wait before the next attempt; None: there is none."""
        if error.code != grpc.StatusCode.UNAVAILABLE:
            return None
        pause = next(self._pauses, None)
        if pause is None:
            return None
        if error.retry_delay is not None:
            pause = max(pause, error.retry_delay)
        if self._deadline is not None and time.monotonic() + pause >= self._deadline:
            return None
        return pause


def credentials(tls: bool, ca_file: str | None) -> grpc.ChannelCredentials | None:
    """None: plaintext."""
    if ca_file is not None:
        return grpc.ssl_channel_credentials(pathlib.Path(ca_file).read_bytes())
    return grpc.ssl_channel_credentials() if tls else None


def channel_options(options: Sequence[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Ours, but for those that `options` has too."""
    return list({**dict(_CHANNEL_OPTIONS), **dict(options)}.items())


def call_metadata(api_key: str | None) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {api_key}"),) if api_key else ()
