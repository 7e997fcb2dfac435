//! A filter that does one thing with the host at a time, as the request header `x-plan` says, and tells each status it
//! got. The proofs in `integration/tests/host_*.rs` drive it in the real Envoy; `docs/host.md` holds what they found.
//!
//! `x-plan` is a list of words, `key=value` or `key`, joined by `;`. Requests without it pass untouched.
//!
//! | word | effect |
//! |---|---|
//! | `when=headers` | decides when the headers are there (default) |
//! | `when=stream` | headers go on, the body is held, decides at the end of the request (`peek: stream`) |
//! | `when=hold` | everything is held, decides at the end of the request (`peek: hold`) |
//! | `wait=20` | the root's `on_tick` decides, 20 ms later at the earliest; without it the callback itself decides |
//! | `do=resume`, `do=edit`, `do=deny` | forwards, edits the headers and forwards, answers 403 with gRPC status 7 |
//! | `do=errand` | runs `errand` and answers 200 with what it reports |
//! | `errand=…` | see `errands.rs` |
//! | `trace` | logs every callback of this stream as `trace <x-id> …` |
//!
//! The plugin's configuration is of the same form: `tick=10` (ms), `forget` (a waiter outlives its stream: the crash
//! window), `on_done=<cluster>` (a last call from the root's `on_done`).

#![expect(clippy::disallowed_methods, reason = "a probe of the host uses the host's clock")]

mod errands;
mod host;
mod plan;
mod root;
mod stream;
mod waiters;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|id| Box::new(root::Root::new(id)));
    proxy_wasm::set_http_context(|id, root| Box::new(stream::Stream::new(id, root)));
}}
