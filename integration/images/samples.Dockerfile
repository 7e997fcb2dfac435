# The sample model server and the rate limit service of the tests.
ARG BASE=debian:bookworm-slim
FROM ${BASE}
COPY mlgate-samples /usr/local/bin/mlgate-samples
USER 65532:65532
CMD ["mlgate-samples", "model", "0.0.0.0:8000"]
