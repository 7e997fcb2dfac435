//! The same policies and requests in mlgate and in other engines: whether the answers agree, and what each answer costs.
//!
//! | module | what it does |
//! |---|---|
//! | [`world`] | policies and requests in no engine's language, made at random or like a large organisation's |
//! | [`gate`] | a world as a configuration of mlgate |
//! | [`cedar`] | a world as Cedar policies |
//! | [`organisation`] | the policies of a large organisation, as a world |
//! | [`rego`] | these as data that one Rego rule scans |
//! | [`casbin`] | these as Casbin policies with attributes |
//!
//! Only what means the same everywhere is in a world: values have the type that their attribute is declared with, since
//! an error makes Cedar skip a `forbid` where mlgate denies, and lists are tested for members, not for prefixes.
//!
//! A workspace member of its own, so that nobody compiles these engines who does not ask for them.

#[cfg(not(target_arch = "wasm32"))]
pub mod casbin;
pub mod cedar;
pub mod gate;
pub mod organisation;
pub mod rego;
pub mod world;
