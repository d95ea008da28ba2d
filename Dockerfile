# One image for every role: `serve` (the default), `gateway` and `worker`. The image contains no model: models are kept
# in the volume at /var/cache/llmactors. The target `with-model` has one model inside, and needs no download:
#
#   docker build --target with-model --build-arg MODEL=smollm2-135m -t llmactors:smollm2-135m .
#
# A digest pins the base image, as in --build-arg PYTHON_IMAGE=python:3.11-slim@sha256:…
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
RUN python -m venv /opt/llmactors
ENV PATH=/opt/llmactors/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# The dependencies are a layer of their own, which is built again only when one of these two files changes.
COPY pyproject.toml ops/constraints.txt ./
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
more = p['optional-dependencies']; print(*p['dependencies'], *more['llama'], *more['otel'], sep='\n')" > requirements.txt \
    && pip install --quiet -r requirements.txt -c constraints.txt
COPY README.md LICENSE ./
COPY llmactors llmactors
RUN pip install --quiet --no-deps .

FROM ${PYTHON_IMAGE} AS node
# llama.cpp computes with OpenMP, and slim images lack its library.
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/*
RUN groupadd --system --gid 10001 llmactors \
    && useradd --system --uid 10001 --gid llmactors --no-create-home --home-dir /nonexistent llmactors \
    # A new volume gets the owner of this folder.
    && install -d -o llmactors -g llmactors /var/cache/llmactors
COPY --from=build /opt/llmactors /opt/llmactors
# Check that every system library of xllamacpp is installed.
RUN /opt/llmactors/bin/python -c "import xllamacpp"
# The default address is on loopback, which nobody can reach from outside a container.
ENV PATH=/opt/llmactors/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    LLMACTORS_CACHE=/var/cache/llmactors \
    LLMACTORS_BIND=0.0.0.0:8000 \
    LLMACTORS_METRICS_BIND=0.0.0.0:9100 \
    HEALTH_URL=http://127.0.0.1:8000/readyz
# A number, because Kubernetes checks that the user of an image is not root, and cannot look up a name.
USER 10001:10001
EXPOSE 8000 9100
# The probe uses no proxy of the environment, because it goes to its own container. compose.yaml sets HEALTH_URL for each role. A node may have to download its model before it answers the first time.
HEALTHCHECK --interval=5s --timeout=4s --start-period=10m --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open(os.environ['HEALTH_URL'], timeout=3)"]
ENTRYPOINT ["llmactors"]
# The labels are last, because a new version or revision must not build the layers before them again.
ARG PYTHON_IMAGE
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="llmactors" \
      org.opencontainers.image.description="An LLM server that loses no accepted request and no token." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM node AS with-model
ARG MODEL=smollm2-135m
# The name by which requests ask for the model.
ARG MODEL_NAME=${MODEL}
# The file lies outside the cache, so that no volume hides the file.
USER 0:0
RUN install -d /opt/models \
    && cp "$(LLMACTORS_CACHE=/tmp/cache llmactors pull "$MODEL")" /opt/models/model.gguf \
    && chmod 0444 /opt/models/model.gguf \
    && rm -rf /tmp/cache
USER 10001:10001
ENV LLMACTORS_MODEL=${MODEL_NAME}=/opt/models/model.gguf

# A build without a target makes the image without a model.
FROM node
