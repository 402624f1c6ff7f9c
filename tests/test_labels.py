"""Labels: what training sees of them, what is held out, and the loss of heads that predict them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError

from recgraph.data.features import Attributes, Features
from recgraph.data.interactions import Interactions
from recgraph.data.label_settings import LabelSettings, check_labels
from recgraph.data.labels import MISSING, held_out, labels_of
from recgraph.data.modalities import ModalitySettings, fit_modality
from recgraph.encoders import Embedding
from recgraph.errors import ConfigError, DataError
from recgraph.heads import Dot
from recgraph.heads.labels import LabelHead
from recgraph.models.recommender import Recommender
from recgraph.objectives import Label
from recgraph.objectives.labels import label_losses, repeats
from recgraph.random import isolated
from recgraph.types import Batch, Inputs

USERS = pl.DataFrame(
    {
        "id": range(40),
        "gender": ["f", "m", "m", None] * 10,
        "age": [10.0, 18.0, 40.0, None, 17.9] * 8,
    }
)
ITEMS = pl.DataFrame({"id": range(40), "genres": [["War"], ["Drama", "War"], [], ["unknown"]] * 10})
KINDS = {"user": {"gender": "categorical", "age": "numeric"}, "item": {"genres": "multi_hot"}}
FEATURES = Features(Attributes(USERS, KINDS["user"]), Attributes(ITEMS, KINDS["item"]))


def rated(rows: int, first: int = 0) -> Interactions:
    stars = np.arange(first, first + rows) % 5 + 1.0
    words = np.select([stars > 3, stars < 3], ["fine clear sound", "poor dull sound"], "so so")
    pairs = pl.DataFrame({"user": np.arange(rows) % 40, "item": (np.arange(rows) * 7) % 40})
    return Interactions.from_frame(pairs.with_columns(rating=pl.Series(stars), review=pl.Series(words)))


PARTS = {"train": rated(200), "validation": rated(40, 2), "test": rated(40, 3)}


def label(features: Features = FEATURES, seed: int = 0, learn=("train",), parts=PARTS, **entry):
    return labels_of({"it": LabelSettings(**entry)}, features, parts, seed=seed, learn=learn)["it"]


def test_a_number_that_is_the_same_for_all_is_divided_by_one() -> None:
    users = USERS.with_columns(age=pl.Series([0.1] * 40))
    found = label(
        Features(Attributes(users, KINDS["user"]), FEATURES.items), of="user", feature="age", holdout=(0.15, 0.1)
    )
    assert np.std([0.1] * 30) > 0  # by rounding
    assert found.scale == 1
    assert found.table.nan_to_num().abs().max() < 1e-6


def test_classes_tags_and_numbers() -> None:
    gender = label(of="user", feature="gender")
    assert (gender.kind, gender.names, gender.width) == ("classes", ("f", "m"), 2)
    part = held_out(40, (0.1, 0.1), 0, "user")
    for user, (value, where) in enumerate(zip(USERS["gender"], part, strict=True)):
        expected = MISSING if where or value is None else ["f", "m"].index(value)
        assert gender.table[user] == expected
    genres = label(of="item", feature="genres", unknown=("unknown",), holdout=(0.2, 0.2))
    assert (genres.kind, genres.names) == ("tags", ("Drama", "War"))
    part = held_out(40, (0.2, 0.2), 0, "item")
    for item, (tags, where) in enumerate(zip(ITEMS["genres"], part, strict=True)):
        seen = genres.table[item].tolist()
        if where or tags.to_list() in ([], ["unknown"]):
            assert all(map(math.isnan, seen))  # not told is not "none of them"
        else:
            assert seen == [float(name in tags) for name in genres.names]
    with pytest.raises(
        ConfigError, match=r"labels\.it\.unknown: nothing is 'Unknown' in 'genres'\. Did you mean 'unknown'"
    ):
        label(of="item", feature="genres", unknown=("unknown", "Unknown"))
    with pytest.raises(DataError, match=r"labels\.it: 'genres' has no value that is known"):
        label(of="item", feature="genres", unknown=("unknown", "War", "Drama"))
    bands = label(of="user", feature="age", bands=(18, 35))
    assert bands.names == ("below 18", "from 18", "from 35")
    known = [(user, age) for user, age in enumerate(USERS["age"]) if bands.table[user] != MISSING]
    assert [int(bands.table[user]) for user, _ in known] == [
        0 if age < 18 else 1 if age < 35 else 2 for _, age in known
    ]
    number = label(of="user", feature="age")
    seen = [
        age for age, where in zip(USERS["age"], held_out(40, (0.1, 0.1), 0, "user"), strict=True) if age and not where
    ]
    assert (number.mean, number.scale) == pytest.approx((np.mean(seen), np.std(seen)))  # of training users alone
    assert number.table.nanmean() == pytest.approx(0, abs=1e-6)


def test_examples_are_the_known_labels_of_each_part() -> None:
    found = label(of="user", feature="gender")
    part = held_out(40, (0.1, 0.1), 0, "user")
    for number, name in enumerate(("train", "validation", "test")):
        users = [user for user in range(40) if part[user] == number and USERS["gender"][user] is not None]
        assert found.examples[name].users.tolist() == users
        assert found.examples[name].items is None
        assert [found.names[value] for value in found.examples[name].values] == [USERS["gender"][u] for u in users]


def test_who_is_held_out_depends_on_the_seed_and_the_side_alone() -> None:
    one = held_out(1000, (0.1, 0.2), 0, "user")
    assert [(one == part).sum() for part in range(3)] == [700, 100, 200]
    assert (one == held_out(1000, (0.1, 0.2), 0, "user")).all()
    for other in (held_out(1000, (0.1, 0.2), 1, "user"), held_out(1000, (0.1, 0.2), 0, "item")):
        assert (one != other).any()
    more = held_out(1000, (0.2, 0.2), 0, "user")
    assert ((one == 2) == (more == 2)).all()  # more validation moves nobody to or from test


def test_nothing_of_a_held_out_label_is_in_what_training_sees() -> None:
    part = held_out(40, (0.1, 0.1), 0, "user")
    swapped = USERS.with_columns(
        gender=pl.when(pl.Series(part > 0)).then(pl.lit("m")).otherwise("gender"),
        age=pl.when(pl.Series(part > 0)).then(99.0).otherwise("age"),
    )
    planted = Features(Attributes(swapped, KINDS["user"]), FEATURES.items)
    without_test = {name: part for name, part in PARTS.items() if name == "train"}
    for entry in ({"feature": "gender"}, {"feature": "age"}, {"feature": "age", "bands": (18, 35)}):
        one = label(of="user", parts=without_test, **entry)
        two = label(planted, of="user", parts=without_test, **entry)
        torch.testing.assert_close(one.table, two.table, equal_nan=True, rtol=0, atol=0)
        assert (one.mean, one.scale) == (two.mean, two.scale)
    future = rated(40, 3).frame.with_columns(rating=pl.lit(5.0), review=pl.lit("planted words of tomorrow"))
    changed = {**PARTS, "validation": Interactions(future, PARTS["train"].users, PARTS["train"].items)}
    entry = {"of": "interaction", "feature": "rating", "text": "review"}
    one, two = (label(parts={k: p for k, p in parts.items() if k != "test"}, **entry) for parts in (PARTS, changed))
    assert torch.equal(one.table, two.table)
    assert (one.mean, one.scale) == (two.mean, two.scale)
    assert torch.equal(one.text, two.text)


def test_a_sealed_task_holds_no_test_label() -> None:
    sealed = {name: part for name, part in PARTS.items() if name != "test"}
    assert set(label(of="user", feature="gender", parts=sealed).examples) == {"train", "validation"}


def test_a_refit_sees_validation_labels_and_no_test_labels() -> None:
    found = label(of="user", feature="gender", learn=("train", "validation"))
    part = held_out(40, (0.1, 0.1), 0, "user")
    assert all((found.table[user] == MISSING) == (part[user] == 2 or not USERS["gender"][user]) for user in range(40))
    stars = label(of="interaction", feature="rating", around=3, learn=("train", "validation"))
    assert len(stars.table) == 240  # rows of train, then of validation, as they are trained on


def test_the_sign_of_a_rating_and_its_text() -> None:
    found = label(of="interaction", feature="rating", around=3, text="review", pair=False)
    ratings = PARTS["train"].frame["rating"].to_list()
    assert found.table.tolist() == [MISSING if r == 3 else int(r > 3) for r in ratings]
    test = PARTS["test"].frame.filter(pl.col("rating") != 3)
    assert found.examples["test"].users.tolist() == test["user"].to_list()
    assert found.examples["test"].items.tolist() == test["item"].to_list()
    same = found.examples["test"].values[:, None] == found.examples["test"].values
    closeness = found.examples["test"].text @ found.examples["test"].text.T
    assert (closeness[same] > 0.99).all()
    assert (closeness[~same] < 0.9).all()


def test_a_text_may_tell_by_vectors_of_its_words_which_training_rows_alone_have_taught() -> None:
    way = {"of": "interaction", "feature": "rating", "around": 3, "text": "review", "pair": False}
    found = label(**way, text_by="words", text_dim=5)
    assert found.table.tolist() == label(**way).table.tolist()
    assert found.text.shape == (len(found.table), 5)
    some = found.examples["test"]
    torch.testing.assert_close(some.text.norm(dim=1), torch.ones(len(some.text)))
    plain = label(**way).examples["test"].text
    assert not torch.allclose(some.text @ some.text.T, plain @ plain.T)
    rows = PARTS["train"].frame
    settings = ModalitySettings(columns=("review",), by="words", dim=5)
    fitted = fit_modality(settings, rows, {"review": "text"}, np.ones(len(rows), bool), "it")
    torch.testing.assert_close(found.text, fitted.transform(rows, "it").values)


def test_entries_of_before_there_were_ways_of_text_keep_their_name() -> None:
    plain = LabelSettings(of="interaction", feature="rating", text="review")
    assert not {"text_by", "text_model", "class_weight"} & set(plain.model_dump(mode="json"))
    words = LabelSettings(of="interaction", feature="rating", text="review", text_by="words")
    assert words.model_dump(mode="json")["text_by"] == "words"
    assert LabelSettings(**words.model_dump(mode="json")) == words


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"of": "interaction", "feature": "rating", "text_by": "words"}, "name its column"),
        (
            {"of": "interaction", "feature": "rating", "text": "review", "text_by": "sentences"},
            "`text_model`, a folder",
        ),
        ({"of": "interaction", "feature": "rating", "text": "review", "text_model": "x"}, "goes with `text_by: sent"),
        (
            {"of": "interaction", "feature": "rating", "text": "review", "text_by": "sentences", "text_model": "x"}
            | {"text_dim": 20},
            "`text_dim` does nothing",
        ),
        ({"of": "user", "feature": "age", "text_dim": 20}, "`text_dim` is of a `text`"),
        ({"of": "interaction", "feature": "rating", "holdout": (0.2, 0.2)}, "`holdout` is of users or items"),
        ({"of": "user", "feature": "age", "bands": (18,), "around": 3}, "not both"),
        ({"of": "user", "feature": "age", "bands": (35, 18)}, "must rise"),
        ({"of": "user", "feature": "age", "text": "review"}, "of interactions"),
        ({"of": "interaction", "feature": "rating", "pair": False}, "a `text` must"),
        ({"of": "user", "feature": "age", "holdout": (0.5, 0.1)}, "less than 0.5"),
    ],
)
def test_entries_that_make_no_sense_are_refused(entry: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LabelSettings(**entry)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"of": "user", "feature": "gendr"}, "labels.it.feature: no feature 'gendr' of users.*gender"),
        ({"of": "item", "feature": "gender"}, "no feature 'gender' of items"),
        ({"of": "user", "feature": "gender", "bands": (1,)}, "are for numeric features"),
        ({"of": "item", "feature": "title"}, "'title' is of the kind text, which is no label"),
        ({"of": "interaction", "feature": "stars"}, "no column 'stars' of interactions.*rating"),
        ({"of": "interaction", "feature": "rating", "text": "rating"}, "'rating' is numeric"),
        ({"of": "user", "feature": "age", "class_weight": "balanced"}, "class_weight: 'age' is a number"),
    ],
)
def test_a_label_that_the_dataset_has_not_is_refused(entry: dict, message: str) -> None:
    kinds = {"user": KINDS["user"], "item": KINDS["item"] | {"title": "text"}}
    with pytest.raises(ConfigError, match=message):
        check_labels({"it": LabelSettings(**entry)}, kinds, {"rating": "numeric", "review": "text"})


def test_a_part_with_nothing_to_measure_is_refused() -> None:
    one_sex = Features(Attributes(USERS.with_columns(gender=pl.lit("f")), KINDS["user"]), FEATURES.items)
    with pytest.raises(DataError, match=r"labels\.it: the train part has one class of 'gender' only"):
        label(one_sex, of="user", feature="gender")
    with pytest.raises(DataError, match="has no row whose label 'age' is known"):
        nothing = USERS.with_columns(age=pl.when(pl.Series(held_out(40, (0.1, 0.1), 0, "user") < 2)).then("age"))
        label(
            Features(Attributes(nothing, KINDS["user"]), FEATURES.items), of="user", feature="age", holdout=(0.15, 0.1)
        )


def model(**heads: LabelHead) -> Recommender:
    with isolated(0, "test"):
        recommender = Recommender(Embedding(5, 7, dim=4), {"rank": Dot(4)})
    recommender.label_heads.update(heads)
    return recommender.double()


ROWS = Inputs(torch.tensor([0, 3, 3, 1])), torch.tensor([1, 4, 0, 4])


def value(objective: Label, recommender: Recommender, batch: Batch) -> torch.Tensor:
    return objective(recommender, batch, recommender.encoder(batch.inputs))


def test_a_user_counts_once_however_many_rows_it_has() -> None:
    with isolated(1, "test"):
        recommender = model(sex=LabelHead(4, of="user", kind="classes", width=3))
    batch = Batch(*ROWS, labels={"sex": torch.tensor([2, 0, 0, MISSING])})
    vectors, layer = recommender.encoder.users.weight, recommender.label_heads["sex"].layers[0]
    total = 0.0
    for user, wanted in ((0, 2), (3, 0)):  # user 1 is masked
        logits = [sum(w * x for w, x in zip(row, vectors[user].tolist(), strict=True)) for row in layer.weight.tolist()]
        logits = [one + bias for one, bias in zip(logits, layer.bias.tolist(), strict=True)]
        total -= math.log(math.exp(logits[wanted]) / sum(map(math.exp, logits)))
    assert value(Label(of="sex"), recommender, batch).item() == pytest.approx(total / 2, abs=1e-12)
    masked = Batch(*ROWS, labels=batch.labels, mask=torch.tensor([True, False, False, True]))
    alone = Batch(*ROWS, labels={"sex": torch.tensor([2, MISSING, MISSING, MISSING])})
    torch.testing.assert_close(value(Label(of="sex"), recommender, masked), value(Label(of="sex"), recommender, alone))
    one_of_two = replace(batch, mask=torch.tensor([True, True, False, True]))
    assert value(Label(of="sex"), recommender, one_of_two).item() == pytest.approx(total / 2, abs=1e-12)


def test_tags_of_an_item_and_numbers_of_an_interaction_equal_loops() -> None:
    with isolated(1, "test"):
        tags = LabelHead(4, of="item", kind="tags", width=2, hidden=(3,))
        stars = LabelHead(4, of="interaction", kind="number", width=1, text_width=2)
        recommender = model(tags=tags, stars=stars)
    nan = float("nan")
    known = torch.tensor([[1, 0], [0, 1], [nan, nan], [0, 1]], dtype=torch.float64)
    batch = Batch(*ROWS, labels={"tags": known})
    items = recommender.encoder.items.weight
    sigmoid = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
    total = 0.0
    for item, wanted in ((1, (1, 0)), (4, (0, 1))):  # item 4 has two rows and counts once; item 0 is masked
        for logit, one in zip(tags(None, items[item]).tolist(), wanted, strict=True):
            total -= math.log(sigmoid(logit) if one else 1 - sigmoid(logit)) / 2
    assert value(Label(of="tags"), recommender, batch).item() == pytest.approx(total / 2, abs=1e-12)

    text = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    batch = Batch(*ROWS, labels={"stars": torch.tensor([1.0, nan, -0.5, 2.0]).double()}, evidence={"stars": text})
    total = 0.0
    for row, (user, item, wanted) in enumerate(((0, 1, 1.0), (3, 4, nan), (3, 0, -0.5), (1, 4, 2.0))):
        q, i = recommender.encoder.users.weight[user], items[item]
        said = stars.layers(torch.cat([q, i, q * i, text[row] * math.sqrt(2)])).item()  # the root of its width
        total += 0.0 if math.isnan(wanted) else (said - wanted) ** 2
    assert value(Label(of="stars"), recommender, batch).item() == pytest.approx(total / 3, abs=1e-12)


def test_without_a_known_label_the_loss_is_0_and_so_is_its_gradient() -> None:
    recommender = model(sex=LabelHead(4, of="user", kind="classes", width=3))
    loss = value(Label(of="sex"), recommender, Batch(*ROWS, labels={"sex": torch.full((4,), MISSING)}))
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is None or not p.grad.any() for p in recommender.parameters())


def test_a_probe_leaves_the_representation_alone() -> None:
    for probe in (False, True):
        recommender = model(sex=LabelHead(4, of="user", kind="classes", width=2))
        batch = Batch(*ROWS, labels={"sex": torch.tensor([0, 1, 1, 0])})
        value(Label(of="sex", probe=probe), recommender, batch).backward()
        assert (recommender.encoder.users.weight.grad is None) == probe
        assert recommender.label_heads["sex"].layers[0].weight.grad.any()


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_losses_and_their_gradients_stay_finite(scale: float) -> None:
    outputs = (scale * torch.tensor([[1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]])).requires_grad_()
    nan = float("nan")
    for kind, targets in (
        ("classes", torch.tensor([1, MISSING, 0])),
        ("tags", torch.tensor([[0.0, 1.0], [nan, nan], [1.0, 0.0]])),
        ("number", torch.tensor([0.0, nan, 2.0])),
    ):
        losses, counts = label_losses(kind, outputs if kind != "number" else outputs[:, :1], targets)
        (gradient,) = torch.autograd.grad(losses.sum(), outputs)
        assert losses.isfinite().all()
        assert gradient.isfinite().all()
        assert counts.tolist() == [True, False, True]
        assert losses[1] == 0
        assert not gradient[1].any()


def test_balanced_classes_weigh_and_cost_what_scikit_learns_do() -> None:
    from sklearn.metrics import log_loss
    from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

    bands = label(of="user", feature="age", bands=(18, 40), class_weight="balanced")
    known = bands.table[bands.table != MISSING].numpy()
    there = np.unique(known)
    expected = np.zeros(bands.width)
    expected[there] = compute_class_weight("balanced", classes=there, y=known)
    np.testing.assert_allclose(bands.class_weights, expected, rtol=1e-6)
    assert len(set(expected)) == 2

    outputs = torch.randn(len(bands.table), bands.width, generator=torch.Generator().manual_seed(0))
    losses, counts = label_losses("classes", outputs, bands.table, bands.class_weights)
    chances = outputs.double().softmax(-1)[counts].numpy()
    weights = compute_sample_weight("balanced", known)
    loss = log_loss(known, chances, sample_weight=weights, labels=range(bands.width), normalize=False)
    assert losses.sum().item() == pytest.approx(loss, rel=1e-5)
    assert label(of="user", feature="age", bands=(18,)).class_weights is None


def test_balanced_tags_weigh_absence_and_presence_of_each_for_itself() -> None:
    from sklearn.metrics import log_loss
    from sklearn.utils.class_weight import compute_sample_weight

    tags = label(of="item", feature="genres", class_weight="balanced", holdout=(0.3, 0.2))
    outputs = torch.randn(len(tags.table), tags.width, generator=torch.Generator().manual_seed(0))
    losses, counts = label_losses("tags", outputs, tags.table, tags.class_weights)
    costs = []
    for tag in range(tags.width):
        truth, chances = tags.table[counts, tag].numpy(), outputs[counts, tag].double().sigmoid().numpy()
        weights = compute_sample_weight("balanced", truth)
        costs.append(log_loss(truth, chances, sample_weight=weights, normalize=False))
    assert losses.sum().item() == pytest.approx(np.mean(costs), rel=1e-5)
    assert not torch.equal(losses, label_losses("tags", outputs, tags.table)[0])


def test_repeats_of_owners() -> None:
    owners = torch.tensor([[3, 0], [3, 3]])
    assert repeats(owners, torch.ones(2, 2, dtype=torch.bool), 5).tolist() == [[3, 1], [3, 3]]


def test_a_head_of_text_alone_reads_neither_user_nor_item() -> None:
    head = LabelHead(4, of="interaction", kind="classes", width=2, pair=False, text_width=3)
    text = torch.randn(5, 3)
    assert torch.equal(head(None, None, text), head(torch.randn(5, 4), torch.randn(5, 4), text))
