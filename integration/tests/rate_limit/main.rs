//! Global limits: the built filter in real Envoys, asking a real rate limit service.

mod rendered;
mod scene;
