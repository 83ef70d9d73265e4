# The service. With CUDA, which PyPI's torch includes (the host provides the driver):
#   docker build -t dit-service .
# Without CUDA:
#   docker build -t dit-service:cpu --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu \
#       --build-arg COMPILER= .
# With Ray Serve, for deploy/ray (500 MB more):
#   docker build -t dit-service:ray --build-arg RAY=1 .
# Both stages use the same base image: the virtual environment built in the first links to its Python.
ARG PYTHON_IMAGE=python:3.12.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG TORCH_INDEX=""
ARG COMPILER=gcc
ARG RAY=""
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY constraints.txt ./
COPY deploy/lock deploy/lock
# The dependencies get their own layer, which stays cached when only our code changes. From PyPI comes
# nothing without a hash, but with TORCH_INDEX: torch's own index publishes none, and what that torch
# needs beside the lock (CUDA of another version) is known to it alone.
RUN python3 -m venv /opt/dit \
 && if [ -n "$TORCH_INDEX" ]; then \
        /opt/dit/bin/pip install --no-deps --constraint constraints.txt --index-url "$TORCH_INDEX" torch \
     && /opt/dit/bin/pip install --no-deps --require-hashes --requirement deploy/lock/base.txt \
     && /opt/dit/bin/pip install --constraint constraints.txt torch; \
    else \
        /opt/dit/bin/pip install --no-deps --require-hashes \
            --requirement deploy/lock/base.txt --requirement deploy/lock/cuda.txt; \
    fi \
 && if [ -n "$RAY" ]; then \
        /opt/dit/bin/pip install --no-deps --require-hashes --requirement deploy/lock/ray.txt; \
    fi
COPY LICENSE README.md pyproject.toml ./
COPY model model
COPY service service
RUN /opt/dit/bin/pip install --no-deps --no-build-isolation . \
 && /opt/dit/bin/pip check
# What nothing uses at run time: torch's tests and tools, the installer, and without a compiler also the
# headers. The compiled modules (__pycache__) stay, because the root file system is read-only.
RUN torch=$(/opt/dit/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/torch \
 && rm -rf "$torch/test" \
 && find "$torch/bin" -mindepth 1 ! -name torch_shm_manager -delete \
 && if [ "$COMPILER" != gcc ]; then \
        rm -rf "$torch/include" \
     && /opt/dit/bin/pip uninstall --yes setuptools; \
    fi \
 && /opt/dit/bin/pip uninstall --yes pip

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="dit-service" \
      org.opencontainers.image.description="HTTP image generation with class-conditional Diffusion Transformers" \
      org.opencontainers.image.licenses="Apache-2.0"
# On a GPU, Triton and torch.compile build their launchers with a C compiler (Python's headers are in
# the base image). It adds about 200 MB; on a CPU nothing is compiled.
ARG COMPILER=gcc
# hadolint ignore=DL3008
RUN if [ "$COMPILER" = gcc ]; then \
        apt-get update \
     && apt-get install --yes --no-install-recommends gcc libc6-dev \
     && rm -rf /var/lib/apt/lists/*; \
    fi
# Hub downloads go to HF_HOME and compiled kernels to /var/cache/compilers: mount volumes there to keep
# them. A new named volume takes the owner of the folder it is mounted on, so both must exist with the
# right owner. torch makes its own folder when it is imported, which on a read-only root must exist.
RUN useradd --uid 10001 --user-group --create-home --shell /usr/sbin/nologin dit \
 && install --directory --owner=dit --group=dit \
    /var/cache/huggingface /var/cache/compilers /var/cache/compilers/inductor
COPY --from=build /opt/dit /opt/dit
COPY --chmod=0644 deploy/healthcheck.py /opt/dit/healthcheck.py
# Nothing outside the container can reach its loopback address, so the service listens on all addresses.
ENV PATH="/opt/dit/bin:$PATH" \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/var/cache/huggingface \
    TRITON_CACHE_DIR=/var/cache/compilers/triton \
    TORCHINDUCTOR_CACHE_DIR=/var/cache/compilers/inductor \
    CUDA_CACHE_PATH=/var/cache/compilers/cuda \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    DIT_HOST=0.0.0.0 \
    DIT_PORT=8000 \
    DIT_ADDRESS_FILE=/tmp/dit-address \
    DIT_LOG_FORMAT=json
USER 10001:10001
WORKDIR /home/dit
EXPOSE 8000
STOPSIGNAL SIGTERM
# Readiness, not liveness: when the engine dies, the process exits and is restarted, so the check only
# needs to tell whether the service accepts requests.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 \
    CMD ["/opt/dit/bin/python", "/opt/dit/healthcheck.py"]
ENTRYPOINT ["/opt/dit/bin/python", "-m", "service"]
