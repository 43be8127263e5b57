//! (room under construction)

pub mod conn;
pub mod listen;
