"""Words of short texts in the common languages of Europe, without those that say nothing and those that name somebody.

The list of words that say nothing is our own, and short: articles, pronouns, prepositions and forms of "to be" and "to
have" in English, German, French, Spanish, Italian, Portuguese and Dutch. Words that matter to customers, such as "not",
are no part of it.
"""

from __future__ import annotations

import re

_STOP = """
a about after all also am an and any are as at be because been before being but by can could did do does doing for from
had has have he her here him his how i if in into is it its itself just me more most my of off on once only or other our
out over own she should so some such than that the their them then there these they this those through to too under
until up us very was we were what when where which while who whom why will with would you your
aber alle als am an auch auf aus bei bin bis da damit dann das dass dem den der des die dies diese dieser doch du ein
eine einem einen einer eines er es für habe haben hat hatte ich ihr im in ist ja kann man mein meine mich mir mit nach
noch nur ob oder schon sehr sein sich sie sind so über um und uns unser von vor war waren was wenn wer wie wir wird wo
zu zum zur
à au aux avec c ce ces cette d dans de des du elle en est et être eu il ils j je l la le les leur lui ma mais me mes
moi mon n nos notre nous on ou où par plus pour qu que qui s sa se ses son sont sur t te très tu un une vos votre vous y
al como con cuando de del desde donde el ella ellos en entre era es esa ese eso esta este esto fue ha hay la las le lo
los me mi mis muy nos o para pero por que se ser si sobre son su sus también te un una uno y ya yo
ai al alla anche che chi ci come con cui da dal dei del della di e è ed era gli ha hanno ho i il io la le lei lo ma mi
nei nel nella per più quando questa questo sono su sua suo tra un una uno
ao aos as com da das de do dos e ela ele em era essa esse esta este eu foi há isso mas me meu minha muito na nas nos
o os ou para pela pelo por que se sem seu sua são também tem um uma
aan als bij dan dat de deze die dit door een en er had heb het hij hoe ik in is je kan maar met mijn naar nog nu of om
onze ook op te tot uit uw van veel voor was wat we wel wij wordt ze zeer zij zijn zo
"""
STOP: frozenset[str] = frozenset(_STOP.split())
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_APART = re.compile(r"[\s,;:!?()\"“”„«»…]+|['’`]|\.+(?=\s|$)")
_TELLS = re.compile(r"[\d@/\\_]|\w\.\w|www|\+")  # numbers, addresses, handles: what may be about one person
SHORTEST = 3  # letters of a word that is counted


def words(text: str) -> frozenset[str]:
    """The words of a text that say something, in lower case, each once; none of a piece with digits or an address."""
    found = set()
    for piece in _APART.split(text.casefold()):
        if piece and not _TELLS.search(piece):
            found |= {word for word in _WORD.findall(piece) if len(word) >= SHORTEST and word not in STOP}
    return frozenset(found)


def tokens(text: str) -> frozenset[str]:
    """Every piece of a text that could be somebody's id, as written and without what encloses it."""
    pieces = text.split()
    return frozenset(one for piece in pieces for one in (piece, piece.strip(".,;:!?()[]{}<>\"'“”„«»…")) if one)


def names_nobody(text: str) -> bool:
    """Whether a text holds no digit, address or handle; people's names cannot be told from other words."""
    return not _TELLS.search(text.casefold())
