# The worker with a SoftHSM2 token of its own, for docker-compose.yml: a development image, not for production.
FROM python:3.12-slim-bookworm AS build
WORKDIR /src
COPY requirements.lock ./
RUN python -m pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml LICENSE README.md ./
COPY worker ./worker
RUN python -m pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels .

FROM python:3.12-slim-bookworm
RUN apt-get update \
    && apt-get install --yes --no-install-recommends softhsm2 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 keyriver \
    && install --directory --owner keyriver --mode 0700 /data
COPY requirements-run.lock /tmp/requirements-run.lock
RUN python -m pip install --no-cache-dir --require-hashes -r /tmp/requirements-run.lock
COPY --from=build /wheels /tmp/wheels
RUN python -m pip install --no-cache-dir --no-deps /tmp/wheels/*.whl && rm -r /tmp/wheels
USER keyriver
WORKDIR /data
# The token, its PIN (mode 0400) and the identities that `keyriver init` makes live here; SoftHSM2 reads the variable.
VOLUME /data
ENV KEYRIVER_LOCAL=/data SOFTHSM2_CONF=/data/token/softhsm2.conf PYTHONUNBUFFERED=1
STOPSIGNAL SIGTERM
ENTRYPOINT ["keyriver"]
CMD ["run"]
