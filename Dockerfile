# The router's image: workers, topics, replay. Slim, without root, and with torch's CPU build.
FROM python:3.11-slim-bookworm AS build
WORKDIR /app
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
COPY constraints.txt setup.cfg pyproject.toml ./
RUN pip install --no-cache-dir --constraint constraints.txt uv \
    && python -m venv /opt/venv \
    && uv pip install --no-cache --python /opt/venv/bin/python --torch-backend=cpu \
        --constraint constraints.txt --requirements setup.cfg --extra tracing

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin router \
    && install --directory --owner=router /data
COPY --from=build /opt/venv /opt/venv
COPY routing /app/routing
COPY streams /app/streams
COPY producers /app/producers
# The code stands in /app as it stands in the repository; nobody may write there.
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1
WORKDIR /home/router
USER router
VOLUME /data
CMD ["python", "-m", "streams", "worker"]
