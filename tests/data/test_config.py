import pytest

from vilex.data.config import DataConfig, SourceConfig
from vilex.errors import InputError

TWO = (SourceConfig(path="a"), SourceConfig(path="b"))


@pytest.mark.parametrize(
    "setting",
    [{"caption_column": "prompt"}, {"image_column": "jpg"}, {"stream": True}, {"split": "test"}, {"weight": 2.0}],
)
def test_settings_of_one_source_beside_several_are_named(setting):
    with pytest.raises(InputError, match=rf"data\.{next(iter(setting))}: has no effect beside \[\[data\.sources\]\]"):
        DataConfig(sources=TWO, **setting)
    assert DataConfig(path="a", **setting)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), 1e-7])
def test_weights_too_small_to_be_drawn_are_named(weight):
    with pytest.raises(InputError, match=r"data\.sources: b: weight .*leave the source out"):
        DataConfig(sources=(TWO[0], SourceConfig(path="b", weight=weight)))


def test_what_is_allowed_to_all_is_allowed_to_each():
    assert [source.allow_pipe for source in DataConfig(sources=TWO, allow_pipe=True).all_sources] == [True, True]
    assert [source.allow_pipe for source in DataConfig(sources=TWO).all_sources] == [False, False]
