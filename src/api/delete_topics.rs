//! Being written by the lead engineer right now (16:45).
