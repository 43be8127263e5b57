//! TLS: certificates by name, versions, tickets, client certificates.

use super::*;

#[tokio::test]
async fn certificates_are_chosen_by_name_and_replaced_by_a_reload() {
    let dir = tempfile::tempdir().unwrap();
    let (a, root_a) = certificate(dir.path(), &["a.example"]);
    let (b, root_b) = certificate(dir.path(), &["*.b.example"]);
    let house = House::with(serde_json::json!({ "tls": { "certs": [a.clone(), b] } }));
    let config = Arc::new(client(&[root_a.clone(), root_b], &["http/1.1"]));
    for name in ["a.example", "x.b.example"] {
        let mut stream = tls(&house, &config, name).await.unwrap();
        stream.write_all(format!("GET /t HTTP/1.1\r\nHost: {name}\r\n\r\n").as_bytes()).await.unwrap();
        let got = answer(&mut stream).await;
        assert!(got.contains(&format!("GET /t 127.0.0.1 {name}")), "{got}");
    }
    assert!(tls(&house, &config, "y.x.b.example").await.is_err());

    // The session is resumed after a reload that changes nothing, and the new certificate is shown after one that does.
    let only_a = Arc::new(client(&[root_a], &["http/1.1"]));
    for resumed in [false, true] {
        let mut stream = tls(&house, &only_a, "a.example").await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        answer(&mut stream).await;
        let kind = stream.get_ref().1.handshake_kind().unwrap();
        assert_eq!(kind == rustls::HandshakeKind::Resumed, resumed);
        house.listeners.apply(vec![listener("edge", serde_json::json!({ "tls": { "certs": [a] } }))]).unwrap();
    }
    let (_, fresh) = certificate(dir.path(), &["a.example"]);
    house.listeners.apply(vec![listener("edge", serde_json::json!({ "tls": { "certs": [a] } }))]).unwrap();
    assert!(tls(&house, &Arc::new(client(&[fresh], &[])), "a.example").await.is_ok());
}

#[tokio::test]
async fn tls_keeps_to_its_settings() {
    let dir = tempfile::tempdir().unwrap();
    let (a, root) = certificate(dir.path(), &["a.example"]);
    let modern =
        serde_json::json!({ "tls": { "certs": [a.clone()], "min": "1.3" }, "timeout": { "handshake": "200ms" } });
    let house = House::with(modern);
    let mut config = client(std::slice::from_ref(&root), &[]);
    assert!(tls(&house, &Arc::new(config.clone()), "a.example").await.is_ok());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let old = rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS12]);
    let mut store = rustls::RootCertStore::empty();
    store.add(root.clone().into()).unwrap();
    let old = Arc::new(old.unwrap().with_root_certificates(store).with_no_client_auth());
    assert!(tls(&house, &old, "a.example").await.is_err());
    assert_eq!(house.ask("").await, "", "a handshake that never begins is ended");

    let (own, own_root) = certificate(dir.path(), &["client.example"]);
    let strict = House::with(serde_json::json!({ "tls": { "certs": [a], "client_ca": { "file": own["cert"] } } }));
    let mut without = tls(&strict, &Arc::new(config.clone()), "a.example").await.unwrap();
    assert!(without.read_u8().await.is_err(), "no certificate, no service");
    let key = std::path::Path::new(own["key"].as_str().unwrap());
    let key = <rustls::pki_types::PrivateKeyDer<'_> as rustls::pki_types::pem::PemObject>::from_pem_file(key).unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let certified = rustls::sign::CertifiedKey::from_der(vec![own_root.into()], key, &provider).unwrap();
    config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
    let mut with = tls(&strict, &Arc::new(config), "a.example").await.unwrap();
    with.write_all(format!("GET / HTTP/1.1\r\nHost: a\r\n{CLOSE}").as_bytes()).await.unwrap();
    assert!(rest(&mut with).await.starts_with("HTTP/1.1 200"));
}
