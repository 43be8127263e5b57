//! What happens to a request on its way: one file per policy, in a fixed order.
//!
//! | request | response |
//! | --- | --- |
//! | `redirect` or `respond` answers here | |
//! | `rewrite` changes the path | |
//! | `headers` changes the fields | `headers` changes the fields |

pub mod headers;
pub mod redirect;
pub mod respond;
pub mod rewrite;
pub mod template;
