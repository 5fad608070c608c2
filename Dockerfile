# Two images: the service image, and with `--target sleep` the sleep image.
# `make docker` builds both, with docker, podman or buildah. Plain `docker build` works too.

# The base of the service image: any Linux with glibc, bash, find, and Python 3.11 or later as
# python3. It needs pip too, unless build/offline has the wheels. Pin it for a release:
# BASE=…@sha256:…
ARG BASE=docker.io/library/python:3.13-slim-bookworm
# The image that compiles the sleep: a Debian, or any with bash if build/offline has the binary.
ARG COMPILER=docker.io/library/debian:bookworm-slim


# This stage cross-compiles on the builder's own architecture, without emulation.
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
# A number, because Kubernetes can't check by a name that the user is not root.
USER 65532:65532
ENTRYPOINT ["/sleep"]
CMD ["720h"]


# This stage has the same base, so that the wheels fit it. pip and hatchling stay in this stage.
FROM ${BASE} AS packages
# For FIPS: requirements.lock has no cryptographic library, and no OpenID Connect.
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
# Remove everything that installs packages.
RUN find / -xdev \( -path '*/bin/pip*' -o -path '*/python3*/ensurepip' \
         -o -path '*-packages/pip' -o -path '*-packages/pip-*' -o -path '*-packages/wheel*' \
         -o -path '*-packages/setuptools*' -o -path '*-packages/pkg_resources' \
         -o -path '*-packages/*distutils*' \) -prune -exec rm -rf {} +
# Compile the standard library, because the official images don't have it compiled.
# Nobody can write it at run time, so each start would compile it again.
RUN python3 -m compileall -q --invalidation-mode unchecked-hash \
      -x '/(dist-packages|site-packages|idlelib|lib2to3|test|tests|tkinter|turtledemo)/' \
      "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
# The dependencies are a layer of their own, so the layer of a new release is small.
COPY --from=packages /out/dependencies /
COPY --from=packages /out/service /
COPY --from=sleep /sleep /sleep

ARG VERSION=unknown
LABEL org.opencontainers.image.title="kubernetes-image-puller" \
      org.opencontainers.image.description="Keeps images on the nodes of a cluster, by events" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
# The sleep image that was built with this image. If empty, the one of the release.
ARG SLEEP_IMAGE=
# PYTHONSAFEPATH keeps the working folder out of the module path.
ENV HOME=/tmp \
    KIP_IMAGE="${SLEEP_IMAGE}" \
    PATH="/app/bin:${PATH}" \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/app \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1
WORKDIR /
EXPOSE 8080
# OpenShift's arbitrary users don't need group 0: all files are readable by everyone, and the
# service writes none.
USER 65532:65532
ENTRYPOINT ["python3", "-m", "image_puller"]
CMD ["serve"]
