"""Names of models, and what clients may change of them."""

from pathlib import Path
from typing import Any

import pytest

from actors.config import PruningConfig
from pipeline.config import Mode
from pipeline.policy import Policy, identity_for, write_policy
from serving.api_errors import ApiError
from serving.models import Catalogue, Part
from serving.policies import job_of, policies_of
from serving.protocol import SglOptions
from sgl.errors import ConfigurationError
from tests.serving.fakes import config_of


def policy(**settings: Any) -> Policy:
    data: dict[str, Any] = {
        "mode": Mode.CASCADE,
        "threshold": 0.75,
        "pruning": PruningConfig(prune_layer=0.4, keep_ratio=0.4),
        "guarantees": (),
        "delta": 0.1,
        "metric": "exact_match",
        "records": 280,
        "cost": {},
        "cost_unit": "flops",
        "escalation_rate": 0.4,
        "created_at": "2026-01-01T00:00:00+00:00",
        "identity": identity_for(job_of(config_of())),
    }
    return Policy.model_validate(data | settings)


def catalogue(**settings: Any) -> Catalogue:
    policies = {"careful": policy(), "cheap": policy(mode=Mode.SMALL, threshold=0.5)}
    named = {name: f"{name}.yaml" for name in policies}
    return Catalogue(config_of(policies=named, **settings), policies)


def test_every_name_that_is_listed_can_be_chosen() -> None:
    names = catalogue().names()
    assert names == ["pair", "pair:small", "pair:large", "pair@careful", "pair@cheap"]
    for name in names:
        assert catalogue().choose(name).name == name


def test_what_the_names_mean() -> None:
    found = catalogue()
    own = PruningConfig()
    pair = found.choose("pair")
    assert (pair.part, pair.threshold, pair.pruning, pair.policy) == (Part.PAIR, 0.9, own, None)
    assert found.choose("pair:small").part is Part.SMALL
    assert found.choose("pair:large").part is Part.LARGE
    at = found.choose("pair@0.25")
    assert (at.threshold, at.pruning, at.label) == (0.25, own, "pair")
    careful = found.choose("pair@careful")
    assert (careful.threshold, careful.policy) == (0.75, "careful")
    assert careful.pruning == PruningConfig(prune_layer=0.4, keep_ratio=0.4)
    assert found.choose("pair@cheap").threshold == 0


def test_the_default_may_be_a_policy() -> None:
    found = catalogue(threshold=None, policy="careful")
    assert found.choose("pair").threshold == 0.75
    assert found.choose("pair").policy == "careful"
    assert found.choose("pair@0.5").policy is None


def test_a_pair_has_the_name_that_the_endpoint_gives_it() -> None:
    assert catalogue(name="qwen-3b-72b").choose("qwen-3b-72b:small").part is Part.SMALL
    with pytest.raises(ApiError, match="there is no model 'pair'"):
        catalogue(name="other").choose("pair")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "gpt-4o",
        "pair@",
        "pair@-1",
        "pair@1e3",
        "pair@nan",
        "pair@none",
        "pair:medium",
        "pair@\u0660.\u0665",
    ],
)
def test_other_names_are_not_found(name: str) -> None:
    with pytest.raises(ApiError, match="GET /v1/models") as refused:
        catalogue().choose(name)
    assert (refused.value.status, refused.value.code) == (404, "model_not_found")


def test_a_request_may_have_it_its_own_way_and_then_no_policy_promises_anything() -> None:
    found = catalogue().choose("pair@careful", SglOptions(threshold=0.1, keep_ratio=1))
    assert (found.threshold, found.policy) == (0.1, None)
    assert found.pruning == PruningConfig(prune_layer=0.4, keep_ratio=1)
    assert catalogue().choose("pair@careful", SglOptions(explain=True)).policy == "careful"


@pytest.mark.parametrize(
    ("name", "options", "param"),
    [
        ("pair@0.5", None, "model"),
        ("pair", SglOptions(threshold=0.5), "sgl.threshold"),
        ("pair", SglOptions(prune_layer=0.5), "sgl.prune_layer"),
        ("pair@careful", SglOptions(keep_ratio=0.5), "sgl.keep_ratio"),
    ],
)
def test_where_clients_may_not_choose_they_are_told(
    name: str, options: SglOptions | None, param: str
) -> None:
    fixed = catalogue(clients_choose=False)
    with pytest.raises(ApiError, match="decides its threshold") as refused:
        fixed.choose(name, options)
    assert (refused.value.status, refused.value.param) == (400, param)
    assert fixed.choose("pair@careful", SglOptions(explain=True, timeout_s=5.0)).threshold == 0.75


def test_policies_are_checked_against_the_models_at_the_start(tmp_path: Path) -> None:
    write_policy(policy(), tmp_path / "fits.yaml")
    others = identity_for(job_of(config_of(decoding={"max_new_tokens": 8})))
    write_policy(policy(identity=others), tmp_path / "other.yaml")

    def read(name: str) -> dict[str, Policy]:
        return policies_of(config_of(policies={"mine": str(tmp_path / name)}))

    assert read("fits.yaml") == {"mine": policy()}
    with pytest.raises(ConfigurationError, match=r"policies\.mine: .*decoding\.max_new_tokens"):
        read("other.yaml")
    with pytest.raises(ConfigurationError, match=r"policies\.mine: .*cannot be read"):
        read("none.yaml")


def test_a_policy_need_not_know_of_the_files_that_it_was_made_from(tmp_path: Path) -> None:
    identity = identity_for(job_of(config_of())) | {
        "input.text_only": "true",
        "input.max_image_pixels": "5",
        "input.options": '["A"]',
    }
    write_policy(policy(identity=identity), tmp_path / "policy.yaml")
    found = policies_of(config_of(policies={"mine": str(tmp_path / "policy.yaml")}))
    assert found["mine"].identity == identity
