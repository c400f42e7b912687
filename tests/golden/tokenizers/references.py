"""What the reference packages answer: the oracles of record.py and of the integration tests.

Each reference has encode(text, parse_special, add_special) and decode(ids, skip), as Tokenizer has them. Packages are
imported where they are used, since not every user has all of them: tokenizers, sentencepiece, jieba.
"""

import json
import os
import re


class HfReference:
    def __init__(self, folder):
        import tokenizers
        self.tokenizer = tokenizers.Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))

    def encode(self, text, parse_special, add_special=False):
        self.tokenizer.encode_special_tokens = not parse_special
        return self.tokenizer.encode(text, add_special_tokens=add_special).ids

    def decode(self, ids, skip):
        return self.tokenizer.decode(ids, skip_special_tokens=skip)


class SentencePieceReference:
    """Added tokens split out first, each gap encoded and decoded on its own: the slow classes of transformers."""

    def __init__(self, folder):
        import sentencepiece
        self.model = sentencepiece.SentencePieceProcessor(model_file=os.path.join(folder, "tokenizer.model"))
        with open(os.path.join(folder, "tokenizer_config.json"), encoding="utf-8") as file:
            config = json.load(file)
        self.added = {token["content"]: (int(id), token["special"])
                      for id, token in config["added_tokens_decoder"].items()}
        self.texts = {id: (content, special) for content, (id, special) in self.added.items()}
        self.add_bos = config["add_bos_token"]

    def encode(self, text, parse_special, add_special=False):
        contents = [content for content, (_, special) in self.added.items() if parse_special or not special]
        pattern = "|".join(re.escape(content) for content in sorted(contents, key=len, reverse=True))
        ids = [self.model.bos_id()] if add_special and self.add_bos else []
        for part in re.split(f"({pattern})", text):
            ids += [self.added[part][0]] if part in contents else self.model.encode(part)
        return ids

    def decode(self, ids, skip):
        text, run = "", []
        for id in ids:
            content, special = self.texts.get(id, (None, False))
            if special and skip:
                continue
            if content is None:
                run.append(id)
            else:
                text += self.model.decode(run) + content
                run = []
        return text + self.model.decode(run)


class JiebaReference:
    """Words as the package cuts them, by the dictionary and the emissions of a folder or by its own."""

    def __init__(self, folder=None):
        import jieba
        self.finalseg = jieba.finalseg
        jieba.setLogLevel(60)
        self.tokenizer = jieba.Tokenizer(dictionary=folder and os.path.join(folder, "dict.txt"))
        if folder is None:
            self.emissions = self.finalseg.emit_P
            return
        # Without the cache that the package keeps in a folder of the machine.
        with open(os.path.join(folder, "dict.txt"), "rb") as file:
            self.tokenizer.FREQ, self.tokenizer.total = self.tokenizer.gen_pfdict(file)
        self.tokenizer.initialized = True
        names = {}
        with open(os.path.join(folder, "prob_emit.py"), encoding="utf-8") as file:
            exec(file.read(), names)
        self.emissions = names["P"]

    def cut(self, text):
        self.finalseg.emit_P = self.emissions
        return list(self.tokenizer.cut(text))


class PanguAlphaReference:
    """jieba, blanks and newlines as symbols, sentencepiece; decoding drops every space first."""

    def __init__(self, model_file, jieba_folder=None):
        import sentencepiece
        self.jieba = JiebaReference(jieba_folder)
        self.model = sentencepiece.SentencePieceProcessor(model_file=model_file)

    def encode(self, text, parse_special=True, add_special=False):
        words = [word.replace(" ", "\u2582").replace("\n", "\u2583") for word in self.jieba.cut(text)]
        return self.model.encode(" ".join(words))

    def decode(self, ids, skip):
        if skip:
            ids = [id for id in ids if self.model.id_to_piece(id) != "<eot>"]
        return self.model.decode(ids).replace(" ", "").replace("\u2582", " ").replace("\u2583", "\n")


class PanguReference:
    """The class of Pangu Pro MoE and openPangu: pieces by name, added tokens apart, BOS in front."""

    def __init__(self, folder):
        import sentencepiece
        self.model = sentencepiece.SentencePieceProcessor(model_file=os.path.join(folder, "tokenizer.model"))
        with open(os.path.join(folder, "tokenizer_config.json"), encoding="utf-8") as file:
            config = json.load(file)
        self.config = config
        self.ids = {token["content"]: int(id) for id, token in config["added_tokens_decoder"].items()}
        self.special = {token["content"] for token in config["added_tokens_decoder"].values() if token["special"]}

    def encode(self, text, parse_special=True, add_special=False):
        pieces = ["<s>"] if add_special and self.config["add_bos_token"] else []
        while text:
            found = [(text.find(content), -len(content), content) for content in self.ids if content in text]
            at, _, content = min(found, default=(len(text), 0, ""))
            if at > 0:
                pieces += self.model.encode(text[:at], out_type=str)
            if content:
                pieces.append(content)
            text = text[at + len(content):]
        if add_special and self.config["add_eos_token"]:
            pieces.append("</s>")
        return [self.ids[piece] if piece in self.ids else self.model.piece_to_id(piece) for piece in pieces]

    def decode(self, ids, skip):
        names = {id: content for content, id in self.ids.items()}
        pieces = [names.get(id) or self.model.id_to_piece(id) for id in ids]
        if skip:
            pieces = [piece for piece in pieces if piece not in self.special]
        text, collected = "", []
        for piece in pieces:
            if piece in self.ids:
                text += self.model.decode(collected) + piece
                collected = []
            else:
                collected.append(piece)
        text += self.model.decode(collected)
        if pieces and pieces[0].startswith("▁"):
            text = " " + text
            return text[1:]
        return text


def reference_of(folder):
    if os.path.exists(os.path.join(folder, "tokenizer.json")):
        return HfReference(folder)
    if os.path.exists(os.path.join(folder, "vocab.model")):
        return PanguAlphaReference(os.path.join(folder, "vocab.model"), folder)
    return SentencePieceReference(folder)
