"""What a manifest describes: an image, or another artifact."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_puller.values.artifact import other_kind

OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
HELM = "application/vnd.cncf.helm.config.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+zstd"
ATTESTATION = {"vnd.docker.reference.type": "attestation-manifest"}


def manifest(config: Any = OCI_CONFIG, *layers: Any, **more: Any) -> dict[str, Any]:
    return {
        "config": {"mediaType": config},
        "layers": [{"mediaType": layer} for layer in layers],
    } | more


def index(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"manifests": [*parts]} | more


@pytest.mark.parametrize(
    "value",
    [
        manifest(OCI_CONFIG, LAYER),
        manifest(DOCKER_CONFIG, "application/vnd.docker.image.rootfs.diff.tar.gzip"),
        manifest(DOCKER_CONFIG, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
        manifest(OCI_CONFIG),  # from scratch, without files
        manifest(OCI_CONFIG, LAYER, artifactType=OCI_CONFIG),
        index({"mediaType": MANIFEST}, {"mediaType": MANIFEST, "annotations": ATTESTATION}),
        index({"mediaType": "application/vnd.docker.distribution.manifest.v2+json"}),
        index({"mediaType": "application/vnd.oci.image.index.v1+json"}),
        index({"digest": "sha256:0"}),
        index(),
        {"schemaVersion": 1, "fsLayers": []},
        {},
    ],
)
def test_a_manifest_of_an_image(value: dict[str, Any]) -> None:
    assert other_kind(value) is None


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (manifest(HELM, "application/vnd.cncf.helm.chart.content.v1.tar+gzip"), HELM),
        (manifest(EMPTY, "text/spdx+json", artifactType="text/spdx+json"), "text/spdx+json"),
        (manifest(EMPTY, LAYER), EMPTY),
        (
            manifest("application/vnd.buildkit.cacheconfig.v0", LAYER),
            "application/vnd.buildkit.cacheconfig.v0",
        ),
        (
            manifest(OCI_CONFIG, "application/vnd.dev.cosign.simplesigning.v1+json"),
            "application/vnd.dev.cosign.simplesigning.v1+json",
        ),
        (manifest(OCI_CONFIG, "application/vnd.in-toto+json"), "application/vnd.in-toto+json"),
        (index({"mediaType": LAYER}), "an index without images"),
        (index({"mediaType": MANIFEST, "annotations": ATTESTATION}), "an index without images"),
        (index({"mediaType": MANIFEST, "artifactType": HELM}), "an index without images"),
        (index({"mediaType": MANIFEST}, artifactType="model/x"), "model/x"),
        (manifest("x" * 999), "x" * 100),
    ],
)
def test_a_manifest_of_another_artifact(value: dict[str, Any], kind: str) -> None:
    assert other_kind(value) == kind


anything = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)


@given(
    st.dictionaries(
        st.sampled_from(["artifactType", "config", "layers", "manifests"]), anything, max_size=4
    )
)
def test_a_malformed_manifest_raises_nothing(value: dict[str, Any]) -> None:
    assert isinstance(other_kind(value), str | None)
