"""Texts in many scripts, made from word lists by a fixed generator; tokenizers are trained on and tested with them."""

import random
import unicodedata

WORDS = {
    "latin": "the of and to in model expert token router layer weight batch request answer stream memory cache "
             "server "
             "quick brown fox jumps over lazy dog hello world Hello World HELLO I'm you're it's we'll they've I'd "
             "don't "
             "can't He'S SHE'LL naïve café résumé Zürich Straße façade coöperate señor Ångström žluťoučký kůň "
             "pójdźże "
             "kiń tę chmurność İstanbul ığdır ŞİŞLİ ſein fuſe 'ſ Kelvin ﬁne ﬂow ŉ ǅ ß ẞ œuvre æther",
    "cyrillic": "привет мир быстрая коричневая лиса прыгает через ленивую собаку Москва ёлка йод съёмка Київ їжак "
                "ґанок ў модель слой память запрос ответ",
    "greek": "γειά σου Κόσμε ἀρχὴ λόγος ὁ Ὀδυσσεύς σοφός ΣΟΦΟΣ ΐ ΰ μοντέλο μνήμη αίτημα",
    "chinese": "你好 世界 模型 专家 混合 推理 服务器 中国科学院 计算所 日本京都大学 深造 今天 天气 很好 我们 一起 去 北京 "
               "上海 缓存 调度 请求 回答 瑞风播福泽 事业具昌盛千家乐 繁體中文 機器學習 語言模型 々 〇 𠮷野家 㐀 龥",
    "japanese": "こんにちは 世界 モデル エキスパート ルーター 東京 大阪 カタカナ ひらがな がぎぐげご パピプペポ ﾊﾝｶｸ ｶﾞ ー 々 ゝ",
    "korean": "안녕하세요 세계 모델 전문가 서버 요청 응답 한국어 각 값 뷁 가각간 한글",
    "arabic": "مرحبا بالعالم النموذج الخبير الذاكرة طلب إجابة اللُّغَةُ العَرَبِيَّةُ ١٢٣ ۴۵۶ لا",
    "hebrew": "שלום עולם מודל מומחה זיכרון בְּרֵאשִׁית בָּרָא שּׁ",
    "devanagari": "नमस्ते दुनिया मॉडल विशेषज्ञ स्मृति क़लम ज़मीन १२३ हिन्दी क्षत्रिय",
    "thai": "สวัสดี ชาวโลก แบบจำลอง ผู้เชี่ยวชาญ หน่วยความจำ น้ำ ๑๒๓",
    "indic": "வணக்கம் உலகம் কেমন আছো বাংলা কো ొ తెలుగు മലയാളം ਪੰਜਾਬੀ ગુજરાતી සිංහල ဗမာ ខ្មែរ ລາວ བོད",
    "other": "ქართული հայերեն አማርኛ ᏣᎳᎩ ᚠᚢᚦᚨᚱᚲ ⴰⵎⴰⵣⵉⵖ 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟘𝟙𝟚 ⅷ Ⅷ ½ ² ₃ ①",
    "emoji": "😀 👍🏽 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 🇨🇳🇺🇸 ❤️ ☃ 🧑‍💻 1️⃣ ⛄ 🫠",
    "digits": "0 1 42 123 1234 12345 1234567890 3.14159 1,000,000 2024-05-17 12:34:56 0xDEADBEEF 1e-10 +1-800 50% "
              "１２３ 四十二",
    "code": "int main() { return 0; } def f(x): self.__init__(**kwargs) => lambda x: x+1 std::vector<int> a[i] != "
            "b && c || "
            "!d \"str\" 'c' `ls -la` $HOME #include // comment /* x */ <div class=\"a\"> </div> {{ x }} {% if %} "
            "\\n \\t "
            "foo_bar fooBar FOO_BAR x86_64 utf-8 a->b ?. ... ;;; ==== ---- **** ((( )))",
    "punctuation": ". , ; : ! ? … — – ‐ « » “ ” ‘ ’ „ ‚ ¿ ¡ 。 ， 、 ； ： ？ ！ 「」 『』 （） 【】 《》 ・ ～ ｡ ､ € £ ¥ ₿ © ® ™ ° "
                   "§ ¶ † ‡ • ± × ÷ ≠ ≤ ∞ ∑ √",
    "marks": "é e\u0301 o\u0302\u0301 a\u0328\u0301 q\u0307\u0323 q\u0323\u0307 \u0301 x\u0338 =\u0338 A\u030a "
             "\u212b \u2126 \u1100\u1161\u11a8 \uac00\u11a8 \u0915\u093c \u09c7\u09be \u0b47\u0b57 \u3099 か\u3099 "
             "ハ\u309a \ufb1d \u2adc \U0001d15e \u0344",
    "controls": "\x00 \x01 \x07 \x08 \x1b[0m \x7f \x85 \u200b \u200c \u200d \u200e \u2060 \ufeff \u00ad \ufffd "
                "\U000e0001 \ue000 \U0010ffff \ufffe",
}
SPACES = [" ", "  ", "   ", "\n", "\n\n", " \n", "\n ", "\r\n", "\r", "\t", "\t\t", " \t ", "\u00a0", "\u3000",
          "\u2003", "\u2028", "\u202f", "\u1680", "\u180e", "\v", "\f", " \n \n  ", "      "]
LISTS = {name: text.split(" ") for name, text in WORDS.items()}


def make_sentence(generator, names):
    words = [generator.choice(LISTS[generator.choice(names)]) for _ in range(generator.randint(1, 12))]
    joint = generator.choice([" ", " ", " ", "", "random"])
    if joint != "random":
        return joint.join(words)
    return "".join(word + generator.choice(SPACES + ["", ""]) for word in words)


def make_texts(num_texts, seed, added_tokens=()):
    """`num_texts` different texts; some contain the added tokens, whole, cut, or run together with words."""
    generator = random.Random(seed)
    all_names = sorted(LISTS)
    texts = dict.fromkeys(["", " ", "a", "\n", "  ", "ſ", "İ", "e\u0301", "'S", "don'ſ", "a" * 300, " " * 70 + "x",
                           "é" * 90])
    for token in added_tokens:
        texts.update(dict.fromkeys([token, token[:-1], " " + token + " x", token + token, "a" + token + "b",
                                    token[1:]]))
    while len(texts) < num_texts:
        kind = generator.random()
        if kind < 0.45:
            text = make_sentence(generator, [generator.choice(all_names)])
        elif kind < 0.75:
            text = make_sentence(generator, all_names)
        elif kind < 0.85:
            text = "".join(generator.choice(SPACES + ["x", "1", ".", "字"]) for _ in range(generator.randint(1, 9)))
        elif kind < 0.93:
            text = "".join(chr(random_code_point(generator)) for _ in range(generator.randint(1, 8)))
        else:
            text = make_sentence(generator, all_names)
            for _ in range(generator.randint(1, 3)):
                token = generator.choice(list(added_tokens) or ["<s>"])
                at = generator.randint(0, len(text))
                text = text[:at] + token + text[at:]
        texts[text] = None
    return list(texts)[:num_texts]


def random_code_point(generator):
    while True:
        code_point = generator.choice([generator.randint(0x20, 0x24F), generator.randint(0x250, 0x1FFF),
                                       generator.randint(0x2000, 0x33FF), generator.randint(0xA000, 0xABFF),
                                       generator.randint(0xF900, 0xFFFF), generator.randint(0x1F000, 0x1FAFF)])
        if is_settled(chr(code_point)):
            return code_point


def is_settled(character):
    """Assigned since Unicode 3.2: the packages carry tables of different versions, which differ on newer "
    "characters."""
    return unicodedata.ucd_3_2_0.category(character) not in ("Cn", "Cs")


def make_corpus(seed, num_sentences):
    generator = random.Random(seed)
    names = [name for name in sorted(LISTS) if name != "controls"] + ["latin", "chinese", "code"] * 3
    return [make_sentence(generator, [generator.choice(names)]) for _ in range(num_sentences)]


# --- texts to cut into words ------------------------------------------------------------------------------------------

# Characters of which few and many words are made, so that words overlap.
HAN = ("中国科学院计算所的一是在不了有和人这大为上个时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后多定行学法所民得经"
       "十三之进着等部度家电力里如水化高自二理起小物现实加量都两体制机当使点从业本去把性好应开它合还因由其些然前外天政四日那社义事平形相全表间"
       "样与关各重新线内数正心反你明看原又么利比或但质气第向道命此变条只没结解问意建月公无系军很情者最立代想已通并提直题党程展五果料象员革位入"
       "常文总次品式活设及管特件长求老头基资边流路级少图山统接知较将组见计别她手角期根论运农指几九区强放决西被干做必战先回则任取据处队南给色光门"
       "即保治北造百规热领七海口东导器压志世金增争济阶油思术极交受联什认六共权收证改清己美再采转更单风切打白教速花带安场身车例真务具万每目至达走"
       "积示议声报斗完类八离华名确才科张信马节话米整空元况今集温传土许步群广石记需段研界拉林律叫且究观越织装影算低持音众书布复容儿须际商非验连断")
MIXED = ["AT&T", "c++", "C#", "T恤", "B超", "3.14", "50%", "99.5%", "v1.2.3", "x-y_z", "#1", "a.b%", "...", "+86", "100.%",
         "2024年", "iPhone15", "GPT-4", "&&", "--", "%", "龥", "鿕", "鿖", "㐀", "𠮷", "，", "。", "：", "？", "、", "“", "”",
         "（", "）", " ", "  ", "\n", "\r\n", "\r", "\t", "\u3000", "é", "Ａ１", "😀", "の", "한국", "<eot>", "▂", "▃", "▁"]


def make_han_word(generator, alphabet, most):
    return "".join(generator.choice(alphabet) for _ in range(generator.randint(1, most)))


def make_dictionary(seed):
    """Words over few characters with few different frequencies, so that many segmentations are equally likely."""
    generator = random.Random(seed)
    words = {make_han_word(generator, HAN[:60], 4): generator.choice([0, 1, 1, 2, 3, 10, 100, 5000]) for _ in range(700)}
    words.update((character, generator.choice([0, 1, 20, 900])) for character in HAN[:60:2])
    words.update({"AT&T": 3, "c++": 3, "C#": 3, "T恤": 4, "B超": 3, "GPT-4": 2, "50%": 1})
    return list(words.items())


def make_emissions(seed):
    """Natural logarithms by state and character; some characters are missing, some values the same."""
    generator = random.Random(seed)
    return [(state, [(character, generator.choice([-8.5, -round(generator.uniform(1, 16), 12)]))
                     for character in sorted(set(HAN[:200])) if generator.random() < 0.8]) for state in "BEMS"]


def make_chinese(num_texts, seed, words=()):
    """`num_texts` different texts: runs of few or all Han characters, ASCII words, numbers, signs, line ends; some of
    them also made of the given `words`."""
    generator = random.Random(seed)
    texts = dict.fromkeys(["", " ", "\n", "\r\n", "的", "a", "100%"])
    while len(texts) < num_texts:
        parts = []
        if words and generator.random() < 0.6:
            parts = [generator.choice(words) for _ in range(generator.randint(1, 10))]
        for _ in range(generator.randint(1, 8)):
            kind = generator.random()
            if kind < 0.4:
                parts.append(make_han_word(generator, HAN[:60], 12))
            elif kind < 0.6:
                parts.append(make_han_word(generator, HAN, 12))
            elif kind < 0.75:
                parts.append(generator.choice(MIXED))
            elif kind < 0.9:
                parts.append(generator.choice(LISTS[generator.choice(["chinese", "latin", "digits", "japanese"])]))
            else:
                parts.append("".join(generator.choice("aZ09.%+-_#& ") for _ in range(generator.randint(1, 8))))
        texts["".join(parts)] = None
    return list(texts)
