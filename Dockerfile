# Three images from one file:
#   docker build --target router .    workers and the commands of `port-router`; no torch
#   docker build --target fleet .     fleets, which answer the queries of one LLM
#   docker build .                    everything: also prepares, fits and replays, with torch's CPU build
# None needs root or a writable root file system: mount a volume or a tmpfs at /data and /tmp.
FROM python:3.11-slim-bookworm AS build
WORKDIR /app
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
COPY constraints.txt setup.cfg pyproject.toml ./
RUN pip install --no-cache-dir --constraint constraints.txt uv

FROM build AS build-router
RUN python -m venv --without-pip /opt/venv \
    && uv pip install --no-cache --python /opt/venv/bin/python \
        --constraint constraints.txt --requirements setup.cfg --extra worker --extra tracing

FROM build AS build-fleet
RUN python -m venv --without-pip /opt/venv \
    && uv pip install --no-cache --python /opt/venv/bin/python \
        --constraint constraints.txt --requirements setup.cfg --extra fleet --extra tracing

FROM build AS build-tools
RUN python -m venv --without-pip /opt/venv \
    && uv pip install --no-cache --python /opt/venv/bin/python --torch-backend=cpu \
        --constraint constraints.txt --requirements setup.cfg --extra fit --extra tracing

FROM python:3.11-slim-bookworm AS base
LABEL org.opencontainers.image.title="port-router" \
    org.opencontainers.image.description="A streaming LLM router on Kafka" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="0.1.0"
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin router \
    && install --directory --owner=router /data
# The code stands in /app as it stands in the repository; no program may write there.
COPY setup.cfg /app/setup.cfg
COPY port_router /app/port_router
COPY routing /app/routing
COPY streams /app/streams
COPY producers /app/producers
# compiled here, as no program may write there
RUN python -m compileall -q /app
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PORT_DATA_DIR=/data/worker
WORKDIR /home/router
USER 10001
VOLUME /data

FROM base AS router
COPY --from=build-router /opt/venv /opt/venv
ENV PORT_WEB_PORT=8000
EXPOSE 8000
HEALTHCHECK --start-period=60s --interval=10s --timeout=5s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
CMD ["python", "-m", "port_router", "worker"]

FROM base AS fleet
COPY --from=build-fleet /opt/venv /opt/venv
EXPOSE 9100
HEALTHCHECK --start-period=60s --interval=10s --timeout=5s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9100/healthz', timeout=4)"]
# Arguments of the fleet follow, such as --llm NAME --base-url URL; it serves its health on port 9100.
ENTRYPOINT ["python", "-m", "port_router", "fleet", "--health-host", "0.0.0.0", "--health-port", "9100"]

FROM base AS tools
COPY --from=build-tools /opt/venv /opt/venv
CMD ["python", "-m", "port_router", "worker"]
