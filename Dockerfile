# The image of the service: code location, web server and daemon are this one, with other commands.
# The lock is for the Python that the tests run on. Nothing is fetched once the image is built.
FROM python:3.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
RUN python -m venv /opt/sparkify
COPY deploy/requirements.lock deploy/
RUN /opt/sparkify/bin/pip install --require-hashes --only-binary :all: -r deploy/requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY sql sql
COPY sparkify_assets sparkify_assets
RUN /opt/sparkify/bin/pip install --no-deps --no-index --no-build-isolation .

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --create-home sparkify \
    && install --directory --owner sparkify --group sparkify /data
COPY --from=build /opt/sparkify /opt/sparkify
COPY deploy/dagster.yaml deploy/workspace.yaml /opt/dagster/
ENV PATH=/opt/sparkify/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DAGSTER_HOME=/opt/dagster \
    DAGSTER_DISABLE_TELEMETRY=1 \
    DAGSTER_CODE_HOST=127.0.0.1 \
    DAGSTER_POSTGRES_PORT=5432 \
    DAGSTER_POSTGRES_DB=dagster
WORKDIR /data
USER 10001
EXPOSE 4000
HEALTHCHECK --interval=30s --timeout=20s --start-period=60s \
    CMD ["dagster", "api", "grpc-health-check", "--port", "4000"]
CMD ["dagster", "api", "grpc", "--host", "0.0.0.0", "--port", "4000", "--module-name", "sparkify_assets.definitions", "--location-name", "sparkify_assets"]
