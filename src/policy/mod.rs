//! What happens to a request on its way: one file per policy, in a fixed order.
//!
//! | request | response |
//! | --- | --- |
//! | `ip` refuses networks | |
//! | `cors` answers preflights | `cors` says who may read |
//! | `body` refuses sizes and kinds | |
//! | `auth` refuses who is not known | |
//! | `require` refuses who has no right | |
//! | `graphql` refuses what costs too much or is not listed | |
//! | `limit` refuses what comes too often | `limit` says what is left |
//! | `validate` refuses parameters and bodies of another shape | |
//! | `websocket` refuses who has too many open | |
//! | `cache` answers with what it remembers | `cache` remembers |
//! | `grpc_web` and `transcode` make it a call of gRPC | and the answer what the client speaks |
//! | `batch` sends each of its parts on its way | `batch` answers with what became of them |
//! | `redirect`, `respond`, `publish` or `subscribe` answers here | `gather` answers with the results of its calls |
//! | `rewrite` changes the path | |
//! | `transform` changes JSON bodies | `transform` changes JSON bodies |
//! | `headers` changes the fields | `headers` changes the fields |
//! | | `compress` makes the body smaller |

pub mod auth;
pub mod batch;
pub mod body;
pub mod cache;
pub mod compress;
pub mod cors;
pub mod decode;
pub mod expression;
pub mod foresee;
pub mod gather;
pub mod graphql;
pub mod grpc_web;
pub mod guard;
pub mod headers;
pub mod ip;
pub mod key;
pub mod limit;
pub mod networks;
mod once;
pub mod pattern;
pub mod publish;
pub mod redirect;
pub mod require;
pub mod respond;
pub mod rewrite;
pub mod subscribe;
pub mod template;
pub mod topic;
pub mod transcode;
pub mod transform;
pub mod validate;
pub mod websocket;
