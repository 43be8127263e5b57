//! What happens to a request on its way: one file per policy, in a fixed order.
//!
//! | request | response |
//! | --- | --- |
//! | `ip` refuses networks | |
//! | `cors` answers preflights | `cors` says who may read |
//! | `body` refuses sizes and kinds | |
//! | `auth` refuses who is not known | |
//! | `require` refuses who has no right | |
//! | `limit` refuses what comes too often | `limit` says what is left |
//! | `validate` refuses parameters and bodies of another shape | |
//! | `websocket` refuses who has too many open | |
//! | `cache` answers with what it remembers | `cache` remembers |
//! | `redirect` or `respond` answers here | |
//! | `rewrite` changes the path | |
//! | `transform` changes JSON bodies | `transform` changes JSON bodies |
//! | `headers` changes the fields | `headers` changes the fields |
//! | | `compress` makes the body smaller |

pub mod auth;
pub mod body;
pub mod cache;
pub mod compress;
pub mod cors;
pub mod decode;
pub mod expression;
pub mod foresee;
pub mod guard;
pub mod headers;
pub mod ip;
pub mod key;
pub mod limit;
pub mod networks;
pub mod pattern;
pub mod redirect;
pub mod require;
pub mod respond;
pub mod rewrite;
pub mod template;
pub mod transform;
pub mod validate;
pub mod websocket;
