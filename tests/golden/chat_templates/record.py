"""Records what Python's jinja2 and transformers render, for the C++ tests to compare with.

  python tests/golden/chat_templates/record.py [--templates DIR]

writes, beside this file:
  snippets.json   small templates, one feature each (snippets.py)
  random.json     a sample of random expressions (random_templates.py)
  chats.json      conversations (conversations.py) over the templates in DIR; recorded when DIR is given. The templates
                  belong to others, so of each output only the size and a digest are kept.

Needs transformers and jinja2 (versions are noted in each file). Each entry has the output, or the kind of error and its
message. The clock is fixed (CLOCK), in UTC.
"""

import argparse
import copy
import datetime
import json
import os
import pathlib
import re
import sys

import jinja2
import transformers
from transformers.utils import chat_template_utils

os.environ["TZ"] = "UTC"
HERE = pathlib.Path(__file__).resolve().parent
CLOCK = datetime.datetime(2025, 3, 7, 8, 5, 9, 123456)


class FixedDatetime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return CLOCK


def error_of(error):
    """The kind of an error and, where it is the template's or jinja2's own, its message."""
    if isinstance(error, jinja2.TemplateSyntaxError):
        return {"error": "syntax", "line": error.lineno}
    if isinstance(error, SyntaxError):
        return {"error": "syntax"}
    if isinstance(error, jinja2.UndefinedError):
        return {"error": "undefined", "message": str(error)}
    if type(error) is jinja2.TemplateError:
        return {"error": "raised", "message": str(error)}
    return {"error": "other"}


def render(template, variables):
    # jinja2's `indent` appends to lists in place, so each rendering gets variables of its own.
    try:
        return {"text": chat_template_utils._compile_jinja_template(template).render(**copy.deepcopy(variables or {}))}
    except Exception as error:  # every error of a template is a result here
        return error_of(error)


def is_reproducible(result):
    return not re.search(r" at 0x[0-9a-f]+>", result.get("text", ""))


def versions():
    return {"jinja2": jinja2.__version__, "transformers": transformers.__version__, "python": sys.version.split()[0]}


def dump(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def write(name, entries, **shared):
    lines = ",\n".join(map(dump, entries))
    head = "".join(f"{dump(key)}:{dump(value)},\n" for key, value in {"versions": versions(), **shared}.items())
    (HERE / name).write_text(f'{{{head}"entries":[\n{lines}\n]}}\n', encoding="utf-8")
    print(f"{name}: {len(entries)} entries, {(HERE / name).stat().st_size} bytes")


def record_templates(name, pairs, shared=None):
    entries = []
    for template, variables in pairs:
        result = render(template, variables)
        if not is_reproducible(result):
            continue
        own = {} if variables is shared or not variables else {"variables": variables}
        entries.append({"template": template, **own, **result})
    write(name, entries, **({"variables": shared} if shared else {}))


def digest(text):
    """FNV-1a, 64 bits."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def record_chats(templates_dir):
    from conversations import CASES, SPECIAL_TOKENS, apply

    entries, texts = [], {}
    for path in sorted(pathlib.Path(templates_dir).glob("*.jinja")):
        source = path.read_text(encoding="utf-8")
        for case_name, case in CASES.items():
            try:
                text = apply(source, case, SPECIAL_TOKENS)
                texts[f"{path.name} {case_name}"] = text
                result = {"size": len(text.encode()), "digest": digest(text)}
            except (ValueError, TypeError) as error:
                result = {"error": "other"}
            except Exception as error:
                result = error_of(error)
            entries.append({"file": path.name, "case": case_name, **result})
    write("chats.json", entries, cases=CASES, special_tokens=SPECIAL_TOKENS)
    return texts


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--templates", help="folder of *.jinja")
    parser.add_argument("--texts", help="file for the whole outputs of the chats, to look at differences")
    parser.add_argument("--fuzz", nargs=3, metavar=("COUNT", "SEED", "FILE"), help="only write random templates to FILE")
    arguments = parser.parse_args()
    chat_template_utils.datetime = FixedDatetime
    sys.path.insert(0, str(HERE))
    from random_templates import SAMPLE, VARIABLES, generate
    from snippets import SNIPPETS

    if arguments.fuzz:
        count, seed, path = arguments.fuzz
        record_templates(path, generate(int(count), int(seed)), shared=VARIABLES)
        return
    record_templates("snippets.json", SNIPPETS)
    record_templates("random.json", SAMPLE, shared=VARIABLES)
    if arguments.templates:
        texts = record_chats(arguments.templates)
        if arguments.texts:
            pathlib.Path(arguments.texts).write_text(json.dumps(texts, ensure_ascii=False, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
