//! What can go wrong with a request: one enum, one table, one door out.

use std::fmt;

/// Who has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    Client,
    Operator,
    Upstream,
    Us,
}

/// What the table says of one fault.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The word that is the same everywhere: problem+json `code`, log field `reason`, metric label, documentation.
    pub code: &'static str,
    pub status: u16,
    /// gRPC status code (grpc.io, statuscodes.md).
    pub grpc: u8,
    /// Error type of RFC 9209 section 2.3; empty where the gateway sends no answer.
    pub proxy_status: &'static str,
    pub whose: Whose,
}

macro_rules! faults {
    ($($name:ident = $code:literal, $status:literal, $grpc:literal, $proxy_status:literal, $whose:ident;)*) => {
        /// A reason not to serve a request as it was asked. Added with care, never renamed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Fault { $(#[doc = concat!("`", $code, "`, HTTP ", $status)] $name,)* }

        impl Fault {
            /// Every fault, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            pub const fn row(self) -> Row {
                match self {
                    $(Self::$name => Row { code: $code, status: $status, grpc: $grpc, proxy_status: $proxy_status, whose: Whose::$whose },)*
                }
            }
        }
    };
}

faults! {
    RequestMalformed = "request.malformed", 400, 3, "http_request_error", Client;
    RequestHost = "request.host", 400, 3, "http_request_error", Client;
    RequestTarget = "request.target", 400, 3, "http_request_error", Client;
    RequestFraming = "request.framing", 400, 3, "http_request_error", Client;
    RequestHeaderTooLarge = "request.header_too_large", 431, 3, "http_request_error", Client;
    RequestUriTooLong = "request.uri_too_long", 414, 3, "http_request_error", Client;
    RequestTimeout = "request.timeout", 408, 4, "http_request_error", Client;
    RequestMethodUnknown = "request.method_unknown", 501, 12, "http_request_error", Client;
    RequestExpect = "request.expect", 417, 12, "http_request_error", Client;
    RequestUpgrade = "request.upgrade", 426, 12, "http_request_error", Client;
    RequestMisdirected = "request.misdirected", 421, 3, "http_request_denied", Client;
    RequestLoop = "request.loop", 508, 8, "proxy_loop_detected", Operator;
    RouteNone = "route.none", 404, 12, "destination_not_found", Client;
    CacheNothing = "cache.nothing", 504, 5, "http_request_denied", Client;
    RouteMethod = "route.method", 405, 12, "http_request_denied", Client;
    ClientRefused = "client.refused", 403, 7, "http_request_denied", Client;
    CorsRefused = "cors.refused", 403, 7, "http_request_denied", Client;
    BodyTooLarge = "body.too_large", 413, 8, "http_request_denied", Client;
    BodyType = "body.type", 415, 3, "http_request_denied", Client;
    AuthMissing = "auth.missing", 401, 16, "http_request_denied", Client;
    AuthMalformed = "auth.malformed", 401, 16, "http_request_denied", Client;
    AuthSignature = "auth.signature", 401, 16, "http_request_denied", Client;
    AuthExpired = "auth.expired", 401, 16, "http_request_denied", Client;
    AuthNotYet = "auth.not_yet", 401, 16, "http_request_denied", Client;
    AuthIssuer = "auth.issuer", 401, 16, "http_request_denied", Client;
    AuthAudience = "auth.audience", 401, 16, "http_request_denied", Client;
    AuthKeyUnknown = "auth.key_unknown", 401, 16, "http_request_denied", Client;
    AuthAlgorithm = "auth.algorithm", 401, 16, "http_request_denied", Client;
    AuthClaims = "auth.claims", 401, 16, "http_request_denied", Client;
    AuthKey = "auth.key", 401, 16, "http_request_denied", Client;
    AuthPassword = "auth.password", 401, 16, "http_request_denied", Client;
    AuthCertificate = "auth.certificate", 401, 16, "http_request_denied", Client;
    AuthExternal = "auth.external", 401, 16, "http_request_denied", Client;
    AuthInvalid = "auth.invalid", 401, 16, "http_request_denied", Client;
    AuthUnavailable = "auth.unavailable", 503, 14, "destination_unavailable", Operator;
    RequireRefused = "require.refused", 403, 7, "http_request_denied", Client;
    GraphqlInvalid = "graphql.invalid", 400, 3, "http_request_error", Client;
    GraphqlRefused = "graphql.refused", 403, 7, "http_request_denied", Client;
    LimitRate = "limit.rate", 429, 8, "http_request_denied", Client;
    LimitInFlight = "limit.in_flight", 429, 8, "http_request_denied", Client;
    LimitQuota = "limit.quota", 429, 8, "http_request_denied", Client;
    LimitStoreDown = "limit.store_down", 503, 14, "destination_unavailable", Operator;
    RequestInvalid = "request.invalid", 400, 3, "http_request_denied", Client;
    BodyInvalid = "body.invalid", 422, 3, "http_request_denied", Client;
    TransformFailed = "transform.failed", 502, 13, "proxy_configuration_error", Operator;
    ShedMemory = "shed.memory", 503, 14, "connection_limit_reached", Operator;
    PoolNoHealthy = "pool.no_healthy", 503, 14, "destination_unavailable", Upstream;
    PoolEmpty = "pool.empty", 503, 14, "destination_unavailable", Upstream;
    PoolQueueFull = "pool.queue_full", 503, 8, "connection_limit_reached", Upstream;
    PoolQueueTimeout = "pool.queue_timeout", 503, 8, "connection_limit_reached", Upstream;
    BreakerOpen = "breaker.open", 503, 14, "destination_unavailable", Upstream;
    UpstreamConnect = "upstream.connect", 502, 14, "connection_refused", Upstream;
    UpstreamRefused = "upstream.refused", 502, 14, "connection_refused", Upstream;
    UpstreamConnectTimeout = "upstream.connect_timeout", 504, 4, "connection_timeout", Upstream;
    UpstreamTls = "upstream.tls", 502, 14, "tls_certificate_error", Upstream;
    UpstreamTimeoutFirstByte = "upstream.timeout.first_byte", 504, 4, "http_response_timeout", Upstream;
    UpstreamTimeoutIdle = "upstream.timeout.idle", 504, 4, "http_response_timeout", Upstream;
    UpstreamTimeoutTotal = "upstream.timeout.total", 504, 4, "http_response_timeout", Upstream;
    UpstreamReset = "upstream.reset", 502, 14, "connection_terminated", Upstream;
    UpstreamResetReused = "upstream.reset_reused", 502, 14, "connection_terminated", Upstream;
    UpstreamProtocol = "upstream.protocol", 502, 13, "http_protocol_error", Upstream;
    UpstreamHeaderTooLarge = "upstream.header_too_large", 502, 13, "http_protocol_error", Upstream;
    UpstreamTooLarge = "upstream.too_large", 502, 13, "http_response_body_size", Upstream;
    UpstreamUpgrade = "upstream.upgrade", 502, 13, "http_upgrade_failed", Upstream;
    MqttUnavailable = "mqtt.unavailable", 503, 14, "destination_unavailable", Upstream;
    GatherFailed = "gather.failed", 502, 13, "http_protocol_error", Upstream;
    GatherTemplate = "gather.template", 500, 13, "proxy_configuration_error", Operator;
    ClientGone = "client.gone", 499, 1, "", Client;
    GatewayInternal = "gateway.internal", 500, 13, "proxy_internal_error", Us;
}

impl Fault {
    pub const fn code(self) -> &'static str {
        self.row().code
    }
    pub const fn status(self) -> u16 {
        self.row().status
    }
    /// How loud the log is: what the client did wrong is not the operator's alarm.
    pub const fn level(self) -> log::Level {
        match self.row().whose {
            Whose::Client => log::Level::Info,
            Whose::Operator | Whose::Upstream => log::Level::Warn,
            Whose::Us => log::Level::Error,
        }
    }
    /// What the client is told: a credential is missing, expired or invalid, and all invalid ones look alike.
    #[must_use]
    pub const fn outside(self) -> Self {
        match self {
            Self::AuthMalformed
            | Self::AuthSignature
            | Self::AuthNotYet
            | Self::AuthIssuer
            | Self::AuthAudience
            | Self::AuthKeyUnknown
            | Self::AuthAlgorithm
            | Self::AuthClaims
            | Self::AuthKey
            | Self::AuthPassword
            | Self::AuthCertificate
            | Self::AuthExternal => Self::AuthInvalid,
            other => other,
        }
    }
    /// Whether the answer carries `Retry-After`.
    pub const fn retry_after(self) -> bool {
        matches!(self.status(), 429 | 503)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl std::error::Error for Fault {}

/// A fault travels as the cause of Pingora's error and is found again in `fail_to_proxy` and `logging`.
impl From<Fault> for Box<pingora_error::Error> {
    fn from(fault: Fault) -> Self {
        pingora_error::Error::because(pingora_error::ErrorType::HTTPStatus(fault.status()), "", fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_statuses_are_errors() {
        let mut codes: Vec<_> = Fault::ALL.iter().map(|fault| fault.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Fault::ALL.len());
        assert!(Fault::ALL.iter().all(|fault| (400..600).contains(&fault.status())));
    }
}
