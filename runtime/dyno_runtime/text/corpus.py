"""Texts on which two tokenizers must agree before the faster one is trusted.

In: the tokenizer's added tokens. Out: texts of many scripts, code, numbers, white space, emoji, broken and odd
characters, and of all these around added tokens. About 25 kB, so that a check takes some tens of milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

MAX_ADDED = 64

_PROSE = (
    "The quick brown fox doesn't jump over the lazy dog; it'll sleep, they've said, I'm sure we'd agree.",
    "Der Müller mahlt früh das süße Korn, während draußen große Vögel über die Felder ziehen.",
    "L'été dernier, où étiez-vous ? À Besançon, chez le garçon d'à côté, près du cœur de la ville.",
    "¿Cuántos niños corrían? ¡Muchísimos! El pingüino añoraba la montaña.",
    "Zażółć gęślą jaźń. Příliš žluťoučký kůň úpěl ďábelské ódy. Árvíztűrő tükörfúrógép.",
    "Ведро воды стоит у двери, а ёжик спит под ёлкой. Щука плывёт быстро.",
    "Ένα μικρό καΐκι έφυγε από το λιμάνι πριν ξημερώσει, χωρίς άνεμο.",
    "על שולחן העץ עמדו שלושה ספרים ישנים וכוס תה. שָׁלוֹם",
    "في الصباح الباكر خرج الصيادون إلى البحر، وعادوا قبل الغروب. مَرْحَبًا",
    "सुबह की धूप में बच्चे नदी के किनारे खेल रहे थे। क्षत्रिय ज्ञान",
    "ตอนเช้าฝนตกหนัก แต่ตอนบ่ายท้องฟ้าก็สดใสอีกครั้ง",
    "今天早上我去了市场,买了三斤苹果和两条鱼。“真的吗?”她问道。",
    "昨日は雨が降りましたが、今日は晴れています。カタカナとひらがな、漢字も読めます。",
    "아침에 일찍 일어나서 강가를 따라 걸었다. 날씨가 참 좋았다!",
    "Sáng nay trời mưa to, nhưng buổi chiều nắng đẹp ở Đà Nẵng.",
    "დილით მზე ამოვიდა. Առավոտյան արևը ծագեց. ጠዋት ፀሐይ ወጣች።",
    "I ASKED 'WHY?' AND THEY'RE SAYING: IT'S NOT OURS. WE'LL SEE. iPhone McDonald HTTPServer XMLHttpRequest2",
)

_CODE = (
    'def area(radius: float) -> float:\n    """Of a circle."""\n    return 3.14159 * radius ** 2  # no units\n',
    "for (int i = 0; i < n; ++i) {\n\tsum += a[i] * b[i];\r\n\tif (!ok) { return -1; }\r\n}\n",
    '{"name": "x", "list": [1, 2.50, -3e+10, null, true], "nested": {"a": {"b": {}}}, "s": "\\u00e9\\n"}',
    "SELECT id, name FROM users WHERE age >= 21 AND name LIKE '%o''b%' ORDER BY 1 DESC;",
    "<div class=\"a b\" id='c'>&nbsp;&lt;p&gt; <!-- note --></div>\n```python\nprint('hi')\n```",
    "$ grep -rn 'foo\\.bar' ./src/**/*.rs | sort -u | head -n 20 && echo \"done: $?\"",
    "https://example.org/a/b?c=d&e=%20f#g mail@example.org C:\\Temp\\new \\\\host\\share 127.0.0.1:8000",
    "x₁² + y² = r²; ∀ε>0 ∃δ: |x−a|<δ ⇒ |f(x)−L|<ε; ½ ⅓ Ⅷ ① ⑳ ㊿ ¼",
)

_NUMBERS = (
    "0 1 12 123 1234 12345 123456 1234567890 1,234,567.89 007 3.14e-10 0x1F 1st 2nd 50% $9.99 €5 ١٢٣ १२३ 一二三",
    "2031-12-24T18:30:00Z +49 (0)30 1234-5678 v1.2.3-rc.4",
)

_ODD = (
    "",
    " ",
    "\n",
    "\t",
    "a",
    " a",
    "a ",
    "\u00a0no\u00a0break\u00a0 spaces\u3000wide\u2003em\u200bzero\ufeffmark",
    "  two   three    four     five\t\ttabs\t \tmixed \n \n\n  \n\t\n   end   ",
    "\r\n\r\n \r\n\r trailing \r",
    " " * 70 + "x" + " " * 33 + "\n" * 17 + "\t" * 9,
    "ends with spaces   ",
    "ends with newlines\n\n\n",
    "e\u0301 vs é, n\u0303 vs ñ, A\u030a Å Å ﬁ ﬀ ſ İi ıI ǆ ß ẞ Σς",
    "한 vs 한 (composed and not), ｆｕｌｌ ｗｉｄｔｈ, ½ vs 1/2, x̧̖̗",
    "😀😃 👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪🇯🇵 ❤️ ☕ 1️⃣ 🫠🪿",
    "a😀b 😀 c😀😀d",
    "𝕳𝖊𝖑𝖑𝖔 𓀀𓁐 𐍈 𝄞 🀄 \U000e0041\U0010ffff",
    "\x00\x01\x07\x1b[31mred\x1b[0m\x7f\x85\u2028\u2029\ufffd\ufffe",
    "!!! ??? ... --- ___ *** ((([[[{{{ }}}]]]))) <<<>>> «»„“”‚‘’ … – — · •",
    "a" * 300,
    "ab" * 200 + "🙂" * 40 + "的" * 200,
    "supercalifragilisticexpialidocious pneumonoultramicroscopicsilicovolcanoconiosis Donaudampfschiff",
    "'s 't 're 've 'm 'll 'd 'S 'T 'RE ' s '’s ’t",
    "word,word.word;word:word!word?word/word\\word|word-word_word+word=word",
)


def parity_corpus(added: Sequence[str] = ()) -> list[str]:
    """The texts; `added` are the tokenizer's added tokens, of which the first and the last ones are used."""
    plain = [*_PROSE, *_CODE, *_NUMBERS, *_ODD]
    texts = [*plain, "\n\n".join(_PROSE), " ".join(plain), "\n".join(_CODE) * 3]
    few = added if len(added) <= MAX_ADDED else [*added[: MAX_ADDED // 2], *added[-MAX_ADDED // 2 :]]
    for token in few:
        texts += [token, f"a{token}b", f" {token} ", f"{token}{token}\n", token[:-1], f"x  {token}\n\n y"]
    texts += [left + right for left, right in product(few[:6], repeat=2)]
    texts.append("".join(f"{token} text {number}\n" for number, token in enumerate(few)))
    return texts
