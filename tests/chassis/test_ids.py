"""Ids rise with time, and derived ones are always the same and rise with what they are derived from."""

import time
import uuid

from hypothesis import given
from hypothesis import strategies as st

from chassis.ids import derived_id, new_id

NAMESPACE = uuid.UUID("6f7f7ac3-5d0b-4a9e-9a53-0a4d3c1f8f0e")
RANDOM = st.uuids(version=4)


def milliseconds(one: uuid.UUID | str) -> int:
    return uuid.UUID(str(one)).int >> 80


def test_a_new_id_is_of_version_7_and_has_the_time():
    before = time.time_ns() // 1_000_000
    ids = [new_id() for _ in range(1_000)]
    after = time.time_ns() // 1_000_000

    assert {(one.version, one.variant) for one in ids} == {(7, uuid.RFC_4122)}
    assert all(before <= milliseconds(one) <= after for one in ids)
    assert len(set(ids)) == 1_000


def test_all_other_bits_are_random():
    seen = [new_id().int for _ in range(200)]
    fixed = (0xF << 76) | (0x3 << 62) | ((1 << 48) - 1 << 80)
    ones, zeros = 0, 0
    for one in seen:
        ones |= one
        zeros |= ~one
    assert ones & zeros & ~fixed & ((1 << 128) - 1) == ~fixed & ((1 << 128) - 1)


@given(RANDOM, st.text())
def test_what_does_not_rise_has_a_version_5_id(namespace, name):
    expected = str(uuid.uuid5(namespace, name))
    assert derived_id(namespace, name) == derived_id(str(namespace), name) == expected


@given(st.text())
def test_the_same_name_in_a_rising_namespace(name):
    namespace = new_id()
    derived = derived_id(namespace, name)
    assert derived == derived_id(str(namespace), name)
    assert (uuid.UUID(derived).version, uuid.UUID(derived).variant) == (8, uuid.RFC_4122)
    assert milliseconds(derived) == milliseconds(namespace)
    # The rest is that of version 5, so two names, or two namespaces, differ in it.
    assert derived[15:] == str(uuid.uuid5(namespace, name))[15:]


def test_a_chain_of_ids_rises_with_its_first():
    user = str(new_id())
    order = derived_id(NAMESPACE, user)
    event = derived_id(order, "order.created")
    assert milliseconds(user) == milliseconds(order) == milliseconds(event)
    assert len({user, order, event}) == 3


def test_what_only_looks_like_an_id_is_a_name():
    for name in ("019a0000-0000-7000-8000-00000000000Z", "019a0000-0000-7000-0000-000000000000", "7" * 36):
        assert derived_id(NAMESPACE, name) == str(uuid.uuid5(NAMESPACE, name))
