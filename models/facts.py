"""The closed set: every fact the model knows, with the ways to ask for it.

A Family is one kind of fact (a relation) with rows of entities; a family with
one row is a single fact.  `ask` are wordings used in training, `ask_new` are
wordings that only the evaluation uses.  "{e}" is the entity, "{v}" the value.
Each text comes in English ("en") and Chinese ("zh").
"""

from dataclasses import dataclass, field


@dataclass
class Family:
    key: str
    ask: dict          # language -> training wordings
    ask_new: dict      # language -> wordings kept for the evaluation
    answer: dict       # language -> answer pattern
    rows: list         # of (entity_en, entity_zh, value_en, value_zh)
    follow: dict = field(default_factory=dict)  # language -> short follow-ups

    def answer_for(self, row, lang):
        return fill(self.answer[lang], row, lang)


def fill(pattern, row, lang):
    entity, value = (row[0], row[2]) if lang == "en" else (row[1], row[3])
    text = pattern.replace("{e}", entity).replace("{v}", value)
    if pattern.startswith("{e}") or pattern.startswith("{v}"):
        text = text[:1].upper() + text[1:]
    return text


def rows(text):
    return [tuple(part.strip() for part in line.split("|"))
            for line in text.strip().splitlines()]


FOLLOW = {"en": ["And {e}?", "What about {e}?", "How about {e}?", "and {e}"],
          "zh": ["{e}呢？", "那{e}呢？", "那么{e}呢？", "{e}呢"]}

COUNTRIES = rows("""
France|法国|Paris|巴黎|Europe|欧洲
Germany|德国|Berlin|柏林|Europe|欧洲
Italy|意大利|Rome|罗马|Europe|欧洲
Spain|西班牙|Madrid|马德里|Europe|欧洲
Portugal|葡萄牙|Lisbon|里斯本|Europe|欧洲
Greece|希腊|Athens|雅典|Europe|欧洲
Norway|挪威|Oslo|奥斯陆|Europe|欧洲
Sweden|瑞典|Stockholm|斯德哥尔摩|Europe|欧洲
Finland|芬兰|Helsinki|赫尔辛基|Europe|欧洲
Poland|波兰|Warsaw|华沙|Europe|欧洲
Ireland|爱尔兰|Dublin|都柏林|Europe|欧洲
the United Kingdom|英国|London|伦敦|Europe|欧洲
China|中国|Beijing|北京|Asia|亚洲
Japan|日本|Tokyo|东京|Asia|亚洲
South Korea|韩国|Seoul|首尔|Asia|亚洲
India|印度|New Delhi|新德里|Asia|亚洲
Thailand|泰国|Bangkok|曼谷|Asia|亚洲
Vietnam|越南|Hanoi|河内|Asia|亚洲
Egypt|埃及|Cairo|开罗|Africa|非洲
Kenya|肯尼亚|Nairobi|内罗毕|Africa|非洲
Canada|加拿大|Ottawa|渥太华|North America|北美洲
Mexico|墨西哥|Mexico City|墨西哥城|North America|北美洲
Cuba|古巴|Havana|哈瓦那|North America|北美洲
Brazil|巴西|Brasilia|巴西利亚|South America|南美洲
Argentina|阿根廷|Buenos Aires|布宜诺斯艾利斯|South America|南美洲
Peru|秘鲁|Lima|利马|South America|南美洲
Chile|智利|Santiago|圣地亚哥|South America|南美洲
Australia|澳大利亚|Canberra|堪培拉|Oceania|大洋洲
New Zealand|新西兰|Wellington|惠灵顿|Oceania|大洋洲
the United States|美国|Washington|华盛顿|North America|北美洲
""")

FAMILIES = [
    Family("capital", {
        "en": ["What is the capital of {e}?", "What's the capital of {e}?", "Tell me the capital of {e}.",
               "Which city is the capital of {e}?", "Name the capital of {e}.", "the capital of {e}?",
               "Do you know the capital of {e}?", "Can you tell me what the capital of {e} is?",
               "I would like to know the capital city of {e}.", "{e}: what is its capital?",
               "What is the capital city of {e}?", "What is {e}'s capital?", "I can't remember the capital of {e}.",
               "Could you tell me the capital of {e}?", "I don't know the capital of {e}.",
               "{e} has which city as its capital?", "Which city is {e}'s capital?", "I need the capital of {e}."],
        "zh": ["{e}的首都是哪里？", "{e}的首都是什么？", "{e}首都是哪个城市？", "请告诉我{e}的首都。",
               "哪个城市是{e}的首都？", "你知道{e}的首都吗？", "{e}的首都在哪里？", "我想知道{e}的首都是哪里。",
               "{e}首都是哪？", "说出{e}的首都。", "{e}的首都叫什么名字？", "{e}的首都是哪一个？", "哪座城是{e}的首都？", "我不知道{e}的首都是哪里。",
               "我想不起{e}的首都了。", "我不记得{e}的首都是什么了。", "{e}首都叫什么？", "能说说{e}的首都吗？"]},
        {"en": ["I forgot the capital of {e}, what is it?", "Could you name the capital city of {e}?"],
         "zh": ["我忘了{e}的首都是哪里，你知道吗？", "{e}的首都是哪座城市？"]},
        {"en": "The capital of {e} is {v}.", "zh": "{e}的首都是{v}。"},
        [r[:4] for r in COUNTRIES], FOLLOW),
    Family("capital_of", {
        "en": ["{e} is the capital of which country?", "Which country has {e} as its capital?",
               "What country is {e} the capital of?", "Of which country is {e} the capital?",
               "{e} is the capital of what?", "Name the country whose capital is {e}.",
               "Do you know which country {e} is the capital of?"],
        "zh": ["{e}是哪个国家的首都？", "{e}是哪国的首都？", "哪个国家的首都是{e}？", "{e}是什么国家的首都？",
               "你知道{e}是哪个国家的首都吗？", "请问哪国的首都是{e}？"]},
        {"en": ["Which country is {e} the capital of?"], "zh": ["{e}这座城市是哪个国家的首都？"]},
        {"en": "{e} is the capital of {v}.", "zh": "{e}是{v}的首都。"},
        [(r[2], r[3], r[0], r[1]) for r in COUNTRIES], FOLLOW),
    Family("continent", {
        "en": ["On which continent is {e}?", "Which continent is {e} on?", "What continent is {e} in?",
               "In which continent is {e}?", "Where in the world is {e}?", "Is {e} in Europe, Asia or elsewhere?",
               "Tell me the continent of {e}.", "Where is {e}?", "To which continent does {e} belong?",
               "{e} belongs to which continent?", "What part of the world is {e} in?", "Name the continent of {e}.",
               "{e} is on which continent?", "Which continent has {e}?", "What is the continent of {e}?",
               "Do you know what continent {e} is in?"],
        "zh": ["{e}在哪个洲？", "{e}位于哪个洲？", "{e}在什么洲？", "{e}属于哪个洲？", "{e}是哪个洲的国家？",
               "请问{e}在哪个大洲？", "{e}在哪里？", "{e}是哪个大洲的？", "告诉我{e}在哪个洲。"]},
        {"en": ["What continent does {e} belong to?"], "zh": ["你知道{e}在哪个洲吗？"]},
        {"en": "{e} is in {v}.", "zh": "{e}在{v}。"},
        [(r[0], r[1], r[4], r[5]) for r in COUNTRIES], FOLLOW),
    Family("color", {
        "en": ["What color is {e}?", "What colour is {e}?", "Which color is {e}?", "What is the color of {e}?",
               "Tell me the color of {e}.", "Which colour does {e} have?", "the color of {e}?",
               "Do you know what color {e} is?", "What color does {e} have?"],
        "zh": ["{e}是什么颜色？", "{e}是什么颜色的？", "{e}的颜色是什么？", "{e}是哪种颜色？", "告诉我{e}的颜色。",
               "{e}有什么颜色？", "你知道{e}是什么颜色吗？", "{e}什么颜色？"]},
        {"en": ["Can you tell me the colour of {e}?"], "zh": ["我想知道{e}是什么颜色。"]},
        {"en": "{e} is {v}.", "zh": "{e}是{v}的。"},
        rows("""
the sky|天空|blue|蓝色
the sea|大海|blue|蓝色
grass|草|green|绿色
a leaf|树叶|green|绿色
a frog|青蛙|green|绿色
snow|雪|white|白色
milk|牛奶|white|白色
a cloud|云|white|白色
coal|煤|black|黑色
a crow|乌鸦|black|黑色
blood|血|red|红色
a tomato|番茄|red|红色
a strawberry|草莓|red|红色
a banana|香蕉|yellow|黄色
a lemon|柠檬|yellow|黄色
a sunflower|向日葵|yellow|黄色
a carrot|胡萝卜|orange|橙色
chocolate|巧克力|brown|棕色
an elephant|大象|gray|灰色
an eggplant|茄子|purple|紫色
a flamingo|火烈鸟|pink|粉色
a panda|熊猫|black and white|黑白
a zebra|斑马|black and white|黑白
"""), FOLLOW),
    Family("sound", {
        "en": ["What sound does {e} make?", "What does {e} say?", "What noise does {e} make?",
               "How does {e} sound?", "Which sound does {e} make?", "Tell me the sound of {e}.",
               "Do you know what {e} says?", "Can you tell me how {e} sounds?", "Can you tell me what {e} says?",
               "Can you make the sound of {e}?", "Tell me what sound {e} makes.", "Do you know what sound {e} makes?",
               "{e} makes what sound?"],
        "zh": ["{e}怎么叫？", "{e}的叫声是什么？", "{e}是怎么叫的？", "{e}会怎么叫？", "{e}发出什么声音？",
               "你知道{e}怎么叫吗？"]},
        {"en": ["Can you tell me what sound {e} makes?"], "zh": ["告诉我{e}的叫声。"]},
        {"en": "{e} says {v}.", "zh": "{e}的叫声是{v}。"},
        rows("""
a cat|猫|meow|喵喵
a dog|狗|woof|汪汪
a cow|牛|moo|哞哞
a sheep|羊|baa|咩咩
a duck|鸭子|quack|嘎嘎
a frog|青蛙|ribbit|呱呱
a pig|猪|oink|哼哼
a bee|蜜蜂|buzz|嗡嗡
a bird|小鸟|tweet|叽叽
a mouse|老鼠|squeak|吱吱
an owl|猫头鹰|hoot|咕咕
"""), FOLLOW),
    Family("legs", {
        "en": ["How many legs does {e} have?", "How many legs has {e} got?", "What number of legs does {e} have?",
               "Tell me how many legs {e} has.", "Count the legs of {e}.", "Do you know how many legs {e} has?",
               "{e} has how many legs?", "How many legs are on {e}?", "Can you tell me how many legs {e} has?"],
        "zh": ["{e}有几条腿？", "{e}有多少条腿？", "{e}几条腿？", "{e}一共有几条腿？", "你知道{e}有几条腿吗？",
               "请告诉我{e}有几条腿。"]},
        {"en": ["How many legs are there on {e}?"], "zh": ["我想知道{e}有几条腿。"]},
        {"en": "{e} has {v}.", "zh": "{e}{v}。"},
        rows("""
a dog|狗|four legs|有四条腿
a cat|猫|four legs|有四条腿
a horse|马|four legs|有四条腿
an elephant|大象|four legs|有四条腿
a hen|母鸡|two legs|有两条腿
a duck|鸭子|two legs|有两条腿
an ant|蚂蚁|six legs|有六条腿
a bee|蜜蜂|six legs|有六条腿
a butterfly|蝴蝶|six legs|有六条腿
a spider|蜘蛛|eight legs|有八条腿
a crab|螃蟹|ten legs|有十条腿
a snake|蛇|no legs|没有腿
a fish|鱼|no legs|没有腿
"""), FOLLOW),
    Family("food", {
        "en": ["What does {e} eat?", "What does {e} like to eat?", "What is the food of {e}?",
               "What food does {e} eat?", "Tell me what {e} eats.", "Do you know what {e} eats?",
               "What do you feed {e}?", "Which food does {e} eat?", "{e} eats what?", "Which food do you give {e}?",
               "What food does {e} like?", "Can you tell me what {e} eats?"],
        "zh": ["{e}吃什么？", "{e}喜欢吃什么？", "{e}爱吃什么？", "{e}的食物是什么？", "你知道{e}吃什么吗？",
               "告诉我{e}吃什么。"]},
        {"en": ["Which food does {e} like?"], "zh": ["我想知道{e}吃什么。"]},
        {"en": "{e} eats {v}.", "zh": "{e}吃{v}。"},
        rows("""
a panda|熊猫|bamboo|竹子
a cow|牛|grass|草
a rabbit|兔子|carrots|胡萝卜
a lion|狮子|meat|肉
a bee|蜜蜂|nectar|花蜜
a squirrel|松鼠|nuts|坚果
a monkey|猴子|fruit|水果
a cat|猫|fish|鱼
a koala|考拉|leaves|树叶
a horse|马|hay|干草
a frog|青蛙|insects|昆虫
a penguin|企鹅|fish|鱼
a silkworm|蚕|mulberry leaves|桑叶
"""), FOLLOW),
    Family("home", {
        "en": ["Where does {e} live?", "What is the home of {e}?", "Where is the home of {e}?", "Where can I find {e}?",
               "Tell me where {e} lives.", "Do you know where {e} lives?", "In what place does {e} live?",
               "{e} lives where?", "Can you tell me where {e} lives?", "Where does {e} have its home?"],
        "zh": ["{e}住在哪里？", "{e}住在什么地方？", "{e}的家在哪里？", "{e}生活在哪里？", "你知道{e}住在哪里吗？",
               "告诉我{e}住在哪儿。"]},
        {"en": ["Where is {e} at home?"], "zh": ["我想知道{e}住在哪里。"]},
        {"en": "{e} lives {v}.", "zh": "{e}住在{v}。"},
        rows("""
a camel|骆驼|in the desert|沙漠里
a penguin|企鹅|in Antarctica|南极
a polar bear|北极熊|in the Arctic|北极
a fish|鱼|in the water|水里
a bee|蜜蜂|in a hive|蜂巢里
a bird|小鸟|in a nest|鸟巢里
a bear|熊|in a cave|山洞里
a monkey|猴子|in the trees|树上
a whale|鲸鱼|in the sea|大海里
a frog|青蛙|by the pond|池塘边
a panda|熊猫|in the bamboo forest|竹林里
a spider|蜘蛛|in a web|蜘蛛网上
"""), FOLLOW),
    Family("planet_order", {
        "en": ["What is the {e} planet from the Sun?", "Which planet is the {e} from the Sun?",
               "Which is the {e} planet from the Sun?", "Name the {e} planet from the Sun.",
               "Tell me the {e} planet from the Sun.", "What's the {e} planet?",
               "Counting from the Sun, which planet is {e}?"],
        "zh": ["离太阳{e}近的行星是哪颗？", "离太阳{e}近的是什么行星？", "从太阳数起，{e}颗行星是什么？",
               "太阳系的{e}颗行星是哪颗？", "{e}颗行星是什么？", "哪颗行星离太阳{e}近？"]},
        {"en": ["Do you know the {e} planet from the Sun?"], "zh": ["你知道离太阳{e}近的行星是哪颗吗？"]},
        {"en": "The {e} planet from the Sun is {v}.", "zh": "离太阳{e}近的行星是{v}。"},
        rows("""
first|第一|Mercury|水星
second|第二|Venus|金星
third|第三|Earth|地球
fourth|第四|Mars|火星
fifth|第五|Jupiter|木星
sixth|第六|Saturn|土星
seventh|第七|Uranus|天王星
eighth|第八|Neptune|海王星
"""), {"en": ["And the {e}?", "What about the {e}?", "and the {e} one?"], "zh": ["{e}呢？", "那{e}呢？", "{e}颗呢？"]}),
    Family("day_after", {
        "en": ["What day comes after {e}?", "Which day comes after {e}?", "What day is after {e}?",
               "What is the day after {e}?", "Which day follows {e}?", "If today is {e}, what day is tomorrow?",
               "Today is {e}. What day is tomorrow?", "Tell me the day after {e}.", "Which day is after {e}?",
               "What is the day right after {e}?", "Which day goes after {e}?"],
        "zh": ["{e}之后是星期几？", "{e}后面是星期几？", "{e}的后一天是星期几？", "{e}之后是哪一天？",
               "今天是{e}，明天是星期几？", "如果今天是{e}，那明天是星期几？"]},
        {"en": ["What is the next day after {e}?"], "zh": ["{e}过后是星期几？"]},
        {"en": "{v} comes after {e}.", "zh": "{e}之后是{v}。"},
        rows("""
Monday|星期一|Tuesday|星期二
Tuesday|星期二|Wednesday|星期三
Wednesday|星期三|Thursday|星期四
Thursday|星期四|Friday|星期五
Friday|星期五|Saturday|星期六
Saturday|星期六|Sunday|星期日
Sunday|星期日|Monday|星期一
"""), {"en": ["And after {e}?", "What about after {e}?", "and {e}?"], "zh": ["{e}之后呢？", "那{e}之后呢？", "{e}呢？"]}),
    Family("day_before", {
        "en": ["What day comes before {e}?", "Which day comes before {e}?", "What day is before {e}?",
               "What is the day before {e}?", "If today is {e}, what day was yesterday?",
               "Today is {e}. What day was yesterday?", "Tell me the day before {e}.", "Which day is before {e}?",
               "What is the day right before {e}?", "Which day goes before {e}?"],
        "zh": ["{e}之前是星期几？", "{e}前面是星期几？", "{e}的前一天是星期几？", "{e}之前是哪一天？",
               "今天是{e}，昨天是星期几？", "如果今天是{e}，那昨天是星期几？"]},
        {"en": ["Which day is right before {e}?"], "zh": ["请问{e}的前面是星期几？"]},
        {"en": "{v} comes before {e}.", "zh": "{e}之前是{v}。"},
        rows("""
Monday|星期一|Sunday|星期日
Tuesday|星期二|Monday|星期一
Wednesday|星期三|Tuesday|星期二
Thursday|星期四|Wednesday|星期三
Friday|星期五|Thursday|星期四
Saturday|星期六|Friday|星期五
Sunday|星期日|Saturday|星期六
"""), {"en": ["And before {e}?", "What about before {e}?", "and {e}?"], "zh": ["{e}之前呢？", "那{e}之前呢？", "{e}呢？"]}),
    Family("month_after", {
        "en": ["What month comes after {e}?", "Which month comes after {e}?", "What is the month after {e}?",
               "Which month follows {e}?", "What month is after {e}?", "Tell me the month after {e}."],
        "zh": ["{e}之后是几月？", "{e}后面是几月？", "{e}之后是哪个月？", "{e}的下一个月是几月？", "{e}的下个月是哪个月？"]},
        {"en": ["What is the next month after {e}?"], "zh": ["{e}过后是几月？"]},
        {"en": "{v} comes after {e}.", "zh": "{e}之后是{v}。"},
        rows("""
January|一月|February|二月
February|二月|March|三月
March|三月|April|四月
April|四月|May|五月
May|五月|June|六月
June|六月|July|七月
July|七月|August|八月
August|八月|September|九月
September|九月|October|十月
October|十月|November|十一月
November|十一月|December|十二月
December|十二月|January|一月
"""), {"en": ["And after {e}?", "What about after {e}?", "and {e}?"], "zh": ["{e}之后呢？", "那{e}之后呢？", "{e}呢？"]}),
    Family("month_days", {
        "en": ["How many days does {e} have?", "How many days are in {e}?", "How many days are there in {e}?",
               "How long is the month of {e}?", "Tell me the number of days in {e}.",
               "What is the number of days in {e}?", "{e} has how many days?", "Tell me how many days {e} has.",
               "Can you tell me how many days {e} has?"],
        "zh": ["{e}有多少天？", "{e}有几天？", "{e}一共有多少天？", "{e}多少天？", "你知道{e}有多少天吗？"]},
        {"en": ["Do you know how many days {e} has?"], "zh": ["请告诉我{e}有多少天。"]},
        {"en": "{e} has {v} days.", "zh": "{e}有{v}天。"},
        rows("""
January|一月|31|31
February|二月|28 or 29|28或29
March|三月|31|31
April|四月|30|30
May|五月|31|31
June|六月|30|30
July|七月|31|31
August|八月|31|31
September|九月|30|30
October|十月|31|31
November|十一月|30|30
December|十二月|31|31
"""), FOLLOW),
    Family("season_after", {
        "en": ["What season comes after {e}?", "Which season comes after {e}?", "What is the season after {e}?",
               "Which season follows {e}?", "Tell me the season after {e}."],
        "zh": ["{e}之后是什么季节？", "{e}后面是什么季节？", "{e}之后是哪个季节？", "{e}的下一个季节是什么？"]},
        {"en": ["What season is next after {e}?"], "zh": ["{e}过后是什么季节？"]},
        {"en": "{v} comes after {e}.", "zh": "{e}之后是{v}。"},
        rows("""
spring|春天|summer|夏天
summer|夏天|autumn|秋天
autumn|秋天|winter|冬天
winter|冬天|spring|春天
"""), {"en": ["And after {e}?", "What about after {e}?"], "zh": ["{e}之后呢？", "那{e}之后呢？"]}),
    Family("opposite", {
        "en": ["What is the opposite of {e}?", "What's the opposite of {e}?", "Tell me the opposite of {e}.",
               "Which word is the opposite of {e}?", "the opposite of {e}?", "Give me the opposite of {e}.",
               "Do you know the opposite of {e}?"],
        "zh": ["{e}的反义词是什么？", "“{e}”的反义词是什么？", "{e}的反义词是哪个？", "告诉我{e}的反义词。",
               "{e}的反义词？", "你知道{e}的反义词吗？", "什么词是{e}的反义词？"]},
        {"en": ["Name the opposite of {e}."], "zh": ["说出{e}的反义词。"]},
        {"en": "The opposite of {e} is {v}.", "zh": "{e}的反义词是{v}。"},
        rows("""
big|大|small|小
small|小|big|大
hot|热|cold|冷
cold|冷|hot|热
up|上|down|下
down|下|up|上
happy|快乐|sad|悲伤
sad|悲伤|happy|快乐
fast|快|slow|慢
slow|慢|fast|快
tall|高|short|矮
young|年轻|old|年老
open|开|closed|关
heavy|重|light|轻
full|满|empty|空
hard|硬|soft|软
wet|湿|dry|干
left|左|right|右
near|近|far|远
early|早|late|晚
rich|富|poor|穷
clean|干净|dirty|脏
strong|强|weak|弱
good|好|bad|坏
black|黑|white|白
day|白天|night|黑夜
"""), FOLLOW),
    Family("translate", {
        "en": ["How do you say {e} in Chinese?", "What is {e} in Chinese?", "What is the Chinese word for {e}?",
               "How do I say \"{e}\" in Chinese?", "Translate {e} into Chinese.", "Translate \"{e}\" to Chinese.",
               "{e} in Chinese?", "What is the Chinese for {e}?", "Say {e} in Chinese.", "{e} is what in Chinese?",
               "Give me {e} in Chinese.", "I need the Chinese word for {e}."],
        "zh": ["{e}用英语怎么说？", "{e}的英语是什么？", "{e}用英文怎么说？", "“{e}”的英文是什么？", "把{e}翻译成英语。",
               "{e}英语怎么说？", "请把“{e}”翻译成英文。"]},
        {"en": ["Please give me the Chinese word for {e}."], "zh": ["请问{e}的英文怎么说？"]},
        {"en": "In Chinese, {e} is {v}.", "zh": "{e}的英语是 {v}。"},
        [(a, b, b, a) for a, b in rows("""
cat|猫
dog|狗
bird|鸟
fish|鱼
water|水
fire|火
sun|太阳
moon|月亮
star|星星
tree|树
flower|花
book|书
friend|朋友
school|学校
teacher|老师
apple|苹果
tea|茶
rice|米饭
milk|牛奶
house|房子
mountain|山
river|河
love|爱
rain|雨
snow|雪
bread|面包
egg|鸡蛋
thank you|谢谢
goodbye|再见
hello|你好
""")], FOLLOW),
]

# Single facts: key | English answer | Chinese answer, then "e" / "z" lines with
# wordings; the last wording of each language is kept for the evaluation.
# An indented line goes on with the line before.
_SINGLES = """
# boil | Water boils at 100 degrees Celsius. | 水在100摄氏度沸腾。
e At what temperature does water boil?; When does water boil?; What is the boiling point of water?;
  How hot must water be to boil?; Tell me the boiling point of water.; Water boils at what temperature?
z 水在多少度沸腾？; 水的沸点是多少？; 水多少度会开？; 水的沸点是多少度？; 水在什么温度沸腾？; 你知道水的沸点吗？
# freeze | Water freezes at 0 degrees Celsius. | 水在0摄氏度结冰。
e At what temperature does water freeze?; When does water freeze?; What is the freezing point of water?;
  How cold must water be to freeze?; Tell me the freezing point of water.; Water freezes at what temperature?
z 水在多少度结冰？; 水的冰点是多少？; 水多少度会结冰？; 水的冰点是多少度？; 水在什么温度结冰？; 你知道水的冰点吗？
# week_days | A week has seven days. | 一个星期有七天。
e How many days are in a week?; How many days does a week have?; How many days are there in a week?;
  What is the number of days in a week?; Tell me how many days a week has.; A week has how many days?
z 一个星期有几天？; 一周有几天？; 一星期有多少天？; 一周有多少天？; 一个星期有多少天？; 你知道一周有几天吗？
# year_months | A year has twelve months. | 一年有十二个月。
e How many months are in a year?; How many months does a year have?; How many months are there in a year?;
  What is the number of months in a year?; Tell me how many months a year has.; A year has how many months?
z 一年有几个月？; 一年有多少个月？; 一年一共有几个月？; 一年共有多少个月？; 一年里有几个月？; 你知道一年有几个月吗？
# year_days | A year has 365 days, and a leap year has 366. | 一年有365天，闰年有366天。
e How many days are in a year?; How many days does a year have?; How many days are there in a year?;
  What is the number of days in a year?; Tell me how many days a year has.; A year has how many days?
z 一年有多少天？; 一年有几天？; 一年一共有多少天？; 一年共有几天？; 一年里有多少天？; 你知道一年有多少天吗？
# year_seasons | A year has four seasons: spring, summer, autumn and winter. | 一年有四个季节：春天、夏天、秋天和冬天。
e How many seasons are in a year?; How many seasons are there?; What are the seasons?; Name the seasons.;
  What are the four seasons?; How many seasons does a year have?
z 一年有几个季节？; 一年有哪些季节？; 有几个季节？; 四季是什么？; 一年有多少个季节？; 你知道一年有几个季节吗？
# day_hours | A day has 24 hours. | 一天有24个小时。
e How many hours are in a day?; How many hours does a day have?; How many hours are there in a day?;
  What is the number of hours in a day?; Tell me how many hours a day has.; A day has how many hours?
z 一天有几个小时？; 一天有多少个小时？; 一天有多少小时？; 一天一共有几个小时？; 一天里有多少小时？; 你知道一天有几个小时吗？
# hour_minutes | An hour has 60 minutes. | 一个小时有60分钟。
e How many minutes are in an hour?; How many minutes does an hour have?; How many minutes are there in an hour?;
  What is the number of minutes in an hour?; Tell me how many minutes an hour has.; An hour has how many minutes?
z 一个小时有多少分钟？; 一小时有几分钟？; 一小时有多少分钟？; 一个小时是多少分钟？; 一小时是几分钟？; 你知道一小时有多少分钟吗？
# minute_seconds | A minute has 60 seconds. | 一分钟有60秒。
e How many seconds are in a minute?; How many seconds does a minute have?; How many seconds are there in a minute?;
  What is the number of seconds in a minute?; Tell me how many seconds a minute has.; A minute has how many seconds?
z 一分钟有多少秒？; 一分钟有几秒？; 一分钟是多少秒？; 一分钟一共有多少秒？; 一分钟等于多少秒？; 你知道一分钟有多少秒吗？
# continents | There are seven continents. | 世界上有七个大洲。
e How many continents are there?; How many continents does the Earth have?; What is the number of continents?;
  Tell me how many continents there are.; How many continents are on Earth?; Do you know how many continents there are?
z 世界上有几个大洲？; 有几个大洲？; 地球上有多少个大洲？; 世界有几大洲？; 一共有几个大洲？; 你知道世界上有几个大洲吗？
# planets | There are eight planets in the solar system. | 太阳系有八颗行星。
e How many planets are there?; How many planets are in the solar system?; How many planets does the solar system have?;
  What is the number of planets?; Tell me how many planets there are.; Do you know how many planets there are?
z 太阳系有几颗行星？; 有几颗行星？; 太阳系有多少颗行星？; 太阳系一共有几颗行星？; 太阳系里有多少行星？; 你知道太阳系有几颗行星吗？
# largest_planet | Jupiter is the largest planet. | 木星是最大的行星。
e What is the largest planet?; Which planet is the largest?; What is the biggest planet?; Which planet is the biggest?;
  Name the largest planet.; Do you know which planet is the largest?
z 最大的行星是哪颗？; 哪颗行星最大？; 最大的行星是什么？; 太阳系最大的行星是哪颗？; 什么行星最大？; 你知道哪颗行星最大吗？
# smallest_planet | Mercury is the smallest planet. | 水星是最小的行星。
e What is the smallest planet?; Which planet is the smallest?; What's the smallest planet?; Which planet is smallest?;
  Name the smallest planet.; Do you know which planet is the smallest?
z 最小的行星是哪颗？; 哪颗行星最小？; 最小的行星是什么？; 太阳系最小的行星是哪颗？; 什么行星最小？; 你知道哪颗行星最小吗？
# hottest_planet | Venus is the hottest planet. | 金星是最热的行星。
e What is the hottest planet?; Which planet is the hottest?; What's the hottest planet?; Which planet is hottest?;
  Name the hottest planet.; Do you know which planet is the hottest?
z 最热的行星是哪颗？; 哪颗行星最热？; 最热的行星是什么？; 太阳系最热的行星是哪颗？; 什么行星最热？; 你知道哪颗行星最热吗？
# red_planet | Mars is called the red planet. | 火星被称为红色星球。
e Which planet is called the red planet?; What is the red planet?; Which planet is red?; Which is the red planet?;
  Name the red planet.; Do you know which planet is the red planet?
z 哪颗行星被称为红色星球？; 红色星球是哪颗？; 红色的行星是哪颗？; 哪颗行星是红色的？; 红色星球是什么？; 你知道哪颗是红色星球吗？
# rings | Saturn is famous for its rings. | 土星以它的光环闻名。
e Which planet has rings?; What planet is famous for its rings?; Which planet is known for its rings?;
  What planet has big rings?; Name the planet with rings.; Do you know which planet has rings?
z 哪颗行星有光环？; 哪颗行星以光环闻名？; 有光环的行星是哪颗？; 什么行星有光环？; 带光环的行星是哪颗？; 你知道哪颗行星有光环吗？
# earth_orbit | The Earth goes around the Sun. | 地球绕着太阳转。
e What does the Earth go around?; What does the Earth orbit?; Around what does the Earth move?;
  The Earth goes around what?; What does our planet orbit?; Do you know what the Earth goes around?
z 地球绕着什么转？; 地球围绕什么转？; 地球绕什么转？; 地球围着什么转？; 我们的地球绕着什么转？; 你知道地球绕着什么转吗？
# moon_orbit | The Moon goes around the Earth. | 月球绕着地球转。
e What does the Moon go around?; What does the Moon orbit?; Around what does the Moon move?; The Moon goes around what?;
  What does our Moon orbit?; Do you know what the Moon goes around?
z 月球绕着什么转？; 月球围绕什么转？; 月球绕什么转？; 月亮围着什么转？; 月亮绕着什么转？; 你知道月球绕着什么转吗？
# sun | The Sun is a star. | 太阳是一颗恒星。
e What is the Sun?; Is the Sun a star or a planet?; Is the Sun a star?; What kind of thing is the Sun?;
  Tell me what the Sun is.; Do you know what the Sun is?
z 太阳是什么？; 太阳是恒星还是行星？; 太阳是恒星吗？; 太阳是一颗什么星？; 告诉我太阳是什么。; 你知道太阳是什么吗？
# sunrise | The Sun rises in the east. | 太阳从东方升起。
e Where does the Sun rise?; In which direction does the Sun rise?; On which side does the Sun rise?;
  From where does the Sun rise?; Tell me where the Sun rises.; Do you know where the Sun rises?
z 太阳从哪里升起？; 太阳从哪边升起？; 太阳从哪个方向升起？; 太阳在哪边升起？; 太阳从什么方向升起来？; 你知道太阳从哪里升起吗？
# sunset | The Sun sets in the west. | 太阳从西方落下。
e Where does the Sun set?; In which direction does the Sun set?; On which side does the Sun set?;
  Where does the Sun go down?; Tell me where the Sun sets.; Do you know where the Sun sets?
z 太阳从哪里落下？; 太阳从哪边落下？; 太阳从哪个方向落下？; 太阳在哪边落下？; 太阳从什么方向落下去？; 你知道太阳从哪里落下吗？
# ocean | The Pacific is the largest ocean. | 太平洋是最大的海洋。
e What is the largest ocean?; Which ocean is the largest?; What is the biggest ocean?; Which ocean is the biggest?;
  Name the largest ocean.; Do you know which ocean is the largest?
z 最大的海洋是哪个？; 哪个海洋最大？; 最大的海洋是什么？; 世界上最大的海洋是哪个？; 最大的洋是哪个？; 你知道哪个海洋最大吗？
# mountain | Mount Everest is the highest mountain. | 珠穆朗玛峰是最高的山。
e What is the highest mountain?; Which mountain is the highest?; What is the tallest mountain?;
  Which mountain is the tallest?; Name the highest mountain.; Do you know which mountain is the highest?
z 最高的山是哪座？; 哪座山最高？; 最高的山是什么？; 世界上最高的山是哪座？; 最高的山峰是哪座？; 你知道哪座山最高吗？
# country | Russia is the largest country. | 俄罗斯是最大的国家。
e What is the largest country?; Which country is the largest?; What is the biggest country?;
  Which country is the biggest?; Name the largest country.; Do you know which country is the largest?
z 最大的国家是哪个？; 哪个国家最大？; 最大的国家是什么？; 世界上最大的国家是哪个？; 面积最大的国家是哪个？; 你知道哪个国家最大吗？
# continent_largest | Asia is the largest continent. | 亚洲是最大的洲。
e What is the largest continent?; Which continent is the largest?; What is the biggest continent?;
  Which continent is the biggest?; Name the largest continent.; Do you know which continent is the largest?
z 最大的洲是哪个？; 哪个洲最大？; 最大的洲是什么？; 世界上最大的洲是哪个？; 面积最大的洲是哪个？; 你知道哪个洲最大吗？
# animal_largest | The blue whale is the largest animal. | 蓝鲸是最大的动物。
e What is the largest animal?; Which animal is the largest?; What is the biggest animal?; Which animal is the biggest?;
  Name the largest animal.; Do you know which animal is the largest?
z 最大的动物是什么？; 哪种动物最大？; 什么动物最大？; 世界上最大的动物是什么？; 最大的动物是哪种？; 你知道哪种动物最大吗？
# animal_tallest | The giraffe is the tallest animal. | 长颈鹿是最高的动物。
e What is the tallest animal?; Which animal is the tallest?; What's the tallest animal?; Which animal is tallest?;
  Name the tallest animal.; Do you know which animal is the tallest?
z 最高的动物是什么？; 哪种动物最高？; 什么动物最高？; 世界上最高的动物是什么？; 最高的动物是哪种？; 你知道哪种动物最高吗？
# animal_fastest | The cheetah is the fastest land animal. | 猎豹是跑得最快的动物。
e What is the fastest animal?; Which animal is the fastest?; What is the fastest land animal?;
  Which animal runs the fastest?; Name the fastest animal.; Do you know which animal is the fastest?
z 跑得最快的动物是什么？; 哪种动物跑得最快？; 什么动物跑得最快？; 世界上跑得最快的动物是什么？; 最快的动物是什么？; 你知道哪种动物跑得最快吗？
# honey | Bees make honey. | 蜜蜂酿造蜂蜜。
e Who makes honey?; Which animals make honey?; What makes honey?; Which insects make honey?;
  Where does honey come from?; Do you know who makes honey?
z 谁酿造蜂蜜？; 什么动物酿造蜂蜜？; 蜂蜜是谁酿的？; 哪种昆虫酿蜜？; 蜂蜜从哪里来？; 你知道谁酿造蜂蜜吗？
# ice | Ice is frozen water. | 冰是冻住的水。
e What is ice?; What is ice made of?; Tell me what ice is.; What's ice?; Ice is made of what?; Do you know what ice is?
z 冰是什么？; 冰是什么做的？; 冰是由什么组成的？; 告诉我冰是什么。; 什么是冰？; 你知道冰是什么吗？
# rainbow | A rainbow has seven colors. | 彩虹有七种颜色。
e How many colors does a rainbow have?; How many colours are in a rainbow?; How many colors are there in a rainbow?;
  What is the number of colors in a rainbow?; Tell me how many colors a rainbow has.; A rainbow has how many colors?
z 彩虹有几种颜色？; 彩虹有多少种颜色？; 彩虹一共有几种颜色？; 彩虹有几个颜色？; 彩虹里有多少种颜色？; 你知道彩虹有几种颜色吗？
# triangle | A triangle has three sides. | 三角形有三条边。
e How many sides does a triangle have?; How many sides are in a triangle?; How many sides has a triangle?;
  What is the number of sides of a triangle?; Tell me how many sides a triangle has.; A triangle has how many sides?
z 三角形有几条边？; 三角形有多少条边？; 三角形一共有几条边？; 三角形几条边？; 一个三角形有几条边？; 你知道三角形有几条边吗？
# square | A square has four sides. | 正方形有四条边。
e How many sides does a square have?; How many sides are in a square?; How many sides has a square?;
  What is the number of sides of a square?; Tell me how many sides a square has.; A square has how many sides?
z 正方形有几条边？; 正方形有多少条边？; 正方形一共有几条边？; 正方形几条边？; 一个正方形有几条边？; 你知道正方形有几条边吗？
# fingers | A person has ten fingers. | 人有十根手指。
e How many fingers does a person have?; How many fingers do people have?; How many fingers has a person?;
  How many fingers are on two hands?; Tell me how many fingers a person has.; A person has how many fingers?
z 人有几根手指？; 人有多少根手指？; 人一共有几根手指？; 两只手有几根手指？; 一个人有几根手指？; 你知道人有几根手指吗？
# letters | The English alphabet has 26 letters. | 英语有26个字母。
e How many letters are in the alphabet?; How many letters does the English alphabet have?;
  How many letters are there in the English alphabet?; What is the number of letters in the alphabet?;
  How many letters are in the English alphabet?; The alphabet has how many letters?
z 英语有几个字母？; 英语有多少个字母？; 英文有几个字母？; 英文一共有多少个字母？; 英文字母有多少个？; 你知道英语有多少个字母吗？
# breathe | People breathe oxygen. | 人呼吸氧气。
e What do people breathe?; What gas do people breathe?; Which gas do we need to breathe?; What do we breathe?;
  Tell me what people breathe.; Do you know what people breathe?
z 人呼吸什么？; 人呼吸什么气体？; 我们呼吸什么气体？; 人需要呼吸什么？; 我们呼吸什么？; 你知道人呼吸什么气体吗？
# plants | Plants need light, water and air. | 植物需要阳光、水和空气。
e What do plants need?; What does a plant need to grow?; What do plants need to live?; What do plants need to grow?;
  Tell me what plants need.; Do you know what plants need?
z 植物需要什么？; 植物生长需要什么？; 植物活着需要什么？; 植物要长大需要什么？; 告诉我植物需要什么。; 你知道植物需要什么吗？
# wall | The Great Wall is in China. | 长城在中国。
e Where is the Great Wall?; In which country is the Great Wall?; Which country has the Great Wall?;
  The Great Wall is in which country?; Tell me where the Great Wall is.; Do you know where the Great Wall is?
z 长城在哪里？; 长城在哪个国家？; 哪个国家有长城？; 长城位于哪里？; 告诉我长城在哪里。; 你知道长城在哪里吗？
# eiffel | The Eiffel Tower is in Paris. | 埃菲尔铁塔在巴黎。
e Where is the Eiffel Tower?; In which city is the Eiffel Tower?; Which city has the Eiffel Tower?;
  The Eiffel Tower is in which city?; Tell me where the Eiffel Tower is.; Do you know where the Eiffel Tower is?
z 埃菲尔铁塔在哪里？; 埃菲尔铁塔在哪个城市？; 哪个城市有埃菲尔铁塔？; 埃菲尔铁塔位于哪里？; 告诉我埃菲尔铁塔在哪里。; 你知道埃菲尔铁塔在哪里吗？
# pyramids | The great pyramids are in Egypt. | 大金字塔在埃及。
e Where are the pyramids?; In which country are the pyramids?; Which country has the great pyramids?;
  The pyramids are in which country?; Tell me where the pyramids are.; Do you know where the pyramids are?
z 金字塔在哪里？; 金字塔在哪个国家？; 哪个国家有金字塔？; 金字塔位于哪里？; 告诉我大金字塔在哪里。; 你知道金字塔在哪里吗？
# expertd | expertd is a server that runs mixture-of-experts language models on a CPU. | expertd是在CPU上运行混合专家语言模型的服务器。
e What is expertd?; Tell me about expertd.; What does expertd do?; What kind of program is expertd?; Explain expertd.;
  Do you know what expertd is?
z expertd是什么？; 介绍一下expertd。; expertd是做什么的？; expertd是什么程序？; 什么是expertd？; 你知道expertd是什么吗？
# expertd_language | expertd is written in C++. | expertd是用C++写的。
e In which language is expertd written?; What language is expertd written in?;
  Which programming language does expertd use?; What is expertd written in?;
  Tell me the programming language of expertd.; Do you know what expertd is written in?
z expertd是用什么语言写的？; expertd用什么编程语言？; expertd是用什么写的？; expertd使用哪种编程语言？; expertd是什么语言写的？; 你知道expertd是用什么写的吗？
# expertd_gpu | expertd does not need a GPU. | expertd不需要显卡。
e Does expertd need a GPU?; Do I need a GPU for expertd?; Is a GPU needed to run expertd?;
  Must I have a GPU to use expertd?; Can expertd run without a GPU?; Do you know if expertd needs a GPU?
z expertd需要显卡吗？; 用expertd需要显卡吗？; 运行expertd要不要显卡？; 没有显卡能用expertd吗？; expertd要用显卡吗？; expertd需不需要显卡？
# moe | A mixture-of-experts model has many small experts and uses only a few of them for each token.
  | 混合专家模型有许多小专家，每个词元只使用其中几个。
e What is a mixture-of-experts model?; What is a mixture of experts?; Explain mixture of experts.;
  What does mixture of experts mean?; What is an MoE model?; Tell me what a mixture-of-experts model is.
z 什么是混合专家模型？; 混合专家模型是什么？; 解释一下混合专家模型。; 混合专家是什么意思？; 介绍一下混合专家模型。; 你知道什么是混合专家模型吗？
# router | The router chooses the experts for each token. | 路由器为每个词元选择专家。
e What does the router do?; What is the router?; What is a router in a mixture of experts?; What does a router choose?;
  Who chooses the experts?; Tell me what the router does.
z 路由器做什么？; 路由器是什么？; 混合专家里的路由器是什么？; 谁来选择专家？; 路由器选择什么？; 告诉我路由器做什么。
# own_experts | I have {E} experts in each layer and use {K} of them for each token. | 我每一层有{E}个专家，每个词元使用其中{K}个。
e How many experts do you have?; How many experts are in you?; What is the number of your experts?;
  Tell me how many experts you have.; How many experts do you use?; Do you know how many experts you have?
z 你有几个专家？; 你有多少个专家？; 你一共有多少专家？; 你每层有几个专家？; 你使用几个专家？; 告诉我你有多少个专家。
# own_layers | I have {L} layers. | 我有{L}层。
e How many layers do you have?; How many layers are in you?; What is the number of your layers?;
  Tell me how many layers you have.; How deep are you?; Do you know how many layers you have?
z 你有几层？; 你有多少层？; 你一共有几层？; 你的层数是多少？; 你的网络有几层？; 告诉我你有多少层。
# own_languages | I speak English and Chinese. | 我会说英语和中文。
e Which languages do you speak?; What languages do you know?; What languages can you speak?; Can you speak Chinese?;
  Do you speak English?; Tell me which languages you speak.
z 你会说什么语言？; 你会哪些语言？; 你会说几种语言？; 你会说中文吗？; 你会说英语吗？; 告诉我你会说什么语言。
# own_training | I was trained on sentences made by a small program. | 我是用一个小程序生成的句子训练的。
e How were you trained?; What were you trained on?; What is your training data?; On which data were you trained?;
  Where does your training data come from?; Tell me how you were trained.
z 你是怎么训练的？; 你是用什么训练的？; 你的训练数据是什么？; 你的训练数据从哪里来？; 你是怎样训练出来的？; 告诉我你是怎么训练的。
"""


def _singles(model_config):
    families, head = [], None
    for line in _SINGLES.replace("\n  ", " ").strip().splitlines():
        if line.startswith("# "):
            head = [part.strip() for part in line[2:].split("|")]
            ask, new = {}, {}
            for i in (1, 2):
                for key, value in model_config.items():
                    head[i] = head[i].replace("{" + key + "}", str(value))
        else:
            lang = {"e": "en", "z": "zh"}[line[0]]
            asks = [part.strip() for part in line[2:].split(";")]
            ask[lang], new[lang] = asks[:-1], asks[-1:]
            if lang == "zh":
                families.append(Family(head[0], ask, new, {"en": head[1], "zh": head[2]},
                                       [("", "", "", "")]))
    return families


# The model's own shape, as it tells it; train.py checks it against its CONFIG.
OWN_SHAPE = {"E": 16, "K": 2, "L": 5}
FAMILIES += _singles(OWN_SHAPE)

# Things the model is asked about in training and does not know.
UNKNOWN_COUNTRIES = rows("""
Austria|奥地利
Turkey|土耳其
Iran|伊朗
Iraq|伊拉克
Nepal|尼泊尔
Mongolia|蒙古
Morocco|摩洛哥
Nigeria|尼日利亚
Ghana|加纳
Ukraine|乌克兰
Belgium|比利时
Hungary|匈牙利
Iceland|冰岛
Jamaica|牙买加
Atlantis|亚特兰蒂斯
Switzerland|瑞士
Romania|罗马尼亚
Ethiopia|埃塞俄比亚
Laos|老挝
Cambodia|柬埔寨
Bolivia|玻利维亚
Uruguay|乌拉圭
""")


def markdown():
    """FACTS.md: each fact's first wording and its answer, in both languages."""
    count = sum(len(f.rows) for f in FAMILIES)
    lines = ["# What expertd-tiny knows", "",
             f"{count} facts, each in English and Chinese. Written by `python facts.py > FACTS.md`.", "",
             "| question | answer | 问题 | 回答 |", "|---|---|---|---|"]
    for family in FAMILIES:
        for row in family.rows:
            cells = [cell for lang in ("en", "zh")
                     for cell in (fill(family.ask[lang][0], row, lang), family.answer_for(row, lang))]
            lines.append("| " + " | ".join(cells) + " |")
    lines += ["",
              "Besides: every sum, difference and product of two one-digit numbers, in digits and in words; smalltalk;",
              "\"Repeat after me: ...\"; the user's name, favorite color and favorite animal, once told; short stories",
              "(`stories.py`). Anything else is answered with \"I do not know that yet.\" / \"这个我还不知道。\", longer",
              "numbers with \"I can only calculate with one-digit numbers.\""]
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown())
