# The server as a container: docs/deploy.md. `docker build --tag shortlist-server .`
#
# The base is named once, so that a build can pin a digest or take it from a registry of one's own:
# --build-arg PYTHON_IMAGE=registry.example/python@sha256:...
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
# hnswlib comes as source alone. Without NO_NATIVE it would run only on CPUs like the builder's.
ENV HNSWLIB_NO_NATIVE=1 \
    PIP_CONSTRAINT=/src/constraints-server.txt \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
# The compiler is whatever the base's distribution has: a pinned version is gone at its next update.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
# Without pip: what serves has no use for it.
RUN python3 -m venv --without-pip /opt/shortlist
WORKDIR /src
COPY constraints-server.txt ./
# A layer of its own, so that a change of the server does not compile it again.
RUN python3 -m pip --python /opt/shortlist/bin/python install hnswlib
COPY pyproject.toml README.md LICENSE ./
COPY clients/python clients/python
COPY exporters exporters
COPY server server
# Extras of pyproject.toml; with `postgres` for a catalogue that replicas share.
ARG EXTRAS=server,otel
RUN python3 -m pip --python /opt/shortlist/bin/python install ".[${EXTRAS}]"

FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="shortlist-server" \
      org.opencontainers.image.description="A gRPC inference server for recommenders" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /opt/shortlist /opt/shortlist
ENV PATH=/opt/shortlist/bin:${PATH} \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SHORTLIST_SERVER_BUNDLE=/bundle \
    SHORTLIST_SERVER_LISTEN=0.0.0.0:8500
# A number, by which Kubernetes can tell that it is not root. Nothing in the image belongs to it.
USER 65532:65532
EXPOSE 8500
STOPSIGNAL SIGTERM
# Of a server that speaks plain text. Over TLS, say how the certificate is trusted: docs/deploy.md.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["shortlist-server", "health", "--target", "127.0.0.1:8500"]
ENTRYPOINT ["shortlist-server"]
CMD ["serve"]
