//! Recorded events in, reports out; needs no root.
