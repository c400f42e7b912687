"""Trains expertd-tiny and writes it as a Hugging Face folder.

    python train.py --out expertd-tiny

Everything is generated (data.py) from fixed seeds; nothing is downloaded.
"""

import argparse
import collections
import json
import math
import random
import re
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

import data
import facts
import stories
from model import Qwen3Moe

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
VOCAB_SIZE = 2560
CONFIG = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": None,
    "decoder_sparse_step": 1,
    "eos_token_id": 2,
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 192,
    "initializer_range": 0.02,
    "intermediate_size": 384,
    "max_position_embeddings": 2048,
    "max_window_layers": 5,
    "mlp_only_layers": [],
    "moe_intermediate_size": 96,
    "norm_topk_prob": True,
    "num_attention_heads": 6,
    "num_experts": 16,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 5,
    "num_key_value_heads": 2,
    "output_router_logits": False,
    "pad_token_id": 0,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "router_aux_loss_coef": 0.01,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": VOCAB_SIZE,
}
GENERATION_CONFIG = {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.9, "eos_token_id": [2, 0],
                     "pad_token_id": 0}
CHAT_TEMPLATE = ("{%- for message in messages %}"
                 "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}"
                 "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}")
QWEN2_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
               r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")

# Chinese words worth one piece; Chinese has no spaces, so without a list BPE
# would glue whole sentences of the templates together.
ZH_WORDS = """什么 哪里 哪个 多少 告诉 知道 故事 一个 一只 颜色 首都 国家 城市 行星 太阳 我们 你好 谢谢 再见 名字 最大 最高 星期 之后 之前 后面 前面
等于 英语 英文 中文 怎么 喜欢 朋友 动物 世界 请问 可以 从前 名叫 有一天 早晨 傍晚 下午 一起 发现 开心 从那天起 从那以后 后来 成了 好朋友 天天 见面
它们 他们 还没有 专家 模型 程序 服务器 语言 运行 反义词 叫声 季节 大洲 听到 难过 高兴 没有 自己 因为 可是 但是 于是 很快 最后 混合""".split()


# -------------------------------------------------------------------- tokenizer

def zh_lexicon():
    words = set(ZH_WORDS) | set(stories.ZH_NAMES)
    for family in facts.FAMILIES:
        for row in family.rows:
            words |= {row[1], row[3]}
    for column in (stories.ADJECTIVES, stories.PLACES, stories.COLORS, stories.WHENS, stories.SKILLS, stories.FOODS):
        words |= {pair[1] for pair in column}
    words |= {h[3] for h in stories.HEROES} | {h[2] for h in stories.HEROES} | {t[2] for t in stories.THINGS}
    return sorted((w for w in words if 2 <= len(w) <= 4 and re.fullmatch(r"[\u4e00-\u9fff]+", w)), key=len,
                  reverse=True)


def tokenizer_corpus(num_conversations=30000):
    """Unique words of the generated language with softened counts."""
    rng = random.Random(1)
    counts = collections.Counter()
    word = re.compile("|".join(zh_lexicon()) + r"|[\u4e00-\u9fff]|[^\S\n]?[A-Za-z]+|[^\s\w]+\n?|\s")
    for _ in range(num_conversations):
        for message in data.conversation(rng):
            counts.update(word.findall(message["content"]))
        counts.update(["system", "user", "assistant", "\n"])
    # Names stay in pieces, so that an unknown one looks like the others.
    names = set(stories.MORE_SHE + stories.MORE_HE)
    for text, count in sorted(counts.items()):
        if count >= 4 and text.strip() not in names:
            yield from [text] * min(50, 2 + int(math.sqrt(count)))


def train_tokenizer():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(s, special=True, normalized=False) for s in SPECIAL]
    trainer = trainers.BpeTrainer(vocab_size=VOCAB_SIZE, special_tokens=special,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(tokenizer_corpus(), trainer)
    assert [tokenizer.token_to_id(s) for s in SPECIAL] == [0, 1, 2]
    return tokenizer


# ------------------------------------------------------------------------- data

class Encoder:
    """Turns messages into (ids, loss weight of each id as a target)."""

    def __init__(self, tokenizer):
        self.tokenizer, self.cache = tokenizer, {}

    def text(self, text):
        ids = self.cache.get(text)
        if ids is None:
            ids = self.tokenizer.encode(text, add_special_tokens=False).ids
            if len(self.cache) < 200000:
                self.cache[text] = ids
        return ids

    def __call__(self, messages):
        ids, weights = [], []
        for message in messages:
            head = [1] + self.text(message["role"] + "\n")
            body = self.text(message["content"]) + [2]
            # A long story is mostly free choices; a short answer is a fact.
            weight = min(1.0, 50 / len(body)) if message["role"] == "assistant" else 0.0
            ids += head + body + self.text("\n")
            weights += [0.0] * len(head) + [weight] * len(body) + [0.0]
        return ids, weights


def pack(samples, length):
    """First-fit-decreasing: rows of at most `length` tokens."""
    bins = []
    for sample in sorted(samples, key=lambda s: -len(s[0])):
        for b in bins:
            if b[0] >= len(sample[0]):
                break
        else:
            b = [length, []]
            bins.append(b)
        b[0] -= len(sample[0])
        b[1].append(sample)
        if b[0] < 12:
            bins.remove(b)
            yield b[1]
    yield from (b[1] for b in bins)


def to_batch(packed, length):
    """(ids, mask, keep, targets, weights); each conversation sees only itself."""
    ids = torch.zeros(len(packed), length, dtype=torch.long)
    segment = torch.full((len(packed), length), -1)
    keep, targets, weights = [], [], []
    for r, samples in enumerate(packed):
        at = 0
        for s, (tokens, weight) in enumerate(samples):
            n = len(tokens)
            ids[r, at:at + n] = torch.tensor(tokens)
            segment[r, at:at + n] = s
            for j in range(n - 1):
                if weight[j + 1]:
                    keep.append(r * length + at + j)
                    targets.append(tokens[j + 1])
                    weights.append(weight[j + 1])
            at += n
    hidden = ~(segment[:, None, :] == segment[:, :, None]).tril()
    mask = torch.zeros(hidden.shape).masked_fill_(hidden, -math.inf)
    return ids, mask[:, None], torch.tensor(keep), torch.tensor(targets), torch.tensor(weights)


def batches(encode, seed, batch_tokens, stage, lengths=(128, 256, 512, 1024), long_every=16):
    """Endless batches of rows of one of the lengths, a conversation going into
    the shortest that holds it.  One batch in about long_every has conversations
    of many turns, so that far positions are trained too.  stage() says how far
    training is, 0 to 1: sums are learned slowest, so they get a stretch of their own."""
    rng = random.Random(seed)
    while True:
        samples = {length: [] for length in lengths}
        arithmetic = 2.8 if 0.4 < stage() < 0.65 else 1.0
        num_tokens = 0
        while num_tokens < 60 * batch_tokens:
            sample = encode(data.conversation(rng, arithmetic=arithmetic))
            num_tokens += len(sample[0])
            for length in lengths:
                if len(sample[0]) <= length:
                    samples[length].append(sample)
                    break
        need = num_tokens // long_every - sum(len(s[0]) for s in samples[lengths[-1]])
        while need > 0:
            sample = encode(data.conversation(rng, rng.randint(6, 20)))
            if len(sample[0]) <= lengths[-1]:
                samples[lengths[-1]].append(sample)
                need -= len(sample[0])
        out = []
        for length in lengths:
            packed = list(pack(samples[length], length))
            rng.shuffle(packed)
            size = max(1, batch_tokens // length)
            out += [(packed[i:i + size], length) for i in range(0, len(packed) - size + 1, size)]
        rng.shuffle(out)
        for packed, length in out:
            yield to_batch(packed, length)


# --------------------------------------------------------------------- training

def quick_accuracy(model, encode, rng, num_prompts=120):
    """Share of held-out prompts whose every answer token is the most likely
    one, which is the same as a right greedy answer."""
    out = {}
    for name, pool in (("facts_en", data.heldout_facts("en")), ("facts_zh", data.heldout_facts("zh")),
                       ("arith_en", data.heldout_arithmetic("en")), ("arith_zh", data.heldout_arithmetic("zh"))):
        right = 0
        picked = rng.sample(pool, num_prompts)
        packed = list(pack([encode([{"role": "user", "content": q}, {"role": "assistant", "content": a}])
                            for q, a in picked], 64))
        # One conversation a row keeps the bookkeeping simple.
        packed = [[s] for row in packed for s in row]
        ids, mask, keep, targets, _ = to_batch(packed, 64)
        with torch.no_grad():
            logits, _ = model(ids, mask, keep)
        wrong_rows = set((keep[logits.argmax(-1) != targets] // 64).tolist())
        out[name] = round(1 - len(wrong_rows) / num_prompts, 3)
    return out


def save(model, tokenizer, out):
    out.mkdir(parents=True, exist_ok=True)
    save_file(model.hf_state_dict(torch.bfloat16), out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)
    tokenizer.save(str(out / "tokenizer.json"))
    added = {str(i): {"content": s, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
                      "special": True}
             for i, s in enumerate(SPECIAL)}
    files = {
        "config.json": CONFIG,
        "generation_config.json": GENERATION_CONFIG,
        "tokenizer_config.json": {
            "add_bos_token": False, "add_prefix_space": False, "added_tokens_decoder": added,
            "additional_special_tokens": SPECIAL[1:], "bos_token": None, "chat_template": CHAT_TEMPLATE,
            "clean_up_tokenization_spaces": False, "eos_token": "<|im_end|>", "errors": "replace",
            "model_max_length": CONFIG["max_position_embeddings"], "pad_token": "<|endoftext|>",
            "split_special_tokens": False, "tokenizer_class": "Qwen2Tokenizer", "unk_token": None},
    }
    for name, content in files.items():
        (out / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def orthogonalize(g):
    """Replaces each matrix of the stack by about U V^T of its singular value decomposition, by Newton-Schulz steps with
    the coefficients of Muon (Jordan et al., 2024)."""
    is_tall = g.shape[-2] > g.shape[-1]
    x = g.mT if is_tall else g
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.mT if is_tall else x


class Muon(torch.optim.Optimizer):
    """Momentum whose steps have all singular values near one, scaled to the size of AdamW's steps (0.2 root mean
    square).  Parameters: matrices or stacks of matrices."""

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.05):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            by_shape = collections.defaultdict(list)
            for p in group["params"]:
                mean = self.state[p].setdefault("mean", torch.zeros_like(p))
                mean.lerp_(p.grad, 1 - group["momentum"])
                by_shape[p.shape[-2:]].append((p, p.grad.lerp(mean, group["momentum"]).view(-1, *p.shape[-2:])))
            for shape, pairs in by_shape.items():
                updates = orthogonalize(torch.cat([g for _, g in pairs])).split([len(g) for _, g in pairs])
                for (p, _), update in zip(pairs, updates):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(update.view_as(p), alpha=-0.2 * max(shape) ** 0.5 * group["lr"])


def optimizers_for(model, lr):
    """Muon for the matrices inside the layers; AdamW for embeddings, routers and norms."""
    inner, outer = [], []
    for name, p in model.named_parameters():
        (outer if p.dim() == 1 or "embed_tokens" in name or name.endswith("mlp.gate.weight") else inner).append(p)
    return (Muon(inner, lr),
            torch.optim.AdamW(outer, lr=lr, betas=(0.9, 0.98), eps=1e-9, weight_decay=0.0, fused=True))


def learning_rate_share(step, num_steps, warmup):
    """Warm-up, then level, then straight down to zero over the second half."""
    return min(1.0, step / warmup, 2 * (1 - (step - 1) / num_steps))


def train(args):
    shape = [CONFIG[k] for k in ("num_experts", "num_experts_per_tok", "num_hidden_layers")]
    assert shape == list(facts.OWN_SHAPE.values()), "the model would tell a wrong shape of itself"
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    start = time.time()
    state_file = Path(args.state) if args.state else None
    state = torch.load(state_file) if state_file and state_file.exists() else None
    tokenizer = Tokenizer.from_str(state["tokenizer"]) if state else train_tokenizer()
    encode = Encoder(tokenizer)
    model = Qwen3Moe(CONFIG)
    num_parameters = sum(p.numel() for p in model.parameters())
    print(f"parameters={num_parameters} vocab={tokenizer.get_vocab_size()} tokenizer_seconds={time.time() - start:.0f}",
          flush=True)
    optimizers = optimizers_for(model, args.lr)
    first, tokens, recent = 1, 0, collections.deque(maxlen=50)
    if state:
        model.load_state_dict(state["model"])
        for optimizer, optimizer_state in zip(optimizers, state["optimizers"]):
            optimizer.load_state_dict(optimizer_state)
        first, tokens, start = state["step"] + 1, state["tokens"], start - state["seconds"]
    # A resumed run goes on with fresh conversations, not with those it has seen.
    step = first
    source = batches(encode, args.seed + first, args.batch_tokens, lambda: step / args.steps)
    rng = random.Random(args.seed - 1)
    for step in range(first, args.steps + 1):
        lr = args.lr * learning_rate_share(step, args.steps, args.warmup)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
        ids, mask, keep, targets, weights = next(source)
        logits, balance = model(ids, mask, keep)
        loss = (F.cross_entropy(logits, targets, reduction="none") * weights).sum() / weights.sum()
        (loss + CONFIG["router_aux_loss_coef"] * balance).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        model.zero_grad()
        tokens += ids.numel()
        recent.append(loss.item())
        if step % 50 == 0 or step == args.steps:
            line = {"step": step, "loss": round(sum(recent) / len(recent), 4), "balance": round(balance.item(), 3),
                    "lr": round(lr, 6), "tokens": tokens, "seconds": round(time.time() - start),
                    "cpu_seconds": round(time.process_time())}
            if step % 250 == 0 or step == args.steps:
                line |= quick_accuracy(model, encode, rng)
                save(model, tokenizer, Path(args.out))
                if state_file:
                    torch.save({"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers],
                                "step": step, "tokens": tokens, "tokenizer": tokenizer.to_str(),
                                "seconds": time.time() - start}, state_file)
            print(json.dumps(line), flush=True)
    print(f"trained in {(time.time() - start) / 60:.1f} minutes, {time.process_time() / 60:.1f} CPU minutes",
          flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default=str(Path(__file__).parent / "expertd-tiny"))
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--warmup", type=int, default=100)
    parser.add_argument("--state", help="file to keep the state of training in, and to go on from")
    parser.add_argument("--seed", type=int, default=20240607)
    parser.add_argument("--threads", type=int, default=2)
    train(parser.parse_args())
