# The server as an image: `docker build --tag kinrec .`; README.md says how to run it.
#
# Any base will do that has a python3 of 3.11 or newer, glibc and apt-get. A tag can be moved; to keep the base
# as it is give it by its digest, which `docker buildx imagetools inspect python:3.12-slim` prints:
# `--build-arg BASE=python@sha256:...`.
ARG BASE=python:3.12-slim

FROM ${BASE} AS build
# What compiles annoy. A base without Python's headers or its venv needs more: "g++ python3-dev python3-venv".
ARG BUILD_PACKAGES=g++
# The base decides the versions, and none of this is in the image. BUILD_PACKAGES may be several.
# hadolint ignore=DL3008,SC2086
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ${BUILD_PACKAGES} \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY requirements requirements
RUN python3 -m venv tools \
    && tools/bin/pip install --no-cache-dir --require-hashes --requirement requirements/build.txt
# Without isolation, in which pip would take build tools that are not pinned.
COPY scripts/annoy-flags.sh scripts/
RUN ANNOY_COMPILER_ARGS="$(scripts/annoy-flags.sh)" tools/bin/pip wheel --no-cache-dir --no-build-isolation \
    --no-deps --require-hashes --requirement requirements/server.txt --wheel-dir wheels
COPY . .
RUN tools/bin/pip wheel --no-cache-dir --no-build-isolation --no-deps --wheel-dir wheels . \
    && python3 -m venv --without-pip /opt/kinrec \
    && tools/bin/pip --python /opt/kinrec/bin/python install --no-index --no-deps wheels/*.whl \
    && find /opt/kinrec '(' -name tests -o -name conftest.py ')' -prune -exec rm -r '{}' +

FROM ${BASE}
COPY --from=build /opt/kinrec /opt/kinrec
ENV PATH=/opt/kinrec/bin:$PATH
# A number, so that a cluster can see that it is not root.
USER 10001:10001
EXPOSE 50051
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["kinrec", "call", "health", "--target", "127.0.0.1:50051"]
ENTRYPOINT ["kinrec"]
# In a container the host of the network is the container: what is published is said to `docker run`.
CMD ["serve", "/models", "--host", "0.0.0.0", "--insecure"]
