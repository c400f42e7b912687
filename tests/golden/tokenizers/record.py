#!/usr/bin/env python3
"""Records what the reference packages answer, for tests/unit/text/tokenizer_golden_test.cc.

Trains small tokenizers on text of our own and writes, beside this file:
  texts.json            the texts, shared by all tokenizers
  <name>/tokenizer.*    the tokenizers, in the form of a model folder
  <name>/golden.json    ids of the first texts in full; of every text a digest of four answers
  stages.json           normalizers and pre-tokenizers alone
  pangu_alpha/words.json  texts as the words that jieba cuts with the dictionary of that folder

Needs: tokenizers, sentencepiece, jieba. The answers are those of tokenizers 0.23.3, sentencepiece 0.2.3, jieba 0.42.1.
Usage: record.py            record everything
       record.py NAME TEXT  print what tokenizer NAME answers for TEXT (a JSON string)
"""

import json
import os
import re
import sys
import tempfile

import sentencepiece
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import texts
from references import JiebaReference, reference_of

HERE = os.path.dirname(os.path.abspath(__file__))
NUM_TEXTS = 2200
NUM_FULL = 60
NUM_CUT = 800
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
         r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK = [r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+",
            r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
            r"""| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""]
# Those of DeepSeek-LLM and V2 that differ; the letters with cases, named range by range as there, are a sample.
DEEPSEEK_LLM = [r"[\r\n]", r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽ𐐀-𐑏]+",
                "\\s?[!-/:-~！-／：-～‘-‟\u3000-。]+", r"\s+$", "[一-龥ࠀ-一가-퟿]+", r"\p{N}+"]
ADDED = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<｜tool▁call｜>", "<mask>", "expert",
         "Å\u0301x", "<s>", "</s>", "<unk>", "[unused9]"]


def write_json(path, value):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        json.dump(value, file, ensure_ascii=False, separators=(",", ":"))
        file.write("\n")




# --- the tokenizers ---------------------------------------------------------------------------------------------------


def train_bpe(tokenizer, vocab_size, **options):
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, show_progress=False, **options)
    tokenizer.train_from_iterator(texts.make_corpus(7, 6000), trainer)


def make_qwen():
    """Byte-level BPE in the manner of Qwen2, with added tokens of every kind."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(QWEN2), "isolated"),
         pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    train_bpe(tokenizer, 1000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in ADDED[:3]])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in ADDED[3:6]])
    tokenizer.add_tokens([AddedToken("<mask>", lstrip=True, rstrip=True, normalized=False),
                          AddedToken("expert", single_word=True, normalized=False),
                          AddedToken("Ǻx", normalized=True)])
    return tokenizer


def make_deepseek():
    """Byte-level BPE in the manner of DeepSeek-V3: three expressions, BOS by template, merges as pairs."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in DEEPSEEK]
        + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    train_bpe(tokenizer, 900, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.add_special_tokens(["<s>", "</s>", "<｜tool▁call｜>"])
    tokenizer.add_tokens([AddedToken("<think>", normalized=False)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")])
    return tokenizer


def make_llama():
    """BPE over characters with byte fallback in the manner of Llama 2's converted tokenizer."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    special = ["<unk>", "<s>", "</s>"]
    train_bpe(tokenizer, 1300, special_tokens=special + [f"<0x{byte:02X}>" for byte in range(256)])
    value = json.loads(tokenizer.to_str())
    value["pre_tokenizer"] = None
    value["added_tokens"] = [token for token in value["added_tokens"] if token["content"] in special]
    tokenizer = Tokenizer.from_str(json.dumps(value))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def make_sentencepiece(folder, name="tokenizer.model", **options):
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        corpus = os.path.join(temporary, "corpus.txt")
        with open(corpus, "w", encoding="utf-8") as file:
            for line in texts.make_corpus(7, 6000):
                file.write(re.sub(r"[\r\n\x00-\x1f\x85\u2028\u2029]+", " ", line) + "\n")
        if "rules" in options:
            rules = os.path.join(temporary, "rules.tsv")
            with open(rules, "w", encoding="utf-8") as file:
                for source, target in options.pop("rules"):
                    codes = [" ".join(f"{ord(c):X}" for c in part) for part in (source, target)]
                    file.write("\t".join(codes) + "\n")
            options["normalization_rule_tsv"] = rules
        prefix = os.path.join(temporary, "model")
        sentencepiece.SentencePieceTrainer.train(input=corpus, model_prefix=prefix, minloglevel=2, num_threads=1,
                                                 max_sentence_length=20000, **options)
        with open(prefix + ".model", "rb") as file:
            model = file.read()
    # Drop the trainer's paths, so that the file doesn't depend on where it was made.
    from sentencepiece import sentencepiece_model_pb2
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    del proto.trainer_spec.input[:]
    proto.trainer_spec.model_prefix = ""
    proto.normalizer_spec.normalization_rule_tsv = ""
    with open(os.path.join(folder, name), "wb") as file:
        file.write(proto.SerializeToString(deterministic=True))


def make_pangu_alpha(folder):
    """Unigram behind jieba, with a dictionary and emissions of our own."""
    make_sentencepiece(folder, "vocab.model", model_type="unigram", vocab_size=1000, character_coverage=0.995,
                       rules=[("：", ":"), ("，", ","), ("\u3000", " "), ("\t", " "), ("\r", " ")],
                       user_defined_symbols=["▃", "▂", "<sep>", "<pad>", "<mask>", "<eod>", "<eot>"],
                       unk_id=0, bos_id=1, eos_id=2, pad_id=-1)
    with open(os.path.join(folder, "dict.txt"), "w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{word} {frequency} n\n" for word, frequency in texts.make_dictionary(seed=5))
    with open(os.path.join(folder, "prob_emit.py"), "w", encoding="utf-8", newline="\n") as file:
        states = (f"'{state}': {{" + ",\n ".join(f"'\\u{ord(c):04x}': {value}" for c, value in table) + "}"
                  for state, table in texts.make_emissions(seed=6))
        file.write("P={" + ",\n ".join(states) + "}\n")


# --- their answers ----------------------------------------------------------------------------------------------------


def fnv1a(data, state=0xCBF29CE484222325):
    for byte in data:
        state = ((state ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return state


def answers(reference, text):
    ids = reference.encode(text, parse_special=True)
    return [ids, reference.encode(text, parse_special=False), reference.decode(ids, True), reference.decode(ids, False)]


def digest(answer):
    """FNV-1a over the ids as little-endian int32 and the texts as UTF-8, each followed by a byte 0xFF."""
    state = 0xCBF29CE484222325
    for part in answer:
        data = part.encode() if isinstance(part, str) else b"".join(id.to_bytes(4, "little") for id in part)
        state = fnv1a(data + b"\xff", state)
    return f"{state:016x}"


def record_tokenizer(name, all_texts):
    folder = os.path.join(HERE, name)
    reference = reference_of(folder)
    write_json(os.path.join(folder, "golden.json"), {
        "with_special": reference.encode("expert", True, add_special=True),
        "ids": [reference.encode(text, True) for text in all_texts[:NUM_FULL]],
        "digests": "".join(digest(answers(reference, text)) for text in all_texts),
    })


def record_words(folder):
    """Words of texts; their concatenation is the text."""
    reference = JiebaReference(folder)
    write_json(os.path.join(folder, "words.json"), [reference.cut(text) for text in texts.make_chinese(NUM_CUT, 9)])


# --- stages alone -----------------------------------------------------------------------------------------------------


def stage_list():
    split = pre_tokenizers.Split
    behaviors = ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]
    parts = [split(Regex(r"\s+|\p{P}"), behavior, invert) for behavior in behaviors for invert in (False, True)]
    parts += [split("ab", behavior) for behavior in behaviors]
    parts += [split(Regex(pattern), "isolated") for pattern in (
        QWEN2, *DEEPSEEK, *DEEPSEEK_LLM, r"^\S+", r"\w+|[^\w\s]+", r"(?=\p{Lu})",
        r"(?<=\p{N})(?=(?:\p{N}{3})+(?!\p{N}))", r"[^\S\n]+", r"\p{Han}+|\p{Hiragana}+", r"[\p{L}\p{M}]+", r".", r"\h+", r"(?i:straße|k|s)")]
    parts += [pre_tokenizers.ByteLevel(add_prefix_space=space, use_regex=regex)
              for space in (False, True) for regex in (False, True)]
    parts += [pre_tokenizers.Metaspace(prepend_scheme=scheme, split=cut)
              for scheme in ("always", "first", "never") for cut in (False, True)]
    parts += [pre_tokenizers.Digits(True), pre_tokenizers.Digits(False), pre_tokenizers.Whitespace(),
              pre_tokenizers.WhitespaceSplit(), pre_tokenizers.BertPreTokenizer(),
              pre_tokenizers.CharDelimiterSplit("."),
              pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)])]
    parts += [pre_tokenizers.Punctuation(behavior) for behavior in behaviors]
    return parts


def normalizer_list():
    return [normalizers.NFC(), normalizers.NFD(), normalizers.NFKC(), normalizers.NFKD(), normalizers.Lowercase(),
            normalizers.Strip(), normalizers.Prepend("▁"), normalizers.Replace(" ", "▁"),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])]


def json_of(kind, part):
    tokenizer = Tokenizer(models.BPE())
    setattr(tokenizer, kind, part)
    return json.loads(tokenizer.to_str())[kind]


def record_stages(all_texts):
    """Digest over all texts of each stage's output: pieces separated by 0xFE, texts by 0xFF."""
    stages = {"normalizers": [], "pre_tokenizers": []}
    for part in normalizer_list():
        data = b"".join(part.normalize_str(text).encode() + b"\xff" for text in all_texts)
        stages["normalizers"].append({"json": json_of("normalizer", part), "digest": f"{fnv1a(data):016x}"})
    for part in stage_list():
        data = bytearray()
        for text in all_texts:
            for piece, _ in part.pre_tokenize_str(text):
                data += piece.encode() + b"\xfe"
            data += b"\xff"
        stages["pre_tokenizers"].append({"json": json_of("pre_tokenizer", part), "digest": f"{fnv1a(data):016x}"})
    write_json(os.path.join(HERE, "stages.json"), stages)


def make_tokenizers():
    for name, make in (("qwen", make_qwen), ("deepseek", make_deepseek), ("llama_json", make_llama)):
        value = json.loads(make().to_str())
        if name == "qwen":  # the older of the two forms
            value["model"]["merges"] = [" ".join(pair) for pair in value["model"]["merges"]]
        write_json(os.path.join(HERE, name, "tokenizer.json"), value)
    symbols = dict(unk_id=0, bos_id=1, eos_id=2, pad_id=-1)
    make_sentencepiece(os.path.join(HERE, "unigram"), model_type="unigram", vocab_size=900, character_coverage=0.995,
                       rules=[("：", ":"), ("，", ","), ("\u3000", " "), ("ﬁ", "fi"), ("e\u0301", "é"), ("①", "1"),
                              ("\t", " ")],
                       user_defined_symbols=["<sep>", "▃"], **symbols)
    make_sentencepiece(os.path.join(HERE, "spm_bpe"), model_type="bpe", vocab_size=1000, character_coverage=0.98,
                       byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
                       user_defined_symbols=["[unused9]"], **symbols)
    make_pangu_alpha(os.path.join(HERE, "pangu_alpha"))
    for name in ("unigram", "spm_bpe"):
        model = sentencepiece.SentencePieceProcessor(model_file=os.path.join(HERE, name, "tokenizer.model"))
        tokens = ["<unk>", "<s>", "</s>"] + (["[unused9]"] if name == "spm_bpe" else [])
        added = {str(model.piece_to_id(token)): {"content": token, "special": token != "[unused9]"} for token in tokens}
        added[str(model.get_piece_size())] = {"content": "<|im_end|>", "special": True}
        added[str(model.get_piece_size() + 1)] = {"content": "<think>", "special": False}
        write_json(os.path.join(HERE, name, "tokenizer_config.json"), {
            "add_bos_token": True, "add_eos_token": False, "added_tokens_decoder": added, "bos_token": "<s>",
            "eos_token": "</s>", "unk_token": "<unk>", "tokenizer_class": "LlamaTokenizer"})


def main():
    names = ["qwen", "deepseek", "llama_json", "unigram", "spm_bpe", "pangu_alpha"]
    if len(sys.argv) == 3:
        reference = reference_of(os.path.join(HERE, sys.argv[1]))
        print(json.dumps(answers(reference, json.loads(sys.argv[2])), ensure_ascii=False))
        return
    make_tokenizers()
    all_texts = texts.make_texts(NUM_TEXTS, seed=11, added_tokens=ADDED)
    write_json(os.path.join(HERE, "texts.json"), all_texts)
    for name in names:
        record_tokenizer(name, all_texts)
    record_words(os.path.join(HERE, "pangu_alpha"))
    record_stages(all_texts)
    print(f"recorded with tokenizers {tokenizers.__version__}, sentencepiece {sentencepiece.__version__}")


if __name__ == "__main__":
    main()
