//! Runs cells: the dispatcher, the scheduler, the cell's state machine and the verdict.
