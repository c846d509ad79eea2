//! The protocol room from outside: against `kafka-protocol` where that is right, and against hostile bytes.

mod hostile;
mod records;
