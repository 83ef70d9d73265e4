# The service as an image. With CUDA, which PyPI's torch brings along (the host gives the driver):
#   docker build -t dit-service .
# without:
#   docker build -t dit-service:cpu --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu .
# Both stages start from the same image: the environment made in the first links to its Python.
ARG PYTHON_IMAGE=python:3.12-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG TORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PIP_CONSTRAINT=/src/constraints.txt
WORKDIR /src
COPY constraints.txt pyproject.toml ./
# The dependencies stand in a layer of their own, which a change of our code leaves as it is.
RUN python3 -m venv /opt/dit \
 && /opt/dit/bin/pip install --quiet pip \
 && if [ -n "$TORCH_INDEX" ]; then \
        /opt/dit/bin/pip install --no-deps --index-url "$TORCH_INDEX" torch; \
    fi \
 && /opt/dit/bin/python -c "import tomllib; \
project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*project['dependencies'], sep='\n')" > requirements.txt \
 && /opt/dit/bin/pip install -r requirements.txt
COPY LICENSE README.md ./
COPY model model
COPY service service
RUN /opt/dit/bin/pip install --no-deps .

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="dit-service" \
      org.opencontainers.image.description="HTTP image generation with class-conditional Diffusion Transformers" \
      org.opencontainers.image.licenses="Apache-2.0"
# Hub downloads land in HF_HOME: mount a volume there to keep them. A new named volume takes over
# the owner of the folder beneath it, so the folder has to exist with the right one.
RUN useradd --system --uid 10001 --user-group --create-home --shell /usr/sbin/nologin dit \
 && install --directory --owner=dit --group=dit /var/cache/huggingface
COPY --from=build /opt/dit /opt/dit
COPY deploy/healthcheck.py /opt/dit/healthcheck.py
# A container's loopback is out of everyone's reach, so the service listens on every address.
ENV PATH="/opt/dit/bin:$PATH" \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/var/cache/huggingface \
    DIT_HOST=0.0.0.0 \
    DIT_PORT=8000 \
    DIT_LOG_FORMAT=json
USER 10001:10001
WORKDIR /home/dit
EXPOSE 8000
STOPSIGNAL SIGTERM
# Readiness, not liveness: a service that is past help ends by itself and is restarted for that,
# so what is left to tell the world is whether requests may come.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 \
    CMD ["/opt/dit/bin/python", "/opt/dit/healthcheck.py"]
ENTRYPOINT ["/opt/dit/bin/python", "-m", "service"]
