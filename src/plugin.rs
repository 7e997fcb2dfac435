//! The one place that touches proxy-wasm: the entry point, the contexts, the host.
//!
//! Of the SDK only the entry point, the callbacks and the two dispatch calls are used (its dispatcher must know the
//! tokens of calls); everything else goes through our own externs, which turn every status into a value.

mod abi;
mod host;
mod http_context;
mod root_context;

mod entry {
    proxy_wasm::main! {{
        proxy_wasm::set_root_context(|id| Box::new(super::root_context::Root::new(id)));
    }}
}
