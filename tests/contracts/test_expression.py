"""One text, one tree: the parser takes what the format writes, and says where a text goes wrong."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vehicle.contracts import expression_tree as tree
from vehicle.contracts.expression import (
    ExpressionError,
    format,
    parse,
    reads_tracks,
    signals_of,
)
from vehicle.contracts.vocabulary import SIGNALS, TRACK_WORDS, Word

EXAMPLE = "rises(tracks(range_m < 15) >= 1) then accel_mps2 <= -3 within 2 s"

NUMBERS = st.floats(0.0, 1e12).map(tree.Number) | st.integers(0, 99).map(
    lambda i: tree.Number(float(i))
)
SECONDS = st.sampled_from([0.1, 0.5, 2.0, 30.0])


def attempt(text: str) -> tuple[tree.Pattern | None, ExpressionError | None]:
    try:
        return parse(text), None
    except ExpressionError as error:
        return None, error


def names(words: dict[str, Word], kind: str) -> st.SearchStrategy[tree.Expr]:
    return st.sampled_from([tree.Name(n) for n, w in words.items() if w.kind == kind])


def negated(node: tree.Expr) -> tree.Expr:
    return tree.Number(-node.value) if isinstance(node, tree.Number) else tree.Negate(node)


def joined(kind: type, parts: list[tree.Expr]) -> tree.Expr:
    return kind(tuple(n for p in parts for n in (p.of if isinstance(p, kind) else (p,))))


def compared(words: dict[str, Word], number: st.SearchStrategy) -> st.SearchStrategy[tree.Expr]:
    text = st.sampled_from(
        [(n, v) for n, w in words.items() if w.kind == "text" for v in (w.values or ("a b", ""))]
    )
    return st.builds(tree.Compare, st.sampled_from(tree.COMPARISONS), number, number) | st.builds(
        lambda op, pair: tree.Compare(op, tree.Name(pair[0]), tree.Text(pair[1])),
        st.sampled_from(("==", "!=")),
        text,
    )


def numbers(words: dict[str, Word]) -> st.SearchStrategy[tree.Expr]:
    return st.recursive(
        NUMBERS | names(words, "number"),
        lambda n: (
            n.map(negated)
            | st.builds(tree.Arithmetic, st.sampled_from("+-*/"), n, n)
            | st.builds(tree.Call, st.just("abs"), n)
        ),
        max_leaves=4,
    )


def conditions(base: st.SearchStrategy[tree.Expr]) -> st.SearchStrategy[tree.Expr]:
    return st.recursive(
        base,
        lambda c: (
            c.map(tree.Not)
            | st.lists(c, min_size=2, max_size=3).map(lambda p: joined(tree.And, p))
            | st.lists(c, min_size=2, max_size=3).map(lambda p: joined(tree.Or, p))
        ),
        max_leaves=4,
    )


ABOUT_TRACKS = conditions(compared(TRACK_WORDS, numbers(TRACK_WORDS)))
NUMBER = numbers(SIGNALS) | st.builds(
    tree.TrackCall, st.sampled_from(tree.TRACK_CALLS), ABOUT_TRACKS
)
LOOKED_BACK = st.builds(
    tree.Window, st.sampled_from(("lowest", "highest", "average", "change")), NUMBER, SECONDS
)
PLAIN = conditions(compared(SIGNALS, NUMBER | LOOKED_BACK))
CONDITION = (
    PLAIN
    | st.builds(tree.Call, st.just("rises"), PLAIN)
    | st.builds(tree.Window, st.sampled_from(("held", "seen")), PLAIN, SECONDS)
)
PATTERNS = st.builds(
    tree.Pattern,
    CONDITION,
    st.lists(st.builds(tree.Then, CONDITION, SECONDS), max_size=2).map(tuple),
)


@given(pattern=PATTERNS)
@settings(max_examples=150, deadline=None)
def test_what_is_written_reads_back_as_the_same_tree(pattern: tree.Pattern) -> None:
    text = format(pattern)
    read, refusal = attempt(text)
    if refusal is not None:
        assert refusal.expected.startswith("at most"), refusal  # over a limit: refused as such
    else:
        assert read == pattern
        assert format(pattern) == text


@given(text=st.text(max_size=60) | st.text("()<>=-+ aontrsk,0.'", max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_other_text_is_refused_with_a_place_in_it(text: str) -> None:
    pattern, refusal = attempt(text)
    if pattern is not None:
        assert parse(format(pattern)) == pattern
    else:
        assert refusal is not None
        assert 0 <= refusal.position <= len(text)
        assert refusal.found
        assert refusal.expected


def test_the_tree_says_what_it_reads() -> None:
    assert signals_of(parse(EXAMPLE)) == {"accel_mps2"}
    assert reads_tracks(parse(EXAMPLE))
    assert not reads_tracks(parse("speed_mps > 1"))


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        (EXAMPLE, EXAMPLE),
        ("'mrm'!=rung", "'mrm' != rung"),
        ("not(ttc_s>3.50 and(mrm>=1)or fresh<1)", "not (ttc_s > 3.5 and mrm >= 1 or fresh < 1)"),
        ("(ttc_s > 1 and mrm >= 1) and fresh >= 1", "ttc_s > 1 and mrm >= 1 and fresh >= 1"),
        ("(ttc_s > 1 or mrm >= 1) and fresh >= 1", "(ttc_s > 1 or mrm >= 1) and fresh >= 1"),
        ("ttc_s-(1-2)*--3>=lowest(abs(mrm),2s)", "ttc_s - (1 - 2) * 3 >= lowest(abs(mrm), 2)"),
    ],
)
def test_there_is_one_way_to_write_it(text: str, canonical: str) -> None:
    assert format(parse(text)) == canonical


@pytest.mark.parametrize(
    ("text", "position", "says"),
    [
        ("", 0, "a number, a name, a call"),
        ("spead_mps > 3", 0, "did you mean speed_mps?"),
        ("speed_mps", 0, "write speed_mps >= 1"),
        ("speed_mps > ", 12, "a number, a name, a call"),
        ("speed_mps > 3 $", 14, "a sign"),
        ("1 < speed_mps < 3", 14, "cannot be chained"),
        ("rung == 'ful'", 8, "did you mean full?"),
        ("rung > 'full'", 5, "== or !="),
        ("speed_mps > 'x'", 10, "two numbers"),
        ("abs(mrm >= 1) > 2", 4, "a number"),
        ("tracks(rnge_m < 3) > 1", 7, "did you mean range_m?"),
        ("tracks(nearest(x_m > 1) < 2) > 1", 7, "only abs"),
        ("held(speed_mps > 1, 40)", 20, "at most 30 seconds"),
        ("held(speed_mps > 1)", 18, "','"),
        ("speed_mps > 1 then mrm >= 1", 27, "'within'"),
        ("speed_mps > 1 then mrm >= 1 within 2", 36, "s, the unit"),
        ("speed_mps > 1 mrm >= 1", 14, "or the end"),
        ("(" * 500, 21, "at most 20 levels"),
        ("-" * 100 + "1 > 2", 21, "at most 20 levels"),
        ("speed_mps > 99999999999999999999", 12, "a number up to"),
        ("speed_mps " + "+ 1" * 30 + " > 1", 0, "at most 20"),
        (" or ".join(["speed_mps > 1"] * 70), 0, "at most 200"),
        ("1 " * 2000, 2000, "at most 2000"),
        ("exec('x') > 1", 0, "a call; known"),
    ],
)
def test_a_refusal_says_where_and_what_to_do(text: str, position: int, says: str) -> None:
    with pytest.raises(ExpressionError) as refusal:
        parse(text)
    assert refusal.value.position == position
    assert says in refusal.value.expected
