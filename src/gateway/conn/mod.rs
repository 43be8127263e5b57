//! One client's connection.
mod chunked;
mod head;
