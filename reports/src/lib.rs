//! From the run record to what people and machines read.
