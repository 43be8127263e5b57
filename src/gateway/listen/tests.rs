//! Listening, over real sockets.
