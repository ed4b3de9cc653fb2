"""Pieces of a bundle fit, travel alone, and make the same bundle again, whatever their order."""

from dataclasses import replace

import pytest
from bundle_parts import HOME, RELAY, clip, rich
from hypothesis import given
from hypothesis import strategies as st

from fleet.orbit import errors
from fleet.orbit.blocks import BlockFlags, BlockType, BundleFlags, Place
from fleet.orbit.bundle import Bundle, decode, encode, forwarded
from fleet.orbit.fragment import fragment, gaps, reassemble

WHOLE = rich(bytes(n * 7 % 251 for n in range(3_000)))


def cut(bundle: Bundle, start: int, end: int) -> Bundle:
    """Return bytes start..end as some other node might have cut them."""
    primary = replace(
        bundle.primary,
        flags=bundle.primary.flags | BundleFlags.FRAGMENT,
        place=Place(start, len(bundle.payload)),
    )
    last = replace(bundle.blocks[-1], data=bundle.payload[start:end])
    return Bundle(primary, (*bundle.blocks[:-1], last))


@given(st.integers(250, 3_300), st.randoms())
def test_pieces_fit_and_make_the_bundle_again(max_bytes: int, chance: object) -> None:
    parts = fragment(WHOLE, max_bytes)
    assert all(len(encode(part)) <= max_bytes for part in parts)
    assert all(decode(encode(part)) == part for part in parts)
    if len(parts) > 1:
        shuffled = [*parts, parts[0]]  # one comes twice
        chance.shuffle(shuffled)
        assert encode(reassemble(shuffled)) == encode(WHOLE)


def test_each_piece_has_what_it_needs_alone_and_the_first_has_the_rest() -> None:
    everywhere = {BlockType.PREVIOUS_NODE, BlockType.BUNDLE_AGE, BlockType.HOP_COUNT}
    first, *others = fragment(WHOLE, 900)
    assert [b.kind for b in first.blocks] == [b.kind for b in WHOLE.blocks]
    for part in others:
        assert {b.kind for b in part.blocks} == everywhere | {BlockType.PAYLOAD}
    odd = WHOLE.numbered(9)
    assert odd is not None
    copied = WHOLE.put(replace(odd, flags=BlockFlags.REPLICATE))
    assert all(part.numbered(9) is not None for part in fragment(copied, 900))


def test_a_bundle_that_fits_stays_as_it_is() -> None:
    assert fragment(WHOLE, len(encode(WHOLE))) == [WHOLE]


@given(st.lists(st.tuples(st.integers(0, 2_999), st.integers(1, 900)), max_size=12))
def test_overlaps_are_joined_and_gaps_named(spans: list[tuple[int, int]]) -> None:
    parts = [cut(WHOLE, 0, 1), *(cut(WHOLE, a, min(a + n, 3_000)) for a, n in spans)]
    have = {0} | {at for a, n in spans for at in range(a, min(a + n, 3_000))}
    missing = {at for start, end in gaps(parts) for at in range(start, end)}
    assert missing == set(range(3_000)) - have
    if missing:
        with pytest.raises(errors.IncompleteError, match="missing"):
            reassemble(parts)
    else:
        assert reassemble(parts).payload == WHOLE.payload


def test_a_piece_may_be_cut_again() -> None:
    parts = [small for part in fragment(WHOLE, 1_500) for small in fragment(part, 500)]
    assert encode(reassemble(parts)) == encode(WHOLE)


def test_an_overlap_of_other_bytes_is_refused() -> None:
    lying = cut(replace(WHOLE, blocks=(*WHOLE.blocks[:-1], replace(
        WHOLE.blocks[-1], data=bytes(3_000)))), 500, 1_500)  # fmt: skip
    with pytest.raises(errors.FragmentConflictError):
        reassemble([cut(WHOLE, 0, 1_000), lying, cut(WHOLE, 1_500, 3_000)])


def test_fragments_of_others_are_refused() -> None:
    other = cut(replace(WHOLE, primary=replace(WHOLE.primary, destination=HOME.node)), 9, 20)
    longer = cut(WHOLE, 9, 20)
    longer = replace(longer, primary=replace(longer.primary, place=Place(9, 4_000)))
    for alien in (other, longer, WHOLE):
        with pytest.raises(errors.ForeignFragmentError):
            reassemble([cut(WHOLE, 0, 3_000), alien])
    with pytest.raises(errors.ForeignFragmentError):
        reassemble([])


def test_what_must_stay_whole_is_not_cut() -> None:
    with pytest.raises(errors.NotFragmentableError, match="must not"):
        fragment(clip(bytes(999), flags=BundleFlags.WHOLE), 500)
    with pytest.raises(errors.NotFragmentableError, match="allow more"):
        fragment(clip(bytes(999)), 60)


def test_each_piece_ages_and_hops_by_itself_and_the_most_counts() -> None:
    first, *others = fragment(WHOLE, 1_500)
    late = forwarded(forwarded(others[0], RELAY, held_ms=500), RELAY, held_ms=500)
    whole = reassemble([first, late, *others[1:]])
    assert whole.age_ms == 1_000
    assert whole.block(BlockType.HOP_COUNT) == late.block(BlockType.HOP_COUNT)
