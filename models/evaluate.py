"""Evaluates a model folder on prompts that training never showed.

    python evaluate.py [--model expertd-tiny] [--json] [--failures 20] [--quick]

Answers are greedy, through `transformers`; exact means equal to the one right answer (or to one of the listed answers
for smalltalk), character by character.  Groups called `unseen_...` are the prompts of unseen.py.
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
import unseen


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
            texts = [self.tokenizer.apply_chat_template(conversations[i], tokenize=False, add_generation_prompt=True)
                     for i in picked]
            batch = self.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
            with torch.no_grad():
                ids = self.model.generate(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"],
                                          do_sample=False, temperature=None, top_p=None, top_k=None,
                                          max_new_tokens=max_new_tokens)
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


def held_out_wording(rng, family, row, lang):
    return data.fill(rng.choice(data.fact_wordings(family, row, lang)[1]), row, lang)


def make_dialogue(rng, lang, name):
    """Five turns: name, held-out fact, follow-up, arithmetic, recall."""
    item = data.MEMORY["name"][lang]
    family = rng.choice([f for f in data.FAMILIES if len(f.rows) > 3 and f.follow])
    first, second = rng.sample(family.rows, 2)
    a, b, op = rng.randrange(10), rng.randrange(10), rng.choice(list(data.OPS))
    return [(rng.choice(item[0]).replace("{v}", name), item[1].replace("{v}", name)),
            (held_out_wording(rng, family, first, lang), family.answer_for(first, lang)),
            (data.fill(rng.choice(family.follow[lang]), second, lang), family.answer_for(second, lang)),
            (data.arithmetic_prompt(data.ARITHMETIC[lang]["digit_new"][0], lang, a, op, b),
             data.arithmetic_answer("digit", lang, a, op, b)),
            (item[2][0], item[3].replace("{v}", name))]


def play(chat, dialogues):
    """Answers dialogues, each a list of (prompt, right answer), in lock step; the history holds the model's own
    answers.  Returns the answers, one list for each dialogue."""
    histories = [[] for _ in dialogues]
    for turn in range(len(dialogues[0])):
        for history, dialogue in zip(histories, dialogues):
            history.append(user(dialogue[turn][0]))
        for history, answer in zip(histories, chat.answer(histories, 64)):
            history.append(assistant(answer))
    return [[message["content"] for message in history[1::2]] for history in histories]


def multi_turn(chat, report, rng, quick):
    plans = []
    for lang in data.LANGS:
        for i in range(12 if quick else 48):
            new = i % 4 == 0
            name = data.NEW_NAMES[lang][i // 4 % 12] if new else data.person(rng, lang)
            plans.append((lang, new, make_dialogue(rng, lang, name)))
    labels = ("name", "fact", "follow_up", "arithmetic", "recall")
    for (lang, new, dialogue), answers in zip(plans, play(chat, [plan[2] for plan in plans])):
        for label, (prompt, expected), answer in zip(labels, dialogue, answers):
            suffix = "_new_name" if new and label in ("name", "recall") else ""
            report.check(f"dialogue_{label}{suffix}", answer == expected, prompt, answer, expected)
        if not new:
            right = answers == [expected for _, expected in dialogue]
            report.check(f"dialogue_whole_{lang}", right, dialogue[0][0], "", "")


def language_of(text):
    chinese = len(re.findall(r"[\u4e00-\u9fff]", text))
    return "zh" if chinese * 2 > len(re.findall(r"[A-Za-z]+", text)) else "en"


def about_slots(slots, lang):
    """The slots of a parsed story, with those that only data.ABOUT uses."""
    if lang == "en":
        slots = slots | {"a_hero": stories.article(slots["hero"]), "a_friend": stories.article(slots["friend_hero"])}
    return slots


def story_turns(chat, report, rng, heroes, ask_hero, ask_about, ask_another, prefix=""):
    """Stories for the heroes; then, about each story told, a question, and instead of it the wish for another story.
    ask_hero: language -> wordings; ask_about: language -> wordings for each row of data.ABOUT; ask_another: language ->
    wordings."""
    plans = []
    for lang in data.LANGS:
        for ask in ask_hero[lang]:
            for hero in heroes:
                plans.append((lang, ask.replace("{h}", stories.article(hero[0]) if lang == "en" else hero[1]), hero))
    told = []
    for (lang, ask, hero), story in zip(plans, chat.answer([[user(ask)] for _, ask, _ in plans])):
        slots = stories.parse(story, lang)
        report.check(f"{prefix}story_grammar_{lang}", slots is not None, ask, story, "a derivable, consistent story")
        wanted = hero[0] if lang == "en" else hero[3]
        opening = story.split("。")[0].split(". ")[0]
        report.check(f"{prefix}story_hero_{lang}", wanted in opening, ask, story, wanted)
        report.check(f"{prefix}story_language", language_of(story) == lang, ask, story, lang)
        if slots:
            told.append((lang, slots, [user(ask), assistant(story)]))
    questions = []
    for lang, slots, history in told:
        row = rng.randrange(len(data.ABOUT[lang]))
        slots = about_slots(slots, lang)
        ask = rng.choice(ask_about[lang][row]).format(**slots)
        questions.append((history + [user(ask)], data.ABOUT[lang][row][1].format(**slots)))
    for (messages, right), answer in zip(questions, chat.answer([q[0] for q in questions], 64)):
        report.check(f"{prefix}story_questions", answer == right, messages[-1]["content"], answer, right)
    again = [history + [user(ask_another[lang][i % len(ask_another[lang])])] for i,
             (lang, _, history) in enumerate(told)]
    for (lang, slots, _), messages, story in zip(told, again, chat.answer(again)):
        other = stories.parse(story, lang)
        report.check(f"{prefix}story_another", other and other["hero"] != slots["hero"], messages[-1]["content"], story,
                     "another story")


def story_parts(chat, report, rng, quick):
    heroes = stories.HEROES[::3] if quick else stories.HEROES
    story_turns(chat, report, rng, heroes, {lang: data.STORY_ASK[lang]["hero_new"] for lang in data.LANGS},
                {lang: [asks for asks, _ in data.ABOUT[lang]] for lang in data.LANGS},
                {lang: data.STORY_ASK[lang]["another"] for lang in data.LANGS})


def language_control(chat, report, rng, quick):
    """The language of the question, a system message, and switching."""
    tests = []
    for _ in range(20 if quick else 60):
        lang = rng.choice(data.LANGS)
        other = "zh" if lang == "en" else "en"
        family = rng.choice(data.FAMILIES)
        row = rng.choice(family.rows)
        ask = held_out_wording(rng, family, row, lang)
        right = family.answer_for(row, other)
        system = {"role": "system", "content": rng.choice(data.SYSTEM_LANG[other])}
        tests.append(("language_system", [system, user(ask)], right))
        switch = [user(ask), assistant(family.answer_for(row, lang)), user(rng.choice(data.SWITCH[other]))]
        tests.append(("language_switch", switch, right))
    for (group, messages, right), answer in zip(tests, chat.answer([t[1] for t in tests], 64)):
        report.check(group, answer == right, messages[-2]["content"] + " / " + messages[-1]["content"], answer, right)


def make_unseen_dialogue(rng, lang, name):
    """Six turns: name, favorite color, sum, fact, name again, color again."""
    memory, (tell, ask) = data.MEMORY["color"][lang], unseen.NAME[lang]
    greet, recall = data.MEMORY["name"][lang][1], data.MEMORY["name"][lang][3]
    color = rng.choice(data.COLOR_WORDS[lang])
    return [(rng.choice(tell).replace("{v}", name), greet.replace("{v}", name)),
            (memory[0][0].replace("{v}", color), data.capital(memory[1].replace("{v}", color))),
            rng.choice(data.unseen_arithmetic(lang)),
            rng.choice(data.unseen_facts(lang)),
            (rng.choice(ask).replace("{v}", name), recall.replace("{v}", name)),
            (memory[2][0], memory[3].replace("{v}", color))]


def unseen_prompts(chat, report, rng, quick):
    tests = []
    for lang in data.LANGS:
        facts, arithmetic = data.unseen_facts(lang), data.unseen_arithmetic(lang)
        if quick:
            facts, arithmetic = rng.sample(facts, 60), rng.sample(arithmetic, 60)
        tests += [(f"unseen_facts_{lang}", q, [a]) for q, a in facts]
        tests += [(f"unseen_arithmetic_{lang}", q, [a]) for q, a in arithmetic]
        tests += [(f"unseen_smalltalk_{lang}", q, a) for q, a in data.unseen_smalltalk(lang)]
        tests += [(f"unseen_refusal_{lang}", q, [data.REFUSAL[lang]]) for q in unseen.UNKNOWN[lang]]
    for (group, q, expected), answer in zip(tests, chat.answer([[user(q)] for _, q, _ in tests], 64)):
        report.check(group, answer in expected, q, answer, expected[0])
    plans = [(lang, make_unseen_dialogue(rng, lang, name))
             for lang in data.LANGS for name in unseen.NAMES[lang] for _ in range(1 if quick else 2)]
    labels = ("name", "color", "arithmetic", "fact", "recall_name", "recall_color")
    for (lang, dialogue), answers in zip(plans, play(chat, [plan[1] for plan in plans])):
        for label, (prompt, expected), answer in zip(labels, dialogue, answers):
            report.check(f"unseen_dialogue_{label}", answer == expected, prompt, answer, expected)
        right = answers == [expected for _, expected in dialogue]
        report.check(f"unseen_dialogue_whole_{lang}", right, dialogue[0][0], "", "")
    story_turns(chat, report, rng, stories.HEROES[1::3], unseen.STORY,
                {lang: [[ask] for ask in unseen.ABOUT[lang]] for lang in data.LANGS},
                {lang: [unseen.ANOTHER[lang]] for lang in data.LANGS}, prefix="unseen_")


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
    for part in (single_turn, multi_turn, story_parts, language_control, unseen_prompts):
        part(chat, report, rng, args.quick)
    use = chat.expert_use([data.conversation(random.Random(1000 + i)) for i in range(60)])
    closed = ("facts_en", "facts_zh", "arithmetic_en", "arithmetic_zh")
    summary = {
        "closed_set_exact": round(report.share(*closed), 4),
        "groups": {g: {"exact": round(report.share(g), 4), "prompts": report.total[g]} for g in sorted(report.total)},
        "expert_use": {"unused": int((use == 0).sum()), "min_share": round(use.min().item(), 4),
                       "max_share": round(use.max().item(), 4), "even_share": round(1 / use.shape[1], 4)},
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
