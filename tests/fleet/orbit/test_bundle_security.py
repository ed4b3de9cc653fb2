"""What BPSec protects nobody changes or reads unseen; RFC 9173's examples come out byte by byte."""

from dataclasses import replace

import pytest
from bundle_parts import CAR, HOME, RELAY, clip
from hypothesis import given
from hypothesis import strategies as st

from fleet.orbit import cbor, errors
from fleet.orbit.asb import TARGET_ONLY, Scope, SecurityData
from fleet.orbit.blocks import BlockType
from fleet.orbit.bundle import Bundle, Limits, decode, encode, forwarded
from fleet.orbit.crc import CrcKind
from fleet.orbit.eid import Eid
from fleet.orbit.fragment import fragment, reassemble
from fleet.orbit.security import Sha, add_bib, decrypt_bcb, encrypt_bcb, seal, verify_bib

# RFC 9173 appendix A, https://www.rfc-editor.org/rfc/rfc9173.html#appendix-A; its bundles have
# neither a CRC nor an age.
EXAMPLES = Limits(complete=False)
PRIMARY = "88070000820282010282028202018202820201820018281a000f4240"
PAYLOAD = "85010100005823526561647920746f2067656e657261746520612033322d62797465207061796c6f6164"
AGE = "85070200004319012c"
A1 = (
    f"9f{PRIMARY}850b0200005856810101018202820201828201078203008181820158403bdc69b3a34a2b5d3a"
    "8554368bd1e808f606219d2a10a846eae3886ae4ecc83c4ee550fdfb1cc636b904e2f1a73e303dcd4b6ccece003e"
    f"95e8164dcc89a156e1{PAYLOAD}ff"
)
A2 = (
    f"9f{PRIMARY}850c02010058508101020182028202018482014c5477656c7665313231323132820201820358"
    "1869c411276fecddc4780df42c8a2af89296fabf34d7fae7008204008181820150efa4b5ac0108e3816c56064798"
    "01bc04850101000058233a09c1e63fe23a7f66a59c7303837241e070b02619fc59c5214a22f08cd70795e73e9aff"
)
A3 = (
    f"9f{PRIMARY}850b030000585c8200020101820282030082820105820300828182015820cac6ce8e4c5dae57"
    "988b757e49a6dd1431dc04763541b2845098265bc817241b81820158203ed614c0d97f49b3633627779aa18a338d"
    "212bf3c92b97759d9739cd50725596850c04010058348101020182028202018382014c5477656c76653132313231"
    f"328202018204008181820150efa4b5ac0108e3816c5606479801bc04{AGE}850101000058233a09c1e63fe23a7f"
    "66a59c7303837241e070b02619fc59c5214a22f08cd70795e73e9aff"
)
A4 = (
    f"9f{PRIMARY}850b0300005846438ed6208eb1c1ffb94d952175167df0902902064a2983910c4fb2340790bf"
    "420a7d1921d5bf7c4721e02ab87a93ab1e0b75cf62e4948727c8b5dae46ed2af05439b88029191850c0201005849"
    "820301020182028202018382014c5477656c76653132313231328202038204078281820150220ffc45c8a901999e"
    "cc60991dd78b2981820150d2c51cb2481792dae8b21d848cede99b8501010000582390eab6457593379298a8724e"
    "16e61f837488e127212b59ac91f8a86287b7d07630a122ff"
)
SIGNER, OTHER = Eid.parse("ipn:2.1"), Eid.parse("ipn:3.0")
MAC_KEY, AES_KEY, WRAP_KEY = bytes.fromhex("1a2b" * 8), b"qwertyuiopasdfgh", b"abcdefghijklmnop"
IV = b"Twelve121212"


def example(*blocks: str) -> Bundle:
    return decode(bytes.fromhex(f"9f{PRIMARY}{''.join(blocks)}{PAYLOAD}ff"), EXAMPLES)


def hexed(bundle: Bundle) -> str:
    return encode(bundle).hex()


def test_example_1_signs_the_payload() -> None:
    signed = add_bib(example(), MAC_KEY, source=SIGNER, sha=Sha.HMAC_512, scope=TARGET_ONLY)
    assert hexed(signed) == A1
    assert verify_bib(decode(bytes.fromhex(A1), EXAMPLES), MAC_KEY) == (1,)


def test_example_2_encrypts_the_payload_by_a_wrapped_key() -> None:
    sealed = seal(
        *(example(), WRAP_KEY),
        **{"source": SIGNER, "targets": (1,), "scope": TARGET_ONLY, "wrap": True},
        **{"iv": IV, "content_key": AES_KEY},
    )
    assert hexed(sealed) == A2
    assert decrypt_bcb(decode(bytes.fromhex(A2), EXAMPLES), WRAP_KEY) == example()


def test_example_3_has_security_blocks_of_two_sources() -> None:
    signed = add_bib(
        *(example(AGE), MAC_KEY),
        **{"source": OTHER, "targets": (0, 2), "sha": Sha.HMAC_256, "scope": TARGET_ONLY},
    )
    sealed = seal(signed, AES_KEY, source=SIGNER, targets=(1,), scope=TARGET_ONLY, iv=IV, number=4)
    assert hexed(sealed) == A3
    read = decode(bytes.fromhex(A3))  # complete: a BIB over the primary block, and an age
    assert verify_bib(read, MAC_KEY, source=OTHER, required=(0, 2)) == (0, 2)
    assert decrypt_bcb(read, AES_KEY) == signed


def test_example_4_encrypts_a_signature_with_what_it_signs() -> None:
    signed = add_bib(example(), MAC_KEY, source=SIGNER, number=3)
    sealed = seal(signed, AES_KEY * 2, source=SIGNER, targets=(3, 1), iv=IV, number=2)
    assert hexed(sealed) == A4
    read = decode(bytes.fromhex(A4), EXAMPLES)
    with pytest.raises(errors.SecurityBlockError, match="decrypt it first"):
        verify_bib(read, MAC_KEY)
    assert verify_bib(decrypt_bcb(read, AES_KEY * 2), MAC_KEY) == (1,)


@pytest.mark.parametrize("scope", range(8))
@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("sha", Sha)
def test_a_signature_holds_over_hops_and_pieces(scope: int, wrap: bool, sha: Sha) -> None:
    options = {"source": CAR, "sha": sha, "scope": Scope(scope), "wrap": wrap}
    signed = add_bib(clip(bytes(2_000)), MAC_KEY, **options)
    moved = forwarded(decode(encode(signed)), RELAY, held_ms=5)
    whole = reassemble(fragment(moved, 900))
    assert verify_bib(whole, MAC_KEY, source=CAR) == (1,)


@pytest.mark.parametrize("length", [16, 32])
@pytest.mark.parametrize("scope", range(8))
@pytest.mark.parametrize("wrap", [False, True])
def test_a_secret_is_read_only_with_its_key(length: int, scope: int, wrap: bool) -> None:
    key, plain = bytes(range(length)), clip(b"a street with faces" * 100)
    sealed = encrypt_bcb(plain, key, source=CAR, scope=Scope(scope), wrap=wrap)
    assert b"faces" not in encode(sealed)
    moved = reassemble(fragment(forwarded(decode(encode(sealed)), RELAY, held_ms=5), 900))
    assert decrypt_bcb(moved, key).payload == plain.payload
    with pytest.raises(errors.TamperedError):
        decrypt_bcb(moved, bytes(length))
    with pytest.raises(errors.TamperedError):
        decrypt_bcb(moved, key[:16] if length == 32 else key * 2)


def test_a_signature_is_encrypted_with_its_payload_under_ivs_of_their_own() -> None:
    signed = add_bib(clip(), MAC_KEY, source=CAR)
    sealed = encrypt_bcb(signed, AES_KEY, source=CAR)
    covers = [b for b in sealed.blocks if b.kind == BlockType.CONFIDENTIALITY]
    ivs = {SecurityData.from_bytes(b.data, b.kind).parameters[1] for b in covers}
    assert len(covers) == len(ivs) == 2
    assert decrypt_bcb(decode(encode(sealed)), AES_KEY) == signed


PROTECTED = add_bib(clip(b"brake" * 9), MAC_KEY, source=CAR, targets=(0, 1))
SEALED = encrypt_bcb(clip(b"brake" * 9), AES_KEY, source=CAR)


@given(st.integers(0, len(PROTECTED.payload) * 8 - 1))
def test_no_bit_of_a_payload_can_be_changed(at: int) -> None:
    for bundle, check in ((PROTECTED, verify_bib), (SEALED, decrypt_bcb)):
        payload = bytearray(bundle.payload)
        payload[at // 8] ^= 1 << at % 8
        forged = bundle.put(replace(bundle.blocks[-1], data=bytes(payload)))
        with pytest.raises(errors.TamperedError):
            check(forged, MAC_KEY if check is verify_bib else AES_KEY)


def test_the_primary_block_cannot_be_changed_under_a_signature() -> None:
    for field, value in (("destination", RELAY), ("lifetime_ms", 1), ("source", HOME)):
        forged = replace(PROTECTED, primary=replace(PROTECTED.primary, **{field: value}))
        with pytest.raises(errors.TamperedError, match="block 0"):
            verify_bib(forged, MAC_KEY)


def test_a_payload_cannot_move_to_another_bundle() -> None:
    other = clip(b"accelerate", lifetime_ms=5)
    moved = replace(SEALED, primary=other.primary)
    with pytest.raises(errors.TamperedError):
        decrypt_bcb(moved, AES_KEY)


def test_taking_a_signature_away_helps_nobody() -> None:
    with pytest.raises(errors.NoSecurityError):
        verify_bib(clip(), MAC_KEY)
    hops_only = add_bib(clip(), MAC_KEY, source=CAR, targets=(2,))
    with pytest.raises(errors.NoSecurityError, match=r"block \[1\]"):
        verify_bib(hops_only, MAC_KEY)
    with pytest.raises(errors.NoSecurityError, match=r"of ipn:3\.0"):
        verify_bib(PROTECTED, MAC_KEY, source=RELAY)
    with pytest.raises(errors.NoSecurityError):
        decrypt_bcb(clip(), AES_KEY)


def test_a_signature_over_the_primary_block_stands_for_its_checksum() -> None:
    assert PROTECTED.primary.crc is CrcKind.NONE
    assert decode(encode(PROTECTED)) == PROTECTED
    with pytest.raises(errors.MissingCrcError):
        decode(encode(PROTECTED.without([PROTECTED.blocks[0].number])))
    with pytest.raises(errors.NotFragmentableError, match="no CRC"):
        fragment(PROTECTED, 100)


SIGNED = add_bib(clip(), MAC_KEY, source=CAR, targets=(1, 2))


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: add_bib(SIGNED, MAC_KEY, source=CAR),  # twice
        lambda: add_bib(SIGNED, MAC_KEY, source=CAR, targets=(SIGNED.blocks[0].number,)),
        lambda: add_bib(SEALED, MAC_KEY, source=CAR),  # after it was encrypted
        lambda: add_bib(clip(), MAC_KEY, source=CAR, targets=(77,)),
        lambda: add_bib(clip(), MAC_KEY, source=CAR, targets=()),
        lambda: add_bib(clip(), MAC_KEY, source=CAR, targets=(1, 1)),
        lambda: encrypt_bcb(clip(), AES_KEY, source=CAR, targets=(0,)),
        lambda: encrypt_bcb(SEALED, AES_KEY, source=CAR),
        lambda: encrypt_bcb(SEALED, AES_KEY, source=CAR, targets=(SEALED.blocks[0].number,)),
        lambda: encrypt_bcb(SIGNED, AES_KEY, source=CAR),  # its BIB holds more
        lambda: add_bib(fragment(clip(bytes(900)), 500)[0], MAC_KEY, source=CAR),
    ],
)
def test_what_may_not_be_protected_is_refused(attempt: object) -> None:
    with pytest.raises(errors.SecurityTargetError):
        attempt()


def test_a_piece_alone_is_neither_checked_nor_read() -> None:
    part = fragment(encrypt_bcb(clip(bytes(900)), AES_KEY, source=CAR), 600)[0]
    with pytest.raises(errors.SecurityBlockError, match="reassemble"):
        decrypt_bcb(part, AES_KEY)


def test_keys_of_another_length_are_refused() -> None:
    with pytest.raises(errors.SecurityBlockError, match="HMAC key"):
        add_bib(clip(), b"short", source=CAR)
    with pytest.raises(errors.SecurityBlockError, match="AES key"):
        encrypt_bcb(clip(), bytes(17), source=CAR)


GOOD = SecurityData.from_bytes(PROTECTED.blocks[0].data, BlockType.INTEGRITY)
RAW = [[0, 1], 1, 1, CAR.to_item(), [[1, 6], [3, 7]], [[[1, b"m"]], [[1, b"m"]]]]


@pytest.mark.parametrize(
    ("at", "value"),
    [
        *((0, []), (0, [0, 0]), (0, "x"), (1, 2), (1, -1), (1, True), (2, 0), (2, 2), (4, 7)),
        *((4, [[1]]), (4, [[1, 6], [1, 6]]), (4, [[1, "x"]]), (5, [[[1, b"m"]]])),
        *((3, [2.0, [12, 1]]), (3, [True, 0]), (3, None)),
        *((5, [[[1, 5]], [[1, 5]]]), (4, [[1, 9]]), (4, [[3, 8]]), (4, [[1, b"6"]]), (4, [[2, 5]])),
    ],
)
def test_a_malformed_security_block_is_refused(at: int, value: object) -> None:
    fields = [*RAW]
    fields[at] = value
    guard = replace(PROTECTED.blocks[0], data=b"".join(map(cbor.dumps, fields)))
    with pytest.raises(errors.SecurityBlockError):
        verify_bib(PROTECTED.put(guard), MAC_KEY)


@pytest.mark.parametrize("iv", [None, b"", bytes(7), bytes(17), 5])
def test_a_secret_without_a_proper_iv_is_refused(iv: object) -> None:
    cover = SEALED.blocks[0]
    data = SecurityData.from_bytes(cover.data, cover.kind)
    others = {number: value for number, value in data.parameters.items() if number != 1}
    parameters = others if iv is None else {1: iv, **others}
    forged = replace(cover, data=replace(data, parameters=parameters).to_bytes())
    with pytest.raises(errors.SecurityBlockError):
        decrypt_bcb(SEALED.put(forged), AES_KEY)


@given(st.binary(max_size=80))
def test_any_security_data_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(errors.BundleError):
        SecurityData.from_bytes(data, BlockType.CONFIDENTIALITY)
    with pytest.raises(errors.BundleError):
        verify_bib(PROTECTED.put(replace(PROTECTED.blocks[0], data=data)), MAC_KEY)


def test_security_data_is_read_back() -> None:
    assert SecurityData.from_bytes(GOOD.to_bytes(), BlockType.INTEGRITY) == GOOD
