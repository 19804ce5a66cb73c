//! Release tooling; layering and tidy tests.
