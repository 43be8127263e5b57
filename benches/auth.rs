//! What it costs to believe a token, the first time and again.

#![allow(clippy::expect_used, clippy::indexing_slicing)]

use std::hint::black_box;

use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{self, EcdsaKeyPair, KeyPair as _};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::{Value, json};
use yumen::policy::auth::jwt::{Config, Jwt};
use yumen::policy::auth::key::{Algorithm, Key};
use yumen::policy::auth::token::Token;
use yumen::policy::auth::{jwk, jwt};
use yumen::policy::guard::Tools;
use yumen::problem::{Path, Problems};

fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What is signed, for an algorithm: about 350 bytes of claims, as identity providers write them.
fn message(algorithm: &str) -> String {
    let claims = json!({
        "iss": "https://id.example.com/", "aud": ["orders", "admin"], "sub": "248289761001", "exp": 4_000_000_000_u64,
        "nbf": 1_700_000_000, "iat": 1_700_000_000, "jti": "0198f3a2-7c1e-7d2b-9d43-0e8a4b1c2d3e", "tenant": "acme",
        "scope": "orders:read orders:write profile email", "roles": ["user", "buyer"], "email": "someone@example.com",
    });
    let header = json!({ "alg": algorithm, "typ": "JWT", "kid": "one" });
    format!("{}.{}", text(header.to_string().as_bytes()), text(claims.to_string().as_bytes()))
}

/// A set of one key and a token that it has signed.
fn signed(algorithm: &str) -> (Value, String) {
    let (random, message) = (aws_lc_rs::rand::SystemRandom::new(), message(algorithm));
    let (key, signature) = match algorithm {
        "HS256" => {
            let secret = [7_u8; 32];
            let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &secret);
            let tag = aws_lc_rs::hmac::sign(&key, message.as_bytes());
            (json!({ "kty": "oct", "k": text(&secret) }), tag.as_ref().to_vec())
        }
        "RS256" => {
            let key = KeyPair::generate(KeySize::Rsa2048).expect("a key");
            let mut signature = vec![0; key.public_modulus_len()];
            key.sign(&signature::RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).expect("a signature");
            let public = key.public_key();
            let (n, e) = (public.modulus(), public.exponent());
            let part = |bytes: &[u8]| text(bytes);
            (
                json!({ "kty": "RSA", "n": part(n.big_endian_without_leading_zero()), "e": part(e.big_endian_without_leading_zero()) }),
                signature,
            )
        }
        _ => {
            let key = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
            let signature = key.sign(&random, message.as_bytes()).expect("a signature");
            let point = key.public_key().as_ref();
            let (x, y) = (point.get(1..33).unwrap_or_default(), point.get(33..).unwrap_or_default());
            (json!({ "kty": "EC", "crv": "P-256", "x": text(x), "y": text(y) }), signature.as_ref().to_vec())
        }
    };
    let mut key = key;
    (key["alg"], key["kid"]) = (json!(algorithm), json!("one"));
    (json!({ "keys": [key] }), format!("{message}.{}", text(&signature)))
}

fn tokens(bench: &mut Criterion) {
    let dir = std::env::temp_dir().join(format!("yumen-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    for algorithm in ["HS256", "RS256", "ES256"] {
        let (set, token) = signed(algorithm);
        let keys: Vec<Key> = jwk::read(&set.to_string(), None).expect("a set").keys;
        bench.bench_function(&format!("{algorithm}, signature alone"), |bench| {
            bench.iter(|| jwt::verify(&keys, &Token::read(black_box(&token)).expect("a token")).expect("a signature"));
        });
        let file = dir.join("keys.json");
        std::fs::write(&file, set.to_string()).expect("a file");
        let config = json!({ "issuer": "https://id.example.com/", "audience": "orders", "jwks": file });
        let config: Config = serde_json::from_value(config).expect("settings");
        let (at, mut problems) = (Path::of(["auth", algorithm, "jwt"]), Problems::default());
        let (place, auth) = (|_: &Path| String::new(), std::collections::BTreeMap::new());
        let tools = Tools::alone(&place, &auth);
        let jwt = Jwt::compile(&config, &at, &tools, &mut problems).expect("keys");
        bench.bench_function(&format!("{algorithm}, a token seen before"), |bench| {
            bench.iter(|| jwt.verify(black_box(&token), 1_800_000_000.0).expect("a token"));
        });
    }
    let _ = std::fs::remove_dir_all(dir);
    assert_eq!(Algorithm::named("none"), None);
}

criterion_group!(benches, tokens);
criterion_main!(benches);
