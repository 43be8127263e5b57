//! The service goes from one process to the next without a connection lost: sockets, live state, and the word that it is so.
//!
//! ```text
//!  predecessor                                        successor
//!  starts it, with one end of a line as its input     reads the document
//!  Sockets, Begin       ->                            compiles, binds what is new, starts its workers
//!                       <-  Ready                     (or Refused: the predecessor serves on)
//!  stops accepting
//!  State                ->                            takes up counts, health, breakers, ticket keys
//!                       <-  Serving                   accepts; its workers have answered
//!  tells systemd
//!  Commit               ->                            the service is its own
//!  drains
//!  Draining, ...        ->                            knows who is still there
//! ```
//!
//! Clients that come between `State` and `Serving` wait in the backlog of sockets that both processes hold. Whatever goes
//! wrong before `Commit` ends the successor, and the predecessor accepts again.

mod elders;
mod give;
mod launch;
mod line;
mod take;

pub use elders::{Draining, Elders};
pub use give::{Estate, Owner, Refusal, give};
pub use launch::{ARGUMENT, Program, launch};
pub use line::{Line, Named, Word};
pub use take::{Inherited, Predecessor, Terms, take};
