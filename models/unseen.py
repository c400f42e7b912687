"""Prompts fixed before the committed weights were trained and not looked at while the data was made.

data.py refuses to generate them; evaluate.py reports them apart from the held-out prompts of the development set.
Placeholders are those of facts.py (`{e}`), data.py (`{x}`, `{w}`, `{h}`, `{v}`) and stories.py (slot names).
"""

# Never used as a person's name in training.
NAMES = {"en": "Gemma Ulrich Yasmin Percy Delia Bjorn Keiko Rufus Thelma Quentin Zelda Omar".split(),
         "zh": "秦岚 陆川 高远航 孟想 崔健 顾盼 尹航 汤圆圆 叶舟 邵一鸣 龙飞 覃可".split()}

# family key: (English wording, Chinese wording)
FACTS = {
    "capital": ("Remind me what the capital of {e} is.", "{e}的首都是哪个地方？"),
    "capital_of": ("{e} is which country's capital?", "{e}是哪一国的首都呢？"),
    "continent": ("On what continent would I find {e}?", "{e}这个国家在哪个洲？"),
    "color": ("What's the color of {e}?", "{e}的颜色是哪种？"),
    "sound": ("What kind of sound does {e} make?", "{e}叫起来是什么声音？"),
    "legs": ("How many legs would {e} have?", "{e}长了几条腿？"),
    "food": ("What would {e} eat?", "{e}平时吃什么？"),
    "home": ("Where would {e} live?", "{e}的家在什么地方？"),
    "planet_order": ("Which planet is {e} from the Sun?", "太阳系里{e}颗行星叫什么？"),
    "day_after": ("Which day comes right after {e}?", "{e}的下一天是星期几？"),
    "month_after": ("Which month is after {e}?", "{e}接下来是几月？"),
    "month_days": ("How many days long is {e}?", "{e}这个月有多少天？"),
    "opposite": ("I need the opposite of {e}.", "请说出{e}的反义词。"),
    "translate": ("How would you say {e} in Chinese?", "{e}翻译成英文是什么？"),
}

ARITHMETIC = {"en": {"digit": "Could you work out {x} for me?", "word": "Could you calculate {w}?"},
              "zh": {"digit": "{x}的结果是多少？", "word": "{w}等于多少呢？"}}

# intent: (English prompts, Chinese prompts)
SMALLTALK = {
    "hello": (["Hello to you!", "Hi again!"], ["哈啰！", "你好你好！"]),
    "morning": (["A good morning to you!", "good morning expertd"], ["早上好啊！", "早安呀！"]),
    "evening": (["A good evening to you!", "Hi, good evening!"], ["晚上好呀！", "您晚上好！"]),
    "night": (["Good night to you!", "Time for bed, good night."], ["晚安啦！", "我困了，晚安。"]),
    "how": (["How are you feeling?", "How are you doing today?"], ["你过得怎么样？", "你好不好？"]),
    "fine": (["I'm very well, thanks.", "I feel fine."], ["我挺好的。", "我过得很好。"]),
    "who": (["Who am I talking to?", "Can you introduce yourself?"], ["我在和谁说话？", "你的名字叫什么？"]),
    "can": (["What things can you do?", "What do you do?"], ["你可以做些什么？", "你都会些什么？"]),
    "human": (["Are you a real person?", "Are you a computer?"], ["你是真的人吗？", "你是电脑吗？"]),
    "age": (["What's your age?", "How many years old are you?"], ["你今年几岁？", "你的年龄是多少？"]),
    "thanks": (["Thank you so much!", "Thanks for that!"], ["太感谢了！", "谢谢啦！"]),
    "bye": (["Bye for now!", "I'm leaving, goodbye!"], ["我走了，再见。", "拜拜啦！"]),
    "praise": (["You are really good!", "That was great!"], ["你太聪明了！", "真不错！"]),
    "sad": (["I feel so sad.", "I am feeling sad today."], ["我好难过。", "我觉得很伤心。"]),
    "glad": (["I'm very happy.", "I am feeling great today!"], ["我非常高兴。", "我觉得很开心。"]),
    "tired": (["I'm really tired.", "I am so tired today."], ["我真累。", "我觉得好累。"]),
    "love": (["I really like you.", "You are a good friend."], ["我真喜欢你。", "你是我的好朋友。"]),
    "ok": (["Okay, got it.", "Alright."], ["好的，明白了。", "嗯，好的。"]),
    "sorry": (["I'm so sorry.", "My apologies."], ["实在抱歉。", "对不起啊。"]),
}

UNKNOWN = {"en": ["What is a saxophone?", "Who invented the elevator?", "Tell me about the Olympics.",
                  "What is the capital of Croatia?", "Who is Beethoven?", "How do I fix a toaster?"],
           "zh": ["萨克斯是什么？", "谁发明了电梯？", "给我讲讲奥运会。", "克罗地亚的首都是哪里？", "贝多芬是谁？", "怎么修烤面包机？"]}

# language: (ways to say one's name, ways to ask for it later)
NAME = {"en": (["Hi there, my name is {v}.", "Everybody calls me {v}."],
               ["So, what was my name again?", "What am I called?"]),
        "zh": (["我的名字叫{v}。", "你好，我是{v}。"], ["我刚才说我叫什么？", "你记得我叫什么吗？"])}

STORY = {"en": ["Please tell me a little story about {h}.", "May I have a story about {h}?"],
         "zh": ["请给我讲一个{h}的小故事。", "有没有关于{h}的故事？"]}
ANOTHER = {"en": "Let me hear another story.", "zh": "请再讲一个故事。"}
# One for each row of data.ABOUT, in its order.
ABOUT = {"en": ["Who is this story about?", "What name did the {hero} have?", "Who was {name}'s friend?",
                "Where was {name}'s home?"],
         "zh": ["这个故事讲的是谁？", "那个{hero}名叫什么？", "谁是{name}的朋友？", "{name}住在什么地方？"]}
