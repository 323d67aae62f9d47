//! Code generation for bowline services.
