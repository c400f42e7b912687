"""The story grammar: parallel English and Chinese plots with slots.

`tell` derives a story; `parse` accepts exactly the derivable stories (each
sentence, in plot order, every slot the same all the way through) and returns
the slots, or None.  Curly names are slots; a tuple holds alternative wordings.
"""

import functools
import random
import re

# kind | Chinese in a request | Chinese measure word | Chinese in the story
HEROES = [tuple(line.split("|")) for line in """
cat|猫|一只|小猫
dog|狗|一只|小狗
rabbit|兔子|一只|小兔子
bear|熊|一只|小熊
fox|狐狸|一只|小狐狸
bird|鸟|一只|小鸟
mouse|老鼠|一只|小老鼠
panda|熊猫|一只|熊猫
duck|鸭子|一只|小鸭子
frog|青蛙|一只|小青蛙
monkey|猴子|一只|小猴子
elephant|大象|一头|小象
tiger|老虎|一只|小老虎
horse|马|一匹|小马
sheep|羊|一只|小羊
pig|猪|一头|小猪
turtle|乌龟|一只|小乌龟
owl|猫头鹰|一只|猫头鹰
lion|狮子|一只|小狮子
squirrel|松鼠|一只|小松鼠
boy|男孩|一个|小男孩
girl|女孩|一个|小女孩
""".strip().splitlines()]
HUMANS = {"boy", "girl", "小男孩", "小女孩"}

ADJECTIVES = [("brave", "勇敢的"), ("kind", "善良的"), ("clever", "聪明的"), ("shy", "害羞的"), ("happy", "快乐的"),
              ("curious", "好奇的"), ("friendly", "友好的"), ("quiet", "安静的"), ("gentle", "温柔的")]
PLACES = [("in the forest", "森林里"), ("by the river", "小河边"), ("on a farm", "农场里"), ("near the sea", "大海边"),
          ("in a small village", "小村庄里"), ("in a garden", "花园里"), ("on a green hill", "绿色的山坡上"),
          ("in the park", "公园里"), ("in the mountains", "大山里")]
COLORS = [("red", "红色的"), ("blue", "蓝色的"), ("green", "绿色的"), ("yellow", "黄色的"), ("white", "白色的")]
THINGS = [("ball", "一个", "球"), ("kite", "一只", "风筝"), ("box", "一个", "盒子"), ("boat", "一条", "小船"),
          ("shell", "一个", "贝壳"), ("bell", "一个", "铃铛"), ("stone", "一块", "石头"), ("flower", "一朵", "花"),
          ("hat", "一顶", "帽子"), ("scarf", "一条", "围巾"), ("bag", "一个", "袋子"), ("book", "一本", "书"),
          ("lamp", "一盏", "灯"), ("key", "一把", "钥匙")]
WHENS = [("One sunny morning", "一个晴朗的早晨"), ("One day", "有一天"), ("One quiet evening", "一个安静的傍晚"),
         ("One warm afternoon", "一个温暖的下午")]
SKILLS = [("swim", "游泳"), ("sing", "唱歌"), ("dance", "跳舞"), ("draw", "画画"), ("count", "数数"), ("cook", "做饭")]
FOODS = [("cake", "蛋糕"), ("bread", "面包"), ("soup", "汤"), ("apple pie", "苹果派")]
SHE = "Mimi Lily Anna Lucy Rosa Emma Nina Daisy Bella Ruby Molly Coco".split()
HE = "Tom Max Ben Leo Sam Toby Oscar Jack Felix Milo Charlie Bruno".split()
ZH_NAMES = "咪咪 豆豆 乐乐 花花 点点 阿福 小白 毛毛 圆圆 贝贝 欢欢 丁丁 东东 果果 朵朵 球球 米米 阿黄 多多 甜甜".split()

# Names of people and of heroes asked for by name; common in training only together.
MORE_SHE = """Alice Amelia Andrea Angela Agnes Beatrice Betty Bridget Camila Carla Carol Caroline Catherine Celia
Charlotte Chloe Christine Cindy Claudia Cora Dana Diana Dora Dorothy Edith Elena Eliza Ella Ellen Elsa Emily Erica
Esther Eva Fatima Fiona Flora Frances Freya Gina Gloria Grace Greta Hana Hannah Harriet Hazel Heidi Helen Holly Ingrid
Irene Iris Isabel Ivy Jane Janet Jasmine Jenny Jessica Joan Julia Karen Kate Kelly Kira Laura Layla Leah Lena Linda Lola
Louise Lydia Mabel Maria Marion Martha Mary Maya Melissa Mia Monica Nadia Naomi Natalie Nicole Noemi Olga Olivia
Paula Pearl Petra Phoebe Polly Priya Rachel Rebecca Rita Rosie Ruth Sabrina Sally Sandra Sara Selma Sharon Silvia Sophie
Stella Susan Sylvia Tamara Tanya Tina Ursula Valerie Victoria Violet Wendy Wilma Yuki Yvonne Zoe""".split()
MORE_HE = """Adam Ahmed Alan Albert Alex Alfred Ali Andrew Anton Arthur Axel Barry Basil Bernard Bill Bob Boris Brian
Bruce Carlos Carl Cedric Chen Chris Colin Conrad Cyril Dan Daniel David Dennis Derek Diego Dimitri Donald Douglas Duncan
Earl Eddie Edmund Elias Emil Eric Ernest Ethan Eugene Evan Farid Frank Fred Gary George Gerald Gilbert Glen Gordon Greg
Gustav Harold Harry Hassan Hector Henry Herman Howard Ian Isaac Ivan Jacob James Jason Jeff Jerome Jim Joe John Jonas
Jorge Joseph Julian Karl Keith Ken Kevin Kurt Lars Lewis Li Louis Lucas Luke Marco Marcus Mario Mark Martin Matthew
Michael Ming Mohammed Nathan Neil Nick Nigel Norman Oliver Omid Owen Patrick Paul Pedro Peter Philip Pierre Ravi
Ray Richard Robert Robin Roger Roland Roy Samuel Scott Sean Simon Stanley Stefan Steve Sven Ted Theo Thomas Tim Tobias
Tony Ulf Victor Vincent Walter Wang Warren Wei William Xavier Yusuf Zack""".split()
ZH_NAME_CHARACTERS = "豆乐花点福毛圆贝欢丁东果朵球米多甜美星月亮晶青黑灰胖壮虎牛雷风雪冰梅桃杏瓜糖饼铃宝壳笑跳奇妙聪灵安康旺顺"


# A friend's name comes from a list of its own: otherwise the hero's would often be the likeliest.
FRIENDS = {"en": SHE[6:] + HE[6:], "zh": ZH_NAMES[10:]}


def random_name(rng, lang, kind, common):
    """A hero's name: one of the common ones with that probability, else one of many.  kind: HEROES's first column."""
    if lang == "zh":
        name = rng.choice(ZH_NAMES[:10])
        while rng.random() > common or name in FRIENDS["zh"]:
            a, b = rng.sample(ZH_NAME_CHARACTERS, 2)
            name, common = rng.choice((a + a, "小" + a, "阿" + a, a + b)), 1.0
        return name
    she, he = (SHE[:6], HE[:6]) if rng.random() < common else (MORE_SHE, MORE_HE)
    return rng.choice({"boy": he, "girl": she}.get(kind, she + he))


def other_half(kind):
    """The kinds of hero that differ from this one for sure: a story's friend and the hero of another story come from
    there.  Were any but this one allowed, the likeliest choice could still be the same again."""
    index = [h[0] for h in HEROES].index(kind)
    return [h for h in HEROES if HEROES.index(h) % 2 != index % 2]


OPEN = {
    "en": ("Once upon a time, there was a {adj} {hero} named {name}. {He} lived {place}.",
           "Long ago, a {adj} {hero} named {name} lived {place}.",
           "Once there was a {adj} {hero} called {name}, who lived {place}."),
    "zh": ("从前，有{measure}{adj}{hero}，名叫{name}。{it}住在{place}。",
           "很久以前，{place}住着{measure}{adj}{hero}，名叫{name}。",
           "从前，在{place}，住着{measure}{adj}{hero}，{it}的名字叫{name}。"),
}
CLOSE = {
    "en": ("From that day on, they were good friends.", "They were friends ever after.",
           "After that, {name} and {friend} met every day."),
    "zh": ("从那天起，{they}成了好朋友。", "后来，{they}一直是好朋友。", "从那以后，{name}和{friend}天天见面。"),
}

# Each plot: the sentences between opening and closing, in both languages.
PLOTS = {
    "share": {
        "en": [("{when}, {name} found a {object} under a tree.", "{when}, {name} found a {object} on the path."),
               ("{He} showed it to a {friend_hero} named {friend}.",
                "A {friend_hero} named {friend} came by and wanted to see it."),
               ("They played with the {object} until the sun went down.",
                "All day long, they played with the {object} and laughed.")],
        "zh": [("{when}，{name}在树下发现了{object_measure}{object}。", "{when}，{name}在路上捡到了{object_measure}{object}。"),
               ("{it}把{object}拿给名叫{friend}的{friend_hero}看。", "名叫{friend}的{friend_hero}路过，也想看一看。"),
               ("{they}一起玩{object}，一直玩到太阳下山。", "{they}一整天都在玩{object}，笑个不停。")]},
    "lost": {
        "en": [("{when}, {name} lost {his} {object}.", "{when}, {name} could not find {his} {object}."),
               ("{He} looked everywhere and felt very sad.", "{He} looked for it for a long time."),
               ("A {friend_hero} named {friend} came to help.", "Then a {friend_hero} named {friend} offered to help."),
               ("Together they found the {object} behind a big rock.",
                "At last {friend} saw the {object} in the tall grass."),
               ("{name} smiled and said thank you.", "\"Thank you, {friend}!\" said {name}.")],
        "zh": [("{when}，{name}弄丢了{object}。", "{when}，{name}找不到{object}了。"),
               ("{it}到处找，心里很难过。", "{it}找了很久很久。"),
               ("名叫{friend}的{friend_hero}来帮忙。", "这时，名叫{friend}的{friend_hero}跑来帮忙。"),
               ("{they}一起在大石头后面找到了{object}。", "最后，{friend}在高高的草丛里看到了{object}。"),
               ("{name}笑着说了谢谢。", "“谢谢你，{friend}！”{name}说。")]},
    "gift": {
        "en": [("{when}, {name} met a {friend_hero} named {friend}, who was sad.",
                "{when}, a {friend_hero} named {friend} sat on the grass and cried."),
               ("\"What is wrong?\" asked {name}.", "{name} sat down and listened."),
               ("\"I have nobody to play with,\" said {friend}.", "{friend} had nobody to play with."),
               ("So {name} gave {friend} a {object}.", "{name} thought for a moment and gave {friend} a {object}."),
               ("{friend} was happy again.", "Soon {friend} was laughing.")],
        "zh": [("{when}，{name}遇见了名叫{friend}的{friend_hero}，对方很难过。", "{when}，名叫{friend}的{friend_hero}坐在草地上哭。"),
               ("“你怎么了？”{name}问。", "{name}坐下来，认真地听。"),
               ("“没有人和我玩。”{friend}说。", "原来没有人和{friend}玩。"),
               ("于是，{name}送给{friend}{object_measure}{object}。", "{name}想了想，送给{friend}{object_measure}{object}。"),
               ("{friend}又开心起来了。", "很快，{friend}就笑了。")]},
    "rain": {
        "en": [("{when}, it began to rain.", "{when}, dark clouds came and it started to rain."),
               ("{name} ran under a big tree.", "{name} ran to a big tree to stay dry."),
               ("There {he} met a {friend_hero} named {friend}, who was cold and wet.",
                "A {friend_hero} named {friend} was already there."),
               ("They waited together and told stories.", "They sat close together and sang songs."),
               ("When the sun came out, they walked home together.", "Then the rain stopped, and they saw a rainbow.")],
        "zh": [("{when}，天下起了雨。", "{when}，乌云来了，下起了雨。"),
               ("{name}跑到一棵大树下。", "{name}跑到大树下躲雨。"),
               ("在那里，{it}遇见了名叫{friend}的{friend_hero}，对方又冷又湿。", "名叫{friend}的{friend_hero}已经在那里了。"),
               ("{they}一起等，一起讲故事。", "{they}靠在一起唱歌。"),
               ("太阳出来以后，{they}一起走回家。", "后来雨停了，{they}看见了彩虹。")]},
    "learn": {
        "en": [("{name} wanted to learn to {skill}.", "{name} could not {skill}, but {he} wanted to learn."),
               ("{when}, {he} met a {friend_hero} named {friend}, who could {skill} very well.",
                "{when}, a {friend_hero} named {friend} said, \"I can teach you.\""),
               ("They practiced every day.", "{friend} helped {name} every morning."),
               ("It was hard, but {name} did not give up.", "At first it was hard, but {name} kept trying."),
               ("At last {name} could {skill} too.", "Soon {name} could {skill} as well as {friend}.")],
        "zh": [("{name}想学{skill}。", "{name}不会{skill}，可是很想学。"),
               ("{when}，{it}遇见了名叫{friend}的{friend_hero}，对方很会{skill}。", "{when}，名叫{friend}的{friend_hero}说：“我可以教你。”"),
               ("{they}每天都练习。", "{friend}每天早上都来帮{name}。"),
               ("虽然很难，但是{name}没有放弃。", "开始很难，可是{name}一直努力。"),
               ("最后，{name}也学会了{skill}。", "不久，{name}{skill}就和{friend}一样好了。")]},
    "night": {
        "en": [("One dark night, {name} heard a strange sound.", "One night, {name} heard something outside."),
               ("{He} was afraid, but {he} went out to look.", "{He} took a lamp and went to the door."),
               ("It was only a {friend_hero} named {friend}, who was lost.",
                "Outside stood a {friend_hero} named {friend}, who could not find the way home."),
               ("{name} took {friend} home.", "{name} showed {friend} the way home."),
               ("Now {name} was not afraid of the dark any more.", "That night, {name} slept very well.")],
        "zh": [("一个漆黑的夜晚，{name}听到了奇怪的声音。", "一天夜里，{name}听到外面有声音。"),
               ("{it}很害怕，但还是出去看了看。", "{it}拿着一盏灯，走到门口。"),
               ("原来是名叫{friend}的{friend_hero}迷路了。", "外面站着名叫{friend}的{friend_hero}，找不到回家的路。"),
               ("{name}把{friend}送回了家。", "{name}给{friend}指了回家的路。"),
               ("现在，{name}再也不怕黑了。", "那天晚上，{name}睡得很香。")]},
    "meal": {
        "en": [("{when}, {name} made some {food}.", "{when}, {name} was at home and made {food}."),
               ("A {friend_hero} named {friend} smelled it and came to the door.",
                "Soon a {friend_hero} named {friend} knocked on the door."),
               ("\"May I have some {food}?\" asked {friend}.", "\"I am very hungry,\" said {friend}."),
               ("\"Of course, come in,\" said {name}.", "{name} opened the door and smiled."),
               ("They ate the {food} together.", "They shared the {food}, and it was very good.")],
        "zh": [("{when}，{name}做了一些{food}。", "{when}，{name}在家里做{food}。"),
               ("名叫{friend}的{friend_hero}闻到香味，来到门口。", "不久，名叫{friend}的{friend_hero}来敲门。"),
               ("“我可以吃一点{food}吗？”{friend}问。", "“我好饿啊。”{friend}说。"),
               ("“当然可以，请进。”{name}说。", "{name}打开门，笑了。"),
               ("{they}一起吃了{food}。", "{they}分着吃{food}，味道好极了。")]},
    "race": {
        "en": [("{when}, {name} had a race with a {friend_hero} named {friend}.",
                "{when}, a {friend_hero} named {friend} wanted to race with {name}."),
               ("{friend} was faster, but fell over a stone.", "They ran very fast, but then {friend} fell down."),
               ("{name} stopped and helped {friend}.", "{name} could have won, but {he} went back to help {friend}."),
               ("They crossed the finish line together.", "In the end, they finished together."),
               ("Everybody cheered for both of them.", "Both of them won that day.")],
        "zh": [("{when}，{name}和名叫{friend}的{friend_hero}赛跑。", "{when}，名叫{friend}的{friend_hero}想和{name}赛跑。"),
               ("{friend}跑得更快，可是被石头绊倒了。", "{they}跑得很快，可是{friend}摔倒了。"),
               ("{name}停下来，扶起了{friend}。", "{name}本来可以赢，但是回去帮{friend}。"),
               ("{they}一起冲过了终点。", "最后，{they}一起到了终点。"),
               ("大家都为{they}鼓掌。", "那天，{they}都赢了。")]},
}
OBJECT_PLOTS = ("share", "lost", "gift")
TOYS = {"ball", "kite", "box", "boat", "shell", "bell"}


def article(noun):
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def _hero_slots(hero, lang, prefix=""):
    if lang == "en":
        return {prefix + "hero": hero[0]}
    return {prefix + "hero": hero[3]}


def tell(rng, lang, hero=None, name=None, adj=None, thing=None, place=None):
    """Returns (text, facts about the story).  hero: a row of HEROES; adj,
    place: a pair; thing: (color, thing) rows."""
    i = 0 if lang == "en" else 1
    if hero is None:
        hero = rng.choice(HEROES)
    friend_hero = rng.choice([h for h in other_half(hero[0]) if h[0] not in HUMANS])
    adj = adj or rng.choice(ADJECTIVES)
    place = place or rng.choice(PLACES)
    plot_name = rng.choice(OBJECT_PLOTS if thing else list(PLOTS))
    if thing is None:
        things = [t for t in THINGS if plot_name != "share" or t[0] in TOYS]
        thing = (rng.choice(COLORS), rng.choice(things))
    elif plot_name == "share" and thing[1][0] not in TOYS:
        plot_name = rng.choice(("lost", "gift"))
    name = name or random_name(rng, lang, hero[0], common=0.6)
    friend = rng.choice([n for n in FRIENDS[lang] if n != name])
    if lang == "en":
        she = name in SHE or name in MORE_SHE
        slots = {"He": "She" if she else "He", "he": "she" if she else "he", "his": "her" if she else "his",
                 "object": f"{thing[0][0]} {thing[1][0]}"}
    else:
        it = {"boy": "他", "girl": "她"}.get(hero[0], "它")
        slots = {"it": it, "they": "他们" if hero[0] in HUMANS else "它们", "measure": hero[2],
                 "object": thing[0][1] + thing[1][2], "object_measure": thing[1][1]}
    slots |= {"hero": hero[0] if lang == "en" else hero[3],
              "friend_hero": friend_hero[0] if lang == "en" else friend_hero[3],
              "name": name, "friend": friend, "adj": adj[i], "place": place[i], "when": rng.choice(WHENS)[i],
              "skill": rng.choice(SKILLS)[i], "food": rng.choice(FOODS)[i]}
    if plot_name == "rain":
        slots["when"] = WHENS[1][i] if slots["when"] == WHENS[0][i] else slots["when"]
    sentences = [rng.choice(choices).format(**slots)
                 for choices in [OPEN[lang], *PLOTS[plot_name][lang], CLOSE[lang]]]
    text = (" " if lang == "en" else "").join(sentences)
    return text, slots | {"kind": hero[0], "plot": plot_name}


def _one_of(values):
    return "|".join(sorted(map(re.escape, set(values)), key=len, reverse=True))


def _slot_patterns(lang):
    i = 0 if lang == "en" else 1
    name = r"[A-Z][a-z]+" if lang == "en" else r"[\u4e00-\u9fff]{1,4}|[A-Z][a-z]+"
    heroes = [h[0] if lang == "en" else h[3] for h in HEROES]
    objects = [f"{c[0]} {t[0]}" if lang == "en" else c[1] + t[2] for c in COLORS for t in THINGS]
    return {"name": name, "friend": name, "hero": _one_of(heroes), "friend_hero": _one_of(heroes),
            "adj": _one_of(a[i] for a in ADJECTIVES), "place": _one_of(p[i] for p in PLACES),
            "when": _one_of(w[i] for w in WHENS), "skill": _one_of(s[i] for s in SKILLS),
            "food": _one_of(f[i] for f in FOODS), "object": _one_of(objects),
            "object_measure": _one_of(t[1] for t in THINGS), "measure": _one_of(h[2] for h in HEROES),
            "He": "He|She", "he": "he|she", "his": "his|her", "it": "它|他|她", "they": "他们|它们"}


@functools.cache
def _derivations(lang):
    """One verbose-free regular expression per plot, as a list of alternatives
    per sentence; slots are captured under numbered names and compared later."""
    patterns, out = _slot_patterns(lang), {}
    for plot, by_lang in PLOTS.items():
        counter, body = 0, []
        for choices in [OPEN[lang], *by_lang[lang], CLOSE[lang]]:
            alternatives = []
            for choice in choices:
                parts = re.split(r"\{(\w+)\}", choice)
                text = ""
                for j, part in enumerate(parts):
                    if j % 2 == 0:
                        text += re.escape(part)
                    else:
                        text += f"(?P<{part}__{counter}>{patterns[part]})"
                        counter += 1
                alternatives.append(text)
            body.append("(?:" + "|".join(alternatives) + ")")
        out[plot] = re.compile((" " if lang == "en" else "").join(body))
    return out


def parse(text, lang):
    """The slots of a derivable, consistent story, or None."""
    for plot, expression in _derivations(lang).items():
        match = expression.fullmatch(text)
        if not match:
            continue
        slots = {}
        for group, value in match.groupdict().items():
            slot = group.split("__")[0]
            if value is not None and slots.setdefault(slot, value) != value:
                return None
        if slots.get("friend") == slots["name"] or slots.get("friend_hero") == slots["hero"]:
            return None
        if lang == "en":
            she = {slots[k] in ("She", "she", "her") for k in ("He", "he", "his") if k in slots}
            known = slots["name"] in SHE + HE + MORE_SHE + MORE_HE
            if len(she) > 1 or (known and she and she != {slots["name"] in SHE + MORE_SHE}):
                return None
        else:
            it = {"小男孩": "他", "小女孩": "她"}.get(slots["hero"], "它")
            they = "他们" if slots["hero"] in HUMANS else "它们"
            measure = {h[3]: h[2] for h in HEROES}[slots["hero"]]
            if slots.get("it", it) != it or slots.get("they", they) != they or slots["measure"] != measure:
                return None
        return slots | {"plot": plot}
    return None
