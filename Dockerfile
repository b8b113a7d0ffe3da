# The server in a container. Data lie in /data, models in /models; both outlive the container as volumes.
#
#   docker build --tag mos .
#   docker run --publish 127.0.0.1:8000:8000 --volume mos-data:/data --volume mos-models:/models mos
#
# The first start makes a key, shows it once, and ends, because a container listens where others may reach it: keep the key
# and start again. (`docker compose --profile mos up` starts again by itself; the key stands in `docker compose logs mos`.)

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install --yes --no-install-recommends gcc g++ make pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
# Computing without AVX2: --build-arg RUSTFLAGS="-C target-cpu=x86-64". An empty value would undo what .cargo/config.toml says.
ARG RUSTFLAGS
ARG FEATURES=postgres,rabbitmq,opentelemetry
# What `mos --version` tells; the history is not here: --build-arg MOS_COMMIT="$(git rev-parse --short=12 HEAD)"
ARG MOS_COMMIT
RUN set -e; \
    if [ -z "$RUSTFLAGS" ]; then unset RUSTFLAGS; fi; \
    cargo build --locked --release --package mos-cli --features "$FEATURES"; \
    install -D target/release/mos /out/mos; \
    mkdir --parents /out/completions; \
    for shell in bash zsh fish; do /out/mos completions $shell > /out/completions/mos.$shell; done

FROM debian:bookworm-slim
# Certificates for servers, git for cubes in repositories.
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates git \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --home-dir /data --shell /usr/sbin/nologin mos \
    && install --directory --owner mos --group mos --mode 0700 /data \
    && install --directory --owner mos --group mos --mode 0755 /models
COPY --from=build /out/mos /usr/local/bin/mos
COPY --from=build /out/completions/mos.bash /usr/share/bash-completion/completions/mos
COPY configs /usr/share/mos/configs
COPY LICENSE NOTICE /usr/share/doc/mos/
USER 10001:10001
ENV MOS_DATA_DIR=/data MOS_MODELS_DIR=/models MOS_LISTEN=0.0.0.0:8000
VOLUME ["/data", "/models"]
EXPOSE 8000
# In good order: requests have 30 seconds, then work in the background ends (`docker stop --time 60`).
STOPSIGNAL SIGTERM
# The image has no other program that speaks HTTP.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["bash", "-c", \
    "exec 3<>/dev/tcp/127.0.0.1/8000 && printf 'GET /health HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' >&3 && head -n 1 <&3 | grep -q ' 200 '"]
ENTRYPOINT ["mos"]
CMD ["serve", "--allow-host", "localhost", "--allow-host", "127.0.0.1"]
