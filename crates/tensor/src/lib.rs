//! Shapes, slots and the arena of galatea's record-once programs.
