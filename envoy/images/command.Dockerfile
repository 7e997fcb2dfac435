# The command with the collector: `docker run IMAGE audit collect --listen 0.0.0.0:4480 --log /var/lib/mlgate/audit.log`.
# Context: the folder with mlgate (`make build` makes dist/). BASE must have at least the libc that it was built with.
ARG BASE=debian:bookworm-slim
FROM ${BASE}
COPY mlgate /usr/local/bin/mlgate
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/mlgate"]
