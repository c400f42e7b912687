"""The bundled model dressed as another: with the chat template that a publisher ships, and its marks as tokens."""

import json
import shutil

from conftest import MODEL, ROOT

TEMPLATES = ROOT.parent / "shared/data/chat-templates"
QWEN = ["<think>", "</think>", "<tool_call>", "</tool_call>"]
DEEPSEEK = ["<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>",
            "<think>", "</think>"]


def make_model(folder, template, marks, are_special=False):
    """The bundled model with another template, and with `marks` in place of the last tokens of its vocabulary."""
    shutil.copytree(MODEL, folder)
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocabulary, merges = tokenizer["model"]["vocab"], tokenizer["model"]["merges"]
    joined = ["".join(merge if isinstance(merge, list) else merge.split(" ")) for merge in merges]
    for mark in marks:
        replaced = max(vocabulary, key=vocabulary.get)
        while replaced in joined:
            del merges[joined.index(replaced)]
            joined.remove(replaced)
        tokenizer["added_tokens"].append({"id": vocabulary.pop(replaced), "content": mark, "single_word": False,
                                          "lstrip": False, "rstrip": False, "normalized": False,
                                          "special": are_special})
    path.write_text(json.dumps(tokenizer, ensure_ascii=False))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["chat_template"] = (TEMPLATES / template).read_text()
    (folder / "tokenizer_config.json").write_text(json.dumps(config, ensure_ascii=False))
    ids = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    return folder, ids
