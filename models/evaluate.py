"""Evaluates a model folder on prompts that training never showed.

    python evaluate.py [--model expertd-tiny] [--json] [--failures 20] [--quick]

Answers are greedy, through `transformers`; exact means equal to the one right
answer (or to one of the listed answers for smalltalk), character by character.
"""

import argparse
import collections
import json
import random
import re
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

import data
import stories

# Never in training (data.PEOPLE_EN, data.SURNAMES x data.GIVEN).
NEW_NAMES = {"en": "Nora Hugo Clara Edgar Sonia Liam Amir Tessa Igor Otto Vera Ralph".split(),
             "zh": "郑云 谢天 韩星 白雪 江山 方圆 田园 石磊 金月 夏风 安宁 水生".split()}


class Chat:
    def __init__(self, folder, batch_size=64):
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.batch_size = batch_size

    def answer(self, conversations, max_new_tokens=192):
        """One greedy answer for each list of messages."""
        order = sorted(range(len(conversations)), key=lambda i: len(str(conversations[i])))
        out = [""] * len(order)
        for start in range(0, len(order), self.batch_size):
            picked = order[start:start + self.batch_size]
            texts = [self.tokenizer.apply_chat_template(conversations[i], tokenize=False, add_generation_prompt=True) for i in picked]
            batch = self.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
            with torch.no_grad():
                ids = self.model.generate(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], do_sample=False,
                                          temperature=None, top_p=None, top_k=None, max_new_tokens=max_new_tokens)
            for i, row in zip(picked, ids[:, batch["input_ids"].shape[1]:]):
                out[i] = self.tokenizer.decode(row, skip_special_tokens=True)
        return out

    def expert_use(self, conversations):
        """Per layer: the share of picks that each expert got."""
        counts = torch.zeros(self.model.config.num_hidden_layers, self.model.config.num_experts)
        for messages in conversations:
            text = self.tokenizer.apply_chat_template(messages, tokenize=False)
            ids = self.tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                logits = self.model(ids, output_router_logits=True).router_logits
            for layer, scores in enumerate(logits):
                picks = scores.float().topk(self.model.config.num_experts_per_tok, -1).indices
                counts[layer] += torch.bincount(picks.flatten(), minlength=counts.shape[1])
        return counts / counts.sum(-1, keepdim=True)


class Report:
    def __init__(self):
        self.right, self.total, self.failures = collections.Counter(), collections.Counter(), []

    def check(self, group, is_right, *context):
        self.total[group] += 1
        self.right[group] += bool(is_right)
        if not is_right:
            self.failures.append((group, *context))

    def share(self, *groups):
        return sum(self.right[g] for g in groups) / max(1, sum(self.total[g] for g in groups))


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def single_turn(chat, report, rng, quick):
    """Held-out wordings, plain and roughened."""
    tests = []
    for lang in data.LANGS:
        facts, arithmetic = data.heldout_facts(lang), data.heldout_arithmetic(lang)
        if quick:
            facts, arithmetic = rng.sample(facts, 100), rng.sample(arithmetic, 100)
        tests += [(f"facts_{lang}", q, [a]) for q, a in facts]
        tests += [(f"arithmetic_{lang}", q, [a]) for q, a in arithmetic]
        tests += [(f"smalltalk_{lang}", q, a) for q, a in data.heldout_smalltalk(lang)]
        for q, a in rng.sample(facts, 100):
            rough = q.rstrip(".?!。？！")
            rough = ("hey, " + rough.lower()) if lang == "en" else "麻烦问一下，" + rough
            tests.append((f"facts_rough_{lang}", rough, [a]))
    tests += [(f"refusal_{lang}", q, [data.REFUSAL[lang]]) for q, lang in data.UNKNOWN_NEW]
    answers = chat.answer([[user(q)] for _, q, _ in tests], 64)
    for (group, q, expected), answer in zip(tests, answers):
        report.check(group, answer in expected, q, answer, expected[0])


def make_dialogue(rng, lang, name):
    """Five turns: name, held-out fact, follow-up, arithmetic, recall."""
    item = data.MEMORY["name"][lang]
    family = rng.choice([f for f in data.FAMILIES if len(f.rows) > 3 and f.follow])
    first, second = rng.sample(family.rows, 2)
    a, b, op = rng.randrange(10), rng.randrange(10), rng.choice(list(data.OPS))
    return [(rng.choice(item[0]).replace("{v}", name), item[1].replace("{v}", name)),
            (data.fill(rng.choice(data.fact_wordings(family, first, lang)[1]), first, lang), family.answer_for(first, lang)),
            (data.fill(rng.choice(family.follow[lang]), second, lang), family.answer_for(second, lang)),
            (data.arithmetic_prompt(data.ARITHMETIC[lang]["digit_new"][0], lang, a, op, b), data.arithmetic_answer("digit", lang, a, op, b)),
            (item[2][0], item[3].replace("{v}", name))]


def multi_turn(chat, report, rng, quick):
    """Dialogues in lock step; the history holds the model's own answers."""
    plans = []
    for lang in data.LANGS:
        for i in range(12 if quick else 48):
            new = i % 4 == 0
            name = NEW_NAMES[lang][i // 4 % 12] if new else data.person(rng, lang)
            plans.append((lang, new, make_dialogue(rng, lang, name)))
    histories, clean = [[] for _ in plans], [True] * len(plans)
    labels = ("name", "fact", "follow_up", "arithmetic", "recall")
    for turn, label in enumerate(labels):
        for history, (_, _, plan) in zip(histories, plans):
            history.append(user(plan[turn][0]))
        for i, answer in enumerate(chat.answer(histories, 64)):
            lang, new, plan = plans[i]
            histories[i].append(assistant(answer))
            right = answer == plan[turn][1]
            clean[i] = clean[i] and right
            suffix = "_new_name" if new and label in ("name", "recall") else ""
            report.check(f"dialogue_{label}{suffix}", right, plan[turn][0], answer, plan[turn][1])
    for ok, (lang, new, plan) in zip(clean, plans):
        if not new:
            report.check(f"dialogue_whole_{lang}", ok, plan[0][0], "", "")


def language_of(text):
    chinese = len(re.findall(r"[\u4e00-\u9fff]", text))
    return "zh" if chinese * 2 > len(re.findall(r"[A-Za-z]+", text)) else "en"


def story_turns(chat, report, rng, quick):
    """Stories for every hero by held-out wordings, then questions about them."""
    plans = []
    for lang in data.LANGS:
        i = 0 if lang == "en" else 1
        for ask in data.STORY_ASK[lang]["hero_new"]:
            for hero in stories.HEROES[::3] if quick else stories.HEROES:
                plans.append((lang, ask.replace("{h}", stories.article(hero[0]) if lang == "en" else hero[i]), hero))
    histories = [[user(ask)] for _, ask, _ in plans]
    parsed = []
    for history, (lang, ask, hero), story in zip(histories, plans, chat.answer(histories)):
        slots = stories.parse(story, lang)
        parsed.append(slots)
        report.check(f"story_grammar_{lang}", slots is not None, ask, story, "a derivable, consistent story")
        wanted = hero[0] if lang == "en" else hero[3]
        report.check(f"story_hero_{lang}", wanted in story.split("。")[0].split(". ")[0], ask, story, wanted)
        report.check("story_language", language_of(story) == lang, ask, story, lang)
        history.append(assistant(story))
    told = [i for i, slots in enumerate(parsed) if slots]
    asked, expected = [], []
    for i in told:
        lang, slots = plans[i][0], dict(parsed[i])
        if lang == "en":
            slots |= {"a_hero": stories.article(slots["hero"]), "a_friend": stories.article(slots["friend_hero"])}
        asks, answer = rng.choice(data.ABOUT[lang])
        asked.append(histories[i] + [user(rng.choice(asks).format(**slots))])
        expected.append(answer.format(**slots))
    for messages, answer, right in zip(asked, chat.answer(asked, 64), expected):
        report.check("story_questions", answer == right, messages[-1]["content"], answer, right)
    again = [histories[i] + [user(data.STORY_ASK[plans[i][0]]["another"][i % 8 % len(data.STORY_ASK[plans[i][0]]["another"])])]
             for i in told]
    for i, messages, story in zip(told, again, chat.answer(again)):
        slots = stories.parse(story, plans[i][0])
        report.check("story_another", slots and slots["hero"] != parsed[i]["hero"], messages[-1]["content"], story, "another story")


def language_control(chat, report, rng, quick):
    """The language of the question, a system message, and switching."""
    tests = []
    for _ in range(20 if quick else 60):
        lang = rng.choice(data.LANGS)
        other = "zh" if lang == "en" else "en"
        family = rng.choice(data.FAMILIES)
        row = rng.choice(family.rows)
        ask = data.fill(rng.choice(data.fact_wordings(family, row, lang)[1]), row, lang)
        tests.append(("language_system", [{"role": "system", "content": rng.choice(data.SYSTEM_LANG[other])}, user(ask)],
                      family.answer_for(row, other)))
        tests.append(("language_switch", [user(ask), assistant(family.answer_for(row, lang)), user(rng.choice(data.SWITCH[other]))],
                      family.answer_for(row, other)))
    for (group, messages, right), answer in zip(tests, chat.answer([t[1] for t in tests], 64)):
        report.check(group, answer == right, messages[-2]["content"] + " / " + messages[-1]["content"], answer, right)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(Path(__file__).parent / "expertd-tiny"))
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    parser.add_argument("--failures", type=int, default=0, help="print up to this many wrong answers")
    parser.add_argument("--quick", action="store_true", help="a sample of each group")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    chat, report, rng = Chat(args.model), Report(), random.Random(7)
    for part in (single_turn, multi_turn, story_turns, language_control):
        part(chat, report, rng, args.quick)
    use = chat.expert_use([data.conversation(random.Random(1000 + i)) for i in range(60)])
    closed = ("facts_en", "facts_zh", "arithmetic_en", "arithmetic_zh")
    summary = {
        "closed_set_exact": round(report.share(*closed), 4),
        "groups": {g: {"exact": round(report.share(g), 4), "prompts": report.total[g]} for g in sorted(report.total)},
        "expert_use": {"unused": int((use == 0).sum()), "min_share": round(use.min().item(), 4), "max_share": round(use.max().item(), 4),
                       "even_share": round(1 / use.shape[1], 4)},
    }
    if args.json:
        print(json.dumps(summary, indent=2))
    else:
        for group, figures in summary["groups"].items():
            print(f"{group:28s} {100 * figures['exact']:6.1f} %  of {figures['prompts']}")
        print(f"{'closed set (facts, arithmetic)':30s} {100 * summary['closed_set_exact']:.1f} %")
        print("expert use:", ", ".join(f"{k} {v}" for k, v in summary["expert_use"].items()))
        for failure in report.failures[:args.failures]:
            print(*failure, sep=" | ")
    sys.exit(0 if summary["closed_set_exact"] >= 0.95 else 1)


if __name__ == "__main__":
    main()
