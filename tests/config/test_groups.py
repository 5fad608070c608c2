"""`IMAGE_GROUPS`: what each group sets, and what it takes from the variables."""

import json
from typing import Any

import pytest

from image_puller.config.configuration import Config, from_environ
from image_puller.errors import ConfigurationError

APP = "quay.io/org/app:1.2.3"
CUDA = "nvcr.io/nvidia/cuda:12.4.1"


def groups(_groups: Any, **environ: str) -> tuple[Config, ...]:
    """Return the named groups of a configuration without `IMAGES`."""
    return from_environ({"IMAGE_GROUPS": json.dumps(_groups), **environ}).groups


def problems(text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigurationError) as raised:
        from_environ({"IMAGE_GROUPS": text, **environ})
    return str(raised.value).splitlines()


def test_without_groups_there_is_one_group_without_a_name() -> None:
    config = from_environ({"IMAGES": f"app={APP}"})
    assert (config.group, config.groups, config.all_groups) == (None, (), (config,))


def test_a_group_sets_what_it_says() -> None:
    (gpu,) = groups(
        {
            "gpu": {
                "images": {"cuda": CUDA},
                "imageTagPolicies": {"cuda": "exact"},
                "keepTags": 3,
                "nodeSelector": {"gpu": "yes"},
                "affinity": {"nodeAffinity": {}},
                "tolerations": [{"operator": "Exists"}],
                "imagePullSecrets": ["one", "two"],
                "holdBy": "volumes",
                "rolloutMaxUnavailable": "10%",
                "rolloutSeedNodes": 2,
                "priorityClassName": "low",
                "runtimeClassName": "runc",
                "resources": {
                    "requests": {"memory": "5Mi", "cpu": 0.01},
                    "limits": {"memory": "30Mi", "cpu": None},
                },
            }
        }
    )
    assert gpu.group == "gpu"
    assert gpu.daemonset_name == "kubernetes-image-puller-gpu"
    assert [(each.name, each.image, each.policy.text) for each in gpu.entries] == [
        ("cuda", CUDA, "exact")
    ]
    assert gpu.keep_tags == 3
    assert gpu.node_selector == {"gpu": "yes"}
    assert gpu.affinity == {"nodeAffinity": {}}
    assert gpu.tolerations == ({"operator": "Exists"},)
    assert gpu.image_pull_secrets == ("one", "two")
    assert (gpu.hold_by, gpu.rollout_max_unavailable) == ("volumes", "10%")
    assert gpu.rollout_seed_nodes == 2
    assert (gpu.priority_class_name, gpu.runtime_class_name) == ("low", "runc")
    asked = gpu.resources
    assert (asked.memory_request, asked.cpu_request) == ("5Mi", "0.01")
    assert (asked.memory_limit, asked.cpu_limit) == ("30Mi", None)


def test_a_group_takes_the_rest_from_the_variables() -> None:
    config = from_environ(
        {
            "IMAGES": f"app={APP}",
            "IMAGE_GROUPS": json.dumps({"gpu": {"images": f"cuda={CUDA}", "nodeSelector": {}}}),
            "DAEMONSET_NAME": "cache",
            "NODE_SELECTOR": '{"pool": "a"}',
            "TOLERATIONS": '[{"key": "x"}]',
            "KEEP_TAGS": "4",
            "IMAGE_TAG_POLICIES": "app=exact;cuda=exact",
        }
    )
    (gpu,) = config.groups
    assert (config.daemonset_name, gpu.daemonset_name) == ("cache", "cache-gpu")
    assert (dict(config.node_selector), dict(gpu.node_selector)) == ({"pool": "a"}, {})
    assert (gpu.tolerations, gpu.keep_tags) == (({"key": "x"},), 4)
    assert [each.name for each in config.entries] == ["app"]
    assert gpu.entries[0].policy.text == "exact"
    assert [each.warnings for each in config.all_groups] == [(), ()]
    assert config.all_groups == (config, gpu)


@pytest.mark.parametrize(
    "images",
    [f"a={APP};b={CUDA}", {"a": APP, "b": CUDA}, [f"a={APP}", {"name": "b", "image": CUDA}]],
)
def test_images_of_a_group_may_be_a_text_an_object_or_an_array(images: Any) -> None:
    (group,) = groups({"gpu": {"images": images}})
    assert [(each.name, each.image) for each in group.entries] == [("a", APP), ("b", CUDA)]


def test_images_may_be_empty_where_groups_exist() -> None:
    config = from_environ({"IMAGE_GROUPS": json.dumps({"gpu": {"images": f"cuda={CUDA}"}})})
    assert config.entries == ()
    assert config.all_groups == config.groups


def test_two_groups_may_have_entries_of_one_name_and_image() -> None:
    one, other = groups({"a": {"images": f"app={APP}"}, "b": {"images": f"app={APP}"}})
    assert one.entries == other.entries


def test_a_malformed_entry_of_a_group_is_a_warning_that_names_the_group() -> None:
    (gpu,) = groups({"gpu": {"images": f"cuda={CUDA};bad", "imageTagPolicies": "other=exact"}})
    assert gpu.warnings == (
        "IMAGE_GROUPS: gpu.images: 'bad': not of the form name=image; the entry is ignored",
        "IMAGE_GROUPS: gpu.imageTagPolicies: no valid entry of IMAGES is called 'other'",
    )


@pytest.mark.parametrize(
    ("group", "problem"),
    [
        ({}, 'gpu: has no images; set "images": "name=image;…"'),
        ([], "gpu: must be an object, not []"),
        ({"images": 1}, "gpu.images: must be a text name=value;…, an object of texts, or an array"),
        (
            {"images": {"cuda": 1}},
            "gpu.images: must be a text name=value;…, an object of texts, or an array",
        ),
        ({"images": [1]}, "gpu.images: must have items name=image or {name: …, image: …}, not 1"),
        ({"images": "bad"}, "gpu.images: has no valid entry; IMAGES: 'bad': not of the form"),
        ({"images": "a=b", "keepTags": 0}, "gpu.keepTags: must be a whole number from 1 to 20"),
        ({"images": "a=b", "keepTags": True}, "gpu.keepTags: must be a text or a number, not True"),
        ({"images": "a=b", "keeptags": 1}, "gpu: 'keeptags' is not one of affinity, holdBy, ima"),
        ({"images": "a=b", "nodeSelector": []}, "gpu.nodeSelector: must be a JSON object, not"),
        ({"images": "a=b", "tolerations": {}}, "gpu.tolerations: must be a JSON array of objects"),
        ({"images": "a=b", "imagePullSecrets": ["_"]}, "gpu.imagePullSecrets: must be a name of"),
        ({"images": "a=b", "resources": 1}, "gpu.resources: must be an object"),
        ({"images": "a=b", "resources": {"limits": 1}}, "gpu.resources.limits: must be an object"),
        (
            {"images": "a=b", "resources": {"limits": {"memory": "1Mi"}}},
            "gpu.resources.requests.memory: 10Mi is more than CACHING_MEMORY_LIMIT, 1Mi",
        ),
        (
            {"images": "a=b", "resources": {"limits": {"disk": "1Mi"}}},
            "gpu: 'resources.limits.disk' is not one of affinity, holdBy, imagePull",
        ),
        ({"images": "a=b", "imageTagPolicies": "a=odd:"}, "gpu.imageTagPolicies: a: "),
    ],
)
def test_a_wrong_group_is_a_problem_that_names_its_place(group: Any, problem: str) -> None:
    (found,) = problems(json.dumps({"gpu": group}), IMAGES=f"app={APP}")
    assert found.startswith(f"IMAGE_GROUPS: {problem}")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("Gpu", "must be a name of lower-case letters, digits and '-'"),
        ("g" * 31, f"the name '{'g' * 31}' is longer than 30 characters; shorten it"),
    ],
)
def test_a_wrong_name_is_a_problem(name: str, problem: str) -> None:
    (found,) = problems(json.dumps({name: {"images": "a=b"}}), IMAGES=f"app={APP}")
    assert found.startswith(f"IMAGE_GROUPS: {problem}")


def test_a_daemonset_name_that_is_too_long_with_a_group_is_a_problem() -> None:
    text = json.dumps({"gpu": {"images": "a=b"}})
    (found,) = problems(text, IMAGES=f"app={APP}", DAEMONSET_NAME="x" * 60)
    assert "is longer than 63 characters; shorten the group's name or DAEMONSET_NAME" in found


def test_problems_of_variables_are_reported_once_and_those_of_all_groups() -> None:
    text = json.dumps(
        {"one": {"images": "a=b", "keepTags": 0}, "two": {"images": "a=b", "keepTags": 99}}
    )
    found = problems(text, IMAGES=f"app={APP}", PORT="x", KEEP_TAGS="y")
    assert [each.partition(": must")[0] for each in found] == [
        "KEEP_TAGS",
        "PORT",
        "IMAGE_GROUPS: one.keepTags",
        "IMAGE_GROUPS: two.keepTags",
    ]


def test_groups_that_are_no_json_are_a_problem() -> None:
    (found, images) = problems("{gpu: 1}")
    assert found.startswith("IMAGE_GROUPS: is not JSON")
    assert images == "IMAGES: must be set, as name=image;name=image;…"
