"""What the server answers, as plain Python."""

from __future__ import annotations

import dataclasses
import enum
import json
from typing import Any

import grpc

from expertd._errors import Internal
from expertd.v1 import inference_pb2 as pb


class FinishReason(str, enum.Enum):
    """Why a candidate ended."""

    STOP = "stop"                          # the model's own end of text
    STOP_SEQUENCE = "stop_sequence"        # one of the request's stop strings or tokens
    MAX_TOKENS = "max_tokens"
    CONTEXT_LENGTH = "context_length"      # prompt and output fill the model's length
    TOOL_CALLS = "tool_calls"
    TIME_LIMIT = "time_limit"
    CANCELLED = "cancelled"
    GRAMMAR_DEAD_END = "grammar_dead_end"  # nothing could go on in the form that was asked for
    NO_VALID_TOKEN = "no_valid_token"
    UNSPECIFIED = "unspecified"            # not ended, or a reason that this version does not know

    @classmethod
    def of(cls, value: int) -> FinishReason:
        try:
            return cls(pb.FinishReason.Name(value).removeprefix("FINISH_REASON_").lower())
        except ValueError:
            return cls.UNSPECIFIED


@dataclasses.dataclass(frozen=True)
class ToolCall:
    """A call of a tool. In a Delta a piece of one: `id` and `name` in the first piece alone, arguments to be joined."""

    index: int
    id: str
    name: str
    arguments_json: str

    @property
    def arguments(self) -> Any:
        """The arguments, parsed. Raises ValueError when the model was cut off within them."""
        return json.loads(self.arguments_json)


@dataclasses.dataclass(frozen=True)
class TopToken:
    token_id: int
    logprob: float
    text: str


@dataclasses.dataclass(frozen=True)
class Token:
    """A token with its log-probability; rank 1 is the most likely."""

    token_id: int
    logprob: float
    rank: int
    text: str
    top: tuple[TopToken, ...]


@dataclasses.dataclass(frozen=True)
class Delta:
    """New output of one candidate."""

    index: int
    text: str
    reasoning: str
    tool_calls: tuple[ToolCall, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[Token, ...]
    num_tokens: int


@dataclasses.dataclass(frozen=True)
class Candidate:
    index: int
    text: str
    reasoning: str
    tool_calls: tuple[ToolCall, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[Token, ...]
    finish_reason: FinishReason
    seed: int | None     # with this one alone, the same request gives this candidate again
    num_tokens: int


@dataclasses.dataclass(frozen=True)
class Usage:
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_prompt_tokens: int
    reasoning_tokens: int


@dataclasses.dataclass(frozen=True)
class Generation:
    """A whole answer. The properties are those of its first candidate."""

    id: str
    model: str
    system_fingerprint: str
    candidates: tuple[Candidate, ...]
    usage: Usage
    warnings: tuple[str, ...]
    response: pb.GenerateResponse  # all of it, as the contract has it

    @property
    def text(self) -> str:
        return self.candidates[0].text

    @property
    def reasoning(self) -> str:
        return self.candidates[0].reasoning

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        return self.candidates[0].tool_calls

    @property
    def finish_reason(self) -> FinishReason:
        return self.candidates[0].finish_reason


def _calls(calls: Any) -> tuple[ToolCall, ...]:
    return tuple(ToolCall(c.index, c.id, c.name, c.arguments_json) for c in calls)


def _warnings(warnings: Any) -> tuple[str, ...]:
    return tuple(f"{w.field}: {w.message}" for w in warnings)


def _tokens(tokens: Any) -> tuple[Token, ...]:
    return tuple(Token(t.token_id, t.logprob, t.rank, t.text,
                       tuple(TopToken(o.token_id, o.logprob, o.text) for o in t.top)) for t in tokens)


def delta_from(delta: pb.Delta) -> Delta:
    return Delta(delta.index, delta.text, delta.reasoning, _calls(delta.tool_calls), tuple(delta.token_ids),
                 _tokens(delta.logprobs), delta.num_tokens)


def generation_from(response: pb.GenerateResponse) -> Generation:
    usage = response.usage
    return Generation(
        id=response.id, model=response.model, system_fingerprint=response.system_fingerprint,
        candidates=tuple(
            Candidate(c.index, c.text, c.reasoning, _calls(c.tool_calls), tuple(c.token_ids), _tokens(c.logprobs),
                      FinishReason.of(c.finish_reason), c.seed if c.HasField("seed") else None, c.num_tokens)
            for c in response.candidates),
        usage=Usage(usage.prompt_tokens, usage.completion_tokens, usage.total_tokens, usage.cached_prompt_tokens,
                    usage.reasoning_tokens),
        warnings=_warnings(response.warnings), response=response)


class Collector:
    """Makes a stream's events into the answer that Generate would have given."""

    def __init__(self) -> None:
        self.response = pb.GenerateResponse()
        self.is_whole = False

    def add(self, event: pb.StreamGenerateResponse) -> Delta | None:
        """Takes the next event; its delta, if it has one."""
        response = self.response
        kind = event.WhichOneof("event")
        if kind == "accepted":
            accepted = event.accepted
            response.id, response.model = accepted.id, accepted.model
            response.create_time.CopyFrom(accepted.create_time)
            response.system_fingerprint = accepted.system_fingerprint
            response.warnings.extend(accepted.warnings)
            for index in range(accepted.num_candidates):
                response.candidates.add(index=index)
        elif kind == "prompt":
            response.prompt.CopyFrom(event.prompt)
        elif kind == "delta":
            self._append(response.candidates[event.delta.index], event.delta)
            return delta_from(event.delta)
        elif kind == "finished":
            candidate = response.candidates[event.finished.index]
            candidate.finish_reason = event.finished.finish_reason
            if event.finished.HasField("stop_match"):
                candidate.stop_match.CopyFrom(event.finished.stop_match)
            if event.finished.HasField("seed"):
                candidate.seed = event.finished.seed
        elif kind == "summary":
            response.usage.CopyFrom(event.summary.usage)
            if event.summary.HasField("timing"):
                response.timing.CopyFrom(event.summary.timing)
            self.is_whole = True
        return None

    def end(self) -> None:
        """The stream is over. Raises Internal when the rest of the answer is missing."""
        if not self.is_whole:
            raise Internal(grpc.StatusCode.INTERNAL, "the server ended the stream without its summary",
                           request_id=self.response.id)

    @staticmethod
    def _append(candidate: pb.Candidate, delta: pb.Delta) -> None:
        candidate.text += delta.text
        candidate.reasoning += delta.reasoning
        candidate.token_ids.extend(delta.token_ids)
        candidate.logprobs.extend(delta.logprobs)
        candidate.num_tokens += delta.num_tokens
        for piece in delta.tool_calls:
            if piece.index < len(candidate.tool_calls):
                candidate.tool_calls[piece.index].arguments_json += piece.arguments_json
            else:
                candidate.tool_calls.append(piece)
