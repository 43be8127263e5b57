//! TLS and HTTP/2 with origins that have certificates of our own making.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::*;

/// An authority, an origin's certificate for `names`, and a client's certificate, as PEM files.
struct Papers {
    directory: tempfile::TempDir,
    server: ServerConfig,
    asking: ServerConfig,
}

fn papers(names: &[&str]) -> Papers {
    let directory = tempfile::tempdir().unwrap();
    let write = |file: &str, text: String| std::fs::write(directory.path().join(file), text).unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    write("ca.pem", ca.pem());
    let signed = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        (CertificateParams::new(names).unwrap().signed_by(&key, &ca).unwrap(), key)
    };
    let (client, client_key) = signed(&["client"]);
    write("client.pem", client.pem());
    write("client.key", client_key.serialize_pem());
    write("other.key", KeyPair::generate().unwrap().serialize_pem());
    let (origin, origin_key) = signed(names);
    let provider = || Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build().unwrap();
    let chain = || (vec![origin.der().clone()], origin_key.serialize_der().try_into().unwrap());
    let server = |asks: bool| {
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let (chain, key) = chain();
        let builder = if asks {
            builder.with_client_cert_verifier(Arc::clone(&verifier) as _)
        } else {
            builder.with_no_client_auth()
        };
        builder.with_single_cert(chain, key).unwrap()
    };
    let (server, asking) = (server(false), server(true));
    Papers { directory, server, asking }
}

impl Papers {
    fn file(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }
}

/// The health of a TLS origin that carries `names`, and its reason, with these settings of `tls`.
async fn tls_health(papers: &Papers, asks: bool, host: &str, tls: &str) -> Result<(), String> {
    let config = if asks { &papers.asking } else { &papers.server };
    let origin = Origin::start(OK, Some(Arc::new(config.clone()).into())).await;
    let target = format!("{host}:{}", origin.address.port());
    let yaml = format!("{{ targets: ['{target}'], tls: {{ {tls} }}, health: {{ http: / }} }}");
    let mut running = Running::start(&yaml, &Shelves::default());
    soon(running.pool.ready()).await;
    soon(async {
        loop {
            match running.pool.status().targets.first().map(|target| (target.state, target.reason.clone())) {
                Some(("up", _)) => return Ok(()),
                Some(("down", reason)) => return Err(reason.unwrap_or_default()),
                _ => drop(running.told.recv().await),
            }
        }
    })
    .await
}

#[tokio::test]
async fn tls_is_verified_by_name_by_address_and_by_its_own_authority() {
    let papers = papers(&["localhost", "127.0.0.1"]);
    let ca = format!("ca: {}", papers.file("ca.pem"));
    assert_eq!(tls_health(&papers, false, "localhost", &ca).await, Ok(()));
    assert_eq!(tls_health(&papers, false, "127.0.0.1", &ca).await, Ok(()), "by its address");
    assert_eq!(tls_health(&papers, false, "127.0.0.1", &format!("{ca}, sni: localhost")).await, Ok(()));
    let other = tls_health(&papers, false, "127.0.0.1", &format!("{ca}, sni: other.example")).await;
    let other = other.unwrap_err();
    assert!(other.contains("certificate not valid for name"), "{other}");
    let stranger = tls_health(&papers, false, "localhost", "").await;
    assert!(stranger.unwrap_err().contains("UnknownIssuer"));
    assert_eq!(tls_health(&papers, false, "127.0.0.1", "verify: false, sni: other.example").await, Ok(()));
}

#[tokio::test]
async fn a_certificate_for_a_name_does_not_pass_for_an_address() {
    let papers = papers(&["localhost"]);
    let ca = format!("ca: {}", papers.file("ca.pem"));
    let wrong = tls_health(&papers, false, "127.0.0.1", &ca).await;
    let wrong = wrong.unwrap_err();
    assert!(wrong.contains("certificate not valid for name"), "{wrong}");
}

#[tokio::test]
async fn a_client_certificate_is_shown_and_must_fit_its_key() {
    let papers = papers(&["localhost"]);
    let ca = format!("ca: {}", papers.file("ca.pem"));
    let shown = format!("{ca}, cert: {}, key: {}", papers.file("client.pem"), papers.file("client.key"));
    assert_eq!(tls_health(&papers, true, "localhost", &shown).await, Ok(()));
    assert!(tls_health(&papers, true, "localhost", &ca).await.is_err());
    let mixed = format!("cert: {}, key: {}", papers.file("client.pem"), papers.file("other.key"));
    let problems = problems(&format!("{{ targets: [a:1], tls: {{ {mixed} }} }}"));
    assert!(problems[0].contains("does not belong to"), "{problems:?}");
    let no_certificate = problems_of_ca(&papers.file("client.key"));
    assert!(no_certificate[0].contains("holds no certificate"), "{no_certificate:?}");
}

fn problems_of_ca(file: &str) -> Vec<String> {
    problems(&format!("{{ targets: [a:1], tls: {{ ca: {file} }} }}"))
}

/// Answers HTTP/2 requests for `/healthz`.
async fn serve_http_2(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, mut reply))) = connection.accept().await {
        let good = request.uri().path() == "/healthz" && request.uri().authority().unwrap().port().is_some();
        let status = if good { 200 } else { 404 };
        reply.send_response(http::Response::builder().status(status).body(()).unwrap(), true).unwrap();
    }
}

#[tokio::test]
async fn http_2_is_spoken_by_prior_knowledge_and_by_agreement() {
    let papers = papers(&["127.0.0.1"]);
    let mut config = papers.server.clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tls: TlsAcceptor = Arc::new(config).into();
    let ca = format!("tls: {{ ca: {} }},", papers.file("ca.pem"));
    for (rule, tls) in
        [("protocol: h2c,", None), (&*format!("{ca} protocol: h2,"), Some(tls.clone())), (&*ca, Some(tls))]
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut origin = JoinSet::new();
        origin.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                match &tls {
                    None => serve_http_2(stream).await,
                    Some(tls) => serve_http_2(tls.accept(stream).await.unwrap()).await,
                }
            }
        });
        let yaml = format!("{{ targets: ['{address}'], {rule} health: {{ http: /healthz }} }}");
        let mut running = Running::start(&yaml, &Shelves::default());
        running.until(&address, true).await;
    }
}
