"""Client of expertd, an inference server for language models: generation, streams, tokens, models, health.

`Client` blocks, `AsyncClient` is for asyncio; both are safe to share between threads or tasks and reuse one connection.
What the server refuses or fails at is raised as a subclass of `Error`, which carries the reason and the details.
"""

from expertd._aio import AsyncClient, AsyncStream
from expertd._client import Client, Stream
from expertd._connection import Retry
from expertd._errors import (Aborted, AlreadyExists, Cancelled, DeadlineExceeded, Error, FailedPrecondition, Internal,
                             InvalidArgument, NotFound, PermissionDenied, ResourceExhausted, Unauthenticated,
                             Unavailable, Unimplemented, Violation)
from expertd._requests import Message, Prompt, Settings, Tool, make_request
from expertd._results import Candidate, Delta, FinishReason, Generation, Token, ToolCall, TopToken, Usage

__version__ = "0.1.0"
__all__ = [
    "Aborted", "AlreadyExists", "AsyncClient", "AsyncStream", "Cancelled", "Candidate", "Client", "DeadlineExceeded",
    "Delta", "Error", "FailedPrecondition", "FinishReason", "Generation", "Internal", "InvalidArgument", "Message",
    "NotFound", "PermissionDenied", "Prompt", "ResourceExhausted", "Retry", "Settings", "Stream", "Token", "Tool",
    "ToolCall", "TopToken", "Unauthenticated", "Unavailable", "Unimplemented", "Usage", "Violation", "make_request",
]
