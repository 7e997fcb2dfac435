# The filter as an image: what `oci://` of Istio's WasmPlugin and of Envoy Gateway's EnvoyExtensionPolicy take.
# Context: the folder with mlgate.wasm (`make build` makes dist/).
FROM scratch
COPY mlgate.wasm /plugin.wasm
