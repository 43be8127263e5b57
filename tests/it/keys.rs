//! No dead keys: every key of the schema, with the test that observes it on the wire.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::harness::tools::yumen;
use crate::house::files_below;

const KEYS: &[(&str, &str)] = &[
    ("version", "inheritance::only_version_1_is_read"),
    ("include", "reload::an_included_file_is_watched_too"),
    ("runtime", "inheritance::workers_are_threads"),
    ("runtime.workers", "inheritance::workers_are_threads"),
    ("runtime.upstream_connections", "inheritance::idle_upstream_connections_are_capped"),
    ("runtime.drain", "seeing::the_drain_ends_at_its_deadline"),
    ("runtime.drain.requests", "seeing::the_drain_ends_at_its_deadline"),
    ("runtime.state", "auth::the_last_good_keys_outlive_an_outage_and_a_restart_but_not_their_time"),
    ("runtime.client_ip", "client_address::the_right_most_untrusted_hop_is_the_client"),
    ("runtime.client_ip.trust", "client_address::the_right_most_untrusted_hop_is_the_client"),
    ("runtime.client_ip.from", "client_address::forwarded_and_x_real_ip_are_read_where_the_document_says_so"),
    ("admin", "seeing::the_admin_door_tells_how_things_are"),
    ("admin.bind", "seeing::the_admin_door_may_be_a_unix_socket_that_only_we_can_open"),
    ("admin.hosts", "seeing::the_admin_door_answers_to_its_own_names_only"),
    ("observe", "seeing::an_access_line_tells_the_whole_story"),
    ("observe.log", "reload::the_level_of_the_log_changes_while_running"),
    ("observe.log.level", "reload::the_level_of_the_log_changes_while_running"),
    ("observe.access_log", "seeing::an_access_line_tells_the_whole_story"),
    ("observe.access_log.to", "seeing::the_access_log_may_be_off_or_on_stderr"),
    ("observe.access_log.format", "seeing::combined_lines_are_as_everyone_knows_them"),
    ("observe.access_log.query", "seeing::the_query_is_logged_where_the_document_says_so"),
    ("errors", "errors::texts_come_in_the_language_that_the_client_asks_for"),
    ("errors.languages", "errors::a_language_that_is_not_listed_is_not_spoken"),
    ("errors.messages", "errors::texts_of_ones_own_replace_ours"),
    ("defaults", "inheritance::defaults_of_a_pool_hold_unless_it_says_otherwise"),
    ("defaults.listener", "inheritance::defaults_of_a_listener_hold_unless_it_says_otherwise"),
    ("defaults.pool", "inheritance::defaults_of_a_pool_hold_unless_it_says_otherwise"),
    ("defaults.route", "inheritance::defaults_of_a_route_hold_and_like_takes_those_of_another"),
    ("listeners", "listeners::several_listeners_on_several_addresses_serve"),
    ("listeners.*.bind", "listeners::several_listeners_on_several_addresses_serve"),
    ("listeners.*.like", "inheritance::a_listener_is_like_another"),
    ("listeners.*.protocols", "listeners::a_listener_speaks_only_its_protocols"),
    ("listeners.*.redirect", "listeners::a_plain_listener_may_send_everyone_to_https"),
    ("listeners.*.proxy_protocol", "listeners::the_proxy_protocol_tells_the_client_address"),
    ("listeners.*.proxy_protocol.trust", "listeners::the_proxy_protocol_tells_the_client_address"),
    ("listeners.*.tls", "listeners::tls_serves_and_chooses_the_certificate_by_name"),
    ("listeners.*.tls.min", "listeners::the_oldest_version_is_what_the_document_says"),
    ("listeners.*.tls.certs", "listeners::tls_serves_and_chooses_the_certificate_by_name"),
    ("listeners.*.tls.certs.cert", "listeners::tls_serves_and_chooses_the_certificate_by_name"),
    ("listeners.*.tls.certs.key", "listeners::a_key_that_does_not_fit_its_certificate_is_refused"),
    ("listeners.*.tls.client_ca", "listeners::client_certificates_are_required_or_optional"),
    ("listeners.*.tls.client_ca.file", "listeners::client_certificates_are_required_or_optional"),
    ("listeners.*.tls.client_ca.mode", "listeners::client_certificates_are_required_or_optional"),
    ("listeners.*.tls.tickets", "listeners::sessions_resume_by_ticket_unless_switched_off"),
    ("listeners.*.timeout", "limits::a_slow_head_is_cut_however_it_drips"),
    ("listeners.*.timeout.handshake", "limits::a_tls_handshake_that_stops_is_cut"),
    ("listeners.*.timeout.head", "limits::a_slow_head_is_cut_however_it_drips"),
    ("listeners.*.timeout.idle", "limits::an_idle_connection_is_closed_after_its_time"),
    ("listeners.*.timeout.write", "limits::a_client_that_reads_nothing_is_cut_and_memory_stays"),
    ("listeners.*.limits", "limits::the_defaults_hold_without_a_word"),
    ("listeners.*.limits.connections", "limits::connections_are_capped_and_come_back"),
    ("listeners.*.limits.per_address", "limits::connections_are_capped_and_come_back"),
    ("listeners.*.limits.requests", "limits::a_connection_ends_after_its_requests"),
    ("listeners.*.limits.streams", "limits::streams_of_one_connection_are_capped"),
    ("listeners.*.limits.fields", "limits::too_many_fields_are_431"),
    ("listeners.*.limits.head", "limits::too_large_a_head_is_431"),
    ("listeners.*.limits.uri", "limits::too_long_a_target_is_414"),
    ("listeners.*.limits.body_rate", "limits::a_body_that_is_too_slow_is_408_and_frees_the_upstream"),
    ("limits", "rates::a_bucket_admits_what_it_holds_and_tells_what_is_left"),
    ("limits.*.rate", "rates::a_rate_admits_again_after_the_time_that_was_told"),
    ("limits.*.burst", "rates::the_burst_is_how_many_come_at_once"),
    ("limits.*.in_flight", "rates::so_many_may_be_under_way_at_once_and_each_end_makes_room"),
    ("limits.*.algorithm", "rates::a_sliding_window_admits_so_many_and_says_when_there_is_room"),
    ("limits.*.queue", "rates::a_leaky_bucket_lets_requests_wait_and_refuses_when_its_queue_is_full"),
    ("limits.*.key", "rates::requests_are_counted_by_what_the_document_says"),
    ("limits.*.else", "rates::who_has_no_key_is_counted_by_another"),
    ("limits.*.keys", "rates::the_number_of_keys_is_bounded_and_who_finds_no_room_is_still_counted"),
    ("limits.*.share", "stores::three_gateways_on_one_store_admit_exactly_what_the_limit_says"),
    ("limits.*.share.store", "stores::a_rate_that_is_shared_admits_again_after_the_time_that_was_told"),
    ("limits.*.share.mode", "stores::a_leased_limit_asks_seldom_and_admits_at_most_its_bound_more"),
    ("limits.*.share.lease", "stores::a_leased_limit_asks_seldom_and_admits_at_most_its_bound_more"),
    (
        "limits.*.if_store_down",
        "stores::without_its_store_a_limit_counts_here_admits_all_or_nobody_as_the_document_says",
    ),
    ("limits.*.headers", "rates::the_fields_are_those_that_the_document_asks_for"),
    ("limits.*.mode", "rates::a_shadow_counts_and_tells_and_changes_nothing"),
    ("stores", "stores::a_store_is_connected_at_once_and_told_of"),
    ("stores.*.redis", "stores::of_several_addresses_the_first_that_can_be_written_to_is_used"),
    ("stores.*.redis.sentinel", "stores::sentinels_say_which_redis_is_the_master_also_after_it_has_failed"),
    ("stores.*.redis.master", "stores::sentinels_say_which_redis_is_the_master_also_after_it_has_failed"),
    ("stores.*.redis.cluster", "stores::a_cluster_is_asked_where_the_key_belongs_also_after_it_has_moved"),
    ("stores.*.tls", "stores::a_store_may_be_reached_by_tls_with_our_certificate_and_no_other_way"),
    ("stores.*.tls.ca", "stores::a_store_may_be_reached_by_tls_with_our_certificate_and_no_other_way"),
    ("stores.*.tls.cert", "stores::a_store_may_be_reached_by_tls_with_our_certificate_and_no_other_way"),
    ("stores.*.tls.key", "stores::a_store_may_be_reached_by_tls_with_our_certificate_and_no_other_way"),
    ("stores.*.tls.sni", "stores::a_store_may_be_reached_by_tls_with_our_certificate_and_no_other_way"),
    ("stores.*.user", "stores::a_user_of_ones_own_and_another_database_are_used"),
    ("stores.*.password", "stores::a_wrong_password_is_told_without_it_and_the_right_one_lets_us_in"),
    ("stores.*.database", "stores::a_user_of_ones_own_and_another_database_are_used"),
    ("stores.*.timeout", "stores::a_store_that_is_frozen_costs_its_timeout_and_limits_hold_on"),
    ("pools", "forwarding::a_request_is_forwarded_and_its_answer_returned"),
    ("pools.*.at", "pools::round_robin_is_smooth_by_weight"),
    ("pools.*.weight", "pools::round_robin_is_smooth_by_weight"),
    ("pools.*.targets", "pools::round_robin_is_smooth_by_weight"),
    ("pools.*.targets.at", "pools::round_robin_is_smooth_by_weight"),
    ("pools.*.targets.weight", "pools::round_robin_is_smooth_by_weight"),
    ("pools.*.like", "pools::like_takes_the_settings_of_another_pool"),
    ("pools.*.protocol", "pools::an_upstream_may_speak_h2c"),
    ("pools.*.tls", "pools::an_upstream_is_verified_under_tls"),
    ("pools.*.tls.sni", "pools::an_upstream_is_verified_under_tls"),
    ("pools.*.tls.ca", "pools::an_upstream_is_verified_under_tls"),
    ("pools.*.tls.verify", "pools::an_upstream_is_verified_under_tls"),
    ("pools.*.tls.cert", "pools::an_upstream_may_ask_for_our_certificate"),
    ("pools.*.tls.key", "pools::an_upstream_may_ask_for_our_certificate"),
    ("pools.*.balance", "pools::a_hash_keeps_a_key_at_its_target_and_moves_few_when_one_goes"),
    ("pools.*.health", "pools::a_sick_target_gets_no_requests_until_it_is_well_again"),
    ("pools.*.health.http", "pools::health_asks_for_status_body_and_host"),
    ("pools.*.health.tcp", "pools::health_asks_for_status_body_and_host"),
    ("pools.*.health.every", "pools::probes_come_as_often_as_the_document_says"),
    ("pools.*.health.timeout", "pools::a_slow_probe_is_a_failed_one"),
    ("pools.*.health.down_after", "pools::a_new_target_beside_others_is_probed_before_it_serves"),
    ("pools.*.health.up_after", "pools::a_sick_target_gets_no_requests_until_it_is_well_again"),
    ("pools.*.health.status", "pools::health_asks_for_status_body_and_host"),
    ("pools.*.health.body", "pools::health_asks_for_status_body_and_host"),
    ("pools.*.health.host", "pools::health_asks_for_status_body_and_host"),
    ("pools.*.timeout", "pools::a_silent_upstream_is_504"),
    ("pools.*.timeout.connect", "pools::a_refused_connection_is_502_and_an_endless_one_504"),
    ("pools.*.timeout.tls", "pools::a_tls_handshake_that_stops_is_504"),
    ("pools.*.timeout.idle", "pools::a_silent_upstream_is_504"),
    ("pools.*.timeout.write", "pools::an_upstream_that_takes_nothing_is_cut_at_the_write_deadline"),
    ("pools.*.keep_alive", "pools::an_idle_upstream_connection_is_closed_in_time"),
    ("pools.*.keep_alive.idle", "pools::an_idle_upstream_connection_is_closed_in_time"),
    ("auth", "auth::a_token_opens_the_door_and_each_wrong_one_is_told_apart_in_the_log_only"),
    ("auth.*.jwt", "auth::a_token_opens_the_door_and_each_wrong_one_is_told_apart_in_the_log_only"),
    ("auth.*.jwt.issuer", "auth::a_token_opens_the_door_and_each_wrong_one_is_told_apart_in_the_log_only"),
    ("auth.*.jwt.audience", "auth::a_token_opens_the_door_and_each_wrong_one_is_told_apart_in_the_log_only"),
    ("auth.*.jwt.secret", "auth::a_token_opens_the_door_and_each_wrong_one_is_told_apart_in_the_log_only"),
    ("auth.*.jwt.claims", "auth::a_token_opens_the_door_and_each_wrong_one_is_told_apart_in_the_log_only"),
    ("auth.*.jwt.leeway", "auth::a_token_opens_the_door_and_each_wrong_one_is_told_apart_in_the_log_only"),
    ("auth.*.jwt.key", "auth::keys_come_from_pem_files_and_from_sets_and_decide_on_the_algorithm"),
    ("auth.*.jwt.jwks", "auth::keys_come_from_pem_files_and_from_sets_and_decide_on_the_algorithm"),
    ("auth.*.jwt.jwks.file", "auth::keys_come_from_pem_files_and_from_sets_and_decide_on_the_algorithm"),
    ("auth.*.jwt.jwks.url", "auth::the_last_good_keys_outlive_an_outage_and_a_restart_but_not_their_time"),
    ("auth.*.jwt.jwks.discover", "auth::keys_are_discovered_and_ten_thousand_unknown_names_fetch_once"),
    ("auth.*.jwt.jwks.keep_if_down", "auth::the_last_good_keys_outlive_an_outage_and_a_restart_but_not_their_time"),
    ("auth.*.jwt.jwks.refetch_unknown_kid", "auth::keys_are_discovered_and_ten_thousand_unknown_names_fetch_once"),
    ("auth.*.jwt.jwks.ca", "auth::keys_are_believed_from_who_proves_to_be_the_issuer_only"),
    ("auth.*.jwt.jwks.plain_http", "auth::keys_are_believed_from_who_proves_to_be_the_issuer_only"),
    ("auth.*.jwt.algorithm", "auth::keys_come_from_pem_files_and_from_sets_and_decide_on_the_algorithm"),
    ("auth.*.jwt.in", "auth::a_token_lies_where_the_document_says_and_nowhere_twice"),
    ("auth.*.key", "auth::a_key_opens_the_door_and_the_file_holds_only_its_hash"),
    ("auth.*.key.file", "auth::a_key_opens_the_door_and_the_file_holds_only_its_hash"),
    ("auth.*.key.in", "auth::a_key_opens_the_door_and_the_file_holds_only_its_hash"),
    ("auth.*.certificate", "auth::a_client_certificate_says_who_it_is"),
    ("auth.*.certificate.subject", "auth::a_client_certificate_says_who_it_is"),
    ("auth.*.certificate.fingerprint", "auth::a_client_certificate_says_who_it_is"),
    ("auth.*.any", "auth::one_of_several_is_enough_or_all_of_them_are_asked"),
    ("auth.*.all", "auth::one_of_several_is_enough_or_all_of_them_are_asked"),
    ("auth.*.forward", "auth::the_target_is_told_who_asks_by_nobody_but_us"),
    ("auth.*.strip", "auth::a_token_lies_where_the_document_says_and_nowhere_twice"),
    ("auth.*.mode", "auth::a_shadow_of_auth_changes_nothing"),
    ("routes", "routing::the_most_specific_path_wins_whatever_the_order"),
    ("routes.*.like", "inheritance::defaults_of_a_route_hold_and_like_takes_those_of_another"),
    ("routes.*.match", "routing::a_list_of_matches_means_any_of_them"),
    ("routes.*.match.methods", "routing::a_failed_condition_falls_through_to_the_next_route"),
    ("routes.*.match.host", "routing::an_exact_host_wins_over_a_wildcard_and_a_wildcard_over_any"),
    ("routes.*.match.path", "routing::the_most_specific_path_wins_whatever_the_order"),
    ("routes.*.match.regex", "routing::a_regex_has_to_match_the_whole_path_and_priority_decides_between_two"),
    ("routes.*.match.headers", "routing::headers_queries_and_cookies_decide"),
    ("routes.*.match.headers.*.is", "routing::headers_queries_and_cookies_decide"),
    ("routes.*.match.headers.*.present", "routing::headers_queries_and_cookies_decide"),
    ("routes.*.match.headers.*.regex", "routing::more_conditions_win_over_fewer"),
    ("routes.*.match.query", "routing::headers_queries_and_cookies_decide"),
    ("routes.*.match.query.*.is", "routing::headers_queries_and_cookies_decide"),
    ("routes.*.match.query.*.present", "routing::long_conditions_on_query_and_cookie_decide"),
    ("routes.*.match.query.*.regex", "routing::long_conditions_on_query_and_cookie_decide"),
    ("routes.*.match.cookies", "routing::headers_queries_and_cookies_decide"),
    ("routes.*.match.cookies.*.is", "routing::long_conditions_on_query_and_cookie_decide"),
    ("routes.*.match.cookies.*.present", "routing::long_conditions_on_query_and_cookie_decide"),
    ("routes.*.match.cookies.*.regex", "routing::headers_queries_and_cookies_decide"),
    ("routes.*.priority", "routing::a_regex_has_to_match_the_whole_path_and_priority_decides_between_two"),
    ("routes.*.ip", "guards::the_address_decides_and_the_log_names_the_rule"),
    ("routes.*.ip.allow", "guards::the_address_decides_and_the_log_names_the_rule"),
    ("routes.*.ip.deny", "guards::the_address_decides_and_the_log_names_the_rule"),
    ("routes.*.ip.mode", "guards::a_shadow_counts_and_tells_and_changes_nothing"),
    ("routes.*.cors", "cors::a_listed_origin_is_told_so_and_another_is_not"),
    ("routes.*.cors.origins", "cors::a_listed_origin_is_told_so_and_another_is_not"),
    ("routes.*.cors.origins.is", "cors::a_preflight_is_answered_here_and_tells_what_is_allowed"),
    ("routes.*.cors.origins.regex", "cors::a_listed_origin_is_told_so_and_another_is_not"),
    ("routes.*.cors.methods", "cors::a_preflight_is_answered_here_and_tells_what_is_allowed"),
    ("routes.*.cors.headers", "cors::a_preflight_is_answered_here_and_tells_what_is_allowed"),
    ("routes.*.cors.expose", "cors::a_listed_origin_is_told_so_and_another_is_not"),
    ("routes.*.cors.credentials", "cors::a_listed_origin_is_told_so_and_another_is_not"),
    ("routes.*.cors.max_age", "cors::a_preflight_is_answered_here_and_tells_what_is_allowed"),
    ("routes.*.cors.mode", "cors::a_shadow_answers_nothing_and_tells_of_whom_it_would_refuse"),
    ("routes.*.auth", "auth::a_token_opens_the_door_and_each_wrong_one_is_told_apart_in_the_log_only"),
    ("routes.*.auth.jwt", "auth::a_token_opens_the_door_and_each_wrong_one_is_told_apart_in_the_log_only"),
    ("routes.*.auth.jwt.issuer", "auth::a_token_opens_the_door_and_each_wrong_one_is_told_apart_in_the_log_only"),
    ("routes.*.auth.jwt.audience", "auth::a_token_opens_the_door_and_each_wrong_one_is_told_apart_in_the_log_only"),
    ("routes.*.auth.jwt.secret", "auth::a_token_opens_the_door_and_each_wrong_one_is_told_apart_in_the_log_only"),
    ("routes.*.auth.jwt.claims", "auth::a_token_opens_the_door_and_each_wrong_one_is_told_apart_in_the_log_only"),
    ("routes.*.auth.jwt.leeway", "auth::a_token_opens_the_door_and_each_wrong_one_is_told_apart_in_the_log_only"),
    ("routes.*.auth.jwt.key", "auth::keys_come_from_pem_files_and_from_sets_and_decide_on_the_algorithm"),
    ("routes.*.auth.jwt.jwks", "auth::keys_come_from_pem_files_and_from_sets_and_decide_on_the_algorithm"),
    ("routes.*.auth.jwt.jwks.file", "auth::keys_come_from_pem_files_and_from_sets_and_decide_on_the_algorithm"),
    ("routes.*.auth.jwt.jwks.url", "auth::the_last_good_keys_outlive_an_outage_and_a_restart_but_not_their_time"),
    ("routes.*.auth.jwt.jwks.discover", "auth::keys_are_discovered_and_ten_thousand_unknown_names_fetch_once"),
    (
        "routes.*.auth.jwt.jwks.keep_if_down",
        "auth::the_last_good_keys_outlive_an_outage_and_a_restart_but_not_their_time",
    ),
    (
        "routes.*.auth.jwt.jwks.refetch_unknown_kid",
        "auth::keys_are_discovered_and_ten_thousand_unknown_names_fetch_once",
    ),
    ("routes.*.auth.jwt.jwks.ca", "auth::keys_are_believed_from_who_proves_to_be_the_issuer_only"),
    ("routes.*.auth.jwt.jwks.plain_http", "auth::keys_are_believed_from_who_proves_to_be_the_issuer_only"),
    ("routes.*.auth.jwt.algorithm", "auth::keys_come_from_pem_files_and_from_sets_and_decide_on_the_algorithm"),
    ("routes.*.auth.jwt.in", "auth::a_token_lies_where_the_document_says_and_nowhere_twice"),
    ("routes.*.auth.key", "auth::a_key_opens_the_door_and_the_file_holds_only_its_hash"),
    ("routes.*.auth.key.file", "auth::a_key_opens_the_door_and_the_file_holds_only_its_hash"),
    ("routes.*.auth.key.in", "auth::a_key_opens_the_door_and_the_file_holds_only_its_hash"),
    ("routes.*.auth.certificate", "auth::a_client_certificate_says_who_it_is"),
    ("routes.*.auth.certificate.subject", "auth::a_client_certificate_says_who_it_is"),
    ("routes.*.auth.certificate.fingerprint", "auth::a_client_certificate_says_who_it_is"),
    ("routes.*.auth.any", "auth::one_of_several_is_enough_or_all_of_them_are_asked"),
    ("routes.*.auth.all", "auth::one_of_several_is_enough_or_all_of_them_are_asked"),
    ("routes.*.auth.forward", "auth::the_target_is_told_who_asks_by_nobody_but_us"),
    ("routes.*.auth.strip", "auth::a_token_lies_where_the_document_says_and_nowhere_twice"),
    ("routes.*.auth.mode", "auth::a_shadow_of_auth_changes_nothing"),
    ("routes.*.limit", "rates::a_bucket_admits_what_it_holds_and_tells_what_is_left"),
    ("routes.*.limit.rate", "rates::a_rate_admits_again_after_the_time_that_was_told"),
    ("routes.*.limit.burst", "rates::the_burst_is_how_many_come_at_once"),
    ("routes.*.limit.in_flight", "rates::so_many_may_be_under_way_at_once_and_each_end_makes_room"),
    ("routes.*.limit.algorithm", "rates::a_sliding_window_admits_so_many_and_says_when_there_is_room"),
    ("routes.*.limit.queue", "rates::a_leaky_bucket_lets_requests_wait_and_refuses_when_its_queue_is_full"),
    ("routes.*.limit.key", "rates::requests_are_counted_by_what_the_document_says"),
    ("routes.*.limit.else", "rates::who_has_no_key_is_counted_by_another"),
    ("routes.*.limit.keys", "rates::the_number_of_keys_is_bounded_and_who_finds_no_room_is_still_counted"),
    ("routes.*.limit.share", "stores::a_limit_of_a_route_may_share_too"),
    ("routes.*.limit.share.store", "stores::a_limit_of_a_route_may_share_too"),
    ("routes.*.limit.share.mode", "stores::a_leased_limit_asks_seldom_and_admits_at_most_its_bound_more"),
    ("routes.*.limit.share.lease", "stores::a_leased_limit_asks_seldom_and_admits_at_most_its_bound_more"),
    ("routes.*.limit.if_store_down", "stores::a_limit_of_a_route_may_share_too"),
    ("routes.*.limit.headers", "rates::the_fields_are_those_that_the_document_asks_for"),
    ("routes.*.limit.mode", "rates::a_shadow_counts_and_tells_and_changes_nothing"),
    ("routes.*.body", "body::a_body_is_as_large_as_the_route_says_however_it_is_framed"),
    ("routes.*.body.max", "body::a_body_is_as_large_as_the_route_says_however_it_is_framed"),
    ("routes.*.body.type", "body::a_body_of_another_type_is_refused"),
    ("routes.*.body.mode", "body::a_shadow_lets_large_bodies_pass_and_tells"),
    ("routes.*.require", "require::an_expression_decides_by_the_request"),
    ("routes.*.require.scope", "require::without_an_identity_nothing_that_asks_for_one_holds"),
    ("routes.*.require.role", "require::without_an_identity_nothing_that_asks_for_one_holds"),
    ("routes.*.require.consumer", "require::without_an_identity_nothing_that_asks_for_one_holds"),
    ("routes.*.require.certificate.subject", "require::a_client_certificate_opens_what_it_has_a_right_to"),
    ("routes.*.require.certificate.fingerprint", "require::a_client_certificate_opens_what_it_has_a_right_to"),
    ("routes.*.require.expression", "require::a_client_certificate_opens_what_it_has_a_right_to"),
    ("routes.*.require.any", "require::a_client_certificate_opens_what_it_has_a_right_to"),
    ("routes.*.require.all", "require::a_client_certificate_opens_what_it_has_a_right_to"),
    ("routes.*.require.not", "require::a_client_certificate_opens_what_it_has_a_right_to"),
    ("routes.*.require.mode", "require::a_shadow_lets_everyone_in_and_tells"),
    ("routes.*.require.*.min", "require::without_an_identity_nothing_that_asks_for_one_holds"),
    ("routes.*.require.*.max", "require::without_an_identity_nothing_that_asks_for_one_holds"),
    ("routes.*.require.*.regex", "require::a_client_certificate_opens_what_it_has_a_right_to"),
    ("routes.*.validate", "validate::parameters_have_to_be_there_and_to_look_right"),
    ("routes.*.validate.headers", "validate::parameters_have_to_be_there_and_to_look_right"),
    ("routes.*.validate.headers.*.required", "validate::parameters_have_to_be_there_and_to_look_right"),
    ("routes.*.validate.headers.*.regex", "validate::parameters_have_to_be_there_and_to_look_right"),
    ("routes.*.validate.query", "validate::parameters_have_to_be_there_and_to_look_right"),
    ("routes.*.validate.query.*.required", "validate::parameters_have_to_be_there_and_to_look_right"),
    ("routes.*.validate.query.*.regex", "validate::parameters_have_to_be_there_and_to_look_right"),
    ("routes.*.validate.body", "validate::a_body_is_held_back_until_it_was_found_good"),
    ("routes.*.validate.body.schema", "validate::a_body_is_held_back_until_it_was_found_good"),
    ("routes.*.validate.body.max", "validate::a_body_is_held_back_until_it_was_found_good"),
    ("routes.*.validate.mode", "validate::a_shadow_holds_nothing_back_and_tells"),
    ("routes.*.to", "answering::weights_are_kept_and_smooth"),
    ("routes.*.redirect", "answering::redirects_keep_the_path_and_the_query"),
    ("routes.*.redirect.to", "answering::redirects_keep_the_path_and_the_query"),
    ("routes.*.redirect.status", "answering::redirects_keep_the_path_and_the_query"),
    ("routes.*.respond", "answering::respond_answers_by_itself"),
    ("routes.*.respond.status", "answering::respond_answers_by_itself"),
    ("routes.*.respond.body", "answering::respond_answers_by_itself"),
    ("routes.*.respond.type", "answering::respond_answers_by_itself"),
    ("routes.*.rewrite", "answering::rewrite_strips_replaces_and_builds_paths"),
    ("routes.*.rewrite.strip", "answering::rewrite_strips_replaces_and_builds_paths"),
    ("routes.*.rewrite.prefix", "answering::rewrite_strips_replaces_and_builds_paths"),
    ("routes.*.rewrite.path", "answering::rewrite_strips_replaces_and_builds_paths"),
    ("routes.*.host", "answering::the_upstream_sees_the_host_that_the_route_says"),
    ("routes.*.request", "answering::request_fields_are_set_added_and_removed"),
    ("routes.*.request.set", "answering::request_fields_are_set_added_and_removed"),
    ("routes.*.request.add", "answering::request_fields_are_set_added_and_removed"),
    ("routes.*.request.remove", "answering::request_fields_are_set_added_and_removed"),
    ("routes.*.response", "answering::response_fields_are_set_added_and_removed"),
    ("routes.*.response.set", "answering::response_fields_are_set_added_and_removed"),
    ("routes.*.response.add", "answering::response_fields_are_set_added_and_removed"),
    ("routes.*.response.remove", "answering::response_fields_are_set_added_and_removed"),
    ("routes.*.timeout", "pools::a_route_may_wait_longer_or_shorter_than_its_pool"),
    ("routes.*.timeout.connect", "pools::a_route_shortens_each_timeout_of_its_pool"),
    ("routes.*.timeout.tls", "pools::a_route_shortens_each_timeout_of_its_pool"),
    ("routes.*.timeout.idle", "pools::a_route_may_wait_longer_or_shorter_than_its_pool"),
    ("routes.*.timeout.write", "pools::a_route_shortens_each_timeout_of_its_pool"),
];

/// Every key below this part of the schema; `defaults` repeats the keys of the things and is not entered.
fn collect(schema: &Value, part: &Value, at: &str, keys: &mut BTreeSet<String>) {
    if let Some(reference) = part["$ref"].as_str() {
        collect(schema, schema.pointer(reference.trim_start_matches('#')).unwrap(), at, keys);
    }
    for choice in ["anyOf", "oneOf", "allOf"].iter().filter_map(|word| part[*word].as_array()).flatten() {
        collect(schema, choice, at, keys);
    }
    if part["items"].is_object() {
        collect(schema, &part["items"], at, keys);
    }
    let dot = if at.is_empty() { "" } else { "." };
    for word in ["additionalProperties", "patternProperties"] {
        if let Some(each) = part[word].as_object() {
            let each = if word == "patternProperties" { each.values().next().unwrap() } else { &part[word] };
            collect(schema, each, &format!("{at}{dot}*"), keys);
        }
    }
    for (key, value) in part["properties"].as_object().into_iter().flatten() {
        let path = format!("{at}{dot}{key}");
        if keys.insert(path.clone()) && at != "defaults" {
            collect(schema, value, &path, keys);
        }
    }
}

#[test]
fn every_key_of_the_schema_has_a_test_that_observes_it() {
    let schema: Value = serde_json::from_str(&yumen(&["schema"]).out).expect("`yumen schema` prints JSON");
    let mut keys = BTreeSet::new();
    collect(&schema, &schema, "", &mut keys);
    let rows: BTreeMap<_, _> = KEYS.iter().copied().collect();
    assert_eq!(rows.len(), KEYS.len(), "a key has two rows");
    let dead: Vec<_> = keys.iter().filter(|key| !rows.contains_key(key.as_str())).collect();
    assert!(dead.is_empty(), "no test observes {dead:#?}");
    let gone: Vec<_> = rows.keys().filter(|key| !keys.contains(**key)).collect();
    assert!(gone.is_empty(), "no longer in the schema: {gone:#?}");
}

#[test]
fn every_test_of_the_table_exists() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let texts: BTreeMap<_, _> = files_below(&dir)
        .into_iter()
        .map(|file| {
            (file.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&file).unwrap_or_default())
        })
        .collect();
    let is_there = |test: &str| {
        let (module, name) = test.split_once("::").unwrap();
        texts.get(module).is_some_and(|text| text.contains(&format!("#[test]\nfn {name}()")))
    };
    let missing: Vec<_> = KEYS.iter().filter(|(_, test)| !is_there(test)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}
