//! Real probes on real Go programs; needs root.
