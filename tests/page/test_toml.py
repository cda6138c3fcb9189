"""TOML that is written is what the standard library reads."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from amdm.page.toml import toml_of

SCALARS = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8"), max_size=8),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), inner, max_size=3),
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), VALUES, max_size=4))
def test_what_is_written_is_read(values):
    assert tomllib.loads(toml_of(values)) == values


def test_tables_inside_lists_of_tables_stay_with_their_own():
    models = [{"pipeline": "a", "call": {"prompt": 'a "cat"\n'}}, {"pipeline": "b", "lora": [{"file": "c"}]}]
    values = {"models": models, "seeds": [0, 1], "call": {"boxes": [[0.25, 0.5, 1.0, 1.0]]}}
    assert tomllib.loads(toml_of(values)) == values
