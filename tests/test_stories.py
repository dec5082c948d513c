"""The story language: its entropy, its probabilities recomputed by an independent reader, its order."""

import math
from collections import defaultdict
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalegrow.errors import InputError
from scalegrow.train import stories
from scalegrow.train.stories import (
    ASK,
    COMPOSITION,
    DOCUMENT,
    GOES,
    HOME,
    IS,
    KNOWLEDGE,
    NOWHERE,
    OBJECTS,
    PERSONS,
    PLACES,
    STOP,
    TAGS,
    TAKES,
    THE,
    TO,
    TRACKING,
    VOCAB,
    WHERE,
    WORDS,
    Grammar,
    Stories,
    facts_of,
    surprises,
    zipf,
)

SMALL = Grammar(n_facts=300)


class Reader(NamedTuple):
    """A second account of the language: the distribution of the next token, from the tokens so far alone."""

    grammar: Grammar
    triples: dict[tuple[int, ...], float]
    values: dict[tuple[int, ...], int]

    @classmethod
    def of(cls, grammar: Grammar) -> "Reader":
        facts = facts_of(grammar)
        p = np.diff(facts.cumulative, prepend=0.0)
        triples: dict[tuple[int, ...], float] = defaultdict(float)
        for (a, b, c, _), share in zip(facts.tokens.tolist(), p.tolist(), strict=True):
            for prefix in ((), (a,), (a, b), (a, b, c)):
                triples[prefix] += share
        return cls(grammar, triples, {tuple(row[:3]): row[3] for row in facts.tokens.tolist()})

    def next(self, tokens: list[int]) -> dict[int, float]:
        """p of every possible next token."""
        where, holder, sentence = self.read(tokens)
        fact, move, take, one, two = self.grammar.shares
        names = zipf(len(PERSONS), self.grammar.name_exponent)
        n = len(sentence)
        if n == 0:
            found = {token: fact * p for token, p in self.words(()).items()}
            found |= {PERSONS[i]: (move + take) * names[i] for i in range(len(PERSONS))}
            return found | {WHERE: one + two}
        first = sentence[0]
        if first in WORDS:
            return (
                self.words(tuple(sentence)) if n < 3 else {self.values[tuple(sentence[:3])] if n == 3 else STOP: 1}
            )
        if first in PERSONS:
            verbs = {GOES: move / (move + take), TAKES: take / (move + take)}
            things = {GOES: {p: 1 / len(PLACES) for p in PLACES}, TAKES: dict(zip(OBJECTS, names, strict=True))}
            return [
                verbs,
                {TO if sentence[-1] == GOES else THE: 1},
                things[sentence[1] if n > 1 else GOES],
                {STOP: 1},
            ][n - 1]
        if n == 1:
            return {IS: 1}
        if n == 2:
            people = {PERSONS[i]: one / (one + two) * names[i] for i in range(len(PERSONS))}
            return people | {THE: two / (one + two)}
        if sentence[2] == THE:
            if n == 3:
                return dict(zip(OBJECTS, names, strict=True))
            place = where.get(holder[sentence[3]], HOME) if n > 4 and sentence[3] in holder else NOWHERE
            return [{ASK: 1}, {place: 1}, {STOP: 1}][n - 4]
        return [{ASK: 1}, {where.get(sentence[2], HOME): 1}, {STOP: 1}][n - 3]

    def words(self, prefix: tuple[int, ...]) -> dict[int, float]:
        whole = self.triples[prefix]
        longer = [key for key in self.triples if len(key) == len(prefix) + 1 and key[: len(prefix)] == prefix]
        return {key[-1]: self.triples[key] / whole for key in longer}

    def read(self, tokens: list[int]) -> tuple[dict[int, int], dict[int, int], list[int]]:
        """Who is where, who holds what, and the sentence begun."""
        where: dict[int, int] = {}
        holder: dict[int, int] = {}
        sentence: list[int] = []
        for token in tokens[1:]:
            sentence.append(token)
            if token == STOP:
                if sentence[1] == GOES:
                    where[sentence[0]] = sentence[3]
                if sentence[1] == TAKES:
                    holder[sentence[3]] = sentence[0]
                sentence = []
        return where, holder, sentence


def test_an_independent_reader_finds_the_same_probabilities() -> None:
    """At every position the reader's distribution sums to 1 and gives the emitted token the stored p: unifilar."""
    reader = Reader.of(SMALL)
    batch = Stories(60, seed=3, grammar=SMALL).train_batch(0, 12)
    assert batch.log_p is not None
    for row, log_p in zip(batch.tokens.tolist(), batch.log_p, strict=True):
        for t in range(60):
            distribution = reader.next(row[: t + 1])
            assert math.fsum(distribution.values()) == pytest.approx(1, abs=1e-9)
            assert math.log(distribution[row[t + 1]]) == pytest.approx(log_p[t], abs=1e-5), (t, row[: t + 2])


@pytest.mark.parametrize("context", [7, 64, 128])
@pytest.mark.parametrize("grammar", [Grammar(), Grammar((0.4, 0.2, 0.15, 0.15, 0.1), 1000, 1.2, 0.0, 0.3, 5)])
def test_the_entropy_is_the_mean_surprise(context: int, grammar: Grammar) -> None:
    """E in closed form = the sample mean of -log p, within 4 standard errors over documents."""
    source = Stories(context, grammar=grammar)
    batch = source.heldout_batch(0, 20 * stories.BLOCK)
    assert batch.log_p is not None
    by_document = -batch.log_p.astype(np.float64).mean(1)
    error = by_document.std() / math.sqrt(len(by_document))
    assert by_document.mean() == pytest.approx(source.entropy, abs=4 * error)
    # By position, too: the renewal recursion puts every choice where it falls.
    at = -batch.log_p.astype(np.float64)
    z = (at.mean(0) - source.surprise_by_position()) / np.maximum(at.std(0) / math.sqrt(len(at)), 1e-9)
    assert np.abs(z).max() < 5


def test_the_entropy_would_notice_a_wrong_term() -> None:
    """Negative control: leave the choice among persons out, and the identity fails by many standard errors."""
    source = Stories(128)
    batch = source.heldout_batch(0, 20 * stories.BLOCK)
    assert batch.log_p is not None
    by_document = -batch.log_p.astype(np.float64).mean(1)
    error = by_document.std() / math.sqrt(len(by_document))
    per_token = 0.28 * surprises(source.grammar)[stories.MOVE, 0] / 5.3
    assert abs(source.entropy - per_token - by_document.mean()) > 10 * error


def test_answers_follow_from_the_story() -> None:
    """Tags mark what they say, and a question's answer is the last place moved to."""
    batch = Stories(128, grammar=SMALL).train_batch(0, 200)
    assert batch.tags is not None
    reader = Reader.of(SMALL)
    answers = {TRACKING: 0, COMPOSITION: 0, KNOWLEDGE: 0}
    told = 0
    for row, tags in zip(batch.tokens.tolist(), batch.tags, strict=True):
        for t in np.flatnonzero(np.isin(tags, list(answers))):
            answers[int(tags[t])] += 1
            (only,) = reader.next(row[: t + 1])
            assert row[t + 1] == only
            told += only in PLACES
    assert min(answers.values()) > 100
    assert told > 150, "questions about what was told, not only HOME and NOWHERE"
    assert TAGS == ("trivial", "choice", "knowledge", "tracking", "composition")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2000), st.integers(1, 300), st.integers(0, 5))
def test_order_is_a_function_of_seed_and_number(first: int, count: int, seed: int) -> None:
    """Any split into batches gives the same sequences."""
    source = Stories(16, seed, SMALL)
    whole = source.train_batch(first, count)
    half = count // 2
    if half:
        parts = [source.train_batch(first, half), source.train_batch(first + half, count - half)]
        assert np.array_equal(np.concatenate([part.tokens for part in parts]), whole.tokens)
    assert whole.tokens.shape == (count, 17)
    assert whole.tokens.max() < VOCAB
    assert (whole.tokens[:, 0] == DOCUMENT).all()


def test_streams_do_not_meet() -> None:
    """Held-out documents are the same for every seed and not among the training ones, whose seeds differ."""
    one, two = Stories(64, 0), Stories(64, 1)
    assert np.array_equal(one.heldout_batch(0, 300).tokens, two.heldout_batch(0, 300).tokens)
    sets = [
        {row.tobytes() for row in batch.tokens}
        for batch in (one.heldout_batch(0, 2000), one.train_batch(0, 2000), two.train_batch(0, 2000))
    ]
    assert not sets[0] & sets[1]
    assert not sets[1] & sets[2]


def test_another_language_has_other_facts() -> None:
    assert not np.array_equal(facts_of(Grammar(seed=1)).tokens, facts_of(Grammar()).tokens)
    p = np.diff(facts_of(Grammar()).cumulative, prepend=0.0)
    ratio = p[999] / p[99]
    assert ratio == pytest.approx(((100 + 8) / (1000 + 8)) ** 1.5), "rank^-(1 + a), shifted"


@pytest.mark.parametrize(
    "wrong",
    [{"shares": (0.5, 0.5, 0.5, 0, 0)}, {"n_facts": 0}, {"n_facts": 10**8}, {"exponent": 0.0}, {"shift": -1.0}],
)
def test_impossible_grammars_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Grammar(**wrong)


def test_an_impossible_range_is_refused() -> None:
    with pytest.raises(InputError, match="count from 0"):
        Stories(8, grammar=SMALL).train_batch(-1, 2)
