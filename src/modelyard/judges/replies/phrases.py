"""Words for ``the answer``, ``or`` and ``and`` in the languages whose replies are read, for letters and numbers alike.

Every constant is the inside of a regular expression that ignores case, spelled as NFKC spells it. Left out: negations.
"""

from __future__ import annotations

ROMANCE = (
    r"r\u00e9ponse(?:\s+(?:correcte|exacte|finale))?|respuesta(?:\s+(?:correcta|final))?"
    r"|resposta(?:\s+(?:correta|certa|final))?|risposta(?:\s+(?:corretta|esatta|giusta|finale))?"
)
"""The answer in French, Spanish, Portuguese and Italian."""
ROMANCE_IS = r"est|es|\u00e9|\u00e8"
ASIAN = r"\[?(?:\u7b54\u6848|\u7b54\u3048|\u89e3\u7b54|\u6b63\u89e3|\uc815\ub2f5|\ub2f5)\]?"
"""In Chinese, Japanese and Korean; brackets stand around it as a heading."""
ASIAN_IS = r"\u662f|\u4e3a|\u70ba|\u306f|\uc740"
OTHERS = (
    r"\b\u043e\u0442\u0432\u0435\u0442|\bJibu(?:\s+sahihi)?(?:\s+ni)?|\b(?:cevap|yan\u0131t)"
    r"|\u0989\u09a4\u09cd\u09a4\u09b0(?:\s+\u09b9\u09b2\u09cb?)?|\u0c38\u0c2e\u0c3e\u0c27\u0c3e\u0c28\u0c02"
    r"|\u0e04\u0e4d\u0e32\u0e15\u0e2d\u0e1a(?:\u0e04\u0e37\u0e2d)?"
    r"|(?:\u0938\u0939\u0940\s+)?(?:\u0909\u0924\u094d\u0924\u0930|\u091c\u0935\u093e\u092c)"
    r"|(?:\u0627\u0644\u0625\u062c\u0627\u0628\u0629|\u0627\u0644\u062c\u0648\u0627\u0628)"
    r"(?:\s+\u0627\u0644\u0635\u062d\u064a\u062d\u0629?)?(?:\s+\u0647[\u064a\u0648])?"
    r"|\b(?:\u0111\u00e1p\s+\u00e1n|c\u00e2u\s+tr\u1ea3\s+l\u1eddi)"
    r"(?:\s+\u0111\u00fang)?(?:\s+l\u00e0)?"
)
"""In Russian, Swahili, Turkish, Bengali, Telugu, Thai, Hindi, Arabic and Vietnamese, with the verb that some put behind it."""
OR = (
    r"\b(?:or|oder|ou|o|u|ho\u1eb7c|veya|ya\s+da|au|\u0438\u043b\u0438|\u043b\u0438\u0431\u043e)\b"
    r"|\ub610\ub294|\ud639\uc740|\u6216\u8005?|\u8fd8\u662f|\u9084\u662f|\u307e\u305f\u306f|\u3082\u3057\u304f\u306f|\u304b"
    r"|\u09ac\u09be|\u0905\u0925\u0935\u093e|\u092f\u093e|\u0c32\u0c47\u0c26\u0c3e|\u0e2b\u0e23\u0e37\u0e2d|\u0623\u0648"
)
AND = (
    r"\b(?:and|und|et|y|e|v\u00e0|ve|na|\u0438)\b|\uc640|\uacfc|\uadf8\ub9ac\uace0|\u548c|\u53ca|\u3068"
    r"|\u098f\u09ac\u0982|\u0914\u0930|\u0c2e\u0c30\u0c3f\u0c2f\u0c41|\u0e41\u0e25\u0e30|\u0648"
)
