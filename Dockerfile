# Two images: the service, and with `--target sleep` the one that brings /sleep to every node.
# `make docker` builds both, with docker, podman or buildah; so does plain `docker build`.

# The service's base: any Linux with glibc, bash, find and Python 3.11 or later as python3, and with
# pip unless wheels come along in build/offline. Pin it for a release: BASE=…@sha256:…
ARG BASE=docker.io/library/python:3.13-slim-bookworm
# Where sleep is compiled: a Debian, or anything with bash if it comes along in build/offline.
ARG COMPILER=docker.io/library/debian:bookworm-slim


# Compiles on the machine that builds, for any other, without emulation.
FROM --platform=$BUILDPLATFORM ${COMPILER} AS compiled
ARG BUILDARCH
ARG TARGETARCH
ARG SOURCE_DATE_EPOCH=0
WORKDIR /context
COPY build/stages/sleep build/stages/
COPY build/offline/sleep build/offline/sleep/
COPY service/image_puller/__init__.py service/image_puller/
COPY sleep sleep/
RUN build/stages/sleep "$TARGETARCH" "$BUILDARCH" /out/sleep


FROM scratch AS sleep
ARG VERSION=unknown
LABEL org.opencontainers.image.title="kubernetes-image-puller-sleep" \
      org.opencontainers.image.description="The static binary that keeps a container alive" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=compiled /out/sleep /sleep
# A number, or Kubernetes can't tell that it is not root.
USER 65532:65532
ENTRYPOINT ["/sleep"]
CMD ["720h"]


# The same base makes what runs on it. All that is not copied below stays here: pip, hatchling.
FROM ${BASE} AS packages
# requirements.lock alone brings no cryptographic library, and no OpenID Connect: for FIPS.
ARG LOCK_FILE=requirements-oidc.lock
USER 0
WORKDIR /context
COPY build/stages/packages build/stages/
COPY build/offline/wheels build/offline/wheels/
COPY build/tools.lock build/
COPY requirements.lock requirements-oidc.lock ./
RUN build/stages/packages dependencies /out/dependencies "$LOCK_FILE"
COPY LICENSE README.md pyproject.toml ./
COPY service service/
RUN build/stages/packages service /out/service


FROM ${BASE} AS service
USER 0
# Whatever installs packages goes, however the base came by it.
RUN find / -xdev \( -path '*/bin/pip*' -o -path '*/python3*/ensurepip' \
         -o -path '*-packages/pip' -o -path '*-packages/pip-*' -o -path '*-packages/wheel*' \
         -o -path '*-packages/setuptools*' -o -path '*-packages/pkg_resources' \
         -o -path '*-packages/*distutils*' \) -prune -exec rm -rf {} +
# Nobody can write here at run time, so the standard library is compiled now, if it is not yet:
# the official images have none of it compiled, which every cold start would pay for.
RUN python3 -m compileall -q --invalidation-mode unchecked-hash \
      -x '/(dist-packages|site-packages|idlelib|lib2to3|test|tests|tkinter|turtledemo)/' \
      "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
# Dependencies apart from the service: a new release is a small layer.
COPY --from=packages /out/dependencies /
COPY --from=packages /out/service /
COPY --from=sleep /sleep /sleep

ARG VERSION=unknown
LABEL org.opencontainers.image.title="kubernetes-image-puller" \
      org.opencontainers.image.description="Keeps images on the nodes of a cluster, by events" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
# The sleep image that was built with it; empty is the one of the release.
ARG SLEEP_IMAGE=
# The safe path keeps the working folder out of where modules come from.
ENV HOME=/tmp \
    KIP_IMAGE="${SLEEP_IMAGE}" \
    PATH="/app/bin:${PATH}" \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/app \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1
WORKDIR /
EXPOSE 8080
# Not group 0: everything is readable by all and nothing need be written, so OpenShift's arbitrary
# user finds all it needs, and others don't get root's group.
USER 65532:65532
ENTRYPOINT ["python3", "-m", "image_puller"]
CMD ["serve"]
