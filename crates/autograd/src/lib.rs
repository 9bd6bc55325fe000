//! Record once, reverse, plan, verify, replay.
