"""Plain Python to a request of the contract."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union

from typing_extensions import NotRequired, Required, TypedDict

from expertd.v1 import inference_pb2 as pb


class Message(TypedDict, total=False):
    """A turn of a conversation, with the names that OpenAI's messages have."""

    role: Required[Literal["system", "developer", "user", "assistant", "tool"]]
    content: str | None
    name: str
    reasoning: str                            # of an assistant turn
    tool_calls: Sequence[Mapping[str, Any]]   # of an assistant turn: {"id", "name", "arguments": object or JSON}
    tool_call_id: str                         # of a tool's answer


class Tool(TypedDict):
    """A function that the model may call; `parameters` is a JSON Schema."""

    name: str
    description: NotRequired[str]
    parameters: NotRequired[Mapping[str, Any]]
    strict: NotRequired[bool]


# Text, token ids, or the turns of a conversation.
Prompt = Union[str, Sequence[int], Sequence[Message]]


class Settings(TypedDict, total=False):
    """What a request may set; ranges and defaults are in the contract (api/expertd/v1/inference.proto)."""

    model: str
    # Sampling.
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    frequency_penalty: float
    presence_penalty: float
    seed: int
    n: int
    logit_bias: Mapping[int, float]
    allowed_token_ids: Sequence[int]
    bad_words: Sequence[str]
    # The end.
    max_tokens: int
    min_tokens: int
    stop: str | Sequence[str]
    stop_token_ids: Sequence[int]
    include_stop_in_output: bool
    ignore_eos: bool
    time_limit: float                     # seconds; what is written by then is the answer
    # What comes back.
    logprobs: int                         # of the tokens, and of so many others at each place
    prompt_logprobs: int
    token_ids: bool
    echo: bool
    skip_special_tokens: bool
    separate_reasoning: bool              # default True
    timing: bool
    # The form of the output; one of them.
    json_schema: Mapping[str, Any] | str
    json_object: bool
    regex: str
    grammar: str
    choices: Sequence[str]
    # Conversations.
    tools: Sequence[Tool]
    tool_choice: str                      # "auto", "none", "required", or the name of a tool
    parallel_tool_calls: bool
    template_kwargs: Mapping[str, Any]    # such as {"enable_thinking": False}
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high"]
    # Texts.
    add_special_tokens: bool
    truncate_to: int
    # Scheduling and caching.
    priority: int
    queue_timeout: float                  # seconds
    bypass_prefix_cache: bool
    cache_salt: str
    request_id: str
    user: str


_ROLES = ("system", "developer", "user", "assistant", "tool")
_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty",
             "seed", "n", "allowed_token_ids", "bad_words")
_STOP = {"max_tokens": "max_tokens", "min_tokens": "min_tokens", "stop_token_ids": "token_ids",
         "include_stop_in_output": "include_stop_in_output", "ignore_eos": "ignore_eos"}
_OUTPUT = ("token_ids", "echo", "skip_special_tokens", "timing")
_TEXT = ("add_special_tokens", "truncate_to")
_CHAT = ("tools", "tool_choice", "parallel_tool_calls", "template_kwargs", "reasoning_effort")


def _assign(message: Any, field: str, value: Any) -> None:
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        setattr(message, field, value)
    else:
        getattr(message, field).extend(value)


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def turns(messages: str | Sequence[Message]) -> Sequence[Message]:
    """The turns of a conversation; a text is the user's one turn. Raises ValueError when there are none."""
    if isinstance(messages, str):
        return [{"role": "user", "content": messages}]
    if len(messages) == 0:
        raise ValueError("the conversation has no turns")
    return messages


def _add_message(chat: pb.ChatInput, turn: Message) -> None:
    role = turn.get("role")
    if role not in _ROLES:
        raise ValueError(f"the role of a turn is {role!r}; must be one of {', '.join(_ROLES)}")
    message = chat.messages.add(role=pb.Role.Value(f"ROLE_{role.upper()}"), name=turn.get("name") or "",
                                tool_call_id=turn.get("tool_call_id") or "", reasoning=turn.get("reasoning") or "")
    if (content := turn.get("content")) is not None:
        message.parts.add(text=content)
    for call in turn.get("tool_calls") or ():
        function = call.get("function", call)  # OpenAI's calls have it one level deeper
        message.tool_calls.add(id=call.get("id") or "", name=function["name"],
                               arguments_json=_json(function.get("arguments", {})))


def _fill_chat(chat: pb.ChatInput, turns: Sequence[Message], settings: Mapping[str, Any]) -> None:
    for turn in turns:
        _add_message(chat, turn)
    for tool in settings.get("tools") or ():
        function = chat.tools.add().function
        function.name, function.description = tool["name"], tool.get("description", "")
        if "parameters" in tool:
            function.parameters_json_schema = _json(tool["parameters"])
        if "strict" in tool:
            function.strict = tool["strict"]
    if (choice := settings.get("tool_choice")) is not None:
        if choice in ("auto", "none", "required"):
            chat.tool_choice.mode = pb.ToolChoice.Mode.Value(f"MODE_{choice.upper()}")  # type: ignore[assignment]
        else:
            chat.tool_choice.function_name = choice
    if (parallel := settings.get("parallel_tool_calls")) is not None:
        chat.parallel_tool_calls = parallel
    if (kwargs := settings.get("template_kwargs")) is not None:
        chat.template_kwargs.update(kwargs)
    if (effort := settings.get("reasoning_effort")) is not None:
        effort_name = f"REASONING_EFFORT_{effort.upper()}"
        chat.reasoning_effort = pb.ReasoningEffort.Value(effort_name)  # type: ignore[assignment]


def _fill_structured(request: pb.GenerateRequest, settings: Mapping[str, Any]) -> None:
    if "json_schema" in settings:
        request.structured.json_schema = _json(settings["json_schema"])
    if settings.get("json_object"):
        request.structured.json_object.SetInParent()
    for field in ("regex", "grammar"):
        if field in settings:
            setattr(request.structured, field, settings[field])
    if "choices" in settings:
        request.structured.choices.values.extend(settings["choices"])


def _check(settings: Mapping[str, Any], is_chat: bool, is_text: bool) -> None:
    unknown = set(settings) - set(Settings.__annotations__)
    if unknown:
        raise TypeError(f"there is no setting {min(unknown)!r}")
    misplaced = [*(() if is_chat else _CHAT), *(() if is_text else _TEXT)]
    for name in misplaced:
        if settings.get(name) is not None:
            raise TypeError(f"{name} has no meaning for this kind of prompt")
    forms = [name for name in ("json_schema", "json_object", "regex", "grammar", "choices")
             if settings.get(name, False) is not False]
    if len(forms) > 1:
        raise TypeError(f"{forms[0]} and {forms[1]} exclude each other")


def make_request(prompt: Prompt, settings: Mapping[str, Any]) -> pb.GenerateRequest:
    """The request for `prompt` with Settings. Raises TypeError or ValueError for what no request can have; what the
    server's limits allow is its to say."""
    settings = {name: value for name, value in settings.items() if value is not None}
    is_text = isinstance(prompt, str)
    is_chat = not is_text and len(prompt) > 0 and isinstance(prompt[0], Mapping)
    _check(settings, is_chat, is_text)
    request = pb.GenerateRequest(model=settings.get("model", ""), request_id=settings.get("request_id", ""),
                                 user=settings.get("user", ""))
    if is_text:
        request.text.text = prompt  # type: ignore[assignment]
        for name in _TEXT:
            if name in settings:
                setattr(request.text, name, settings[name])
    elif is_chat:
        _fill_chat(request.chat, prompt, settings)  # type: ignore[arg-type]
    else:
        request.tokens.ids.extend(prompt)  # type: ignore[arg-type]
        request.tokens.SetInParent()
    for name in _SAMPLING:
        if name in settings:
            _assign(request.sampling, name, settings[name])
    for token, bias in (settings.get("logit_bias") or {}).items():
        request.sampling.logit_bias.add(token_id=token, bias=bias)
    for name, field in _STOP.items():
        if name in settings:
            _assign(request.stop, field, settings[name])
    if "stop" in settings:
        stop = settings["stop"]
        request.stop.strings.extend([stop] if isinstance(stop, str) else stop)
    if "time_limit" in settings:
        request.stop.time_limit.FromNanoseconds(int(settings["time_limit"] * 1e9))
    for name in _OUTPUT:
        if name in settings:
            setattr(request.output, name, settings[name])
    for name in ("logprobs", "prompt_logprobs"):
        if name in settings:
            getattr(request.output, name).top_n = settings[name]
    request.output.separate_reasoning = settings.get("separate_reasoning", True)
    request.output.parse_tool_calls = bool(settings.get("tools"))
    _fill_structured(request, settings)
    if "priority" in settings:
        request.scheduling.priority = settings["priority"]
    if "queue_timeout" in settings:
        request.scheduling.queue_timeout.FromNanoseconds(int(settings["queue_timeout"] * 1e9))
    if "bypass_prefix_cache" in settings:
        request.cache.bypass_prefix_cache = settings["bypass_prefix_cache"]
    if "cache_salt" in settings:
        request.cache.salt = settings["cache_salt"]
    return request
