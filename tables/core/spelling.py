"""Spells categories of every source by one rule.

So each is one category however it is stored.

As ids, they are in Unicode NFKC without white space around them. Beyond that a decimal number ends in
no zeros, `true` and `false` are in small letters, and a midnight is its date. So gaps in a column, or
another format, change nothing.
"""

import pyarrow as pa
import pyarrow.compute as pc

RULES = (  # one after the other
    (r"^(-?[0-9]+\.[0-9]*?)0+$", r"\1"),
    (r"^(-?[0-9]+)\.$", r"\1"),
    (r"^-0$", "0"),
    (r"^([0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9:]{8})\.0+$", r"\1"),
    (r"^([0-9]{4}-[0-9]{2}-[0-9]{2})[ T]00:00:00$", r"\1"),
)
WORDS = r"^(?i:true|false)$"


def spell(texts: pa.Array) -> pa.Array:
    """Spell texts, large_string, by the rule.

    Null where missing, or nothing is left. What is by the rule stays as it is.
    """
    found = texts.dictionary_encode()
    return _spell_distinct(found.dictionary).take(found.indices)


def _spell_distinct(texts: pa.Array) -> pa.Array:
    texts = pc.utf8_trim_whitespace(pc.utf8_normalize(texts, form="NFKC"))
    for pattern, replacement in RULES:
        texts = pc.replace_substring_regex(texts, pattern, replacement)
    texts = pc.if_else(pc.match_substring_regex(texts, WORDS), pc.utf8_lower(texts), texts)
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.large_string()), texts)
