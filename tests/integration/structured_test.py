"""Structured output: whatever the model would like to say, what it writes has the form that was asked for, as the
jsonschema package and Python's re see it. The bundled model at a high temperature writes nearly at random."""

import json
import random
import re
import string

import grpc
import jsonschema
import openai
import pytest

from conftest import MODEL, error_details

NAME = MODEL.name


@pytest.fixture
def pb():
    from expertd.v1 import inference_pb2
    return inference_pb2


def generate(server, pb, prompt="A list:", temperature=1.5, max_tokens=400, n=1, seed=0, **structured):
    """One call; its candidates as (text, name of the finish reason)."""
    request = pb.GenerateRequest()
    request.text.text = prompt
    request.sampling.temperature = temperature
    request.sampling.seed = seed
    request.sampling.n = n
    request.stop.max_tokens = max_tokens
    for field, value in structured.items():
        if field == "choices":
            request.structured.choices.values.extend(value)
        elif field == "json_object":
            request.structured.json_object.SetInParent()
        else:
            setattr(request.structured, field, value if isinstance(value, str) else json.dumps(value))
    answer = server.inference().Generate(request)
    return [(candidate.text, pb.FinishReason.Name(candidate.finish_reason)[len("FINISH_REASON_"):])
            for candidate in answer.candidates]


def validate(text, schema):
    """Strictly: no NaN or infinity, formats checked."""
    def refuse(constant):
        raise ValueError(constant)
    value = json.loads(text, parse_constant=refuse)
    assert not isinstance(value, float) or abs(value) != float("inf")
    cls = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    cls(schema, format_checker=cls.FORMAT_CHECKER).validate(value)


TREE = {"$defs": {"node": {"type": "object",
                           "properties": {"name": {"type": "string", "maxLength": 8},
                                          "children": {"type": "array", "items": {"$ref": "#/$defs/node"},
                                                       "maxItems": 2}},
                           "required": ["name", "children"], "additionalProperties": False}},
        "$ref": "#/$defs/node"}

SCHEMAS = [
    {"type": "object", "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}},
     "required": ["name", "age"], "additionalProperties": False},
    {"type": "object", "properties": {"a": {"type": "boolean"}, "b": {"type": "null"}, "c": {"type": "number"}}},
    {"type": "object", "properties": {"b": {"const": 1}}, "required": ["a", "b"]},
    {"type": "object", "properties": {"steps": {"type": "array", "maxItems": 3, "items": {
        "type": "object", "properties": {"explanation": {"type": "string", "maxLength": 10},
                                         "output": {"type": "string", "maxLength": 10}},
        "required": ["explanation", "output"], "additionalProperties": False}},
        "final_answer": {"type": "string", "maxLength": 10}},
     "required": ["steps", "final_answer"], "additionalProperties": False},
    TREE,
    {"type": "array", "items": {"type": "integer", "minimum": -5, "maximum": 105}, "minItems": 2, "maxItems": 6},
    {"type": "array", "prefixItems": [{"type": "string", "maxLength": 3}, {"type": "number"}], "minItems": 1},
    {"type": "array", "prefixItems": [{"const": 1}, {"const": 2}, {"const": 3}], "items": {"const": 0}, "minItems": 2,
     "maxItems": 5},
    {"$schema": "http://json-schema.org/draft-07/schema#", "type": "array", "items": [{"const": "x"}, {"const": "y"}],
     "additionalItems": False, "minItems": 2},
    {"enum": ["red", "grün", "蓝", 1, None, {"a": [1, 2.5]}, "\"quoted\""]},
    {"const": {"deep": [True, {"x": "y"}]}},
    {"type": ["string", "null"], "maxLength": 4},
    {"type": "string", "minLength": 3, "maxLength": 5},
    {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3,5}$"},
    {"type": "string", "pattern": "^(\\w{1,4}\\s?){1,3}\"\\\\$"},
    {"anyOf": [{"type": "integer", "minimum": 10}, {"type": "string", "enum": ["ten"]}]},
    {"oneOf": [{"type": "object", "properties": {"kind": {"const": "circle"}, "radius": {"type": "number"}},
                "required": ["kind", "radius"]},
               {"type": "object", "properties": {"kind": {"const": "square"}, "side": {"type": "integer"}},
                "required": ["kind", "side"]}]},
    {"oneOf": [{"type": "integer"}, {"type": "string", "maxLength": 3}, {"type": "null"}]},
    {"allOf": [{"type": "object", "properties": {"a": {"type": "integer", "minimum": 0}}, "required": ["a"]},
               {"properties": {"a": {"maximum": 9}, "b": {"type": "boolean"}}, "required": ["b"]}]},
    {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}, "z": {"type": "integer"}},
     "anyOf": [{"required": ["x"]}, {"required": ["y"]}], "additionalProperties": False},
    {"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 3},
    {"type": "object", "properties": {"name": {"type": "string", "maxLength": 3}, "names": {"type": "null"}},
     "additionalProperties": {"type": "boolean"}, "maxProperties": 4},
    {"type": "object", "properties": {}, "additionalProperties": False},
    {"type": "object", "minProperties": 1, "maxProperties": 2, "additionalProperties": {"enum": [1, 2]}},
    {"type": "integer", "exclusiveMinimum": 9, "exclusiveMaximum": 11},
    {"type": "integer", "minimum": -1000, "exclusiveMaximum": -7},
    {"type": "integer", "multipleOf": 7},
    {"type": "number", "minimum": 0, "maximum": 1},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.5},
    {"type": "number", "minimum": -273.15},
    {"type": "number", "maximum": -0.25, "minimum": -2.5},
    {"type": "number", "minimum": 1234567890, "maximum": 12345678901},
    {"type": "integer", "minimum": 0.5, "maximum": 3.5},
    {"type": "string", "format": "date"}, {"type": "string", "format": "time"},
    {"type": "string", "format": "date-time"}, {"type": "string", "format": "duration"},
    {"type": "string", "format": "uuid"}, {"type": "string", "format": "email"},
    {"type": "string", "format": "hostname"}, {"type": "string", "format": "ipv4"},
    {"type": "string", "format": "ipv6"}, {"type": "string", "format": "uri"},
    {"type": "object", "properties": {"self": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, "required": ["self"],
     "additionalProperties": False},
    {"definitions": {"a/b": {"type": "integer"}}, "type": "object",
     "properties": {"n": {"$ref": "#/definitions/a~1b", "minimum": 3}}, "required": ["n"]},
    {"properties": {"a": {"type": "boolean"}}, "required": ["a"]},
    True,
]


@pytest.mark.parametrize("index", range(len(SCHEMAS)))
def test_outputs_validate(server, pb, index):
    schema = SCHEMAS[index]
    outputs = generate(server, pb, n=8, seed=index, json_schema=schema)

    ended = [text for text, reason in outputs if reason == "STOP"]
    assert all(reason in ("STOP", "MAX_TOKENS") for _, reason in outputs)
    is_open = schema is True or "$ref" in str(schema) or "minProperties" in str(schema)
    assert len(ended) >= (1 if is_open else 4), outputs
    for text in ended:
        validate(text, schema)


class SchemaMaker:
    """Random schemas of what is supported."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def make(self, depth=0):
        leaves = [self.string, self.integer, self.number, self.enum, lambda: {"type": "boolean"},
                  lambda: {"type": "null"}]
        inner = [lambda: self.object(depth), lambda: self.array(depth), lambda: self.choice(depth)]
        return self.random.choice(leaves if depth >= 3 else leaves + 2 * inner)()

    def string(self):
        low = self.random.randint(0, 4)
        return self.random.choice([
            {"type": "string", "minLength": low, "maxLength": low + self.random.randint(0, 5)},
            {"type": "string", "pattern": self.random.choice(["^[a-c]+$", "^\\d{1,4}(\\.\\d)?$", "^(ab|cd){2}$"])},
            {"type": "string", "format": self.random.choice(["date", "uuid", "ipv4", "time"])}])

    def bounds(self, scale):
        a, b = sorted(round(self.random.uniform(-1, 1) * 10 ** self.random.randint(0, 5), scale) for _ in range(2))
        bounds = {}
        if self.random.random() < 0.7:
            bounds[self.random.choice(["minimum", "exclusiveMinimum"])] = a - 2
        if self.random.random() < 0.7:
            bounds[self.random.choice(["maximum", "exclusiveMaximum"])] = b + 2
        return bounds

    def integer(self):
        return {"type": "integer", **self.bounds(0)}

    def number(self):
        return {"type": "number", **self.bounds(self.random.randint(0, 3))}

    def enum(self):
        values = ["x", "ein ü", 3, 2.5, None, True, [1], {"k": "v"}, ""]
        return {"enum": self.random.sample(values, self.random.randint(1, 4))}

    def object(self, depth):
        names = self.random.sample(["a", "b", "name", "né", "a\"b", "x y", "value", ""], self.random.randint(0, 4))
        schema = {"type": "object", "properties": {name: self.make(depth + 1) for name in names},
                  "required": [name for name in names if self.random.random() < 0.5]}
        kind = self.random.random()
        if kind < 0.5:
            schema["additionalProperties"] = False
        elif kind < 0.7:
            schema["additionalProperties"] = {"type": "integer"}
            schema["maxProperties"] = len(names) + 2
        return schema

    def array(self, depth):
        low = self.random.randint(0, 2)
        schema = {"type": "array", "items": self.make(depth + 1), "minItems": low,
                  "maxItems": low + self.random.randint(0, 2)}
        if self.random.random() < 0.3:
            schema["prefixItems"] = [self.make(depth + 1) for _ in range(self.random.randint(1, 2))]
        return schema

    def choice(self, depth):
        if self.random.random() < 0.5:
            return {"anyOf": [self.make(depth + 1) for _ in range(self.random.randint(1, 3))]}
        return {"oneOf": [{"type": "string", "maxLength": 3}, {"type": "integer"}, {"type": "null"}]}


def test_outputs_of_random_schemas_validate(server, pb):
    num_ended = 0
    for seed in range(60):
        schema = SchemaMaker(seed).make()
        for text, reason in generate(server, pb, n=2, seed=seed, max_tokens=300, json_schema=schema):
            assert reason in ("STOP", "MAX_TOKENS"), schema
            if reason == "STOP":
                num_ended += 1
                validate(text, schema)
    assert num_ended >= 80


@pytest.mark.parametrize("schema, message", [
    ('{"type": "object"', "not JSON"),
    ({"type": "object", "properties": {"a": {"not": {"type": "string"}}}}, "#/properties/a: the keyword 'not'"),
    ({"if": {}}, "'if'"), ({"patternProperties": {}}, "'patternProperties'"), ({"contains": {}}, "'contains'"),
    ({"propertyNames": {}}, "propertyNames is supported"), ({"dependentRequired": {}}, "'dependentRequired'"),
    ({"nullable": True}, "'nullable'"), ({"maxlength": 3}, "'maxlength'"), ({"$dynamicRef": "#"}, "'$dynamicRef'"),
    ({"type": "array", "uniqueItems": True}, "uniqueItems"),
    ({"type": "object", "unevaluatedProperties": {}}, "unevaluatedProperties"),
    ({"type": "text"}, "the type 'text' is unknown"), ({"type": 3}, "type is 3"), ({"type": []}, "type is []"),
    ({"type": "string", "format": "iri"}, "the format \"iri\""),
    ({"type": "string", "pattern": "a(?=b)"}, "look-around"), ({"type": "string", "pattern": "(a)\\1"}, "back reference"),
    ({"type": "string", "pattern": "a", "maxLength": 3}, "only one of"),
    ({"type": "string", "minLength": 5, "maxLength": 3}, "maxLength is below minLength"),
    ({"type": "string", "maxLength": 10 ** 9}, "maxLength is 1000000000; at most"),
    ({"type": "string", "minLength": -1}, "minLength is -1"), ({"type": "array", "minItems": 2 ** 31}, "minItems is"),
    ({"type": "integer", "minimum": 3, "maximum": 2}, "no number is within"), ({"type": "number", "minimum": "1"}, "minimum"),
    ({"type": "number", "multipleOf": 0.01}, "multipleOf is 0.01"), ({"type": "number", "minimum": 1e300}, "minimum is"),
    ({"enum": []}, "no value"), ({"type": "string", "enum": [1]}, "no value"), ({"enum": ["a"], "pattern": "b"}, "beside enum"),
    ({"$ref": "#/$defs/none"}, "leads nowhere"), ({"$ref": "http://example.com/x"}, "is not supported"),
    ({"$ref": "#"}, "no text can match"), ({"anyOf": [{"$ref": "#"}, {"type": "null"}]}, "left-recursive"),
    ({"allOf": [{"$ref": "#"}]}, "deep"), ({"anyOf": []}, "needs an array"),
    ({"oneOf": [{"type": "string"}, {"minLength": 3}]}, "may match"),
    ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "may match"),
    ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "no type is both"),
    ({"allOf": [{"pattern": "a"}, {"pattern": "b"}]}, "'pattern'"),
    ({"allOf": [{"properties": {"a": {}}, "additionalProperties": False}, {"properties": {"b": {}}}]}, "'b'"),
    ({"type": "object", "properties": {"a": {}}, "minProperties": 1}, "minProperties"),
    ({"type": "object", "properties": {"a": {}, "b": {}}, "maxProperties": 1}, "maxProperties"),
    ({"type": "object", "required": "a"}, "required"), ({"properties": []}, "properties"), (False, "no text can match"),
    ("3", "an object or a boolean"),
])
def test_schemas_that_cannot_be_promised_are_refused_by_name(server, pb, schema, message):
    with pytest.raises(grpc.RpcError) as error:
        generate(server, pb, json_schema=schema)

    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert message in error.value.details()
    assert error_details(error.value)[0] == "INVALID_CONSTRAINT"


def test_hostile_schemas_are_answered(server, pb):
    deep = "{\"items\":" * 10_000 + "{}" + "}" * 10_000
    wide = {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(20_000)}}
    explosion = {"type": "string"}
    for _ in range(40):
        explosion = {"anyOf": [explosion, explosion]}
    shared = {"$defs": {f"d{i}": {"type": "array", "items": {"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 10}}
                        for i in range(50)} | {"d50": {"type": "null"}}, "$ref": "#/$defs/d0"}
    for schema in (deep, wide, '{"anyOf":[' * 50 + "{}" + "]}" * 50, {"type": "string", "maxLength": 99_999},
                   {"enum": [str(i) for i in range(15_000)]}, {"enum": list(range(30_000))}, shared):
        try:
            generate(server, pb, json_schema=schema, max_tokens=3)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert generate(server, pb, choices=["still here"]) == [("still here", "STOP")]


def test_json_objects(server, pb):
    outputs = generate(server, pb, n=16, temperature=1, json_object=True)
    ended = [text for text, reason in outputs if reason == "STOP"]
    assert ended and all(isinstance(json.loads(text), dict) for text in ended)


@pytest.mark.parametrize("pattern", [
    r"[a-f0-9]{8}", r"(foo|bar)+?baz", r"\d{3}-\d{4}", r"[^a-z\n]{5}", r"a?b?c?d", r"(?:x(?:y|z)){2,3}",
    r"^[A-Za-z]{1,9} [A-Za-z]{1,9}\.$", r"\$\d+\.\d\d|free", r"[\u4e00-\u9fff]{2,4}", r"(?P<year>\d{4})", r".{3}", r"[\]\-x]{1,5}y",
])
def test_regular_expressions(server, pb, pattern):
    outputs = generate(server, pb, n=8, max_tokens=100, regex=pattern)
    ended = [text for text, reason in outputs if reason == "STOP"]
    assert len(ended) >= 2, outputs
    for text in ended:
        assert re.fullmatch(pattern, text), text


@pytest.mark.parametrize("pattern, message", [
    ("(", "at byte"), (")", "no opening"), ("[a", "no closing ]"), ("*a", "nothing stands before"), ("a**", "nothing"),
    ("a{3,1}", "out of order"), ("a{1000000}", "above"), (r"\bx", r"\b"), (r"\1", "back references"), ("(?i)a", "group"),
    ("a^b", "ends of the pattern"), (r"\p{L}", r"\p"), ("[z-a]", "before it begins"), ("a++", "possessive"),
    ("(" * 1000 + "a" + ")" * 1000, "nested"), ("(((a{1000}){1000}){1000}){1000}b{100000}" * 6, "too large"),
])
def test_expressions_that_are_refused(server, pb, pattern, message):
    with pytest.raises(grpc.RpcError) as error:
        generate(server, pb, regex=pattern)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert message in error.value.details()


def test_an_ambiguous_expression_holds_nobody_up(server, pb):
    """Its automaton has 2^300 states."""
    for text, _ in generate(server, pb, n=2, max_tokens=300, regex="(a|b)*a(a|b){300}"):
        assert set(text) <= set("ab")


def test_grammars(server, pb):
    grammar = """
    # A sum of products.
    root ::= term (" + " term){1,3}
    term ::= number
      | ( "(" number  # a product
          " * " number ")" )
    number ::= [1-9] [0-9]? | 'zero\\u0021'
    """
    outputs = generate(server, pb, n=8, grammar=grammar)
    number = r"([1-9][0-9]?|zero!)"
    term = rf"({number}|\({number} \* {number}\))"
    for text, reason in outputs:
        assert reason == "STOP" and re.fullmatch(rf"{term}( \+ {term}){{1,3}}", text), text


@pytest.mark.parametrize("grammar, message", [
    ("", "no rule 'root'"), ("root ::= a", "line 1, column 10: there is no rule 'a'"),
    ("root ::= \"a\"\nroot ::= \"b\"", "line 2, column 1: the rule 'root' is defined twice"),
    ("root ::= root \"a\" | \"b\"", "'root' is left-recursive"), ("root ::= \"a", "no closing quote"),
    ("root ::= (\"a\"", "no closing )"), ("root = \"a\"", "::= is missing"), ("root ::= \"a\" )", "belongs to no rule"),
    ("root ::= \"a\" root", "no text can match"), ("root ::= " + "(" * 60_000, "nested"),
])
def test_grammars_that_are_refused(server, pb, grammar, message):
    with pytest.raises(grpc.RpcError) as error:
        generate(server, pb, grammar=grammar)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert message in error.value.details()


def test_choices(server, pb):
    choices = ["positive", "negative", "neutral", "negative!"]
    texts = {text for text, reason in generate(server, pb, n=16, temperature=2, choices=choices) if reason == "STOP"}
    assert texts <= set(choices) and len(texts) > 1
    for values in ([], ["a", ""]):
        with pytest.raises(grpc.RpcError):
            generate(server, pb, choices=values)


def test_a_form_that_is_cut_off_says_so(server, pb):
    [(text, reason)] = generate(server, pb, max_tokens=2, choices=["a rather long choice that takes more tokens"])
    assert reason == "MAX_TOKENS" and "a rather long choice".startswith(text[:5])


def test_the_same_seed_gives_the_same_text_in_company(server, pb):
    alone = generate(server, pb, seed=5, json_schema=SCHEMAS[3])
    calls = []
    for seed in range(6):
        request = pb.GenerateRequest()
        request.text.text = "A list:"
        request.sampling.temperature, request.sampling.seed = 1.5, seed
        request.stop.max_tokens = 400
        request.structured.json_schema = json.dumps(SCHEMAS[3])
        calls.append(server.inference().Generate.future(request))
    assert calls[5].result().candidates[0].text == alone[0][0]


def test_unconstrained_text_is_as_it_was(server, pb):
    """`.` takes everything but a line break: the mask of all plain tokens changes no greedy text without one."""
    plain = server.inference()
    request = pb.GenerateRequest()
    request.text.text = "The sky is"
    request.sampling.temperature = 0
    request.stop.max_tokens = 12
    expected = plain.Generate(request).candidates[0].text
    request.structured.regex = "(.|\\n)*"
    assert plain.Generate(request).candidates[0].text == expected


# Over REST.


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"http://127.0.0.1:{server.rest_port}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_response_format(client):
    ask = dict(model=NAME, messages=[{"role": "user", "content": "A person?"}], temperature=1, max_tokens=200)
    schema = {"name": "person", "strict": True, "schema": SCHEMAS[0]}
    answer = client.chat.completions.create(**ask, response_format={"type": "json_schema", "json_schema": schema})
    validate(answer.choices[0].message.content, SCHEMAS[0])
    text = "".join(chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(
        **ask, stream=True, response_format={"type": "json_schema", "json_schema": schema}))
    validate(text, SCHEMAS[0])
    assert client.chat.completions.create(**ask, response_format={"type": "text"}).choices
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(**ask, response_format={"type": "json_schema", "json_schema": {
            "name": "x", "schema": {"not": {}}}})
    assert error.value.param == "response_format" and error.value.code == "invalid_constraint"


def test_vllms_fields(client):
    ask = dict(model=NAME, prompt="One or two?", max_tokens=20, temperature=1)
    for body in ({"guided_choice": ["one", "two"]}, {"structured_outputs": {"choice": ["one", "two"]}},
                 {"guided_regex": "one|two"}, {"structured_outputs": {"grammar": "root ::= \"one\" | \"two\""}},
                 {"guided_grammar": "root ::= \"one\" | \"two\""}):
        assert client.completions.create(**ask, extra_body=body).choices[0].text in ("one", "two")
    answer = client.completions.create(**ask, extra_body={"guided_json": {"enum": ["one", "two"]}})
    assert json.loads(answer.choices[0].text) in ("one", "two")


def test_parse_with_pydantic(client):
    import pydantic

    class Step(pydantic.BaseModel):
        explanation: str = pydantic.Field(max_length=10)
        done: bool

    class Plan(pydantic.BaseModel):
        steps: list[Step] = pydantic.Field(max_length=2)
        answer: int | None

    answer = client.chat.completions.parse(model=NAME, messages=[{"role": "user", "content": "Plan!"}], seed=2,
                                           max_tokens=400, response_format=Plan)
    assert isinstance(answer.choices[0].message.parsed, Plan)
