//! api keys
