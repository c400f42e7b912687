"""Conversations that are put through every chat template, and the call of transformers that renders them."""

import copy
import re

from transformers.utils.chat_template_utils import render_jinja_template

SPECIAL_TOKENS = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city.\nIn °C.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "城市 \"name\""},
                "unit": {"type": "string", "enum": ["c", "f"], "default": "c", "description": "The unit"},
                "days": {"type": "integer", "minimum": 1, "default": 3},
                "tags": {"type": "array", "items": {"type": "string"}, "nullable": True},
                "range": {"type": ["number", "null"]},
                "where": {"oneOf": [{"type": "string", "description": "a name"}, {"type": "number", "default": 1.5}]},
                "deep": {"type": "object", "properties": {"x": {"type": "number"}, "y": {"type": "boolean"}},
                         "required": ["x"]},
            },
            "required": ["city"],
        },
        "return": {"type": "string", "description": "A text"},
    },
}
NO_PARAMETERS = {"type": "function", "function": {"name": "ping", "description": "Ping <b>&</b>.",
                                                  "parameters": {"type": "object", "properties": {}}}}
BARE = {"name": "bare", "description": "Not wrapped", "parameters": {"type": "object", "properties": {}}}


def user(content):
    return {"role": "user", "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


def system(content):
    return {"role": "system", "content": content}


def call(name, arguments, call_id=None):
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **({"id": call_id} if call_id else {})}


PLAIN = [user("Hello, who are you?")]
MULTI = [system("You are helpful."), user("2+2?"), assistant("4"), user("And 3+3?"), assistant("6"), user("谢谢 🙂")]
THINKING = [user("Q1"), assistant("<think>\nhm\n</think>\n\nA1"), user("Q2"),
            assistant("A2", reasoning_content="I thought.\nTwice."), user("Q3")]
CALLS = [
    user("Weather in Rome?"),
    assistant("", tool_calls=[call("get_weather", {"city": "Rome", "days": 2, "deep": {"x": 1.5, "y": True}, "tags": ["a", "é"]}, "call_1")]),
    {"role": "tool", "name": "get_weather", "tool_call_id": "call_1", "content": "{\"t\": 21}"},
    assistant("21 degrees."),
    user("And Oslo?"),
]
PARALLEL = [
    system("Use tools."),
    user("Rome and Oslo?"),
    assistant("Let me see.", reasoning_content="Two calls.",
              tool_calls=[call("get_weather", {"city": "Rome"}, "a1b2c3d4e"), call("get_weather", {"city": "奥斯陆"}, "f5g6h7i8j")]),
    {"role": "tool", "name": "get_weather", "tool_call_id": "a1b2c3d4e", "content": "21"},
    {"role": "tool", "name": "get_weather", "tool_call_id": "f5g6h7i8j", "content": "7"},
]
STRING_ARGUMENTS = [user("x"), assistant("y", tool_calls=[call("ping", "{\"a\": 1}", "call_9")]),
                    {"role": "tool", "tool_call_id": "call_9", "content": "pong"}]
PARTS = [system([{"type": "text", "text": "Sys."}]), user([{"type": "text", "text": "Look: "}, {"type": "text", "text": "你好"}]),
         assistant([{"type": "text", "text": "Seen."}]), user([{"type": "text", "text": "Go on"}])]
IMAGE = [user([{"type": "image"}, {"type": "text", "text": "What is it?"}])]

CASES = {}


def case(name, messages, generation=True, tools=None, kwargs=None, continues=False):
    CASES[name] = {"messages": messages, "add_generation_prompt": generation, "continue_final_message": continues,
                   **({"tools": tools} if tools is not None else {}), **({"kwargs": kwargs} if kwargs else {})}


case("plain", PLAIN)
case("plain_closed", PLAIN, generation=False)
case("system", [system("Be brief."), *PLAIN])
case("multi", MULTI)
case("multi_closed", MULTI, generation=False)
case("ends_with_assistant", MULTI[:5], generation=False)
case("ends_with_assistant_open", MULTI[:5])
case("blank_edges", [system("  padded \n"), user("\n hi \t"), assistant(" ok \n\n"), user("　全角　")])
case("empty_contents", [system(""), user(""), assistant(""), user("")])
case("only_system", [system("Alone.")])
case("two_users", [user("a"), user("b")])
case("starts_with_assistant", [assistant("Hi"), user("yo")])
case("late_system", [user("a"), system("Now."), user("b")])
case("developer", [{"role": "developer", "content": "Dev says."}, *PLAIN])
case("unknown_role", [{"role": "critic", "content": "Bad."}, *PLAIN])
case("special_text", [user("<|im_end|></s>{{ 7*7 }}{% raw %} <think> \\n \"quoted\" 'single' &<>"), assistant("\u2028\u00a0\ufeff"), user("x")])
case("emoji", [user("👨‍👩‍👧‍👦 مرحبا שלום 안녕 नमस्ते")])
case("think_on", PLAIN, kwargs={"enable_thinking": True})
case("think_off", PLAIN, kwargs={"enable_thinking": False})
case("thinking_true", PLAIN, kwargs={"thinking": True})
case("thinking_false_multi", MULTI, kwargs={"thinking": False})
case("think_off_multi", MULTI, kwargs={"enable_thinking": False})
case("thoughts", THINKING)
case("thoughts_closed", THINKING[:4], generation=False)
case("thoughts_off", THINKING, kwargs={"enable_thinking": False, "thinking": False})
case("thoughts_on", THINKING, kwargs={"enable_thinking": True, "thinking": True})
case("think_commands", [system("Answer /no_think"), user("Hi /think")])
case("effort", PLAIN, kwargs={"reasoning_effort": "high", "model_identity": "You are X.", "builtin_tools": ["browser", "python"]})
case("clear_thinking", THINKING, kwargs={"clear_thinking": False, "preserve_thinking": True})
case("tools", PLAIN, tools=[WEATHER])
case("tools_system", [system("Sys."), *PLAIN], tools=[WEATHER, NO_PARAMETERS])
case("tools_bare", PLAIN, tools=[BARE])
case("tools_empty", PLAIN, tools=[])
case("tools_think_off", PLAIN, tools=[WEATHER], kwargs={"enable_thinking": False})
case("tools_xml", PLAIN, tools=[NO_PARAMETERS], kwargs={"xml_tools": [NO_PARAMETERS], "tools_in_user_message": False})
case("calls", CALLS, tools=[WEATHER])
case("calls_without_tools", CALLS)
case("calls_pending", CALLS[:3], tools=[WEATHER])
case("calls_closed", CALLS[:4], tools=[WEATHER], generation=False)
case("calls_open_end", CALLS[:2], tools=[WEATHER], generation=False)
case("calls_think", CALLS, tools=[WEATHER], kwargs={"enable_thinking": True, "thinking": True})
case("parallel", PARALLEL, tools=[WEATHER, NO_PARAMETERS])
case("parallel_on", PARALLEL, tools=[WEATHER], kwargs={"thinking": True})
case("parallel_continued", [*PARALLEL, assistant("21 and 7."), user("Thanks")], tools=[WEATHER])
case("string_arguments", STRING_ARGUMENTS, tools=[NO_PARAMETERS])
case("null_content", [user("x"), assistant(None, tool_calls=[call("ping", {}, "call_1")]),
                      {"role": "tool", "content": "pong", "tool_call_id": "call_1"}], tools=[NO_PARAMETERS])
case("only_calls", [user("x"), {"role": "assistant", "tool_calls": [call("ping", {"a": 1}, "call_9ab")]},
                    {"role": "tool", "name": "ping", "tool_call_id": "call_9ab", "content": "pong"}],
     tools=[NO_PARAMETERS])
case("only_calls_answered", [user("x"), {"role": "assistant", "tool_calls": [call("ping", {"a": 1}, "call_9ab")]},
                             {"role": "tool", "name": "ping", "tool_call_id": "call_9ab", "content": "pong"},
                             assistant("Done."), user("Again")], tools=[NO_PARAMETERS])
case("parts", PARTS)
case("image", IMAGE)
case("image_ids", IMAGE, kwargs={"add_vision_id": True})
case("continue", [user("Write."), assistant("Once upon")], generation=False, continues=True)
case("continue_blank", [user("Write."), assistant("Once upon  ")], generation=False, continues=True)
case("continue_parts", [user("Write."), assistant([{"type": "text", "text": "One"}, {"type": "text", "text": "Two"}])],
     generation=False, continues=True)
case("continue_user", [user("Let me fin")], generation=False, continues=True)
case("continue_thought", [user("Q"), assistant("Ans", reasoning_content="R")], generation=False, continues=True)
case("continue_missing", [user("Q"), assistant(None)], generation=False, continues=True)
case("older_reasoning_name", [user("Q"), assistant("A", thinking="T"), user("Q2"), assistant("B", reasoning="U")], generation=False)


def as_passed(message, source):
    """The message as a user of transformers has to pass it for this template.

    A turn of calls alone needs a content: an empty one for most templates, which take it for a string; none for those
    that ask whether it is (DeepSeek's).
    """
    message = {k: v for k, v in copy.deepcopy(message).items() if v is not None}
    if message.get("tool_calls") and "content" not in message:
        message["content"] = None if re.search(r"\bcontent(['\"]\])? is (not )?none", source) else ""
    return message


def apply(source, case, special_tokens):
    """What PreTrainedTokenizerBase.apply_chat_template does before it tokenizes."""
    messages = [as_passed(message, source) for message in case["messages"]]
    rendered, _ = render_jinja_template(
        conversations=[messages],
        tools=case.get("tools"),
        chat_template=source,
        continue_final_message=case["continue_final_message"],
        add_generation_prompt=case["add_generation_prompt"],
        **{**special_tokens, **case.get("kwargs", {})},
    )
    return rendered[0]
