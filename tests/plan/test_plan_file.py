"""Plan files: what is written is read back, and whatever else is read gives a plan or words that show the place."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from core.errors import PlacementError, PlanError, ShardboardError
from core.model.graph import Model
from core.model.library import open_entry
from core.model.processing import apply_processing, default_processing
from core.plan.form import NodeId, PlanRequest
from core.plan.pins import check_pins
from core.plan.plan_file import PlanFile, decode_plan_file, encode_plan_file, plan_file_of
from core.plan.plan_fit import fit_model, fit_nodes, fit_to
from core.plan.strategy_text import KINDS

IDS = tuple(NodeId(letter * 40) for letter in "ABCDEF")
NAMES = dict(zip(IDS, ("pi-1", "pi-2", "pi-3", "pi-4", "pi-5", "pi-6"), strict=True))


class Here(Struct, frozen=True):
    id: NodeId
    name: str


def here(*names: str, keys: str = "xyzuvw") -> list[Here]:
    return [Here(NodeId(letter * 40), name) for letter, name in zip(keys, names, strict=False)]


OWN = [Here(node, name) for node, name in NAMES.items()]


@pytest.fixture(scope="module")
def model() -> Model:
    return open_entry("digits-cnn")


def file_of(model: Model, strategy: str = "pipeline", nodes: int = 2, **said: Any) -> PlanFile:
    return plan_file_of(model, PlanRequest(strategy, IDS[:nodes], said.pop("micro_batch", 4), **said), NAMES)


def text_of(model: Model, strategy: str = "pipeline", nodes: int = 2, **said: Any) -> str:
    return encode_plan_file(file_of(model, strategy, nodes, **said)).decode()


# ---------------------------------------------------------------- there and back


@st.composite
def requests(draw: st.DrawFn) -> PlanRequest:
    """All that a request may say, whether or not a compiler would take it."""
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=3, unique=True))
    counts = [draw(st.integers(2, 3)) for _ in kinds] if len(kinds) > 1 else [draw(st.integers(1, 6))]
    count, group = 1, 1
    for number in counts:
        count *= number
    if count > len(IDS):
        kinds, counts, count = ["replicate"], [2], 2
    for kind, number in zip(reversed(kinds), reversed(counts), strict=True):
        if kind not in ("tensor", "spatial"):
            break
        group *= number
    text = " > ".join(f"{kind}({number})" for kind, number in zip(kinds, counts, strict=True))
    text = text if len(kinds) > 1 else kinds[0]
    nodes = tuple(draw(st.permutations(IDS))[:count])
    shares = None
    if group > 1 and draw(st.booleans()):
        parts = draw(st.lists(st.integers(1, 1000), min_size=count, max_size=count))
        totals = [sum(parts[place - place % group :][:group]) for place in range(count)]
        shares = tuple(part / total for part, total in zip(parts, totals, strict=True))
    stages = next((number for kind, number in zip(kinds, counts, strict=True) if kind == "pipeline"), 0)
    cuts = draw(st.sets(st.integers(1, 11), min_size=stages - 1, max_size=stages - 1)) if stages else None
    pins = draw(st.sets(st.tuples(st.integers(0, 11), st.sampled_from(nodes)), max_size=2)) if stages else set()
    axis = st.sampled_from((None, "rows", "columns"))
    return PlanRequest(
        strategy=text,
        nodes=nodes,
        micro_batch=draw(st.integers(1, 64)),
        cuts=tuple(sorted(cuts)) if cuts is not None else None,
        tensor_axis=draw(axis),
        spatial_axis=draw(axis),
        shares=shares,
        pins=tuple(sorted(pins)),
    )


@given(request=requests())
@settings(max_examples=120, deadline=None)
def test_what_is_saved_is_read_back(model: Model, request: PlanRequest) -> None:
    file = plan_file_of(model, request, NAMES, saved=1.7e9)
    read = decode_plan_file(encode_plan_file(file), "plan.json")
    if request.shares is not None:
        assert read.shares == pytest.approx(request.shares, rel=1e-12)
        read = msgspec.structs.replace(read, shares=request.shares)
    assert read == file
    try:
        check_pins(model, request)
    except PlanError:
        with pytest.raises(PlanError, match="pin"):
            fit_to(read, model, OWN)
        return
    fit = fit_to(read, model, OWN)
    assert fit.request == request
    assert fit.words == ()


def test_every_field_of_a_request_is_kept(model: Model) -> None:
    """A field that is added to PlanRequest and forgotten here would be lost by saving."""
    known = {"strategy", "nodes", "micro_batch", "cuts", "tensor_axis", "spatial_axis", "shares", "pins"}
    assert set(PlanRequest.__struct_fields__) == known


def test_a_person_can_read_it(model: Model) -> None:
    value = json.loads(text_of(model, nodes=3, cuts=(2, 7), pins=((0, IDS[0]),)))
    layers = model.layers(4)
    assert value["cuts"] == [{"position": cut, "layer": layers[cut].name} for cut in (2, 7)]
    assert value["pins"] == [{"position": 0, "layer": layers[0].name, "node": "pi-1"}]
    shared = json.loads(text_of(model, "tensor", shares=(0.6, 0.4)))
    assert [(node["name"], node["share_percent"]) for node in shared["nodes"]] == [("pi-1", 60), ("pi-2", 40)]
    assert value["model"] == {
        "name": "digits-cnn",
        "sha256": model.sha256,
        "layers": len(layers),
        "parameters": sum(layer.parameters for layer in layers),
    }


def test_two_nodes_of_one_name_are_told_apart(model: Model) -> None:
    names = dict.fromkeys(IDS, "pi")
    request = PlanRequest("pipeline", IDS[:2], 4, (5,), pins=((7, IDS[1]),))
    read = decode_plan_file(encode_plan_file(plan_file_of(model, request, names)))
    twins = [Here(node, "pi") for node in IDS[:2]]
    assert fit_to(read, model, twins).request == request
    with pytest.raises(PlacementError, match="3 others could stand in for them"):
        fit_nodes(read, here("pi", "pi", "pi"))


# ---------------------------------------------------------------- anything else


def given_or_refused(data: bytes, model: Model) -> None:
    """Anything gives a plan, or an error in words."""
    told = None
    try:
        file = decode_plan_file(data, "plan.json")
        fit_to(file, model, OWN[: len(file.nodes)], "plan.json")
    except ShardboardError as error:
        told = error
    if told is not None:
        assert "plan.json" in told.message
        assert all(line.isprintable() for line in str(told).split("\n"))


@given(data=st.binary(max_size=200))
@settings(max_examples=150, deadline=None)
def test_any_bytes_give_words(model: Model, data: bytes) -> None:
    given_or_refused(data, model)


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_any_damage_gives_a_plan_or_words(model: Model, data: st.DataObject) -> None:
    whole = encode_plan_file(
        file_of(model, "pipeline(2) > tensor(2)", 4, cuts=(5,), shares=(0.6, 0.4, 0.5, 0.5), tensor_axis="rows")
    )
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, min(len(whole), start + 40)))
    given_or_refused(whole[:start] + data.draw(st.binary(max_size=6)) + whole[stop:], model)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("A" * 40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(data=st.data(), new=JSON)
@settings(max_examples=250, deadline=None)
def test_any_value_in_any_place_gives_a_plan_or_words(model: Model, data: st.DataObject, new: object) -> None:
    value = json.loads(text_of(model, "pipeline", 2, cuts=(5,), pins=((0, IDS[0]),)))
    value["predicted"] = {"throughput": 3.0, "latency_ms": 2.0, "memory_bytes": {"pi-1": 5}}
    place: Any = value
    for _ in range(data.draw(st.integers(0, 2))):
        inner = [key for key in keys_of(place) if isinstance(place[key], dict | list) and place[key]]
        if inner:
            place = place[data.draw(st.sampled_from(inner))]
    place[data.draw(st.sampled_from(keys_of(place)))] = new
    given_or_refused(json.dumps(value).encode(), model)


def keys_of(place: Any) -> list[Any]:
    return list(place) if isinstance(place, dict) else list(range(len(place)))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"micro_batch": 4', '"micro_batch": "four"', '"micro_batch": "four",\n                   ^^^^^^'),
        ('"micro_batch": 4', '"micro_batch": 0', "should be a whole number from 1 to 65,536"),
        ('"micro_batch": 4', '"micro_batch": true', '"micro_batch" is true'),
        ('"micro_batch": 4', '"micro_batch": 4, "micro_batch": 5', '"micro_batch" is there twice'),
        ('"micro_batch": 4,', '"micro_batch": 4', "A ',' is missing here"),
        ('"micro_batch": 4,', "# a note", "JSON has no comments"),
        ('"strategy": "pipeline"', "'strategy': 'pipeline'", "Text goes in double quotes"),
        ('"strategy": "pipeline"', '"strategy": pipeline', "Text goes in double quotes"),
        ('"strategy": "pipeline"', '"strategy": "pipeline @ a, b"', 'The nodes of a plan are those in "nodes"'),
        ('"strategy": "pipeline"', '"strategy": "single"', "single needs 1 node; 2 are given"),
        ('"format": 2', '"format": 0', '"format" is 0, but should be 2'),
        ('"format": 2', '"format": 3', "This plan has format 3, written by Shardboard"),
        ('"name": "pi-1"', '"nome": "pi-1"', 'Did you mean "name"?'),
        ('"position": 5', '"position": -5', "should be a whole number from 1 to"),
        ('"cuts": [', '"cuts": [7, ', "cuts[0] is 7, but should be an object"),
        (f'"id": "{IDS[1]}"', f'"id": "{IDS[0]}"', "This node is there twice"),
        ('"layers": 12', '"layers": 1e400', '"layers" is inf, but should be a whole number'),
    ],
)
def test_a_slip_of_the_hand_is_shown_where_it_is(model: Model, old: str, new: str, words: str) -> None:
    text = text_of(model, cuts=(5,))
    assert old in text
    changed = text.replace(old, new, 1)
    with pytest.raises(PlanError) as caught:
        decode_plan_file(changed.encode(), "plan.json")
    assert words in str(caught.value)
    assert f"plan.json, line {1 + changed[: text.index(old)].count(chr(10))}: " in str(caught.value)


def test_cuts_belong_to_pipelines(model: Model) -> None:
    text = text_of(model, cuts=(5,)).replace('"pipeline"', '"tensor"')
    with pytest.raises(PlanError, match=r"line 22: tensor has no cuts: only a pipeline has\."):
        decode_plan_file(text.encode(), "plan.json")


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ((60, 50), "The shares of pi-1 and pi-2 add up to 110, not 100"),
        ((0.6, 0.4), "Shares are per cent, not fractions."),
        ((100, 0), "A share is above 0 per cent"),
        ((100, -5), "should be a number that is not below 0"),
        ((100, None), 'pi-2 has no "share_percent", and others have'),
    ],
)
def test_shares_are_checked(model: Model, shares: tuple[float | None, ...], words: str) -> None:
    value = json.loads(text_of(model, "tensor"))
    for node, share in zip(value["nodes"], shares, strict=True):
        node["share_percent"] = share
    with pytest.raises(PlanError) as caught:
        decode_plan_file(json.dumps(value, indent=1).encode(), "plan.json")
    assert words in str(caught.value)


def test_rounded_shares_are_meant_as_a_whole(model: Model) -> None:
    value = json.loads(text_of(model, "tensor", 3))
    for node in value["nodes"]:
        node["share_percent"] = 33.3
    file = decode_plan_file(json.dumps(value).encode())
    assert file.shares == pytest.approx((1 / 3,) * 3)
    assert sum(file.shares or ()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xff\xfe{\x00", "is written in UTF-16"),
        (b'{"format": 2, "strategy": "\xff"}', "line 1: byte 27 is no text"),
        (b"[" * 10_000, "Brackets are nested too deeply"),
        (b" " * (5 << 20), "has 5,242,880 bytes"),
        (b'{"format": ' + b"9" * 6000 + b"}", "too many digits"),
        (b'{"format": 2, "strategy": NaN}', "A value is missing here"),
        (b'{"format": 2, "strategy": "a\nb"}', "a line break"),
        (b'{"format": 2} x', "There is something after the end"),
    ],
)
def test_what_no_editor_writes(data: bytes, words: str) -> None:
    with pytest.raises(PlanError) as caught:
        decode_plan_file(data, "plan.json")
    assert words in str(caught.value)


def test_windows_editors_begin_a_file_with_a_mark(model: Model) -> None:
    file = file_of(model, cuts=(5,))
    assert decode_plan_file(b"\xef\xbb\xbf" + encode_plan_file(file).replace(b"\n", b"\r\n")) == file


# ---------------------------------------------------------------- older versions


@pytest.mark.parametrize("written_by", ["Shardboard 0.0.9", None])
def test_a_plan_of_an_older_version_is_refused_in_words(model: Model, written_by: str | None) -> None:
    value = json.loads(encode_plan_file(file_of(model, cuts=(5,)))) | {"format": 1, "written_by": written_by}
    if written_by is None:
        del value["written_by"]
    with pytest.raises(PlanError) as caught:
        decode_plan_file(json.dumps(value, indent=2).encode(), "plan.json")
    by = "Shardboard 0.0.9" if written_by else "an older Shardboard"
    assert "plan.json, line 2" in caught.value.message
    assert by in caught.value.message
    assert caught.value.hint == "Make the plan again: shardboard plan MODEL --save."


# ---------------------------------------------------------------- its model


def test_another_model_is_named_with_what_differs(model: Model) -> None:
    file = file_of(model, cuts=(5,))
    with pytest.raises(PlanError) as caught:
        fit_model(file, open_entry("digits-mlp"), "plan.json")
    assert "digits-cnn (hash cad58b1a1a00, 12 layers, 40,394 parameters), not digits-mlp (" in caught.value.message
    assert "Give digits-cnn instead of digits-mlp" in caught.value.hint
    trained = msgspec.structs.replace(file, model=msgspec.structs.replace(file.model, sha256="0" * 64))
    with pytest.raises(PlanError) as caught:
        fit_model(trained, model, "plan.json")
    assert f'write "sha256": "{model.sha256}" into the plan' in caught.value.hint
    changed = msgspec.structs.replace(trained, model=msgspec.structs.replace(trained.model, layers=13))
    with pytest.raises(PlanError) as caught:
        fit_model(changed, model, "plan.json")
    assert "The model has changed since" in caught.value.hint


def test_a_model_that_takes_one_item_at_a_time() -> None:
    rnn = open_entry("linear-regression")
    assert rnn.batchable
    fixed = file_of(rnn, "single", 1)
    rnn.fixed_batch = 1
    with pytest.raises(PlanError) as caught:
        fit_model(fixed, rnn, "plan.json")
    assert str(caught.value) == ('plan.json: linear-regression takes 1 item at a time, not 4. Write "micro_batch": 1.')


def test_layers_may_be_given_by_name_alone(model: Model) -> None:
    value = json.loads(text_of(model, nodes=3, cuts=(2, 7)))
    for cut in value["cuts"]:
        del cut["position"]
    assert fit_model(decode_plan_file(json.dumps(value).encode()), model)[0] == (2, 7)
    value["cuts"].reverse()
    with pytest.raises(PlanError, match="cuts must increase"):
        fit_model(decode_plan_file(json.dumps(value).encode()), model)
    value["cuts"][0] = {"layer": model.layers(4)[0].name}
    value["cuts"][1] = {"position": 3}
    with pytest.raises(PlanError, match=r"cuts\[0\] would leave the first stage nothing to do"):
        fit_model(decode_plan_file(json.dumps(value).encode()), model)


def test_layers_are_found_by_name_where_pictures_are_processed(model: Model) -> None:
    processed = apply_processing(model, default_processing(model))
    assert len(processed.layers(4)) > len(model.layers(4))
    fit = fit_to(file_of(model, cuts=(5,)), processed, OWN, "plan.json")
    (cut,) = fit.request.cuts or ()
    assert processed.layers(4)[cut].name == model.layers(4)[5].name
    assert fit.words == (
        "plan.json was saved with other pre- and postprocessing; its layers were found by their names.",
    )
    back = fit_to(file_of(processed, cuts=(cut,)), model, OWN)
    assert back.request.cuts == (5,)
    assert fit_to(file_of(processed, cuts=(cut,)), processed, OWN).words == ()
    value = json.loads(text_of(model, cuts=(5,)))
    del value["cuts"][0]["layer"]
    with pytest.raises(PlanError, match=r'cuts\[0\] has no "layer"'):
        fit_model(decode_plan_file(json.dumps(value).encode()), processed)


# ---------------------------------------------------------------- its nodes


def test_nodes_are_found_by_id_then_by_name_then_in_order(model: Model) -> None:
    file = file_of(model, "tensor", 2, shares=(0.8, 0.2))
    own = [Here(IDS[1], "x"), Here(IDS[2], "y"), Here(IDS[0], "z")]
    assert fit_nodes(file, own).nodes == IDS[:2]
    assert fit_nodes(file, own).words == ()
    named = fit_nodes(file, here("pi-2", "pi-1", "pi-9"))
    assert named.nodes == (NodeId("y" * 40), NodeId("x" * 40))
    assert named.renewed == ("pi-1", "pi-2")
    others = fit_nodes(file, here("one", "two"))
    assert others.nodes == (NodeId("x" * 40), NodeId("y" * 40))
    assert others.instead == (("pi-1", "one"), ("pi-2", "two"))
    mixed = fit_nodes(file, [Here(NodeId("q" * 40), "new"), Here(IDS[0], "pi-1")])
    assert mixed.nodes == (IDS[0], NodeId("q" * 40))
    assert mixed.instead == (("pi-2", "new"),)


def test_an_id_counts_for_more_than_a_name(model: Model) -> None:
    swapped = [Here(IDS[0], "pi-2"), Here(IDS[1], "pi-1")]
    assert fit_nodes(file_of(model, "tensor"), swapped).nodes == IDS[:2]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((), r"is for 3 nodes; none is here: pi-1 \(id AAAAAAAA…\), pi-2 \(.*\) and pi-3 \(.*\) are missing"),
        (("pi-1",), r"is for 3 nodes; 1 is here: pi-2 \(.*\) and pi-3 \(.*\) are missing"),
        (("pi-1", "pi-2", "a", "b"), r"pi-3 \(.*\) is not among those here. 2 others could stand in for it: a and b"),
    ],
)
def test_nodes_that_are_missing_are_named(model: Model, names: tuple[str, ...], words: str) -> None:
    with pytest.raises(PlacementError, match=words):
        fit_nodes(file_of(model, "tensor", 3), here(*names), "plan.json")
