"""The tokenizers of the Pangu families, served, against the Python packages that their own programs use."""

import json
import pathlib
import random
import re
import sys

import pytest

from conftest import ROOT, Server, run

GOLDENS = ROOT / "tests/golden/tokenizers"
sys.path.insert(0, str(GOLDENS))

import references  # noqa: E402
import texts  # noqa: E402

jieba = pytest.importorskip("jieba")
sentencepiece = pytest.importorskip("sentencepiece")

JIEBA_DICT = pathlib.Path(jieba.__file__).parent / "dict.txt"
PUBLIC_MODEL = ROOT.parent / "shared/data/tokenizers/pangu-alpha/vocab.model"
# A model of any family that is small and has room for the ids: only its tokenizer is asked.
CONFIG = {"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "head_dim": 32, "hidden_act": "silu",
          "hidden_size": 64, "intermediate_size": 64, "max_position_embeddings": 512, "moe_intermediate_size": 32,
          "norm_topk_prob": True, "num_attention_heads": 2, "num_experts": 4, "num_experts_per_tok": 2,
          "num_hidden_layers": 1, "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
          "tie_word_embeddings": True, "vocab_size": 40064, "eos_token_id": 9}


def train(path, sentences, **options):
    """A sentencepiece model with `options` of its trainer, from sentences without control characters."""
    with open(path, "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter("".join(c if c >= " " else " " for c in text) for text in sentences),
            model_writer=file, minloglevel=2, num_threads=1, character_coverage=0.99, **options)


class ServedTokenizer:
    """What a served folder answers for many texts."""

    def __init__(self, server):
        from expertd.v1 import tokenizer_pb2, tokenizer_pb2_grpc
        self.pb = tokenizer_pb2
        self.stub = tokenizer_pb2_grpc.TokenizerServiceStub(server.channel())

    def encode(self, all_texts, **options):
        ids = []
        for begin in range(0, len(all_texts), 1000):
            request = self.pb.TokenizeRequest(texts=all_texts[begin:begin + 1000], **options)
            ids += [list(result.ids) for result in self.stub.Tokenize(request).results]
        return ids

    def decode(self, sequences, skip_special_tokens):
        decoded = []
        for begin in range(0, len(sequences), 1000):
            request = self.pb.DetokenizeRequest(skip_special_tokens=skip_special_tokens)
            for ids in sequences[begin:begin + 1000]:
                request.sequences.add(ids=ids)
            decoded += self.stub.Detokenize(request).texts
        return decoded

    def chat(self, messages):
        """The prompt of a conversation and its ids."""
        from expertd.v1 import inference_pb2
        request = self.pb.RenderChatRequest(token_ids=True)
        for role, content in messages:
            request.chat.messages.add(role=getattr(inference_pb2, f"ROLE_{role}")).parts.add(text=content)
        reply = self.stub.RenderChat(request)
        return reply.text, list(reply.token_ids)


@pytest.fixture
def serve(start_server, tmp_path):
    """Serves tmp_path, in which a tokenizer lies, with random weights."""
    def start(*flags):
        (tmp_path / "config.json").write_text(json.dumps(CONFIG))
        return ServedTokenizer(start_server("--load-format", "dummy", "--num-kv-blocks", "16", *flags, model=tmp_path))
    return start


def random_sequences(num_sequences, num_ids, favourites, seed):
    """Sequences of ids as a model may write them: any after any other, the favourites often."""
    generator = random.Random(seed)
    return [[generator.choice(favourites) if generator.random() < 0.2 else generator.randrange(num_ids)
             for _ in range(generator.randint(1, 12))] for _ in range(num_sequences)]


def with_one_mark(text):
    """sentencepiece writes U+FFFD for each byte of a broken character, expertd (as Python) one for the whole."""
    return re.sub("\ufffd+", "\ufffd", text)


def assert_same_texts(served, reference, sequences):
    for skip in (False, True):
        decoded = [with_one_mark(text) for text in served.decode(sequences, skip)]
        expected = [with_one_mark(reference.decode(ids, skip)) for ids in sequences]
        assert list(zip(sequences, decoded)) == list(zip(sequences, expected))


def assert_agreement(served, reference, all_texts, add_special=False):
    ids = served.encode(all_texts, add_special_tokens=add_special)
    expected = [reference.encode(text, parse_special=True, add_special=add_special) for text in all_texts]
    assert [(text, a) for text, a in zip(all_texts, ids)] == [(text, b) for text, b in zip(all_texts, expected)]
    assert_same_texts(served, reference, ids)


@pytest.mark.parametrize("vocabulary", ["trained", "public"])
def test_pangu_alpha_cuts_and_encodes_as_jieba_and_sentencepiece_do(serve, tmp_path, vocabulary):
    model = tmp_path / "vocab.model"
    if vocabulary == "trained":
        train(model, texts.make_chinese(3000, 1), model_type="unigram", vocab_size=3000, bos_id=1, eos_id=2,
              user_defined_symbols=["▃", "▂", "<sep>", "<pad>", "<mask>", "<eod>", "<eot>"])
    elif PUBLIC_MODEL.exists():
        model.write_bytes(PUBLIC_MODEL.read_bytes())
    else:
        pytest.skip(f"{PUBLIC_MODEL} is absent")
    words = [line.split(" ")[0] for line in JIEBA_DICT.read_text(encoding="utf-8").splitlines()]

    served = serve("--jieba-dict", str(JIEBA_DICT))

    all_texts = texts.make_chinese(2000, 2, words=words) + texts.make_texts(500, 3)
    reference = references.PanguAlphaReference(str(model))
    assert_agreement(served, reference, all_texts)
    assert_same_texts(served, reference, random_sequences(500, reference.model.get_piece_size(), range(14), 4))
    assert served.encode(["中国"], add_special_tokens=True) == served.encode(["中国"], add_special_tokens=False)


def test_pangu_alpha_without_its_dictionary_is_refused_with_the_remedies(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "vocab.model").write_bytes((GOLDENS / "pangu_alpha/vocab.model").read_bytes())

    result = run("generate", tmp_path, "--load-format", "dummy", "--prompt", "x", "--jieba-dict", "/no/dict.txt",
                 check=False)

    assert result.returncode != 0
    assert "--jieba-dict is /no/dict.txt; there is no such file" in result.stderr


# Turns, tool calls and reasoning. Those of reasoning are not special: skip_special_tokens leaves them.
UNUSED = {"[unused9]": True, "[unused10]": True, "[unused11]": True, "[unused12]": True,
          "[unused16]": False, "[unused17]": False}


def make_pangu_folder(folder, kind_of_unused="user_defined_symbols", **options):
    """tokenizer.model and tokenizer_config.json in the manner of Pangu Pro MoE."""
    corpus = texts.make_chinese(2000, 1) + texts.make_corpus(7, 2000)
    train(folder / "tokenizer.model", corpus, bos_id=1, eos_id=2, **{kind_of_unused: list(UNUSED)}, **options)
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    flags = {"<unk>": True, "<s>": True, "</s>": True, **UNUSED}
    decoder = {str(model.piece_to_id(content)): {"content": content, "lstrip": False, "normalized": False,
                                                 "rstrip": False, "single_word": False, "special": special}
               for content, special in flags.items()}
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"add_bos_token": True, "add_eos_token": False, "added_tokens_decoder": decoder, "bos_token": "<s>",
         "eos_token": "[unused10]", "unk_token": "<unk>", "tokenizer_class": "PanguTokenizer"}))
    return references.PanguReference(folder)


@pytest.mark.parametrize("dummy_prefix", [True, False])
@pytest.mark.parametrize("kind, options", [
    ("bpe", {"byte_fallback": True, "normalization_rule_name": "identity", "remove_extra_whitespaces": False}),
    ("bpe", {"normalization_rule_name": "nmt_nfkc", "kind_of_unused": "control_symbols"}),
    ("unigram", {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}),
    ("unigram", {"normalization_rule_name": "nmt_nfkc"})])
def test_pangu_pro_encodes_and_decodes_as_its_python_class_does(serve, tmp_path, kind, options, dummy_prefix):
    reference = make_pangu_folder(tmp_path, model_type=kind, vocab_size=2200, add_dummy_prefix=dummy_prefix, **options)

    served = serve()

    all_texts = texts.make_texts(1200, 5, added_tokens=list(UNUSED)) + texts.make_chinese(400, 6)
    assert_agreement(served, reference, all_texts, add_special=True)
    favourites = list(reference.ids.values()) + [reference.model.piece_to_id("▁")]
    assert_same_texts(served, reference, random_sequences(500, reference.model.get_piece_size(), favourites, 7))


TURN = "[unused9]{{ messages[0].content }}[unused10]"


@pytest.mark.parametrize("template", [None, TURN, "<s>" + TURN, "{{ bos_token }}" + TURN])
def test_a_chat_of_pangu_pro_begins_with_one_bos(serve, tmp_path, template):
    reference = make_pangu_folder(tmp_path, model_type="bpe", vocab_size=2200, normalization_rule_name="identity")
    if template is not None:
        (tmp_path / "chat_template.jinja").write_text(template)

    prompt, ids = serve().chat([("USER", "你好")])

    layout = "[unused9]系统：[unused10][unused9]用户：你好[unused10][unused9]助手："
    assert prompt == "<s>" + (layout if template is None else "[unused9]你好[unused10]")
    assert ids == [1] + reference.encode(prompt.removeprefix("<s>"))
    assert ids.count(1) == 1


def test_a_chat_of_deepseek_begins_with_the_one_bos_of_its_template(serve, tmp_path):
    (tmp_path / "tokenizer.json").write_bytes((GOLDENS / "deepseek/tokenizer.json").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(
        {"add_bos_token": True, "add_eos_token": False, "bos_token": "<s>", "eos_token": "</s>",
         "tokenizer_class": "LlamaTokenizerFast", "chat_template": "{{ bos_token }}User: {{ messages[0].content }}"}))

    served = serve()

    prompt, ids = served.chat([("USER", "hello")])
    [bos], [body] = served.encode(["<s>"], add_special_tokens=False), served.encode(["User: hello"],
                                                                                   add_special_tokens=False)
    assert prompt == "<s>User: hello"
    assert ids == bos + body
