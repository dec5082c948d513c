"""The story language: endless text whose true next-token probabilities are known exactly.

The generator is unifilar: its hidden state (who is where, who holds what) follows from the tokens already shown,
and every random choice shows in the token it emits. So the probability it used IS the true probability of the
token given all before, log p is stored beside each token, and the entropy rate needs no estimate.

Sentences, drawn independently:
    fact   a b c v .                    a triple of words and the value it determines: knowledge
    move   P goes to L .
    take   P takes the O .
    where  where is P ? L .             one hop: the last place of P
    what   where is the O ? L .         two hops: the place of whoever took O last
Facts are drawn by rank r with probability ~ (r + shift)^-(1 + a). A model that knows the n most frequent misses
about n^-a of them, and D tokens show about D^(1/(1+a)) often enough, so the loss above the entropy falls about as
N^-a and D^-(a/(1+a)): the quantisation model (Michaud et al. 2023, arXiv 2303.13506). Random walks with exact
entropy: Barkeshli et al. 2026 (arXiv 2601.10684).
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scalegrow.errors import InputError
from scalegrow.train.batch import Batch

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TAGS = ("trivial", "choice", "knowledge", "tracking", "composition")
TRIVIAL, CHOICE, KNOWLEDGE, TRACKING, COMPOSITION = range(5)
VOCAB = 256
DOCUMENT, STOP, GOES, TO, TAKES, THE, WHERE, IS, ASK, HOME, NOWHERE = range(11)
PERSONS, OBJECTS, PLACES, WORDS = range(16, 22), range(32, 38), range(48, 80), range(80, 256)
FACT, MOVE, TAKE, WHERE_PERSON, WHERE_OBJECT = range(5)
LENGTHS = np.array((5, 5, 5, 6, 7))
LONGEST = int(LENGTHS.max())
BLOCK = 256  # documents drawn together
HELDOUT_STREAM = 1 << 62  # keys of held-out blocks; training blocks count from 0


@dataclass(frozen=True)
class Grammar:
    """The dials of the language. shares: of facts, moves, takes, questions of one hop and of two.

    n_facts triples have a value; exponent is the a of rank^-(1+a), shift flattens the head (Mandelbrot).
    seed decides which triple means what.
    """

    shares: tuple[float, float, float, float, float] = (0.60, 0.18, 0.10, 0.06, 0.06)
    n_facts: int = 1 << 17
    exponent: float = 0.5
    shift: float = 8.0
    name_exponent: float = 1.5
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.shares) != 5 or min(self.shares) <= 0 or abs(sum(self.shares) - 1) > 1e-9:
            raise InputError(
                f"shares {self.shares} of the five sentences must be above 0 and sum to 1: mend them."
            )
        if not 1 <= self.n_facts <= len(WORDS) ** 3 // 2:
            raise InputError(f"{self.n_facts} facts: give 1 to {len(WORDS) ** 3 // 2}, half of all triples.")
        if not (self.exponent > 0 and self.shift >= 0 and self.name_exponent >= 0):
            raise InputError("exponent must be above 0, shift and name_exponent not below: mend the grammar.")


class Facts(NamedTuple):
    """By rank: the triple and its value [R, 4], log p of the triple's three tokens [R, 3], cumulated p [R]."""

    tokens: Ints
    log_p: Floats
    cumulative: Floats


@lru_cache(maxsize=4)
def facts_of(grammar: Grammar) -> Facts:
    """Distinct random triples, each with a random value, and the exact p(a), p(b | a), p(c | a, b)."""
    rng = np.random.Generator(np.random.Philox(key=[grammar.seed, 1]))
    n_words = len(WORDS)
    keys = rng.choice(n_words**3, size=grammar.n_facts, replace=False, shuffle=True)
    words = np.stack((keys // n_words**2, keys // n_words % n_words, keys % n_words), axis=1)
    values = rng.integers(n_words, size=grammar.n_facts)
    p = zipf(grammar.n_facts, 1 + grammar.exponent, grammar.shift)
    p_a = _total(words[:, 0], p)
    p_ab = _total(keys // n_words, p)
    log_p = np.log(np.stack((p_a, p_ab / p_a, p / p_ab), axis=1))
    return Facts(np.column_stack((words, values)) + WORDS.start, log_p, np.cumsum(p))


def zipf(n: int, exponent: float, shift: float = 0.0) -> Floats:
    """p(r) ~ (r + shift)^-exponent for r = 1 .. n (Mandelbrot 1953)."""
    weights = (np.arange(1, n + 1) + shift) ** -exponent
    return np.asarray(weights / weights.sum())


def _total(groups: Ints, p: Floats) -> Floats:
    """For each member the total p of its group."""
    _, index = np.unique(groups, return_inverse=True)
    return np.asarray(np.bincount(index, weights=p)[index], dtype=np.float64)


class Draws(NamedTuple):
    """The random choices of n documents of S sentences: kind, fact rank, person, object and place, each [n, S]."""

    kind: Ints
    fact: Ints
    person: Ints
    object: Ints
    place: Ints


@dataclass(frozen=True)
class Stories:
    """Documents of T + 1 tokens each, a training and a held-out stream; a TokenSource.

    Training sequence i is a pure function of (grammar, seed, i), and so is the fixed held-out sequence i of
    (grammar, i): other streams, whatever the seed.
    """

    context: int
    seed: int = 0
    grammar: Grammar = Grammar()

    vocab_size = VOCAB
    tag_names = TAGS
    bytes_per_token = None
    n_train_sequences = None
    n_heldout_sequences = None

    def train_batch(self, first: int, count: int) -> Batch:
        """Sequences first .. first + count - 1 of the training order."""
        return self._batch(self.seed, 0, first, count)

    def heldout_batch(self, first: int, count: int) -> Batch:
        """Sequences of the held-out stream, the same for every seed."""
        return self._batch(0, HELDOUT_STREAM, first, count)

    def describe(self) -> dict[str, object]:
        """What decides the data, and its exact entropy in nats per token."""
        return {
            "source": "stories",
            "seed": self.seed,
            "grammar": {**vars(self.grammar), "shares": list(self.grammar.shares)},
            "vocab_size": VOCAB,
            "entropy": self.entropy,
        }

    @cached_property
    def entropy(self) -> float:
        """The exact mean of -log p over the T targets of a document, nats per token: the E of a scaling law.

        A renewal recursion over where sentences start: with s_t = P(a sentence starts at t), the expected
        -log p at t is sum over kinds k and offsets j of s_(t-j) p_k h_kj, and every h_kj is known in closed form.
        """
        return float(self.surprise_by_position().mean())

    def surprise_by_position(self) -> Floats:
        """Expected -log p of each of the T targets, nats."""
        shares, surprise = np.array(self.grammar.shares), surprises(self.grammar)
        starts, expected = np.zeros(self.context + LONGEST), np.zeros(self.context + LONGEST)
        starts[0] = 1.0
        for t in range(self.context):
            for kind, length in enumerate(LENGTHS):
                expected[t : t + length] += starts[t] * shares[kind] * surprise[kind, :length]
                starts[t + length] += starts[t] * shares[kind]
        return expected[: self.context]

    def _batch(self, seed: int, stream: int, first: int, count: int) -> Batch:
        if first < 0 or count < 1:
            raise InputError(f"sequences {first} to {first + count - 1} are no range: count from 0.")
        blocks = range(first // BLOCK, (first + count - 1) // BLOCK + 1)
        made = [documents(self.grammar, self.context, seed, stream + block) for block in blocks]
        rows = slice(first - blocks.start * BLOCK, first - blocks.start * BLOCK + count)
        tokens, log_p, tags = (np.concatenate(parts)[rows] for parts in zip(*made, strict=True))
        return Batch(tokens.astype(np.int64), log_p, tags)


def surprises(grammar: Grammar) -> Floats:
    """h[kind, offset]: the expected -log p of each token of each kind of sentence, nats."""
    fact, move, take, where, what = grammar.shares
    names, places = _entropy(_names(grammar)), np.log(len(PLACES))
    facts = facts_of(grammar)
    p = np.diff(facts.cumulative, prepend=0.0)
    h = np.zeros((5, LONGEST))
    h[FACT, :3] = -(p @ facts.log_p)
    h[FACT, 0] -= np.log(fact)
    h[[MOVE, TAKE], 0] = names - np.log(move + take)
    h[[MOVE, TAKE], 1] = -np.log(np.array((move, take)) / (move + take))
    h[MOVE, 3], h[TAKE, 3] = places, names
    h[[WHERE_PERSON, WHERE_OBJECT], 0] = -np.log(where + what)
    h[[WHERE_PERSON, WHERE_OBJECT], 2] = -np.log(np.array((where, what)) / (where + what))
    h[WHERE_PERSON, 2] += names
    h[WHERE_OBJECT, 3] = names
    return h


@lru_cache(maxsize=8)
def documents(
    grammar: Grammar, context: int, seed: int, block: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]]:
    """One block: tokens [BLOCK, T + 1], and of every target its log p and its tag [BLOCK, T]."""
    draws = _draw(grammar, -(-context // int(LENGTHS.min())), seed, block)
    sentences, log_p, tags = _write(grammar, draws)
    lengths = LENGTHS[draws.kind]
    ends = np.cumsum(lengths, axis=1)
    place = (ends - lengths)[..., None] + np.arange(LONGEST)  # where each token of each sentence stands
    shown = (np.arange(LONGEST) < lengths[..., None]) & (place < context)
    row = np.broadcast_to(np.arange(BLOCK)[:, None, None], place.shape)[shown]
    column = place[shown]
    tokens = np.full((BLOCK, context + 1), DOCUMENT, dtype=np.uint8)
    surprise = np.zeros((BLOCK, context), dtype=np.float32)
    tag = np.zeros((BLOCK, context), dtype=np.uint8)
    tokens[row, column + 1] = sentences[shown]
    surprise[row, column] = log_p[shown]
    tag[row, column] = tags[shown]
    return tokens, surprise, tag


def _draw(grammar: Grammar, n_sentences: int, seed: int, block: int) -> Draws:
    """All choices of a block from its own counter-based stream."""
    rng = np.random.Generator(np.random.Philox(key=[seed, block], counter=[0, 0, 0, grammar.seed]))
    u = rng.random((5, BLOCK, n_sentences))
    names = np.cumsum(_names(grammar))
    kind = _pick(np.cumsum(grammar.shares), u[0])
    fact = _pick(facts_of(grammar).cumulative, u[1])
    person, thing = _pick(names, u[2]), _pick(names, u[3])
    return Draws(kind, fact, person, thing, (u[4] * len(PLACES)).astype(np.int64))


def _write(grammar: Grammar, draws: Draws) -> tuple[Ints, Floats, Ints]:
    """Tokens, log p and tags of every sentence, [n, S, LONGEST] each; what is past its end is nought."""
    p_fact, p_move, p_take, p_where, p_what = grammar.shares
    log_names = np.log(_names(grammar))
    facts = facts_of(grammar)
    person, thing, place = draws.person + PERSONS.start, draws.object + OBJECTS.start, draws.place + PLACES.start
    log_person, log_thing, log_place = log_names[draws.person], log_names[draws.object], -np.log(len(PLACES))
    answer_person, answer_thing = _answers(draws)
    tokens = np.zeros((*draws.kind.shape, LONGEST), dtype=np.int64)
    log_p = np.zeros(tokens.shape)
    tags = np.zeros(tokens.shape, dtype=np.int64)

    def put(kind: int, offset: int, token: Ints | int, log: Floats | float = 0.0, tag: int = TRIVIAL) -> None:
        here = draws.kind == kind
        for target, value in ((tokens, token), (log_p, log), (tags, tag)):
            target[here, offset] = np.broadcast_to(np.asarray(value), here.shape)[here]

    known = facts.tokens[draws.fact]
    log_known = facts.log_p[draws.fact]
    put(FACT, 0, known[..., 0], log_known[..., 0] + np.log(p_fact), CHOICE)
    put(FACT, 1, known[..., 1], log_known[..., 1], CHOICE)
    put(FACT, 2, known[..., 2], log_known[..., 2], CHOICE)
    put(FACT, 3, known[..., 3], tag=KNOWLEDGE)
    put(FACT, 4, STOP)
    acts = p_move + p_take
    for kind, verb, link, what, log, share in (
        (MOVE, GOES, TO, place, log_place, p_move),
        (TAKE, TAKES, THE, thing, log_thing, p_take),
    ):
        put(kind, 0, person, log_person + np.log(acts), CHOICE)
        put(kind, 1, verb, np.log(share / acts), CHOICE)
        put(kind, 2, link)
        put(kind, 3, what, log, CHOICE)
        put(kind, 4, STOP)
    asks = p_where + p_what
    for kind in (WHERE_PERSON, WHERE_OBJECT):
        put(kind, 0, WHERE, np.log(asks), CHOICE)
        put(kind, 1, IS)
    put(WHERE_PERSON, 2, person, log_person + np.log(p_where / asks), CHOICE)
    put(WHERE_PERSON, 3, ASK)
    put(WHERE_PERSON, 4, answer_person, tag=TRACKING)
    put(WHERE_PERSON, 5, STOP)
    put(WHERE_OBJECT, 2, THE, np.log(p_what / asks), CHOICE)
    put(WHERE_OBJECT, 3, thing, log_thing, CHOICE)
    put(WHERE_OBJECT, 4, ASK)
    put(WHERE_OBJECT, 5, answer_thing, tag=COMPOSITION)
    put(WHERE_OBJECT, 6, STOP)
    return tokens, log_p, tags


def _answers(draws: Draws) -> tuple[Ints, Ints]:
    """Where the person of each sentence is and where its object is: HOME until moved, NOWHERE until taken."""
    n, n_sentences = draws.kind.shape
    rows = np.arange(n)
    where = np.full((n, len(PERSONS) + 1), HOME)
    where[:, -1] = NOWHERE  # a holder that is nobody
    holder = np.full((n, len(OBJECTS)), len(PERSONS))
    of_person, of_thing = np.empty_like(draws.kind), np.empty_like(draws.kind)
    for s in range(n_sentences):
        kind, person, thing = draws.kind[:, s], draws.person[:, s], draws.object[:, s]
        of_person[:, s] = where[rows, person]
        of_thing[:, s] = where[rows, holder[rows, thing]]
        moves, takes = kind == MOVE, kind == TAKE
        where[rows[moves], person[moves]] = draws.place[moves, s] + PLACES.start
        holder[rows[takes], thing[takes]] = person[takes]
    return of_person, of_thing


def _names(grammar: Grammar) -> Floats:
    """p of the persons, and of the objects: the same Zipf law over 16 names."""
    return zipf(len(PERSONS), grammar.name_exponent)


def _entropy(p: Floats) -> float:
    """-sum p log p, nats."""
    return float(-(p @ np.log(p)))


def _pick(cumulative: Floats, u: Floats) -> Ints:
    """The index whose share of [0, 1) holds u."""
    return np.minimum(np.searchsorted(cumulative, u, side="right"), len(cumulative) - 1)
