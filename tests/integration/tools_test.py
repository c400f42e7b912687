"""Reasoning and calls of tools, as gRPC callers and OpenAI's own client get them: with the templates that the models'
publishers ship, and the bundled model under them, its output led by constraints or by a bias towards one token."""

import json

import grpc
import jsonschema
import openai
import pydantic
import pytest

from conftest import Server, error_details
from dressed_model import DEEPSEEK, QWEN, make_model

WEATHER = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 12},
                                            "days": {"type": "integer", "minimum": 1, "maximum": 9}},
           "required": ["city", "days"], "additionalProperties": False}
NOW = {"type": "object", "properties": {"zone": {"enum": ["UTC", "CET"]}}, "required": ["zone"],
       "additionalProperties": False}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Weather", "parameters": WEATHER}},
         {"type": "function", "function": {"name": "now", "parameters": NOW}}]
SCHEMAS = {"get_weather": WEATHER, "now": NOW}
QUESTION = [{"role": "user", "content": "What is the weather in Paris?"}]


class ToolServer(Server):
    def __init__(self, folder, template, marks, flags=(), are_special=False):
        model, self.ids = make_model(folder / "model", template, marks, are_special)
        added = json.loads((folder / "model/tokenizer.json").read_text())["added_tokens"]
        self.end = next(token["id"] for token in added if token["content"] == "<|im_end|>")
        super().__init__(folder / "server.log", model=model, flags=("--served-model-name", "m", *flags))

        self.client = openai.OpenAI(base_url=f"http://127.0.0.1:{self.rest_port}/v1", api_key="none", max_retries=0)

    def chat(self, **options):
        return self.client.chat.completions.create(model="m", messages=QUESTION, **options)

    def chat_written(self, text, **options):
        """The model writes exactly `text`, letter by letter."""
        return self.chat(extra_body={"structured_outputs": {"choice": [text]}},
                         logit_bias={token: -100 for token in self.ids.values()}, **options)

    def chat_called(self, **options):
        """The model writes calls, at a temperature at which it writes nearly at random."""
        no_reasoning = {self.ids["<think>"]: -100, self.ids["</think>"]: 100}
        return self.chat(tools=TOOLS, temperature=1.5, max_tokens=400, logit_bias=no_reasoning, **options)

    def stop(self):
        self.client.close()
        return super().stop()


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    running = ToolServer(tmp_path_factory.mktemp("qwen"), "Qwen-Qwen3-0.6B.jinja", QWEN)
    yield running
    assert running.stop() == 0, running.log_text()


@pytest.fixture(scope="module", params=["deepseek-ai-DeepSeek-V3.1.jinja",
                                        "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B.jinja"])
def deepseek(request, tmp_path_factory):
    running = ToolServer(tmp_path_factory.mktemp("deepseek"), request.param, DEEPSEEK, are_special=True)
    yield running
    assert running.stop() == 0, running.log_text()


@pytest.fixture
def pb():
    from expertd.v1 import inference_pb2
    return inference_pb2


def check_calls(calls, at_least=1):
    assert len(calls) >= at_least
    assert len({call.id for call in calls}) == len(calls)
    for call in calls:
        assert call.type == "function" and call.id.startswith("call_")
        jsonschema.validate(json.loads(call.function.arguments), SCHEMAS[call.function.name])


# What the model writes is split.


def test_reasoning_is_apart_from_the_answer(qwen):
    answer = qwen.chat_written("<think>\nIt may rain.\n</think>\n\nTake a coat.")

    message = answer.choices[0].message
    assert message.content == "Take a coat."
    assert message.reasoning_content == "It may rain."
    assert answer.choices[0].finish_reason == "stop"


def test_calls_are_apart_from_the_answer(qwen):
    answer = qwen.chat_written(
        'I look.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris", "days": 2}}\n</tool_call>\n'
        '<tool_call>\n{"name": "now", "arguments": {"zone": "UTC"}}\n</tool_call>', tools=TOOLS)

    [choice] = answer.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "I look."
    assert [call.function.name for call in choice.message.tool_calls] == ["get_weather", "now"]
    check_calls(choice.message.tool_calls)


def test_streamed_pieces_make_the_same_calls(qwen):
    text = ('<think>\nHm.\n</think>\n\nI look.\n<tool_call>\n{"name": "get_weather", "arguments": '
            '{"city": "Paris", "days": 2}}\n</tool_call>')
    reasoning, content, name, arguments, ends = "", "", "", "", []
    for chunk in qwen.chat_written(text, tools=TOOLS, stream=True):
        [choice] = chunk.choices
        reasoning += getattr(choice.delta, "reasoning_content", None) or ""
        content += choice.delta.content or ""
        for piece in choice.delta.tool_calls or []:
            assert piece.index == 0
            name += piece.function.name or ""
            arguments += piece.function.arguments or ""
        ends.append(choice.finish_reason)

    assert (reasoning, content, name) == ("Hm.", "I look.", "get_weather")
    assert json.loads(arguments) == {"city": "Paris", "days": 2}
    assert ends[-1] == "tool_calls" and not any(ends[:-1])


def test_calls_without_tools_are_text(qwen):
    text = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    message = qwen.chat_written(text).choices[0].message
    assert message.content == text and not message.tool_calls


def test_one_call_ends_the_output_where_one_is_allowed(qwen):
    call = '<tool_call>\n{"name": "now", "arguments": {"zone": "UTC"}}\n</tool_call>'
    [choice] = qwen.chat_written(call + "\n" + call, tools=TOOLS, parallel_tool_calls=False).choices
    assert len(choice.message.tool_calls) == 1 and choice.finish_reason == "tool_calls"


def test_grpc_callers_ask_for_it(qwen, pb):
    def request(**output):
        request = pb.GenerateRequest(output=pb.OutputOptions(**output))
        request.chat.messages.add(role=pb.ROLE_USER).parts.add(text="?")
        request.chat.tools.add().function.name = "now"
        for token in qwen.ids.values():
            request.sampling.logit_bias.add(token_id=token, bias=-100)
        request.structured.choices.values.append('<think>\nHm.\n</think>\n\n<tool_call>\n{"name": "now"}\n</tool_call>')
        return request

    [plain] = qwen.inference().Generate(request()).candidates
    [split] = qwen.inference().Generate(request(separate_reasoning=True, parse_tool_calls=True)).candidates
    pieces = [event.delta for event in qwen.inference().StreamGenerate(
        request(separate_reasoning=True, parse_tool_calls=True)) if event.HasField("delta")]

    assert plain.text.startswith("<think>") and not plain.tool_calls
    assert (split.text, split.reasoning) == ("", "Hm.")
    assert [(call.name, call.arguments_json) for call in split.tool_calls] == [("now", "{}")]
    assert split.finish_reason == pb.FINISH_REASON_TOOL_CALLS
    assert "".join(piece.reasoning for piece in pieces) == "Hm."
    assert "".join(call.name for piece in pieces for call in piece.tool_calls) == "now"


def test_capabilities_tell(qwen, server, pb):
    from expertd.v1 import model_pb2, model_pb2_grpc
    def capabilities(running):
        [model] = model_pb2_grpc.ModelServiceStub(running.channel()).ListModels(model_pb2.ListModelsRequest()).models
        return model.capabilities

    assert capabilities(qwen).tool_call_parsing and capabilities(qwen).reasoning_parsing
    assert not capabilities(server).tool_call_parsing and not capabilities(server).reasoning_parsing


def check_round_trip(running, first, last):
    """What the template makes of two calls in a conversation, written by the model, is the same two calls."""
    import expertd
    calls = [("get_weather", {"city": "Paris", "days": 2}), ("now", {"zone": "UTC"})]
    turns = [*QUESTION, {"role": "assistant", "content": None, "tool_calls": [
        {"id": f"call_{i}", "name": name, "arguments": arguments} for i, (name, arguments) in enumerate(calls)]}]
    with expertd.Client(running.target) as client:
        prompt = client.render_chat(turns)
    text = prompt[prompt.index(first):prompt.rindex(last) + len(last)]

    [choice] = running.chat_written(text, tools=TOOLS).choices

    assert choice.finish_reason == "tool_calls" and not choice.message.content
    assert [(call.function.name, json.loads(call.function.arguments)) for call in choice.message.tool_calls] == calls


def test_calls_as_the_template_of_qwen_writes_them(qwen):
    check_round_trip(qwen, "<tool_call>", "</tool_call>")


def test_calls_as_the_templates_of_deepseek_write_them(deepseek):
    check_round_trip(deepseek, "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>")


# What the model must write.


@pytest.mark.parametrize("seed", range(4))
def test_a_required_call_is_one_that_its_schema_allows(qwen, seed):
    [choice] = qwen.chat_called(tool_choice="required", seed=seed).choices
    assert choice.finish_reason == "tool_calls" and not choice.message.content
    check_calls(choice.message.tool_calls)


@pytest.mark.parametrize("seed", range(3))
def test_the_formats_of_deepseek(deepseek, seed):
    [choice] = deepseek.chat_called(tool_choice="required", seed=seed, parallel_tool_calls=False).choices
    assert choice.finish_reason == "tool_calls" and not choice.message.content
    check_calls(choice.message.tool_calls)


def test_a_named_call(qwen):
    for name in SCHEMAS:
        [choice] = qwen.chat_called(tool_choice={"type": "function", "function": {"name": name}}, seed=5).choices
        assert [call.function.name for call in choice.message.tool_calls] == [name]
        check_calls(choice.message.tool_calls)


def test_arguments_are_an_object_whatever_the_schema_leaves_open(qwen):
    for parameters in [{}, {"properties": {"a": {"const": 1}}}]:
        tools = [{"type": "function", "function": {"name": "f", "parameters": parameters}}]
        [choice] = qwen.chat(tools=tools, tool_choice="required", parallel_tool_calls=False, temperature=1.5, seed=1,
                             max_tokens=40, logit_bias={qwen.ids["<think>"]: -100}).choices
        assert choice.message.tool_calls[0].function.arguments.startswith("{")


def test_no_call_when_none_may_be_made(qwen, pb):
    request = pb.GenerateRequest()
    request.chat.messages.add(role=pb.ROLE_USER).parts.add(text="?")
    request.stop.max_tokens = 1
    without = qwen.inference().Generate(request).usage.prompt_tokens
    request.chat.tools.add().function.name = "now"
    request.chat.tool_choice.mode = pb.ToolChoice.MODE_NONE
    assert qwen.inference().Generate(request).usage.prompt_tokens == without


@pytest.mark.parametrize("seed", range(4))
def test_a_strict_tool_is_called_by_its_schema_when_it_is_called(qwen, seed):
    tools = [{"type": "function", "function": {**tool["function"], "strict": True}} for tool in TOOLS]
    call, think = qwen.ids["<tool_call>"], qwen.ids["<think>"]
    [free] = qwen.chat(tools=tools, max_tokens=200, logit_bias={call: -100, think: -100}).choices
    [led] = qwen.chat(tools=tools, max_tokens=400, temperature=1.5, seed=seed, logit_bias={call: 100}).choices

    assert free.message.content and not free.message.tool_calls and free.finish_reason == "stop"
    assert led.finish_reason == "tool_calls"
    check_calls(led.message.tool_calls)


def test_an_answer_of_a_form_or_a_call(qwen):
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "integer"}}}
    call = qwen.ids["<tool_call>"]
    [answer] = qwen.chat(tools=TOOLS, response_format=form, max_tokens=60, logit_bias={call: -100}).choices
    [led] = qwen.chat(tools=TOOLS, response_format=form, max_tokens=400, logit_bias={call: 100}, seed=1).choices

    assert isinstance(json.loads(answer.message.content), int)
    assert led.message.tool_calls and not led.message.content


def test_an_answer_of_a_form_may_speak_of_the_marks(qwen):
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"const": "use <think> here"}}}
    [choice] = qwen.chat(response_format=form, logit_bias={token: -100 for token in qwen.ids.values()}).choices
    assert json.loads(choice.message.content) == "use <think> here"


def test_a_stop_string_in_a_call_leaves_no_call_to_make(qwen):
    text = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris", "days": 2}}\n</tool_call>'
    assert qwen.chat_written(text, tools=TOOLS, stop=["Par"]).choices[0].finish_reason == "stop"


def test_names_are_no_special_tokens(qwen, pb):
    def num_ends(name):
        request = pb.GenerateRequest(output=pb.OutputOptions(token_ids=True))
        request.stop.max_tokens = 1
        request.chat.messages.add(role=pb.ROLE_USER).parts.add(text="?")
        request.chat.messages.add(role=pb.ROLE_ASSISTANT).tool_calls.add(name="f", arguments_json=json.dumps({name: 1}))
        request.chat.messages.add(role=pb.ROLE_TOOL).parts.add(text="!")
        schema = {"type": "object", "properties": {name: {"type": "integer"}}}
        request.chat.tools.add().function.MergeFrom(
            pb.FunctionTool(name="f", parameters_json_schema=json.dumps(schema)))
        prompt = list(qwen.inference().Generate(request).prompt.token_ids)
        return prompt.count(qwen.end), len(prompt)

    assert num_ends("city")[0] == num_ends("<|im_end|>")[0] > 1
    assert num_ends("<|im_end|>")[1] > num_ends("city")[1]


def test_thinking_that_is_off_stays_off(qwen):
    answer = qwen.chat(max_tokens=30, temperature=1.5, seed=1, logit_bias={qwen.ids["<think>"]: 100}, extra_body={
        "chat_template_kwargs": {"enable_thinking": False}, "structured_outputs": {"choice": ["yes", "no"]}})
    assert answer.choices[0].message.content in ("yes", "no")


def test_a_template_without_thinking_has_none(tmp_path):
    running = ToolServer(tmp_path, "Qwen-Qwen2.5-7B-Instruct.jinja", QWEN)
    text = "<think>\nHm.\n</think>\n\nYes."
    assert running.chat_written(text).choices[0].message.content == text
    assert running.stop() == 0


def test_the_beginning_of_a_call_is_not_shown(qwen):
    [choice] = qwen.chat(tools=TOOLS, tool_choice="required", max_tokens=6,
                         logit_bias={qwen.ids["<think>"]: -100}).choices
    assert choice.finish_reason == "length" and not choice.message.content


class Weather(pydantic.BaseModel):
    city: str = pydantic.Field(max_length=12)
    days: int


def test_openai_parses_calls_and_answers_into_its_own_types(qwen):
    options = {"model": "m", "messages": QUESTION, "max_tokens": 400, "seed": 3,
               "logit_bias": {qwen.ids["<think>"]: -100}}
    parse = qwen.client.chat.completions.parse
    called = parse(tools=[openai.pydantic_function_tool(Weather)], tool_choice="required", **options)
    answered = parse(response_format=Weather, **options)
    assert isinstance(called.choices[0].message.tool_calls[0].function.parsed_arguments, Weather)
    assert isinstance(answered.choices[0].message.parsed, Weather)


# A conversation goes on.


def test_a_call_and_its_answer_are_part_of_the_conversation(qwen):
    messages = [*QUESTION,
                {"role": "assistant", "content": None, "tool_calls": [
                    {"id": "call_1", "type": "function",
                     "function": {"name": "get_weather", "arguments": '{"city": "Paris", "days": 1}'}}]},
                {"role": "tool", "tool_call_id": "call_1", "content": "Rain."}]
    answer = qwen.client.chat.completions.create(model="m", messages=messages, tools=TOOLS, max_tokens=4)
    assert answer.usage.prompt_tokens > 100


# What can't be had.


def test_a_schema_that_cannot_be_kept_is_named(qwen):
    tools = [{"type": "function", "function": {"name": "odd", "parameters": {"type": "object", "not": {}}}}]
    with pytest.raises(openai.BadRequestError) as raised:
        qwen.chat(tools=tools, tool_choice="required")
    assert "odd" in raised.value.message and "not" in raised.value.message
    assert qwen.chat(tools=tools, max_tokens=4).choices  # told to the model


def test_an_unknown_tool_cannot_be_named(qwen):
    with pytest.raises(openai.BadRequestError) as raised:
        qwen.chat(tools=TOOLS, tool_choice={"type": "function", "function": {"name": "other"}})
    assert "other" in raised.value.message


def test_a_model_of_unknown_form_says_so(server, pb):
    request = pb.GenerateRequest()
    request.chat.messages.add(role=pb.ROLE_USER).parts.add(text="?")
    request.chat.tools.add().function.name = "now"
    request.chat.tool_choice.mode = pb.ToolChoice.MODE_REQUIRED
    with pytest.raises(grpc.RpcError) as raised:
        server.inference().Generate(request)
    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert error_details(raised.value)[0] == "UNSUPPORTED_FEATURE"


def test_flags_overrule_the_template(tmp_path):
    running = ToolServer(tmp_path, "Qwen-Qwen3-0.6B.jinja", QWEN,
                         flags=["--reasoning-parser", "none", "--tool-call-parser", "none"])
    text = '<think>\nHm.\n</think>\n\n<tool_call>\n{"name": "now"}\n</tool_call>'
    message = running.chat_written(text, tools=TOOLS).choices[0].message
    assert message.content == text and not message.tool_calls
    assert running.stop() == 0
