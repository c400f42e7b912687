"""Random expressions and statements with a fixed seed, for jinja2 to judge.

SAMPLE is what record.py writes to random.json; `record.py --fuzz COUNT SEED FILE` writes more elsewhere, and the test
reads them where EXPERTD_JINJA_FUZZ names the file.
"""

import random

STRINGS = ["''", "'a'", "'Abc'", "'x y'", "'12'", "'3.5'", "'你好'", "'é😀'", "' p '", "'a,b,c'", "'<b>'", "'it\\'s'", "'q\"q'", "'l1\\nl2'", "'ß'"]
NUMBERS = ["0", "1", "2", "3", "7", "-1", "10", "1.5", "0.0", "2.0", "-2.5", "1e3", "100"]
ATOMS = ["true", "false", "none", "missing"]
VARIABLES = {
    "s": "Hello World",
    "u": "你好, мир!",
    "n": 5,
    "f": 2.25,
    "l": [3, 1, 2],
    "w": ["b", "A", "c"],
    "d": {"k": "v", "n": 1, "items": [1, 2]},
    "m": [{"role": "user", "content": "hi", "n": 2}, {"role": "assistant", "content": " ok ", "n": 1, "x": None}],
    "e": [],
    "z": None,
}
BINARY = ["+", "-", "*", "/", "//", "%", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or"]
FILTERS = ["upper", "lower", "title", "capitalize", "trim", "length", "list", "string", "int", "float", "abs", "first", "last",
           "reverse|list", "sort", "unique|list", "join", "join('-')", "join(', ', attribute='role')", "tojson", "tojson(indent=1)",
           "default('D')", "default('D', true)", "map('string')|list", "map('upper')|join(',')", "map(attribute='role')|list",
           "selectattr('n')|list|length", "selectattr('role', 'equalto', 'user')|list", "select|list", "reject('none')|list",
           "round", "round(1)", "sum", "min", "max", "items|list", "dictsort", "replace('a', 'Z')", "replace('l', '', 1)", "indent(2)",
           "truncate(5, true, '..', 0)", "wordcount", "e", "batch(2)|list", "slice(2)|list", "center(9)", "urlencode", "count",
           "attr('upper') is defined", "format", "d", "filesizeformat", "sort(reverse=true)", "sort(attribute='n')|map(attribute='n')|list"]
TESTS = ["defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "true", "false", "mapping", "sequence",
         "iterable", "odd", "even", "divisibleby(2)", "divisibleby 3", "lower", "upper", "callable", "in [1, 'a', none]", "eq 1", "sameas none",
         "not defined", "not none", "not string", "gt 1", "escaped"]
METHODS = ["upper()", "lower()", "strip()", "lstrip()", "rstrip('d')", "split()", "split(',')", "split('l', 1)", "rsplit(' ', 1)", "title()",
           "capitalize()", "swapcase()", "replace('l', 'L')", "startswith('H')", "endswith(('d', 'c'))", "find('o')", "rfind('o')", "count('l')",
           "isdigit()", "isalpha()", "isupper()", "islower()", "isspace()", "center(8, '*')", "zfill(4)", "ljust(4)|length", "partition(',')",
           "splitlines()", "join(['x', 'y'])", "keys()|list", "values()|list", "items()|list", "get('k')", "get('q', 0)", "index(1)",
           "format(1, 2)", "removeprefix('H')", "role", "content", "k", "items", "n", "nope", "0", "1"]
INDICES = ["0", "1", "-1", "9", "'k'", "'role'", "'nope'", "1:", ":2", "::-1", "::2", "-2:", "1:-1", "none", "true"]


class Generator:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def pick(self, items):
        return self.random.choice(items)

    def atom(self):
        kind = self.random.random()
        if kind < 0.3:
            return self.pick(STRINGS)
        if kind < 0.5:
            return self.pick(NUMBERS)
        if kind < 0.6:
            return self.pick(ATOMS)
        return self.pick(list(VARIABLES))

    def expression(self, depth):
        if depth <= 0:
            return self.atom()
        kind = self.random.randrange(12)
        inner = lambda: self.expression(depth - 1)
        if kind == 0:
            return f"[{inner()}, {inner()}]"
        if kind == 1:
            return f"{{{self.pick(STRINGS)}: {inner()}}}"
        if kind in (2, 3):
            return f"{inner()} {self.pick(BINARY)} {inner()}"
        if kind == 4:
            return f"({inner()}) {self.pick(BINARY)} ({inner()})"
        if kind in (5, 6):
            return f"({inner()})|{self.pick(FILTERS)}" if self.random.random() < 0.6 else f"{self.atom()}|{self.pick(FILTERS)}"
        if kind == 7:
            return f"{inner()} is {self.pick(TESTS)}" if self.random.random() < 0.3 else f"({inner()}) is {self.pick(TESTS)}"
        if kind == 8:
            target = self.pick(list(VARIABLES) + STRINGS)
            return f"{target}.{self.pick(METHODS)}"
        if kind == 9:
            # Slices of variables only: where a slice is an error, jinja2's constant folding makes it undefined.
            index = self.pick(INDICES)
            return f"{self.pick(list(VARIABLES))}[{index}]" if ":" in index else f"({inner()})[{index}]"
        if kind == 10:
            return f"({inner()} if {inner()} else {inner()})"
        return f"not {inner()}" if self.random.random() < 0.5 else f"-({inner()})"

    def blank(self):
        return self.pick(["", "", " ", "\n", "  \n", "\n  ", "x"])

    def tag(self, body):
        return self.pick(["{%", "{%-", "{%", "{%+"]) + f" {body} " + self.pick(["%}", "-%}", "%}", "+%}"])

    def print(self, depth=2):
        return self.pick(["{{", "{{-", "{{"]) + f" {self.expression(depth)} " + self.pick(["}}", "-}}", "}}"])

    def statement(self, depth):
        if depth <= 0:
            return self.blank() + self.print(1) + self.blank()
        kind = self.random.randrange(8)
        body = lambda: self.blank() + self.statement(depth - 1) + self.blank()
        if kind == 0:
            return self.tag(f"if {self.expression(1)}") + body() + self.tag("else") + body() + self.tag("endif")
        if kind == 1:
            target = self.pick(["x", "i", "x", "k, v"])
            source = self.pick(["l", "w", "m", "e", "s", "d", "d.items()", "range(3)", self.expression(1)])
            condition = self.pick(["", "", "", " if x", " if loop.index is odd", " if x != 2"])
            extra = self.pick(["", "{{ loop.index }}", "{{ loop.last }}", "{{ x }}", "{% if loop.first %}{% continue %}{% endif %}"])
            return self.tag(f"for {target} in {source}{condition}") + extra + body() + self.tag("endfor")
        if kind == 2:
            return self.tag(f"set {self.pick(['x', 'n', 'q'])} = {self.expression(1)}") + body()
        if kind == 3:
            return self.tag("set q") + body() + self.tag("endset") + "{{ q }}"
        if kind == 4:
            return self.tag("macro mac(x, y=1)") + body() + "{{ x }}{{ y }}" + self.tag("endmacro") + "{{ mac(" + self.expression(1) + ") }}"
        if kind == 5:
            return "{% set ns = namespace(v=0) %}{% for x in l %}{% set ns.v = ns.v + x %}" + body() + "{% endfor %}{{ ns.v }}"
        if kind == 6:
            return self.tag("filter " + self.pick(["upper", "trim", "indent(1)", "replace('a', 'b')"])) + body() + self.tag("endfilter")
        return self.tag("with x = " + self.expression(1)) + body() + self.tag("endwith")

    def template(self):
        if self.random.random() < 0.55:
            return "{{ " + self.expression(self.random.randrange(1, 4)) + " }}"
        return "".join(self.blank() + self.statement(self.random.randrange(1, 4)) for _ in range(self.random.randrange(1, 3)))


def generate(count, seed):
    generator = Generator(seed)
    return [(generator.template(), VARIABLES) for _ in range(count)]


SAMPLE = generate(700, 20250307)
