"""Conversation generator: everything the bundled model is trained on.

`conversation(rng)` makes one conversation as a list of {"role", "content"}
messages.  `heldout_facts` and `heldout_arithmetic` list the prompts that
training never shows; the generator consults the same rule.
"""

import functools
import hashlib
import random

import stories
import unseen
from facts import FAMILIES, UNKNOWN_COUNTRIES, fill

LANGS = ("en", "zh")
FAMILY = {f.key: f for f in FAMILIES}


# ---------------------------------------------------------------- hold-out rule

def held_out(*key):
    """True for a fixed tenth of all keys."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return digest[0] * 10 < 256


def fact_wordings(family, row, lang):
    """(wordings for training, wordings held out for this fact)."""
    train, held = [], list(family.ask_new[lang])
    for ask in family.ask[lang]:
        shared = len(family.rows) > 1
        (held if shared and held_out(family.key, row[0], lang, ask) else train).append(ask)
    return train, held


# ------------------------------------------------------------------- arithmetic

WORDS_EN = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen " \
           "seventeen eighteen nineteen".split()
TENS_EN = "twenty thirty forty fifty sixty seventy eighty ninety".split()
DIGITS_ZH = "零一二三四五六七八九"


def number_word(n, lang):
    if n < 0:
        return ("minus " if lang == "en" else "负") + number_word(-n, lang)
    if lang == "en":
        if n < 20:
            return WORDS_EN[n]
        return TENS_EN[n // 10 - 2] + ("" if n % 10 == 0 else "-" + WORDS_EN[n % 10])
    if n < 10:
        return DIGITS_ZH[n]
    return ("" if n < 20 else DIGITS_ZH[n // 10]) + "十" + ("" if n % 10 == 0 else DIGITS_ZH[n % 10])


OPS = {"+": ("plus", "加"), "-": ("minus", "减"), "×": ("times", "乘")}
ARITHMETIC = {
    "en": {"digit": ["What is {x}?", "{x}", "{x} = ?", "{x} =", "What's {x}?", "Calculate {x}.", "How much is {x}?",
                     "Tell me {x}.", "Can you calculate {x}?", "Do you know what {x} is?", "Compute {x}."],
           "word": ["What is {w}?", "{w}", "How much is {w}?", "What's {w}?", "Tell me what {w} is.", "Calculate {w}.",
                    "Can you tell me what {w} is?"],
           "digit_new": ["Please work out {x}."], "word_new": ["Do you know what {w} is?"]},
    "zh": {"digit": ["{x}等于几？", "{x}等于多少？", "{x}是多少？", "{x} = ?", "{x}", "计算{x}。", "请算一下{x}。",
                     "你知道{x}等于几吗？", "{x}得多少？"],
           "word": ["{w}等于几？", "{w}等于多少？", "{w}是多少？", "{w}", "请算一下{w}。", "{w}得几？"],
           "digit_new": ["帮我算算{x}。"], "word_new": ["你知道{w}等于几吗？"]},
}


def result_of(a, op, b):
    return {"+": a + b, "-": a - b, "×": a * b}[op]


def arithmetic_wordings(lang, kind, a, op, b):
    train, held = [], list(ARITHMETIC[lang][kind + "_new"])
    for ask in ARITHMETIC[lang][kind]:
        # Bare sums read the same in both languages, so they are never held out.
        shared = ask in ARITHMETIC["zh" if lang == "en" else "en"][kind] and kind == "digit"
        (held if not shared and held_out(ask, lang, a, op, b) else train).append(ask)
    return train, held


def arithmetic_prompt(ask, lang, a, op, b, rng=None):
    i = 0 if lang == "en" else 1
    style = rng.random() if rng else 0.0
    sign = op
    if op == "×" and rng and rng.random() < 0.5:
        sign = "*"
    x = f"{a} {sign} {b}"
    if style > 0.85:
        x = f"{a}{sign}{b}"
    elif style > 0.7:
        x = f"{a} {OPS[op][i]} {b}" if lang == "en" else f"{a}{OPS[op][i]}{b}"
    space = " " if lang == "en" else ""
    times = "乘以" if lang == "zh" and op == "×" and rng and rng.random() < 0.4 else OPS[op][i]
    text = ask.replace("{x}", x)
    if "{w}" in ask:
        text = ask.replace("{w}", space.join((number_word(a, lang), times, number_word(b, lang))))
    return text[:1].upper() + text[1:] if lang == "en" and not (rng and rng.random() < 0.5) else text


def arithmetic_answer(kind, lang, a, op, b):
    c = result_of(a, op, b)
    if kind == "digit":
        return f"{a} {op} {b} = {c}"
    if lang == "en":
        return f"{number_word(a, lang)} {OPS[op][0]} {number_word(b, lang)} is {number_word(c, lang)}.".capitalize()
    return f"{number_word(a, lang)}{OPS[op][1]}{number_word(b, lang)}等于{number_word(c, lang)}。"


# -------------------------------------------------------------------- smalltalk

# intent: (English prompts, English answers, Chinese prompts, Chinese answers);
# the last prompt of each language is kept for the evaluation.
SMALLTALK = {
    "hello": (
        ["Hello!", "Hi!", "Hello", "hi", "Hey!", "Hi there!", "Hello there!", "Hey there", "hello expertd",
         "Greetings!", "Hi, nice to see you.", "Hi, expertd!", "Good day!", "Hello again!", "Hey, hello!",
         "Hi, hello!", "Hi there, friend!", "Hello, how nice to see you.", "Nice to see you!", "Good to see you.",
         "Hello, it is me.", "Is anybody there?", "Hi, it is nice to see you again.", "Well, hello!",
         "Hello, friend!", "Hello, hello!"],
        ["Hello! How can I help you?", "Hi! What can I do for you?"],
        ["你好！", "你好", "您好！", "嗨！", "哈喽！", "你好啊！", "您好", "嗨，你好！", "你好呀", "大家好！", "你好，很高兴见到你。", "嗨，你好啊！", "哈喽，你好！",
         "很高兴见到你。", "你好，我来了。", "喂！", "有人在吗？", "又见面了，你好！", "喂，你好！"],
        ["你好！我能帮你做什么？", "你好！有什么可以帮你的吗？"]),
    "morning": (
        ["Good morning!", "good morning", "Good morning to you!", "Morning!", "Hi, good morning!",
         "Morning, expertd!", "A very good morning!", "good morning to you", "Hello, good morning!"],
        ["Good morning! How can I help you?"],
        ["早上好！", "早上好", "早安！", "早！", "早上好呀！", "大家早上好！", "早啊！", "嗨，早上好！", "早，你好！", "上午好！", "你早！"],
        ["早上好！我能帮你做什么？"]),
    "evening": (
        ["Good evening!", "good evening", "Good evening to you!", "Evening!", "Good evening, expertd!",
         "Evening, expertd!", "A very good evening!", "good evening to you", "Hey, good evening!",
         "Hello, good evening!"],
        ["Good evening! How can I help you?"],
        ["晚上好！", "晚上好", "晚上好啊！", "嗨，晚上好！", "大家晚上好！", "晚上好，expertd！", "您好，晚上好！", "你好，晚上好！"],
        ["晚上好！我能帮你做什么？"]),
    "night": (
        ["Good night!", "good night", "Good night, sleep well!", "I am going to bed.", "Good night, expertd!",
         "I want to sleep now.", "It is time to sleep.", "I will go to sleep now.", "Sleep well!", "Night night!",
         "I am off to bed.", "I am going to bed, good night!"],
        ["Good night! Sleep well."],
        ["晚安！", "晚安", "我要睡觉了。", "我去睡了。", "晚安，expertd！", "我困了。", "该睡觉了。", "我想睡觉了。", "时间不早了，晚安。", "做个好梦！", "我要睡了，晚安！"],
        ["晚安！祝你好梦。"]),
    "how": (
        ["How are you?", "How are you doing?", "how are you", "How do you feel?", "How is it going?",
         "Are you well?", "How are you today?", "How do you do?", "How are things with you?",
         "How do you feel today?", "How have you been?", "Are you all right?", "How is your day?", "How are things?",
         "How are you, expertd?", "Are you fine?", "Are you OK?", "How goes it?", "Tell me how you are.",
         "How is everything?", "Hello, how are you?", "Hi, how are you doing?", "Is everything well with you?",
         "What's up?", "And how are you?"],
        ["I am fine, thank you. How are you?"],
        ["你好吗？", "你怎么样？", "最近好吗？", "你今天好吗？", "你还好吗？", "你今天怎么样？", "你最近怎么样？", "你还好吧？", "你感觉怎么样？", "你近来怎么样？", "今天过得好吗？",
         "你最近好吗？", "你好，你怎么样？", "身体好吗？", "你还好不？", "一切都好吗？", "近来好吗？"],
        ["我很好，谢谢。你呢？"]),
    "fine": (
        ["I am fine.", "I am fine, thanks.", "I'm good.", "I am well, thank you.", "I'm fine too.",
         "I am good, thank you!", "I'm well.", "I'm fine, thank you.", "I am OK.", "I'm all right.",
         "I am very well.", "I'm very good, thanks.", "Very well, thank you.", "I am doing fine, thanks.",
         "I'm doing great, thank you.", "Fine, thanks.", "Me too, I am fine.", "I feel well.", "I am doing well."],
        ["I am glad to hear that."],
        ["我很好。", "我也很好。", "我很好，谢谢。", "我不错。", "挺好的。", "我还不错。", "我也挺好的。", "还不错。", "我一切都好。", "我很好，谢谢你。", "我今天很好。",
         "我过得不错。", "还好，谢谢。", "都挺好的，谢谢。", "我也不错。"],
        ["听到这个我很高兴。"]),
    "who": (
        ["Who are you?", "What are you?", "What is your name?", "What's your name?", "Tell me about yourself.",
         "Introduce yourself.", "who are you", "Please introduce yourself.", "Do you have a name?",
         "What should I call you?", "What model are you?", "May I ask who you are?", "And who are you?",
         "Who is this?", "Who am I speaking with?", "Tell me who you are.", "Say who you are.",
         "What do people call you?", "Your name, please?", "May I know your name?", "Can you tell me your name?",
         "I would like to know who you are.", "Which model is this?", "What kind of model are you?",
         "What exactly are you?", "Who is expertd?", "I want to know your name.", "Tell me your name.",
         "what is your name", "Could you tell me who you are?"],
        ["I am expertd-tiny, a small mixture-of-experts model."],
        ["你是谁？", "你叫什么名字？", "你是什么？", "请介绍一下你自己。", "介绍一下自己。", "你叫什么？", "你是什么模型？", "你有名字吗？", "我该怎么称呼你？", "自我介绍一下。",
         "请问你是谁？", "你到底是谁？", "你是哪个模型？", "你是干什么的？", "请告诉我你的名字。", "告诉我你是谁。", "我想知道你是谁。", "你的名字是什么？", "请做个自我介绍。",
         "怎么称呼你？", "这是谁？", "你是什么东西？", "说说你自己。", "expertd是谁？", "能告诉我你是谁吗？"],
        ["我是expertd-tiny，一个小小的混合专家模型。"]),
    "can": (
        ["What can you do?", "What do you know?", "How can you help me?", "Help!", "What can I ask you?", "help",
         "What are you able to do?", "What are your skills?", "What are you good at?", "What do you do best?",
         "Which things can you do?", "Tell me your skills.", "Show me what you can do.", "How can I use you?",
         "In what can you help me?", "What are you for?", "What is it that you can do?",
         "Can you help me with something?", "What else can you do?", "What can you do for me?",
         "What kind of questions can I ask?", "What should I ask you?", "I need help.", "Please help me.",
         "List your skills.", "What are you here for?", "Tell me what you can do."],
        [
         "I can chat, answer simple questions, do one-digit arithmetic and tell short stories, in English or Chinese."],
        ["你会做什么？", "你能做什么？", "你会什么？", "你能帮我做什么？", "我可以问你什么？", "帮助", "你有什么本领？", "你有什么用？", "你都能做什么？", "你还会做什么？",
         "你能干什么？", "你会干什么？", "我能问你什么？", "你能做些什么？", "说说你会什么。", "你擅长什么？", "请帮帮我。", "你可以帮我什么忙？", "你有哪些本领？", "怎么使用你？",
         "你能为我做什么？", "告诉我你会做什么。"],
        ["我会聊天，回答简单的问题，做一位数的算术，还会用英语或中文讲小故事。"]),
    "human": (
        ["Are you a human?", "Are you a robot?", "Are you a person?", "Are you alive?", "Are you real?",
         "Are you a machine?", "Are you an AI?", "Are you a living being?", "Do you live?",
         "Are you a man or a woman?", "Is there a human behind you?", "Am I talking to a robot?",
         "Am I talking to a person?", "Are you a program?", "Are you artificial?", "Do you have a body?",
         "Are you some kind of robot?", "You are a robot, right?", "Are you just a machine?", "Is this a bot?",
         "Are you a bot?", "Are you a real human?", "Are you human or a machine?"],
        ["I am a computer program, not a person."],
        ["你是人吗？", "你是机器人吗？", "你是真人吗？", "你是活的吗？", "你是人工智能吗？", "你是机器吗？", "你是程序吗？", "你是一个机器人吗？", "你是真的吗？", "你有身体吗？",
         "你是不是人？", "你是不是机器人？", "我在和机器人说话吗？", "你是男的还是女的？", "你是人类吗？", "你是真人还是机器人？", "你是活人吗？", "你是人还是机器？"],
        ["我是一个计算机程序，不是人。"]),
    "age": (
        ["How old are you?", "What is your age?", "When were you born?", "how old are you", "Are you old?",
         "Are you young?", "Do you know your age?", "How old is expertd?", "When is your birthday?",
         "In which year were you born?", "What age are you?", "And how old are you?", "Do you have an age?",
         "Can you tell me how old you are?", "Tell me your age."],
        ["I am a program, so I have no age."],
        ["你几岁了？", "你多大了？", "你几岁？", "你多大年纪？", "你有几岁？", "请问你几岁？", "你的生日是哪天？", "你今年多大了？", "你出生在哪一年？", "你知道自己几岁吗？",
         "你年纪多大？", "你多少岁？", "告诉我你几岁。"],
        ["我是一个程序，没有年龄。"]),
    "thanks": (
        ["Thank you!", "Thanks!", "thanks", "Thank you very much!", "Thanks a lot!", "thank you",
         "Great, thank you!", "Thank you for your help.", "Thank you a lot!", "Thanks so much!",
         "Thanks, that helped.", "I thank you.", "Thank you, expertd!", "Thank you, that is good.", "Nice, thanks!",
         "thank you very much", "Thanks for your help!", "Thank you for that.", "Thanks again!",
         "A thousand thanks!", "Thanks for the answer.", "That helps, thank you.", "Many thanks!"],
        ["You are welcome!"],
        ["谢谢！", "谢谢你！", "多谢！", "谢谢", "非常感谢！", "感谢你！", "太好了，谢谢！", "谢谢您！", "太谢谢你了！", "好的，谢谢！", "多谢你！", "真是谢谢你。",
         "谢谢，我知道了。", "谢谢你的回答。", "十分感谢！", "感谢感谢！", "谢谢了！", "谢谢你的帮助。"],
        ["不客气！"]),
    "bye": (
        ["Goodbye!", "Bye!", "bye", "See you!", "See you later!", "Goodbye", "Bye bye!", "I have to go now.",
         "See you tomorrow!", "Bye, expertd!", "See you soon!", "I must go now.", "I am leaving now.",
         "Until next time!", "Farewell!", "Take care!", "That is all, goodbye.", "bye bye", "I'm going home now.",
         "I am going now, bye!", "Time to go.", "See you next time!", "OK, bye!", "Talk to you later!", "So long!",
         "Goodbye, see you!"],
        ["Goodbye! Have a nice day."],
        ["再见！", "再见", "拜拜！", "回头见！", "明天见！", "我要走了。", "下次见！", "先走了，再见！", "我先走了。", "我得走了。", "再会！", "好的，再见！", "以后见！",
         "我该走了。", "再见啦！", "我要回家了。", "改天再聊！", "再见，下次聊！"],
        ["再见！祝你愉快。"]),
    "praise": (
        ["You are smart!", "Good job!", "Well done!", "That is right.", "Very good!", "You are great!",
         "You are clever.", "You are very helpful.", "You are right!", "Correct!", "That is correct.",
         "You did well.", "You know a lot!", "You are so clever!", "Nice work!", "You are good at this.",
         "You are wonderful!", "You are the best!", "Excellent!", "Wow, you are smart!", "That is very good.",
         "You are really smart!", "Nice job!", "Bravo!", "You did a great job!", "Great work!"],
        ["Thank you, that is kind of you."],
        ["你真聪明！", "做得好！", "很好！", "你真棒！", "你好厉害！", "太棒了！", "干得好！", "答对了！", "你说得对！", "真厉害！", "你好聪明！", "你很聪明！", "真棒！",
         "你太棒了！", "非常好！", "你懂得真多！", "你最棒！", "完全正确！", "你做得很好！", "你真厉害！"],
        ["谢谢夸奖！"]),
    "sad": (
        ["I am sad.", "I feel sad.", "I am not happy.", "I feel bad today.", "I'm sad today.", "I am very sad.",
         "I am unhappy.", "Today I feel sad.", "I feel down.", "I am sad today.", "I want to cry.", "I am so sad.",
         "I feel terrible.", "I'm not feeling good.", "I am having a bad day.", "I'm unhappy today.",
         "It was a bad day.", "I feel very sad."],
        ["I am sorry to hear that. Would you like a story?"],
        ["我很难过。", "我不开心。", "我心情不好。", "我有点难过。", "我今天不开心。", "我想哭。", "我很伤心。", "我今天心情不好。", "我觉得难过。", "我很不开心。", "今天真不顺。",
         "我今天有点难过。", "我不高兴。", "我心里难受。", "我今天很难过。"],
        ["听到这个我很难过。想听个故事吗？"]),
    "glad": (
        ["I am happy.", "I feel happy.", "I am very happy today.", "I feel great!", "I'm so happy!",
         "I'm happy today.", "I am so glad.", "I feel wonderful.", "I am in a good mood.", "Today is a great day!",
         "I am having a great day!", "I am glad.", "I feel really good today.", "I am very glad today.",
         "Today I am happy.", "What a happy day!", "I feel great today.", "I feel very happy."],
        ["That is wonderful!"],
        ["我很开心。", "我很高兴。", "我今天很开心。", "我好高兴！", "我开心极了！", "我很快乐。", "我今天心情很好。", "今天真开心！", "我真高兴！", "我心情很好。", "我开心死了！",
         "今天是快乐的一天。", "我特别开心。", "我觉得很高兴。", "我今天很高兴。"],
        ["那太好了！"]),
    "tired": (
        ["I am tired.", "I feel tired.", "I am very tired today.", "I'm so tired.", "I am so sleepy.",
         "I'm tired today.", "I am a bit tired.", "I am exhausted.", "I have no energy.", "I feel tired today.",
         "I'm very tired.", "I worked all day and I am tired.", "What a tiring day.", "I need a break.",
         "I feel very tired."],
        ["Then you should take a rest."],
        ["我累了。", "我很累。", "我今天很累。", "我好累啊。", "我今天好累。", "我累坏了。", "我非常累。", "累死我了。", "我没有力气了。", "今天太累了。", "我走不动了。",
         "我觉得累了。", "我有点累。"],
        ["那你该休息一下。"]),
    "love": (
        ["I like you.", "I love you.", "You are my friend.", "I like talking to you.",
         "I really like talking to you.", "You are my best friend.", "I like to talk with you.", "You are nice.",
         "I enjoy talking to you.", "I love talking to you.", "I like you a lot.", "You are so nice to me.",
         "Let's be friends.", "I like you very much."],
        ["Thank you, I like talking to you too."],
        ["我喜欢你。", "我爱你。", "你是我的朋友。", "我喜欢和你聊天。", "我好喜欢你。", "你是我最好的朋友。", "我爱和你说话。", "和你聊天真开心。", "我们做朋友吧。", "我喜欢跟你说话。",
         "你真好。", "我太喜欢你了。", "我很喜欢你。"],
        ["谢谢，我也喜欢和你聊天。"]),
    "ok": (
        ["OK.", "ok", "Okay.", "I see.", "All right.", "Got it.", "OK, I see.", "I understand.", "Okay", "all right",
         "Understood.", "That makes sense.", "Ah, I see.", "Very well.", "OK then.", "Good, I understand.", "Right.",
         "Now I know.", "Fine."],
        ["Is there anything else I can do for you?"],
        ["好的。", "好", "知道了。", "我明白了。", "好吧。", "我懂了。", "行。", "原来如此。", "好的", "好，我知道了。", "我知道了。", "行，没问题。", "哦，明白了。",
         "了解了。", "明白了。"],
        ["还有什么我可以帮你的吗？"]),
    "sorry": (
        ["Sorry.", "I am sorry.", "sorry", "Sorry about that.", "Please forgive me.", "I apologize.", "I'm sorry.",
         "Excuse me, I am sorry.", "sorry about that", "Forgive me.", "I am very sorry.", "My mistake, sorry.",
         "I beg your pardon.", "Ah, sorry.", "Oh, sorry!"],
        ["No problem at all."],
        ["对不起。", "抱歉。", "不好意思。", "真对不起。", "请原谅我。", "是我不好。", "真抱歉。", "对不起，我错了。", "非常抱歉。", "我错了。", "不好意思啊。", "哎呀，对不起。",
         "很抱歉。"],
        ["没关系。"]),
}
ABOUT_STORY = (["I like that story.", "That was a nice story.", "Nice story!", "What a lovely story!"],
               ["I am glad you like it."],
               ["我喜欢这个故事。", "这个故事真好听。", "好听！", "真是个好故事！"], ["很高兴你喜欢。"])


# ----------------------------------------------------------------- not in the set

REFUSAL = {"en": "I do not know that yet.", "zh": "这个我还不知道。"}
ONE_DIGIT = {"en": "I can only calculate with one-digit numbers.", "zh": "我只会算一位数。"}
NOUNS_EN = """computer telephone piano guitar violin bicycle airplane train engine bridge castle museum hospital doctor
lawyer king queen president minister army war law bank money market company football basketball tennis chess movie song
painting poem novel newspaper camera radio television internet website password phone battery window door table chair
kitchen bathroom garage garden tower ship rocket satellite telescope microscope atom molecule electron virus bacteria
medicine vaccine heart brain bone muscle blood pressure volcano earthquake storm hurricane desert island lake forest
jungle valley dinosaur dragon robot algorithm database compiler kernel thread memory transistor magnet mirror clock
watch ring hat shirt shoe coat umbrella pizza sandwich coffee sugar salt pepper cheese butter wine beer""".split()
NOUNS_ZH = """电脑 电话 钢琴 吉他 自行车 飞机 火车 发动机 大桥 城堡 博物馆 医院 医生 律师 国王 总统 部长 军队 战争 法律 银行 金钱 市场 公司 足球 篮球
网球 象棋 电影 歌曲 油画 诗歌 小说 报纸 相机 收音机 电视 互联网 网站 密码 手机 电池 窗户 桌子 椅子 厨房 浴室 车库 火箭 卫星 望远镜 显微镜 原子 分子
电子 病毒 细菌 药物 疫苗 心脏 大脑 骨头 肌肉 火山 地震 暴风雨 台风 岛屿 湖泊 丛林 山谷 恐龙 机器人 算法 数据库 编译器 内核 线程 内存 磁铁 镜子 手表
戒指 衬衫 鞋子 大衣 雨伞 比萨饼 三明治 咖啡 白糖 食盐 胡椒 奶酪 黄油 葡萄酒 啤酒""".split()
UNKNOWN = {
    "en": ["What is {a}?", "Who invented the {n}?", "How does {a} work?", "How do I fix {a}?", "How do I buy {a}?",
           "Why is the {n} important?", "Tell me about the {n}.", "Who is the best {n} in the world?",
           "How much does {a} cost?", "What is the history of the {n}?", "Explain the {n} to me.",
           "When was the {n} invented?", "Can you write code for {a}?", "What is the weather today?",
           "What will the weather be tomorrow?", "What time is it?", "What is the date today?", "Who is the president?",
           "Who won the game?", "What is the news today?", "Write a program for me.", "What is the meaning of life?",
           "Who wrote the {n}?", "Where can I buy {a}?", "Do you like the {n}?", "What is the price of {a}?",
           "How old is the {n}?", "What is the capital of {u}?", "Tell me the capital of {u}.",
           "What's the capital of {u}?", "Which city is the capital of {u}?", "On which continent is {u}?",
           "Who is {p}?", "Do you know {p}?", "Where is {p}?", "How tall is {p}?"],
    "zh": ["{n}是什么？", "谁发明了{n}？", "{n}是怎么工作的？", "怎么修{n}？", "怎么买{n}？", "为什么{n}很重要？", "给我讲讲{n}。",
           "世界上最好的{n}是哪个？", "{n}多少钱？", "{n}的历史是什么？", "给我解释一下{n}。", "{n}是什么时候发明的？", "你能写{n}的代码吗？",
           "今天天气怎么样？", "明天天气怎么样？", "现在几点了？", "今天是几号？", "总统是谁？", "谁赢了比赛？", "今天有什么新闻？",
           "帮我写一个程序。", "人生的意义是什么？", "哪里可以买到{n}？", "你喜欢{n}吗？", "{u}的首都是哪里？", "{u}的首都是什么？",
           "请告诉我{u}的首都。", "{u}在哪个洲？", "{p}是谁？", "你认识{p}吗？", "{p}在哪里？", "{p}有多高？"],
}
# Kept out of training: (prompt, language).
UNKNOWN_NEW = [("What is a keyboard?", "en"), ("Who invented the printer?", "en"), ("How does a laser work?", "en"),
               ("Tell me about the opera.", "en"), ("What is the capital of Denmark?", "en"),
               ("What is the capital of Malaysia?", "en"), ("How much does a truck cost?", "en"),
               ("When was the microphone invented?", "en"), ("Who is Napoleon?", "en"),
               ("Where can I buy a sofa?", "en"), ("What is the history of the theater?", "en"),
               ("How do I fix a faucet?", "en"), ("键盘是什么？", "zh"), ("谁发明了打印机？", "zh"), ("激光是怎么工作的？", "zh"),
               ("给我讲讲歌剧。", "zh"), ("丹麦的首都是哪里？", "zh"), ("马来西亚的首都是什么？", "zh"), ("卡车多少钱？", "zh"), ("麦克风是什么时候发明的？", "zh"),
               ("拿破仑是谁？", "zh"), ("哪里可以买到沙发？", "zh"), ("戏剧的历史是什么？", "zh"), ("怎么修水龙头？", "zh")]

SURNAMES = ("王 李 张 刘 陈 杨 赵 黄 周 吴 徐 孙 马 朱 胡 林 郭 何 高 罗 郑 梁 谢 宋 唐 许 韩 冯 邓 曹 彭 曾 萧 田 董 潘 袁 蔡 蒋 余 "
            "于 杜 叶 程 魏 苏 吕 丁 任 卢 姚 沈 钟 姜 崔 谭 陆 范 汪 廖 石 金 贾 夏 方 邹 熊 白 孟 秦 邱 江 尹 薛 闫 雷 侯 龙 史 陶").split()
GIVEN_CHARACTERS = ("明华丽强芳伟静敏磊洋艳勇军杰娟涛超霞平刚红文雨晴涵思远佳怡志海燕晓东建国春梅兰英秀玲桂荣鹏飞宇轩浩然梓萱欣怡诗琪雪"
                    "婷倩颖琳慧敬博学智凯峰俊豪子墨天佑安康永福瑞祥嘉乐美心月星辰云帆立新成龙小大正光亮冬秋夏")
# Never in training: evaluate.py asks whether a name can be repeated that the model has not seen.
NEW_NAMES = {"en": "Nora Hugo Clara Edgar Sonia Liam Amir Tessa Igor Otto Vera Ralph".split(),
             "zh": "郑云 谢天 韩星 白雪 江山 方圆 田园 石磊 金月 夏风 安宁 水生".split()}
RESERVED_NAMES = frozenset(sum((*NEW_NAMES.values(), *unseen.NAMES.values()), []))
ONSETS = "b c d f g h j k l m n p r s t v w z br ch dr fl gr kr ph pl qu sh st th tr y".split() + [""] * 4
VOWELS = "a e i o u a e i o u ai ea ee ia ie io oa ou y".split()
CODAS = [""] * 8 + "n r l s t m d k x ck nd ph rt th".split()


def invented_name(rng):
    syllables = [rng.choice(ONSETS) + rng.choice(VOWELS) + (rng.choice(CODAS) if rng.random() < 0.4 else "")
                 for _ in range(rng.choice((1, 2, 2, 2, 3)))]
    return ("".join(syllables) + rng.choice(CODAS)).capitalize()


def person(rng, lang):
    """A name: from a list or put together.  Most have to be copied, few can be learned by heart."""
    while True:
        if lang == "zh" and rng.random() < 0.8:
            name = rng.choice(SURNAMES) + "".join(rng.choices(GIVEN_CHARACTERS, k=rng.choice((1, 2, 2))))
        elif rng.random() < 0.4:
            name = invented_name(rng)
        else:
            name = rng.choice(stories.MORE_SHE + stories.MORE_HE + stories.SHE + stories.HE)
        if len(name) > 1 and not any(reserved in name for reserved in RESERVED_NAMES):
            return name


def unknown_prompt(rng, lang):
    ask = rng.choice(UNKNOWN[lang])
    if lang == "en":
        noun = rng.choice(NOUNS_EN)
        return ask.format(n=noun, a=stories.article(noun), u=rng.choice(UNKNOWN_COUNTRIES)[0], p=person(rng, "en"))
    return ask.format(n=rng.choice(NOUNS_ZH), u=rng.choice(UNKNOWN_COUNTRIES)[1], p=person(rng, "zh"))


# ----------------------------------------------------------------------- memory

MEMORY = {
    "name": {
        "en": (["My name is {v}.", "I am {v}.", "I'm {v}.", "Call me {v}.", "Hello, my name is {v}.", "Hi, I am {v}.",
                "You can call me {v}.", "My friends call me {v}.", "my name is {v}", "I am called {v}.",
                "Hey, I'm {v}.", "Please call me {v}.", "Good morning, I am {v}.", "The name is {v}.", "This is {v}.",
                "People call me {v}.", "Hi! My name is {v}.", "I want you to know my name: {v}."],
                "Nice to meet you, {v}!",
               ["What is my name?", "What's my name?", "Do you remember my name?", "Who am I?", "Tell me my name.",
                "Do you know my name?", "Can you say my name?", "what is my name", "What did I say my name was?",
                "And what is my name?", "What do my friends call me?", "Do you still know my name?",
                "What was my name?", "Which name did I tell you?", "Can you remember my name?",
                "I forgot my name, what is it?", "Say my name."], "Your name is {v}.",
               "You have not told me your name yet."),
        "zh": (["我叫{v}。", "我的名字是{v}。", "我是{v}。", "你好，我叫{v}。", "你可以叫我{v}。", "大家都叫我{v}。", "叫我{v}吧。", "嗨，我是{v}。",
                "我名叫{v}。", "请叫我{v}。", "朋友们叫我{v}。", "我的名字叫作{v}。", "您好，我叫{v}。", "告诉你，我叫{v}。", "本人{v}。"],
               "很高兴认识你，{v}！",
               ["我叫什么名字？", "你还记得我的名字吗？", "我是谁？", "我的名字是什么？", "我叫什么？", "你知道我的名字吗？", "还记得我叫什么吗？",
                "我的名字叫什么？", "你记得我是谁吗？", "请说出我的名字。", "我刚才说我是谁？", "你还知道我叫什么吗？", "说说我叫什么。",
                "我告诉过你我的名字，是什么？"], "你叫{v}。",
               "你还没有告诉我你的名字。")},
    "color": {
        "en": (["My favorite color is {v}.", "I like {v} best.", "My favourite colour is {v}.",
                "The color I like best is {v}."],
               "{v} is a beautiful color.",
               ["What is my favorite color?", "Which color do I like?", "What's my favourite colour?",
                "Do you know my favorite color?"],
               "Your favorite color is {v}.", "You have not told me your favorite color yet."),
        "zh": (["我最喜欢的颜色是{v}。", "我最喜欢{v}。", "我喜欢的颜色是{v}。"], "{v}很漂亮。",
               ["我最喜欢什么颜色？", "我喜欢的颜色是什么？", "你记得我喜欢什么颜色吗？"], "你最喜欢的颜色是{v}。",
               "你还没有告诉我你喜欢什么颜色。")},
    "animal": {
        "en": (["My favorite animal is the {v}.", "The animal I like best is the {v}.",
                "My favourite animal is the {v}."],
               "The {v} is a wonderful animal.",
               ["What is my favorite animal?", "Which animal do I like?", "Do you know my favorite animal?"],
               "Your favorite animal is the {v}.", "You have not told me your favorite animal yet."),
        "zh": (["我最喜欢的动物是{v}。", "我喜欢的动物是{v}。"], "{v}是很棒的动物。",
               ["我最喜欢什么动物？", "我喜欢的动物是什么？", "你记得我喜欢什么动物吗？"], "你最喜欢的动物是{v}。",
               "你还没有告诉我你喜欢什么动物。")},
}
COLOR_WORDS = {"en": "red blue green yellow white black purple orange pink brown".split(),
               "zh": "红色 蓝色 绿色 黄色 白色 黑色 紫色 橙色 粉色 棕色".split()}


ECHO = {"en": ["Say {v}.", "Repeat after me: {v}.", "Repeat: {v}.", "Please say {v}.", "Say the following: {v}.",
               "Can you repeat {v}?", "Please repeat {v}."],
        "zh": ["说{v}。", "跟我说：{v}。", "请重复：{v}。", "重复{v}。", "跟我念{v}。", "请说{v}。", "请跟我重复：{v}。"]}


def echo_value(rng, lang):
    """One to four names and nouns in a row: nothing to know, only to copy."""
    words = [person(rng, lang) if rng.random() < 0.6 else rng.choice(NOUNS_EN if lang == "en" else NOUNS_ZH)
             for _ in range(rng.randint(1, 4))]
    return (", " if lang == "en" else "，").join(words)


def memory_value(rng, item, lang):
    if item == "name":
        return person(rng, lang)
    if item == "color":
        return rng.choice(COLOR_WORDS[lang])
    return rng.choice(stories.HEROES[:-2])[0 if lang == "en" else 1]


def capital(text):
    return text[:1].upper() + text[1:]


# ---------------------------------------------------------------------- stories

STORY_ASK = {
    "en": {"any": ["Tell me a story.", "Tell me a short story.", "Can you tell me a story?", "I want to hear a story.",
                   "A story, please.", "Please tell a story.", "Write a short story.", "tell me a story",
                   "I would like a story.", "Do you know a story?"],
           "hero": ["Tell me a story about {h}.", "Tell me a short story about {h}.", "A story about {h}, please.",
                    "Write a story about {h}.", "Can you tell me a story about {h}?", "I want a story about {h}.",
                    "Please tell a story about {h}.", "story about {h}", "I would like a story about {h}.",
                    "Do you know a story about {h}?", "Write about {h}."],
           "named": ["Tell me a story about {h} named {n}.", "Tell me a story about {h} called {n}.",
                     "Write a story about {h} named {n}.", "I want a story about {h} called {n}."],
           "thing": ["Tell me a story about {h} and {o}.", "Tell me a story with {h} and {o}.",
                     "Write a story about {h} and {o}."],
           "another": ["Tell me another story.", "Another one, please.", "Another story, please.", "One more story!",
                       "another one", "And another story?", "I would like another story.",
                       "Please tell me another story.", "One more story, please.", "Do you know another story?",
                       "More stories!", "Tell me one more.", "A different story, please.",
                       "Can you tell me another story?", "One more, please.", "I want another story."],
           "hero_new": ["Could I hear a story about {h}?", "I would love a story about {h}."]},
    "zh": {"any": ["讲个故事。", "给我讲个故事。", "讲一个故事吧。", "请讲一个小故事。", "我想听故事。", "你能讲个故事吗？", "来个故事。", "写一个小故事。",
                   "给我讲一个短故事。", "讲故事"],
           "hero": ["讲一个关于{h}的故事。", "给我讲个{h}的故事。", "讲个关于{h}的小故事。", "我想听{h}的故事。", "请讲一个{h}的故事。",
                    "写一个关于{h}的故事。", "你能讲一个{h}的故事吗？", "来一个关于{h}的故事。",
                    "我想听一个关于{h}的故事。", "你会讲{h}的故事吗？", "说一个{h}的故事。"],
           "named": ["讲一个关于{h}的故事，它叫{n}。", "讲一个名叫{n}的{h}的故事。", "写一个{h}的故事，名字叫{n}。"],
           "thing": ["讲一个关于{h}和{o}的故事。", "给我讲个{h}和{o}的故事。", "写一个关于{h}和{o}的故事。"],
           "another": ["再讲一个故事。", "再来一个。", "再讲一个。", "再来一个故事吧。", "还想听一个。", "换一个故事。", "再说一个。", "还有别的故事吗？",
                       "我想再听一个故事。", "再讲一个别的故事。", "请再讲一个。", "另讲一个故事。", "你还会讲别的故事吗？"],
           "hero_new": ["我好想听一个关于{h}的故事。", "能给我讲{h}的故事吗？"]},
}
ABOUT = {
    "en": [(["Who is the story about?", "Who was the story about?", "Who is in the story?", "What was the story about?",
             "Who was that story about?", "What is the story about?", "And who is the story about?",
             "Who is the hero of the story?"],
            "The story is about {a_hero} named {name}."),
           (["What was the name of the {hero}?", "What is the {hero}'s name?", "What was the {hero} called?",
             "What is the name of the {hero}?", "How was the {hero} called?", "Tell me the name of the {hero}."],
            "The {hero}'s name was {name}."),
           (["Who was the friend?", "What was the friend's name?", "Who else was in the story?", "Who did {name} meet?",
             "Who is the friend?", "Who is the friend of {name}?", "Who was the friend of {name}?",
             "Which friend did {name} find?"],
            "The friend was {a_friend} named {friend}."),
           (["Where did {name} live?", "Where did the {hero} live?", "Where was the home of {name}?",
             "In what place did {name} live?", "Where is the home of the {hero}?", "Tell me where {name} lived."],
             "{name} lived {place}.")],
    "zh": [(["故事讲的是谁？", "故事里有谁？", "这是谁的故事？", "故事讲了谁？", "故事的主角是谁？", "刚才的故事讲的是谁？", "故事是关于谁的？"], "故事讲的是{hero}{name}。"),
           (["{hero}叫什么名字？", "故事里的{hero}叫什么？", "{hero}的名字是什么？", "{hero}叫什么？", "告诉我{hero}的名字。"], "{hero}的名字叫{name}。"),
           (["它的朋友是谁？", "{name}的朋友是谁？", "{name}遇见了谁？", "朋友叫什么名字？", "{name}和谁做了朋友？", "故事里的朋友是谁？", "它和谁成了朋友？"],
            "{name}的朋友是{friend_hero}{friend}。"),
           (["{name}住在哪里？", "{hero}住在哪里？", "{name}的家在哪里？", "{name}住在哪儿？", "故事里的{hero}住在哪里？"], "{name}住在{place}。")],
}
SWITCH = {"zh": ["In Chinese, please.", "Say that in Chinese.", "And in Chinese?", "Can you say it in Chinese?",
                 "用中文说。", "中文呢？", "请用中文。", "用中文再说一遍。"],
          "en": ["用英语说。", "用英文再说一遍。", "英文呢？", "请用英语。", "In English, please.", "Say that in English.", "And in English?",
                 "Can you say it in English?"]}


def story_request(rng, lang, asks=None):
    """(prompt, arguments for stories.tell)."""
    i = 0 if lang == "en" else 1
    kind = rng.choices(("any", "hero", "named", "thing"), (3, 6, 1.5, 1.5))[0]
    ask, slots = rng.choice(STORY_ASK[lang][kind]), {}
    if kind != "any":
        hero = rng.choice(stories.HEROES)
        slots["hero"] = hero
        label, described = hero[i], hero[0]
        if rng.random() < 0.25:
            slots["adj"] = rng.choice(stories.ADJECTIVES)
            label = slots["adj"][1] + label if i else label
            described = slots["adj"][0] + " " + described
        if i == 0:
            label = stories.article(described)
        ask = ask.replace("{h}", label)
    if kind == "named":
        slots["name"] = stories.random_name(rng, lang, hero[0], common=0.3)
        ask = ask.replace("{n}", slots["name"])
        ask = ask.replace("它叫", {"boy": "他叫", "girl": "她叫"}.get(hero[0], "它叫"))
    if kind == "thing":
        color, thing = rng.choice(stories.COLORS), rng.choice(stories.THINGS)
        slots["thing"] = (color, thing)
        ask = ask.replace("{o}", f"a {color[0]} {thing[0]}" if i == 0 else thing[1] + color[1] + thing[2])
    return ask, slots


# ------------------------------------------------------------------ surface noise

PREFIX = {"en": ["Please tell me: ", "Hi! ", "Hello, ", "Quick question: ", "OK. ", "Tell me, ", "Excuse me, ", "Now, ",
                 "Well, ", "Please, ", "I have a question. ", "I forgot: ", "Do you happen to know? ",
                 "Can you help me? ", "My question is: ", "Just tell me: ", "One more question: ", "I wonder, ",
                 "Say, ", "So, "],
          "zh": ["请问，", "请问", "你好，", "那么，", "我想问一下，", "请告诉我，", "嗯，", "好的，", "我有个问题，", "我不记得了，", "我的问题是：", "帮帮我，",
                 "想问问，", "能不能告诉我，", "麻烦你，", "我记不清了，"]}
SUFFIX = {"en": [" Please.", " Thanks!", " Thank you.", " Do you know?", " I forgot.", " Please tell me."],
          "zh": ["谢谢！", "谢谢。", "你知道吗？", "我忘记了。", "请告诉我。"]}


def roughen(rng, text, lang, affixes=True):
    """Adds what real users do: politeness, lower case, no punctuation."""
    if affixes and rng.random() < 0.2:
        text = rng.choice(PREFIX[lang]) + text
    if affixes and rng.random() < 0.1:
        text += rng.choice(SUFFIX[lang])
    if rng.random() < 0.15 and text[-1] in ".?!。？！":
        text = text[:-1]
    if lang == "en" and rng.random() < 0.3:
        text = text.lower()
    if lang == "zh" and rng.random() < 0.08:
        text = text.replace("？", "?").replace("！", "!").replace("，", ",")
    if rng.random() < 0.02:
        text = text + rng.choice([" ", "\n"])
    return text


SYSTEM = ["You are a helpful assistant.", "You are expertd-tiny.", "You are a friendly assistant.",
          "Be helpful and honest.", "You are a helpful assistant that answers questions.",
          "Answer the user's questions.", "You are a kind teacher.",
          "You are expertd-tiny, a small mixture-of-experts model.", "你是一个有帮助的助手。", "你是expertd-tiny。", "你是一个友好的助手。",
          "请回答用户的问题。", "你是一位老师。", "请诚实地回答问题。"]
SYSTEM_LANG = {"en": ["Answer in English.", "Always answer in English.", "请用英语回答。", "请用英文回答。",
                      "Please reply in English."],
               "zh": ["Answer in Chinese.", "Always answer in Chinese.", "请用中文回答。", "请用汉语回答。",
                      "Please reply in Chinese."]}


# Weights of the kinds of turn.  "free" conversations mix all skills; the others are about one thing that is told early
# and asked for later, which random mixing brings together too seldom for the model to learn to look back.
FOCUS = {
    "free": {"fact": 44, "arithmetic": 36, "story": 6, "smalltalk": 22, "remember": 9, "recall": 30, "unknown": 7,
             "echo": 4, "about_story": 50, "story_another": 20, "story_praise": 6},
    "memory": {"fact": 30, "arithmetic": 24, "story": 1, "smalltalk": 18, "remember": 10, "recall": 34, "unknown": 4,
               "echo": 8, "about_story": 30, "story_another": 6, "story_praise": 4},
    "story": {"fact": 3, "arithmetic": 3, "story": 60, "smalltalk": 4, "remember": 2, "recall": 6, "unknown": 1,
              "echo": 1, "about_story": 90, "story_another": 60, "story_praise": 6},
}


class Conversation:
    """focus: a key of FOCUS; arithmetic: how much more sums than usual."""

    def __init__(self, rng, focus="free", arithmetic=1.0):
        self.rng, self.messages, self.memory = rng, [], {}
        self.weights = FOCUS[focus] | {"arithmetic": FOCUS[focus]["arithmetic"] * arithmetic}
        self.last, self.last_lang = None, None  # what a follow-up can refer to
        self.reply_lang = None
        draw = rng.random()
        if draw < 0.3:
            self.messages.append({"role": "system", "content": rng.choice(SYSTEM)})
        elif draw < 0.42:
            self.reply_lang = rng.choice(LANGS)
            self.messages.append({"role": "system", "content": rng.choice(SYSTEM_LANG[self.reply_lang])})
        self.lang = rng.choice(LANGS)

    def add(self, user, assistant, last=None, last_lang=None, lang=None, affixes=True):
        lang = lang or self.lang
        text = roughen(self.rng, user, lang, affixes)
        if text.strip() in held_out_prompts():
            text = user  # The affix has made a held-out prompt of it.
        self.messages.append({"role": "user", "content": text})
        self.messages.append({"role": "assistant", "content": assistant})
        self.last, self.last_lang = last, last_lang or self.reply_lang or lang

    def turn(self):
        rng = self.rng
        if rng.random() < 0.08:
            self.lang = rng.choice(LANGS)
        weight = self.weights
        kinds = ("fact", "arithmetic", "story", "smalltalk", "remember", "unknown", "echo")
        options = [(getattr(self, kind), weight[kind]) for kind in kinds]
        # A question about something told earlier is worth asking only if it was.
        options.append((self.recall, weight["recall"] if self.memory else 2))
        if self.last and self.last[0] == "fact" and self.last[1].follow:
            options.append((self.fact_follow, 40))
        if self.last and self.last[0] == "arithmetic":
            options.append((self.arithmetic_follow, 20))
        if self.last and self.last[0] == "story":
            kinds = ("about_story", "story_another", "story_praise")
            options += [(getattr(self, kind), weight[kind]) for kind in kinds]
        if self.last and self.last[0] in ("fact", "story") and self.reply_lang is None:
            options.append((self.switch, 24))
        actions, weights = zip(*options)
        rng.choices(actions, weights)[0]()

    def out(self):
        return self.reply_lang or self.lang

    def fact(self):
        rng = self.rng
        family = rng.choices(FAMILIES, [len(f.rows) ** 0.8 for f in FAMILIES])[0]
        row = rng.choice(family.rows)
        ask = rng.choice(fact_wordings(family, row, self.lang)[0])
        # Entities that open a prompt keep their case: "France: what is ...".
        text = fill(ask, row, self.lang)
        self.add(text, family.answer_for(row, self.out()), ("fact", family, row))

    def fact_follow(self):
        rng, family = self.rng, self.last[1]
        row = rng.choice([r for r in family.rows if r != self.last[2]])
        ask = rng.choice(family.follow[self.lang])
        self.add(fill(ask, row, self.lang), family.answer_for(row, self.out()), ("fact", family, row), affixes=False)

    def arithmetic(self, prefix=""):
        rng = self.rng
        a, b, op = rng.randrange(10), rng.randrange(10), rng.choice(list(OPS))
        kind = "digit" if rng.random() < 0.4 else "word"
        draw = rng.random()
        if draw < 0.06:
            big = rng.randrange(10, 1000)
            a, b = rng.choice([(big, b), (a, big), (big, rng.randrange(10, 1000))])
            ask = rng.choice(ARITHMETIC[self.lang]["digit"])
            self.add(prefix + arithmetic_prompt(ask, self.lang, a, op, b, rng), ONE_DIGIT[self.out()])
            return
        ask = rng.choice(arithmetic_wordings(self.lang, kind, a, op, b)[0])
        text = arithmetic_prompt(ask, self.lang, a, op, b, rng)
        self.add(prefix + text, arithmetic_answer(kind, self.out(), a, op, b), ("arithmetic",))

    def arithmetic_follow(self):
        rng = self.rng
        a, b, op = rng.randrange(10), rng.randrange(10), rng.choice(list(OPS))
        ask = rng.choice(["And {x}?", "and {x}", "What about {x}?"] if self.lang == "en" else ["{x}呢？", "那{x}呢？"])
        self.add(arithmetic_prompt(ask, self.lang, a, op, b, rng), arithmetic_answer("digit", self.out(), a, op, b),
                 ("arithmetic",), affixes=False)

    def story(self):
        ask, slots = story_request(self.rng, self.lang)
        out = self.out()
        if out != self.lang:
            slots.pop("name", None)
            if "named" in ask or "called" in ask or "叫" in ask:
                ask = self.rng.choice(STORY_ASK[self.lang]["any"])
                slots = {}
        text, told = stories.tell(self.rng, out, **slots)
        self.add(ask, text, ("story", told))

    def story_another(self):
        ask = self.rng.choice(STORY_ASK[self.lang]["another"])
        hero = self.rng.choice(stories.other_half(self.last[1]["kind"]))
        text, told = stories.tell(self.rng, self.out(), hero=hero)
        self.add(ask, text, ("story", told), affixes=False)

    def about_story(self):
        told, lang = self.last[1], self.last_lang
        asks, answer = self.rng.choice(ABOUT[lang])
        slots = {k: v for k, v in told.items()}
        if lang == "en":
            slots |= {"a_hero": stories.article(told["hero"]), "a_friend": stories.article(told["friend_hero"])}
        self.add(self.rng.choice(asks).format(**slots), answer.format(**slots), self.last, self.last_lang, lang)

    def story_praise(self):
        i = 0 if self.lang == "en" else 2
        o = 0 if self.out() == "en" else 2
        self.add(self.rng.choice(ABOUT_STORY[i]), self.rng.choice(ABOUT_STORY[o + 1]), self.last, self.last_lang,
                 affixes=False)

    def smalltalk(self):
        weights = [3 if k in ("hello", "who", "can", "thanks", "bye") else 1 for k in SMALLTALK]
        intent = SMALLTALK[self.rng.choices(list(SMALLTALK), weights)[0]]
        i = 0 if self.lang == "en" else 2
        o = 0 if self.out() == "en" else 2
        self.add(self.rng.choice(intent[i][:-1]), self.rng.choice(intent[o + 1]), affixes=False)

    def remember(self):
        item = self.rng.choices(list(MEMORY), (4, 1, 1))[0]
        if item != "name" and self.out() != self.lang:
            item = "name"
        value = memory_value(self.rng, item, self.lang)
        self.memory[item] = (value, self.lang)
        self.add(self.rng.choice(MEMORY[item][self.lang][0]).replace("{v}", value),
                 capital(MEMORY[item][self.out()][1].replace("{v}", value)), affixes=False)

    def echo(self):
        value = echo_value(self.rng, self.lang)
        stop = "." if self.lang == "en" else "。"
        self.add(self.rng.choice(ECHO[self.lang]).replace("{v}", value), capital(value) + stop, affixes=False)

    def recall(self):
        items = list(self.memory) if self.memory and self.rng.random() < 0.9 else list(MEMORY)
        item = self.rng.choice(items)
        known, out = self.memory.get(item), self.out()
        _, _, asks, answer, missing = MEMORY[item][self.lang]
        answer, missing = MEMORY[item][out][3:]
        if known and item != "name" and known[1] != out:
            return self.fact()
        self.add(self.rng.choice(asks), answer.replace("{v}", known[0]) if known else missing, affixes=False)

    def unknown(self):
        self.add(unknown_prompt(self.rng, self.lang), REFUSAL[self.out()])

    def switch(self):
        other = "zh" if self.last_lang == "en" else "en"
        ask = self.rng.choice(SWITCH[other])
        if self.last[0] == "fact":
            family, row = self.last[1:]
            self.add(ask, family.answer_for(row, other), self.last, other, lang=self.lang, affixes=False)
        else:
            hero = next(h for h in stories.HEROES if h[0] == self.last[1]["kind"])
            text, told = stories.tell(self.rng, other, hero=hero)
            self.add(ask, text, ("story", told), other, affixes=False)


def conversation(rng, num_turns=None, arithmetic=1.0):
    focus = rng.choices(list(FOCUS), (68, 22, 10))[0]
    c = Conversation(rng, focus, arithmetic)
    if focus == "memory":
        if rng.random() < 0.3:
            c.smalltalk()
        c.remember()
        num_turns = num_turns or rng.choices((1, 2, 3, 4, 5, 6), (18, 18, 20, 20, 14, 10))[0]
    elif focus == "story":
        num_turns = num_turns or rng.choices((1, 2, 3, 4), (20, 35, 30, 15))[0]
        c.story()
    for _ in range(num_turns or rng.choices((1, 2, 3, 4, 5), (38, 26, 18, 11, 7))[0]):
        c.turn()
    if focus == "memory" and rng.random() < 0.5:
        c.recall()
    return c.messages


# ------------------------------------------------------------- held-out prompts

def heldout_facts(lang):
    """[(prompt, answer)]: every held-out wording of every fact."""
    return [(fill(ask, row, lang), family.answer_for(row, lang))
            for family in FAMILIES for row in family.rows
            for ask in fact_wordings(family, row, lang)[1]]


def heldout_arithmetic(lang):
    out = []
    for op in OPS:
        for a in range(10):
            for b in range(10):
                for kind in ("digit", "word"):
                    for ask in arithmetic_wordings(lang, kind, a, op, b)[1]:
                        out.append((arithmetic_prompt(ask, lang, a, op, b), arithmetic_answer(kind, lang, a, op, b)))
    return out


@functools.cache
def held_out_prompts():
    pools = [pool(lang) for lang in LANGS for pool in (heldout_facts, heldout_arithmetic, heldout_smalltalk)]
    prompts = {prompt for pool in pools for prompt, _ in pool} | {prompt for prompt, _ in UNKNOWN_NEW}
    for lang in LANGS:
        prompts |= {prompt for pool in (unseen_facts, unseen_arithmetic, unseen_smalltalk) for prompt, _ in pool(lang)}
        prompts |= set(unseen.UNKNOWN[lang])
    return frozenset(prompts)


def heldout_smalltalk(lang):
    i = 0 if lang == "en" else 2
    return [(intent[i][-1], intent[i + 1]) for intent in SMALLTALK.values()]


def unseen_facts(lang):
    i = LANGS.index(lang)
    return [(fill(asks[i], row, lang), FAMILY[key].answer_for(row, lang))
            for key, asks in unseen.FACTS.items() for row in FAMILY[key].rows]


def unseen_arithmetic(lang):
    return [(arithmetic_prompt(ask, lang, a, op, b), arithmetic_answer(kind, lang, a, op, b))
            for kind, ask in unseen.ARITHMETIC[lang].items() for op in OPS for a in range(10) for b in range(10)]


def unseen_smalltalk(lang):
    i = LANGS.index(lang)
    return [(ask, SMALLTALK[intent][2 * i + 1]) for intent, asks in unseen.SMALLTALK.items() for ask in asks[i]]
