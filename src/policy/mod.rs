//! What happens to a request on its way: one file per policy, in a fixed order.
//!
//! | request | response |
//! | --- | --- |
//! | `ip` refuses networks | |
//! | `cors` answers preflights | `cors` says who may read |
//! | `auth` refuses who is not known | |
//! | `limit` refuses what comes too often | `limit` says what is left |
//! | `redirect` or `respond` answers here | |
//! | `rewrite` changes the path | |
//! | `headers` changes the fields | `headers` changes the fields |

pub mod auth;
pub mod cors;
pub mod guard;
pub mod headers;
pub mod ip;
pub mod limit;
pub mod networks;
pub mod pattern;
pub mod redirect;
pub mod respond;
pub mod rewrite;
pub mod template;
