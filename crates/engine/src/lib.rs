//! Drives the solver: where the pure core meets files, processes and registries.
