# Archives on KServe's own Python server, in a container: docs/kserve.md. From the root of the repository:
#
#   ONNX Runtime       docker build -f deploy/kserve.Dockerfile -t d2serve-kserve:onnxruntime .
#   OpenVINO           ... --build-arg RUNTIME=openvino -t d2serve-kserve:openvino .
#   TorchScript, CPU   ... --build-arg RUNTIME=torchscript -t d2serve-kserve:torchscript \
#                          --build-arg TORCH_INDEX=ADDRESS .  (of the CPU wheels, as PyTorch names it)
#
# It is not deploy/Dockerfile with an argument: kserve wants older packages than those of constraints.txt.
# Packages come from the index that pip is configured for; a private one is given as a secret:
# --secret id=pip,src=$HOME/.config/pip/pip.conf

# As in deploy/Dockerfile, a digest may be named: --build-arg BASE=python:3.11-slim-bookworm@sha256:...
ARG BASE=python:3.11-slim-bookworm


FROM ${BASE} AS sources
WORKDIR /src
COPY . .
RUN --mount=type=secret,id=pip,target=/etc/pip.conf,mode=0444 \
    python3 -m venv /build \
    && /build/bin/pip wheel --no-cache-dir --no-deps --wheel-dir /out . \
    && /build/bin/python environment/requirements.py kserve onnxruntime openvino torchscript caffe2 tensorflow \
        --output /out


FROM ${BASE}
ARG RUNTIME=onnxruntime
ARG TORCH_INDEX=
# The version that was run; what it needs has bounds of its own.
ARG KSERVE=0.21.0
ENV PATH=/opt/d2serve/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

RUN --mount=type=bind,from=sources,source=/build,target=/build \
    --mount=type=bind,from=sources,source=/out,target=/out \
    --mount=type=secret,id=pip,target=/etc/pip.conf,mode=0444 \
    python3 -m venv --without-pip /opt/d2serve \
    && /build/bin/pip --python /opt/d2serve/bin/python install --no-cache-dir \
        "kserve==${KSERVE}" -r /out/kserve.txt
RUN --mount=type=bind,from=sources,source=/build,target=/build \
    --mount=type=bind,from=sources,source=/out,target=/out \
    --mount=type=secret,id=pip,target=/etc/pip.conf,mode=0444 \
    /build/bin/pip --python /opt/d2serve/bin/python install --no-cache-dir \
        -r "/out/${RUNTIME}.txt" ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"}
RUN --mount=type=bind,from=sources,source=/build,target=/build \
    --mount=type=bind,from=sources,source=/out,target=/out \
    /build/bin/pip --python /opt/d2serve/bin/python install --no-cache-dir --no-index --no-deps \
        /out/d2serve-*.whl \
    && mkdir -p /mnt/models

# KServe's storage initializer puts archives at /mnt/models; elsewhere they are mounted there. All that is
# written goes to /tmp.
WORKDIR /tmp
USER 10001:10001
EXPOSE 8080 8081
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 CMD ["python3", "-c", \
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/v2/health/ready', timeout=4)"]
ENTRYPOINT ["d2serve", "kserve", "--host", "0.0.0.0"]
CMD ["/mnt/models"]
