//! Every metric of the gateway: its name, its labels, its help.

use prometheus::{CounterVec, GaugeVec, HistogramVec, IntCounterVec, IntGaugeVec, Registry};

use super::family::{Family, Row};

/// Seconds of a whole request.
const REQUEST: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// Seconds that the gateway itself adds: 5 µs to 100 ms.
const OVERHEAD: &[f64] = &[
    0.000_005, 0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1,
];

macro_rules! families {
    ($($field:ident: $vector:ty = $name:literal [$($label:literal),*] $(in $buckets:ident)?, $help:literal;)*) => {
        /// Every metric there is.
        pub const LIST: &[Row] =
            &[$(Row { name: $name, help: $help, labels: &[$($label),*], buckets: families!(@ $($buckets)?) }),*];

        /// Every metric, registered; the fields bear the names of the list without prefix and unit.
        pub(super) struct Families { $(pub(super) $field: Family<$vector>,)* }

        impl Families {
            pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
                let mut rows = LIST.iter().copied();
                let mut row = || rows.next().ok_or_else(|| prometheus::Error::Msg("the list is too short".into()));
                Ok(Self { $($field: Family::new(row()?, registry)?,)* })
            }
        }
    };
    (@) => { &[] };
    (@ $buckets:ident) => { $buckets };
}

families! {
    build_info: IntGaugeVec = "yumen_build_info" ["version"], "Always 1; the version that runs.";

    requests: IntCounterVec = "yumen_http_requests_total" ["listener", "route", "method", "code"],
        "Requests that have ended, answered by an upstream or by the gateway itself.";
    duration: HistogramVec = "yumen_http_request_duration_seconds" ["route"] in REQUEST,
        "Time from the first byte of a request to the last byte of its answer.";
    overhead: HistogramVec = "yumen_overhead_seconds" ["route"] in OVERHEAD,
        "Time of a request that was not spent waiting for the upstream: what the gateway adds.";
    in_flight: IntGaugeVec = "yumen_http_requests_in_flight" ["route"], "Requests that have begun and not yet ended.";
    faults: IntCounterVec = "yumen_faults_total" ["route", "reason"],
        "Requests that the gateway refused or could not serve, by reason code.";

    shadow_refusals: IntCounterVec = "yumen_shadow_refusals_total" ["route", "reason"],
        "Requests that a guard would have refused if it did not only watch, or stay open while its service is down, by reason code.";

    cache_requests: IntCounterVec = "yumen_cache_requests_total" ["route", "result"],
        "Requests for routes with a cache: fresh from the store (hit), after their time (stale), after the service said that they hold (revalidated), fetched in place of an older one (expired), fetched (miss), not looked for (bypass).";
    cache_objects: IntGaugeVec = "yumen_cache_objects" ["store"], "Answers that a store keeps in memory.";
    cache_bytes: IntGaugeVec = "yumen_cache_bytes" ["store"], "Memory that a store of answers uses, of those on their way too.";
    cache_purges: IntCounterVec = "yumen_cache_purges_total" ["store"], "Orders to purge what a store keeps.";

    websockets: IntGaugeVec = "yumen_websockets" ["route"], "WebSockets that are open.";
    websocket_messages: IntCounterVec = "yumen_websocket_messages_total" ["route", "from"],
        "Messages that went through WebSockets, by who sent them.";
    websocket_bytes: IntCounterVec = "yumen_websocket_bytes_total" ["route", "from"],
        "Bytes that went through WebSockets, frames included, by who sent them.";
    websocket_closes: IntCounterVec = "yumen_websocket_closes_total" ["route", "code", "by"],
        "WebSockets that were closed, by their code (none without a goodbye) and by who closed them.";

    auth_decisions: IntCounterVec = "yumen_auth_decisions_total" ["route", "method", "result"],
        "Requests whose credentials were looked at, by what came of it.";
    auth_questions: IntCounterVec = "yumen_auth_questions_total" ["auth", "result"],
        "Questions to a service or issuer about who comes: answered, failed, or remembered from before.";
    auth_question_duration: HistogramVec = "yumen_auth_question_duration_seconds" ["auth"] in REQUEST,
        "Time that requests waited for the answer of such a service or issuer.";
    jwks_age: IntGaugeVec = "yumen_jwks_age_seconds" ["auth"], "Time since the keys of an issuer were last fetched.";
    jwks_refreshes: IntCounterVec = "yumen_jwks_refreshes_total" ["auth", "result"], "Attempts to fetch the keys of an issuer.";
    limit_decisions: IntCounterVec = "yumen_limit_decisions_total" ["limit", "result"],
        "Requests that a limit admitted, refused, or would have refused if it did not only watch.";

    limit_overshoot: IntGaugeVec = "yumen_limit_overshoot_bound" ["limit"],
        "How many requests more than it says a leased limit can admit, over all hosts.";
    quota_writes: IntCounterVec = "yumen_quota_writes_total" ["limit", "result"],
        "Attempts to write the counts of a quota to disk, for a restart.";
    store_up: IntGaugeVec = "yumen_store_up" ["store"], "1 while a store is asked, 0 while it is down.";
    store_hosts: IntGaugeVec = "yumen_store_hosts" ["store"], "Hosts that use a store, as far as it last said.";
    store_commands: IntCounterVec = "yumen_store_commands_total" ["store", "result"],
        "Commands to a store for requests: answered (ok), refused (error), too late (timeout), not sent while it is down (skipped).";
    store_duration: HistogramVec = "yumen_store_command_duration_seconds" ["store"] in OVERHEAD,
        "Time that requests waited for a store.";
    store_switches: IntCounterVec = "yumen_store_switches_total" ["store", "to"], "How often a store went down or came up.";

    mqtt_published: IntCounterVec = "yumen_mqtt_published_total" ["store", "result"],
        "Messages of requests for a broker: acknowledged by it (or, where nothing is acknowledged, sent), or failed.";
    mqtt_forwarded: IntCounterVec = "yumen_mqtt_forwarded_total" ["store", "forward", "result"],
        "Messages of a broker for a pool: received (on disk), again (on disk already), delivered, failed (sent again later), dead (set aside), too_long (dropped).";
    mqtt_forward_up: IntGaugeVec = "yumen_mqtt_forward_up" ["store", "forward"],
        "1 while messages for a pool can come in from their broker, else 0.";
    mqtt_queue_messages: IntGaugeVec = "yumen_mqtt_queue_messages" ["store", "forward"],
        "Messages on disk that their pool does not have yet.";
    mqtt_queue_bytes: IntGaugeVec = "yumen_mqtt_queue_bytes" ["store", "forward"], "Bytes that these take on disk.";
    mqtt_queue_oldest: IntGaugeVec = "yumen_mqtt_queue_oldest_seconds" ["store", "forward"],
        "How long the oldest of these has waited.";
    mqtt_queue_full: IntGaugeVec = "yumen_mqtt_queue_full" ["store", "forward"],
        "1 while nothing is taken from the broker because the queue or the disk is full, else 0.";
    streams: IntGaugeVec = "yumen_streams" ["route"], "Clients that listen to messages of a broker.";
    stream_events: IntCounterVec = "yumen_stream_events_total" ["route", "result"],
        "Messages for those who listen: sent, or missed because a client was too slow.";

    pool_requests: IntCounterVec = "yumen_pool_requests_total" ["pool", "code"], "Answers of a pool's targets; code - is no answer.";
    pool_duration: HistogramVec = "yumen_pool_request_duration_seconds" ["pool"] in REQUEST,
        "Time from choosing a target to the end of its answer.";
    pool_connects: IntCounterVec = "yumen_pool_connects_total" ["pool", "reused"],
        "Connections taken for a request: kept from an earlier one, or new.";
    pool_retries: IntCounterVec = "yumen_pool_retries_total" ["pool", "cause", "result"],
        "Further tries of requests that had failed, by what had failed and whether they were answered well.";
    pool_retry_budget: IntCounterVec = "yumen_pool_retry_budget_exhausted_total" ["pool"],
        "Further tries that were not made because the pool's budget for them was used up.";
    pool_fallbacks: IntCounterVec = "yumen_pool_fallbacks_total" ["pool"],
        "Requests for a pool of which no target took any, that its fallback served or answered.";
    pool_queue: IntGaugeVec = "yumen_pool_queue_length" ["pool"],
        "Requests that wait because every target of a pool has as many as `max_in_flight` allows.";
    copies: IntCounterVec = "yumen_copies_total" ["route", "result"],
        "Copies of requests for another pool: answered, failed, not taken by any target, too large, dropped, or broken off.";
    compress_in: IntCounterVec = "yumen_compress_in_bytes_total" ["route", "coding"],
        "Bytes of answers before they were compressed.";
    compress_out: IntCounterVec = "yumen_compress_out_bytes_total" ["route", "coding"],
        "Bytes of those answers as clients got them.";
    graphql: IntCounterVec = "yumen_graphql_operations_total" ["route", "operation", "kind", "result"],
        "Requests of GraphQL by the name on the list (other without one), the kind, and what became of them: passed, refused, would_refuse.";
    gather_calls: IntCounterVec = "yumen_gather_calls_total" ["route", "call", "result"],
        "Calls that a route's answers are made of: ok, failed, or not to be made of what was there (unmade).";
    discover_up: IntGaugeVec = "yumen_discover_up" ["pool", "source"],
        "1 while a source says where a pool's targets are, 0 while the last known ones are used.";
    discover_refused: IntGaugeVec = "yumen_discover_refused" ["pool", "source"],
        "Addresses that a source names and that are not used because they lead back to this machine.";
    target_up: IntGaugeVec = "yumen_target_up" ["pool", "target"], "1 while a target gets requests, 0 while it is unhealthy.";
    breaker: IntGaugeVec = "yumen_breaker_state" ["pool", "target"],
        "0 while a target's breaker is closed, 1 while a few requests try the target, 2 while it is open.";

    ejected: IntGaugeVec = "yumen_target_ejected" ["pool", "target"],
        "1 while a target is ejected because its requests went worse than those of the others, else 0.";
    ejections: IntCounterVec = "yumen_target_ejections_total" ["pool", "cause", "result"],
        "Targets found bad by their requests (errors, unanswered, share, slow): ejected, spared because too many are out, or only watched (shadow).";
    panics: IntGaugeVec = "yumen_pool_panic" ["pool"], "1 while all targets of a pool are used because too few are well, else 0.";

    connections: IntGaugeVec = "yumen_connections" ["listener"], "Client connections that are open.";
    connections_refused: IntCounterVec = "yumen_connections_refused_total" ["listener", "reason"],
        "Client connections closed before their first request, by reason.";
    handshakes: IntCounterVec = "yumen_tls_handshakes_total" ["version", "result"], "TLS handshakes with clients.";
    certificate_expiry: IntGaugeVec = "yumen_certificate_expiry_timestamp_seconds" ["cert"],
        "When a listener's certificate ends, in seconds since 1970.";

    generation: IntGaugeVec = "yumen_config_generation" [], "How many configurations have been applied since the start.";
    hash: IntGaugeVec = "yumen_config_hash_info" ["hash"], "Always 1; the hash of the configuration that runs.";
    reloads: IntCounterVec = "yumen_config_reloads_total" ["result"], "Attempts to apply a changed configuration.";
    reload_success: IntGaugeVec = "yumen_config_last_reload_success" [], "1 when the last attempt was applied, 0 when it was refused.";
    not_on_disk: IntGaugeVec = "yumen_config_not_on_disk" ["why"],
        "Not 0 while something else serves than the files say: brought back (rollback), the last good at the start (boot), or so many included files held back (include).";
    reload_time: GaugeVec = "yumen_config_last_reload_success_timestamp_seconds" [],
        "When a configuration was last applied, in seconds since 1970.";

    upgrades: IntCounterVec = "yumen_upgrades_total" ["result"],
        "Hand-overs to a new process: this one took over (ok), or its successor failed and it serves on (failed).";

    memory_limit: IntGaugeVec = "yumen_memory_limit_bytes" [],
        "How much memory the gateway may use before the kernel ends it, or as runtime.memory says; 0 where there is no limit.";
    memory_used: IntGaugeVec = "yumen_memory_used_bytes" [],
        "How much of that memory is in use and cannot be reclaimed.";
    memory_short: IntGaugeVec = "yumen_memory_short" [], "1 while new requests are refused for want of memory, else 0.";
    accept_failures: IntCounterVec = "yumen_accept_failures_total" ["listener"],
        "Attempts to accept a connection that failed, as when descriptors are used up; the connection waits.";
    program_log_dropped: IntCounterVec = "yumen_program_log_dropped_total" [],
        "Lines of the program's own log lost because standard error is slow, full or closed.";
    trace_spans: IntCounterVec = "yumen_trace_spans_total" ["result"],
        "Spans of requests: taken by the receiver (exported), left out because too many wait (dropped), or lost because it did not take them (failed).";
    access_log_dropped: IntCounterVec = "yumen_access_log_dropped_total" [],
        "Access lines lost because their destination is slow, full or closed.";

    memory: IntGaugeVec = "process_resident_memory_bytes" [], "Resident memory size in bytes.";
    cpu: CounterVec = "process_cpu_seconds_total" [], "Total user and system CPU time spent in seconds.";
    open_fds: IntGaugeVec = "process_open_fds" [], "Number of open file descriptors.";
    max_fds: IntGaugeVec = "process_max_fds" [], "Maximum number of open file descriptors.";
    start_time: GaugeVec = "process_start_time_seconds" [], "Start time of the process since unix epoch in seconds.";
}
