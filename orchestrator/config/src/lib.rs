//! TOML with positions, the matrix, and the plan made from it.
