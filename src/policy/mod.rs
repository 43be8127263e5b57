//! What happens to a request on its way: one file per policy, in a fixed order.
//!
//! | request | response |
//! | --- | --- |
//! | `ip` refuses networks | |
//! | `limit` refuses what comes too often | `limit` says what is left |
//! | `redirect` or `respond` answers here | |
//! | `rewrite` changes the path | |
//! | `headers` changes the fields | `headers` changes the fields |

pub mod guard;
pub mod headers;
pub mod ip;
pub mod limit;
pub mod networks;
pub mod redirect;
pub mod respond;
pub mod rewrite;
pub mod template;
