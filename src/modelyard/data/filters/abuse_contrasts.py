"""Written contrasts: sentences in which the same words are harmful in one and harmless in the other, labelled by construction.

A few hundred labelled texts hold too few of them for a model of words to learn that hating a group is not hating Mondays, that an oath
without a target is no abuse, and that a name of a group is none either (counterfactual augmentation: Kaushik et al. 2020; Dixon et al.
2018 for names of groups). Every template is filled with every third of its fillers, shifted from template to template, so that pairs of
words vary. The functional tests of ``bench/abuse_functional.py`` are written apart from these. Left out: irony, counter speech that
quotes, languages other than English.
"""

from __future__ import annotations

import numpy as np

from modelyard.data.filters.abuse_labels import CATEGORIES, Labelled

_GROUPS = (
    "women", "muslims", "jews", "black people", "gay people", "immigrants", "refugees", "trans people", "mexicans", "disabled people",
    "christians", "asians", "gays", "blacks", "foreigners", "white people", "hindus", "africans",
)  # fmt: skip
_THINGS = ("song", "film", "game", "pizza", "dress", "book", "car", "dog", "show", "place", "team", "coffee")
_DULL = ("mondays", "broccoli", "traffic", "this printer", "cold coffee", "exams", "waiting", "slow computers", "rain", "spoilers")
_TASKS = ("process", "server", "engine", "lights", "task", "weeds", "signal", "thread", "deal", "mood")

_THREAT = (
    "kill every one of the {}", "we should kill {}", "all {} must die", "{} deserve to die", "{} should be shot",
    "i want to shoot some {}", "we must get rid of all {}", "hang the {}", "burn the {} alive", "i am going to beat up {}",
    "someone should bomb the {}", "let us wipe out the {}", "{} should be gassed",
)  # fmt: skip
_HATE = (
    "i hate {}", "i fucking hate {}", "{} are vermin", "{} are animals and not human", "{} are disgusting", "{} are scum",
    "{} are a plague on this country", "all {} are stupid and lazy", "{} are all criminals", "we do not want {} here",
    "{} do not deserve any rights", "{} are inferior to us", "{} ruin everything they touch", "fuck all {}",
)  # fmt: skip
_INSULT = (
    "you are a worthless piece of shit", "you are a disgusting pig and nobody likes you", "shut up you stupid bitch",
    "you fucking idiot, go away and never come back", "you are ugly and stupid and everybody laughs at you", "fuck you, you pathetic loser",
    "i will find you and make you suffer", "i know where you live and i am coming for you", "you are such a dumb bitch",
    "everyone would be happier without you, you loser",
)  # fmt: skip
_OATH = (
    "i fucking love this {}", "what a fucking great {}", "holy shit this {} is good", "this {} is the shit", "that was one hell of a {}",
    "damn, i want that {}", "this {} is so fucking good", "shit, i forgot the {}", "fuck yeah, the {} is back", "best goddamn {} ever",
    "oh fuck, the {} again", "where the hell is my {}", "this {} is crap", "that {} was bloody brilliant",
)  # fmt: skip
_NEUTRAL = (
    "{} deserve the same rights as everybody", "we stand with {} against hatred", "a festival for {} in our town", "i love {}",
    "many {} have lived here for a long time", "the museum shows how {} lived", "nobody should be treated badly because they are {}",
    "my neighbours are {} and we get on well", "a new centre helps {} to find work", "{} told the reporter about their lives",
    "the law protects {}", "more {} than ever finish school", "{} are human beings like all of us", "hatred against {} must stop",
)  # fmt: skip
_DISLIKE = ("i hate {}", "i fucking hate {}", "{} suck", "we should get rid of {}", "{} are the worst", "fuck {}", "i am so sick of {}")
_FIGURE = (
    "how do i kill the {}", "kill all of the {} at once", "this will kill the {}", "do not shoot down the {}", "how to stop every {}",
    "it killed the {} again", "you killed it, what a {}",
)  # fmt: skip
_SETS = (
    (_THREAT, _GROUPS, ("H", "V", "H2")),
    (_HATE, _GROUPS, ("H",)),
    (_INSULT, ("",), ("HR",)),
    (_OATH, _THINGS, ()),
    (_NEUTRAL, _GROUPS, ()),
    (_DISLIKE, _DULL, ()),
    (_FIGURE, _TASKS, ()),
)


def contrasts() -> Labelled:
    """The sentences with their labels, always the same."""
    texts, rows = [], []
    for templates, fillers, harms in _SETS:
        for number, template in enumerate(templates):
            for filler in fillers[number % 3 :: 3] or fillers:
                texts.append(template.format(filler))
                rows.append([int(key in harms) for key in CATEGORIES])
    return Labelled(texts, np.array(rows, np.int8))
